package dataset

import (
	"os"
	"path/filepath"
	"testing"
)

// realData holds public data sets that are not part of the project; the tests below run where they lie next to it.
const realData = "../../../shared/data"

func realFile(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(realData, name)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("needs %s", path)
	}
	return path
}

func TestCountsOfRealEvents(t *testing.T) {
	for _, c := range []struct {
		file                 string
		users, items, events int
		timed                bool
	}{
		{"ml-100k/ml-100k.inter.zst", 943, 1682, 100_000, true},
		{"ml-1m/ml1m_sasrec_order.tsv.zst", 6040, 3416, 999_611, false},
		{"ml-1m/librec_sample_100k_ratings.dat.zst", 0, 0, 100_000, true},
		{"beauty/user_sequence.txt.zst", 22_363, 12_101, 198_502, false},
		{"yoochoose/yoochoose-clicks-100k_train_full.tsv.zst", 0, 0, 70_278, true},
		{"yoochoose/yoochoose-clicks-100k_test.tsv.zst", 0, 0, 13_568, true},
		{"otto/train.jsonl", 20, 0, 862, true},
		{"amazon-industrial/test.csv.zst", 1987, 0, 0, false},
	} {
		t.Run(filepath.Base(c.file), func(t *testing.T) {
			if raceEnabled && c.events > 500_000 {
				t.Skip("a million events take too long under the race detector")
			}
			r, err := OpenEvents(realFile(t, c.file), Options{Strict: true})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			users, items := map[string]bool{}, map[string]bool{}
			for e, err := range r.All() {
				if err != nil {
					t.Fatal(err)
				}
				users[e.UserID], items[e.Items[0].ItemID] = true, true
			}
			differ := func(got, want int) bool { return want > 0 && got != want }
			if differ(len(users), c.users) || differ(len(items), c.items) || differ(r.Count(), c.events) || r.Timed() != c.timed || r.Count() == 0 {
				t.Errorf("%d users, %d items, %d events, timed %v; want %+v", len(users), len(items), r.Count(), r.Timed(), c)
			}
		})
	}
}

func TestCountsOfRealItems(t *testing.T) {
	for file, want := range map[string]int{
		"ml-100k/ml-100k.item": 1682, "ml-1m/movies.dat": 3883, "beauty/item_textual_ids.txt.zst": 12_101, "amazon-industrial/item.json.zst": 3686,
	} {
		t.Run(filepath.Base(file), func(t *testing.T) {
			if items, _ := readItems(t, realFile(t, file)); len(items) != want {
				t.Errorf("%d items, want %d", len(items), want)
			}
		})
	}
	if r, err := OpenEvents(realFile(t, "ml-100k/ml-100k.user"), Options{}); err == nil {
		r.Close()
		t.Error("a file of users was taken for events")
	}
}
