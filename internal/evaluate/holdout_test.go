package evaluate

import (
	"context"
	"slices"
	"strconv"
	"testing"
)

// The same list stands in the trainer's test_data.py.
func TestHeldItemsGoByTheirIDAsInTheTrainer(t *testing.T) {
	var held []string
	for i := range 30 {
		if id := strconv.Itoa(i); HeldItem(id, 0, .1) {
			held = append(held, id)
		}
	}
	if want := []string{"4", "19", "20", "22", "23"}; !slices.Equal(held, want) {
		t.Errorf("held %v, want %v", held, want)
	}
	if HeldItem("4", 0, 0) || !HeldItem("4", 0, 1) || HeldItem("4", .1, .9) {
		t.Error("a share of nothing holds an item, or a share of all does not")
	}
}

// Item x is held out: its events before scoring begins are hidden from every row, and its later ones are numbered from its first.
func TestHeldItemsAreNewWhenScoringBegins(t *testing.T) {
	l := sequences(t, "u: a x b", "v: x b", "w: b a x", "y: a x")
	seen := NewSeen(l, false)
	popular := NewPopularity(l.Items.Len())
	run := Prequential{Log: l, Seen: seen, Train: .5, Held: func(id string) bool { return id == "x" }}
	ranked, err := run.Run(context.Background(), []Row{NewScorerRow(l, seen, popular)})
	if err != nil {
		t.Fatal(err)
	}
	x, _ := l.Items.Lookup("x")
	if ranked.Held != 1 || ranked.Hidden != 2 || ranked.Trained != 5 {
		t.Errorf("%d held, %d hidden, %d trained", ranked.Held, ranked.Hidden, ranked.Trained)
	}
	var before []int32
	for i, s := range ranked.Scored {
		if s.Held != (s.Item == x) {
			t.Errorf("event %d on item %d: held %v", i, s.Item, s.Held)
		}
		if s.Item == x {
			before = append(before, s.Before)
		}
	}
	if !slices.Equal(before, []int32{0, 1}) || popular.counts[x] != 2 {
		t.Errorf("before its events x had %v, and %v in the end", before, popular.counts[x])
	}
	r := ranked.Report("m", ReportConfig{Bootstrap: DefaultBootstrap()})
	events := map[string]int{}
	for _, s := range r.Rows[0].Segments {
		events[s.Name] = s.Events
	}
	if events["cold items, first event"] != 1 || events["cold items, first 5"] != 2 || events["items of the training"] != 3 {
		t.Errorf("segments %v", events)
	}
}
