package freshet

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// Short lists and long ones come out as a stable sort by falling score puts them.
func TestBestFirstKeepsEqualOnesInOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	for n := range 40 {
		list := make([]Candidate, n)
		for i := range list {
			list[i] = Candidate{Number: int32(i), Score: float32(r.IntN(5))}
		}
		want := slices.Clone(list)
		slices.SortStableFunc(want, func(a, b Candidate) int { return int(b.Score) - int(a.Score) })
		BestFirst(list, func(c *Candidate) float32 { return c.Score })
		if !slices.Equal(list, want) {
			t.Errorf("%d candidates: %v, want %v", n, list, want)
		}
	}
}
