package evaluate

import (
	"context"
	"fmt"
	"math"
)

// fuseFloor keeps the logarithm of an item without transitions finite.
const fuseFloor = 1e-5

// Fused adds the logarithm of one scorer's scores to another's: base + weight * log(counts + 1e-5). A softmax over a sequence
// model's scores times a power of the transition counts, in other words.
type Fused struct {
	Base   Scorer
	Counts Scorer // scores >= 0
	Weight float64
	counts [][]float32
}

// Name of the row.
func (f *Fused) Name() string { return f.Base.Name() + "+" + f.Counts.Name() }

// Score of every item.
func (f *Fused) Score(ctx context.Context, asked []Question, out [][]float32) error {
	for len(f.counts) < len(out) {
		f.counts = append(f.counts, make([]float32, len(out[0])))
	}
	if err := f.Base.Score(ctx, asked, out); err != nil {
		return err
	}
	if err := f.Counts.Score(ctx, asked, f.counts[:len(asked)]); err != nil {
		return err
	}
	for i := range asked {
		Fuse(out[i], f.counts[i], f.Weight)
	}
	return nil
}

// Fuse adds weight * log(counts + 1e-5) to scores.
func Fuse(scores, counts []float32, weight float64) {
	for j, c := range counts {
		scores[j] += float32(weight * math.Log(float64(c)+fuseFloor))
	}
}

// FuseGrid are the weights that ChooseWeight tries by default; 0 is the base alone.
func FuseGrid() []float64 {
	return []float64{0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1, 1.2, 1.5, 2, 2.5, 3, 4}
}

// Trial is one weight and what it gave on the questions it was tried on.
type Trial struct {
	Weight float64 `json:"weight"`
	HR10   float64 `json:"hr10"`
	NDCG10 float64 `json:"ndcg10"`
}

// ChooseWeight tries a grid of fusion weights on a split (a validation one, or the figure is not honest) and gives the one with the
// best NDCG@10, the smaller one on a tie, with all trials.
func ChooseWeight(ctx context.Context, s *Split, base, counts Scorer, grid []float64) (float64, []Trial, error) {
	if len(grid) == 0 {
		return 0, nil, fmt.Errorf("no fusion weights to try")
	}
	tallies := make([]tally, len(grid))
	r := newRanker(s.Log.Items.Len())
	one := make([][]float32, 1)
	one[0] = make([]float32, s.Log.Items.Len())
	fused := make([]float32, s.Log.Items.Len())
	var failed error
	err := s.eachScored(ctx, base, func(i int, scores []float32) {
		if failed != nil {
			return
		}
		q := s.Questions[i]
		if failed = counts.Score(ctx, []Question{q}, one); failed != nil {
			return
		}
		logs, excluded := one[0], s.Seen.excluded(q.User)
		for j, c := range logs {
			logs[j] = float32(math.Log(float64(c) + fuseFloor))
		}
		for g, w := range grid {
			for j := range fused {
				fused[j] = scores[j] + float32(w)*logs[j]
			}
			tallies[g].add(r.rank(fused, s.Targets[i], excluded))
		}
	})
	if err = cmpError(err, failed); err != nil {
		return 0, nil, fmt.Errorf("try fusion weights: %w", err)
	}
	trials, best := make([]Trial, len(grid)), 0
	for g, w := range grid {
		n := math.Max(tallies[g].n, 1)
		trials[g] = Trial{w, tallies[g].sum[0] / n, tallies[g].sum[1] / n}
		if d := trials[g].NDCG10 - trials[best].NDCG10; d > 0 || d == 0 && w < grid[best] {
			best = g
		}
	}
	return grid[best], trials, nil
}

func cmpError(a, b error) error {
	if a != nil {
		return a
	}
	return b
}
