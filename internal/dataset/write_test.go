package dataset

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func TestRowsComeBackFromEveryFormat(t *testing.T) {
	for _, name := range []string{"a.jsonl", "a.jsonl.zst", "a.parquet"} {
		path := filepath.Join(t.TempDir(), name)
		w, err := CreateRows[EventRow](path)
		if err != nil {
			t.Fatal(err)
		}
		half := 0.5
		for i := range 3 {
			row := EventRow{EventID: fmt.Sprintf("e%d", i), Type: "view", UserID: "u", ItemID: fmt.Sprintf("i%d", i), Timestamp: 1_700_000_000_123 + int64(i)}
			if i == 1 {
				row.Value, row.RecID = &half, "r"
			}
			if err := w.Write(&row); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s is there before it is whole", name)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		r, err := OpenEvents(path, Options{Strict: true})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		n := 0
		for e, err := range r.All() {
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if want := fmt.Sprintf("e%d", n); e.ID != want || e.Type != "view" || e.UserID != "u" || e.Items[0].ItemID != fmt.Sprintf("i%d", n) || e.Time != 1_700_000_000_123+int64(n) {
				t.Errorf("%s, row %d: %+v", name, n, e)
			}
			if (e.Value != nil && *e.Value == half) != (n == 1) {
				t.Errorf("%s, row %d: value %v", name, n, e.Value)
			}
			n++
		}
		if n != 3 {
			t.Errorf("%s: %d rows", name, n)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := CreateRows[EventRow]("a.csv"); err == nil {
		t.Error("a format that nobody writes was taken")
	}
}
