package candidate

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"freshet"
)

// flatIndex finds items by brute force; i0 and i1 point along the axes, i2 between them.
type flatIndex map[string][]float32

func (x flatIndex) Vector(id string) ([]float32, freshet.VectorKind) {
	if v, ok := x[id]; ok {
		return v, freshet.Trained
	}
	return []float32{0, 0}, freshet.Unknown
}

func (x flatIndex) Score(q []float32, items []freshet.Ref, out []float32) {
	for i := range items {
		out[i] = freshet.Dot(q, x[items[i].ItemID])
	}
}

func (x flatIndex) VectorOf(item freshet.Ref) ([]float32, float32) {
	v := x[item.ItemID]
	return v, length(v)
}

func (x flatIndex) Number(id string) int32 {
	if _, ok := x[id]; ok {
		return numbered{}.Number(id)
	}
	return 0
}

// numbered gives items like i7 a number, but for every third, so that items with and without are among each other.
type numbered struct{}

func (numbered) Number(id string) int32 {
	if n, err := strconv.Atoi(strings.TrimLeft(id, "abcdefghijklmnopqrstuvwxyz")); err == nil && n%3 != 0 {
		return int32(n) + 1
	}
	return 0
}

// refs names items, with their numbers.
func refs(numbers Numbers, ids ...string) []freshet.Ref {
	out := make([]freshet.Ref, len(ids))
	for i, id := range ids {
		out[i] = freshet.Ref{ItemID: id, Number: numbers.Number(id)}
	}
	return out
}

func (x flatIndex) SearchInto(_ context.Context, queries []float32, n int, h *freshet.Hits) error {
	*h = freshet.Hits{N: n}
	for ; len(queries) > 0; queries = queries[2:] {
		var list []freshet.Candidate
		for id, v := range x {
			list = append(list, freshet.Candidate{ItemID: id, Score: freshet.Dot(queries[:2], v)})
		}
		slices.SortFunc(list, func(a, b freshet.Candidate) int {
			switch {
			case a.Score > b.Score:
				return -1
			case a.Score < b.Score:
				return 1
			}
			return 0
		})
		for i := range n {
			var c freshet.Candidate
			if i < len(list) {
				c = list[i]
			}
			h.Items, h.Numbers, h.Scores = append(h.Items, c.ItemID), append(h.Numbers, x.Number(c.ItemID)), append(h.Scores, c.Score)
		}
	}
	return nil
}

var axes = flatIndex{"i0": {1, 0}, "i1": {0, 1}, "i2": {.7, .6}}

func subject(query []float32, window ...string) freshet.Subject {
	p := &freshet.Profile{UserID: "u"}
	for _, id := range window {
		_, kind := axes.Vector(id)
		p.Window = append(p.Window, freshet.Entry{ItemID: id, Vector: kind})
	}
	s := freshet.Subject{Profile: p}
	if query != nil {
		s.Queries = [][]float32{query}
	}
	return s
}

func TestSequenceAnswersEveryQueryAndNobodyElse(t *testing.T) {
	s := NewSequence("sequence", 0, axes)
	lists, err := s.Propose(context.Background(), []freshet.Subject{subject([]float32{1, 0}), subject(nil), subject([]float32{0, 1})}, 5)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"[i0 i2 i1]", "[]", "[i1 i2 i0]"} {
		var got []string
		for _, c := range lists[i] {
			got = append(got, c.ItemID)
		}
		if fmt.Sprint(got) != want {
			t.Errorf("subject %d: %v, want %s", i, got, want)
		}
	}
	out := []float32{9, 9}
	who := subject([]float32{1, 0})
	if err := s.Score(context.Background(), &who, refs(axes, "i0", "i1"), out); err != nil || out[0] != 1 || out[1] != 0 {
		t.Errorf("scores %v, %v", out, err)
	}
}

func TestSequenceNamesTheHistoryItemBehindEachProposal(t *testing.T) {
	s := NewSequence("sequence", 0, axes)
	who := subject([]float32{1, 1}, "i0", "i1", "nobody-knows")
	if got := s.Because(&who, refs(axes, "i2", "i0", "unheard-of")); fmt.Sprint(got) != "[i0 i1 ]" {
		t.Errorf("%q: i2 points most like i0, i0 is not its own reason, an unknown item has none", got)
	}
}

func learn(p *Popular, item string, weight float64, at time.Time) {
	p.Learn([]freshet.Lesson{{Event: &freshet.Event{Items: []freshet.EventItem{{ItemID: item}}, Time: at.UnixMilli()},
		Type: freshet.EventType{Effect: freshet.Extend, Weight: weight}}})
}

func TestPopularityForgets(t *testing.T) {
	p := NewPopular(24*time.Hour, numbered{})
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for range 10 {
		learn(p, "old", 1, start)
	}
	learn(p, "new", 1, start)
	p.Refresh()
	if top := p.Top(1); top[0].ItemID != "old" {
		t.Fatalf("%v", top)
	}
	learn(p, "new", 1, start.Add(4*24*time.Hour)) // weighs 16 times an event of the first day
	p.Refresh()
	if top := p.Top(2); top[0].ItemID != "new" || top[0].Score != 0 || top[1].Score >= 0 {
		t.Fatalf("%v", top)
	}
}

// Years of events neither overflow nor change the order.
func TestPopularityOutlivesItsLandmark(t *testing.T) {
	p := NewPopular(24*time.Hour, numbered{})
	at := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	for range 3000 {
		learn(p, "steady", 2, at)
		learn(p, "second", 1, at)
		at = at.Add(24 * time.Hour)
	}
	p.Refresh()
	top := p.Top(5)
	if len(top) != 2 || top[0].ItemID != "steady" || top[1].Score != top[1].Score {
		t.Fatalf("%v", top)
	}
	out := make([]float32, 3)
	if err := p.Score(context.Background(), nil, refs(unnumbered{}, "steady", "second", "never"), out); err != nil || out[0] != 0 || out[2] != out[1] {
		t.Fatalf("scores %v, %v: an item nobody touched scores like the least popular", out, err)
	}
}

func TestPopularityIgnoresWhatDoesNotExtend(t *testing.T) {
	p := NewPopular(time.Hour, nil)
	p.Learn([]freshet.Lesson{{Event: &freshet.Event{Items: []freshet.EventItem{{ItemID: "a"}}}, Type: freshet.EventType{Effect: freshet.Reject, Weight: 1}}})
	p.Refresh()
	if top := p.Top(5); len(top) != 0 {
		t.Fatalf("%v", top)
	}
}

// A worker that starts goes on where the last one ended.
func TestPopularityIsHandedOver(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	before := NewPopular(24*time.Hour, numbered{})
	learn(before, "old", 8, at)
	learn(before, "new", 3, at.Add(24*time.Hour)) // by then 4 are left of the 8
	before.Refresh()
	left := before.Weights(5)
	if len(left) != 2 || left[0].ItemID != "old" || left[0].Score < 3.99 || left[0].Score > 4.01 || left[1].Score < 2.99 || left[1].Score > 3.01 {
		t.Fatalf("%v", left)
	}
	after := NewPopular(24*time.Hour, numbered{})
	after.Seed(left)
	if top := after.Top(1); len(top) != 1 || top[0].ItemID != "old" {
		t.Fatalf("nothing was taken over: %v", top)
	}
	learn(after, "new", 2, at.Add(30*24*time.Hour))
	after.Refresh()
	if top := after.Top(1); top[0].ItemID != "new" {
		t.Fatalf("%v", top)
	}
}
