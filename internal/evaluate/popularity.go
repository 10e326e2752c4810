package evaluate

import "context"

// Popularity scores items by how often they were seen so far, for everybody alike.
type Popularity struct{ counts []float32 }

// NewPopularity starts with nothing counted.
func NewPopularity(items int) *Popularity { return &Popularity{make([]float32, items)} }

// Name of the baseline.
func (p *Popularity) Name() string { return "popularity" }

// Learn counts an item.
func (p *Popularity) Learn(_ []int32, item int32) { p.counts[item]++ }

// Score copies the counts.
func (p *Popularity) Score(_ context.Context, asked []Question, out [][]float32) error {
	for i := range asked {
		copy(out[i], p.counts)
	}
	return nil
}
