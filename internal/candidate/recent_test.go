package candidate

import (
	"context"
	"fmt"
	"math"
	"testing"

	"freshet"
)

// What was met last comes first, each item once, and all that was not met lately counts alike.
func TestRecentProposesTheLatestFirstAndOnce(t *testing.T) {
	who := subject(nil, "i1", "i2", "i1", "i3")
	lists, err := Recent{}.Propose(context.Background(), []freshet.Subject{who, subject(nil)}, 10)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for k, c := range lists[0] {
		got = append(got, c.ItemID)
		if want := -1.5 * math.Log(float64(k+1)); math.Abs(float64(c.Score)-want) > 1e-6 {
			t.Errorf("place %d scores %v, want %v", k+1, c.Score, want)
		}
	}
	if fmt.Sprint(got) != "[i3 i1 i2]" || len(lists[1]) != 0 {
		t.Fatalf("proposed %v, and %v to somebody without a history", got, lists[1])
	}
	out := make([]float32, 4)
	if err := (Recent{}).Score(context.Background(), &who, refs(unnumbered{}, "i2", "never", "i3", "nor"), out); err != nil {
		t.Fatal(err)
	}
	if out[0] != lists[0][2].Score || out[2] != 0 || out[1] != out[3] || out[1] >= out[0] {
		t.Errorf("scores %v", out)
	}
}
