package evaluate

import (
	"context"
	"fmt"
	"math"

	"freshet"
)

// TextKNN scores items by the cosine between their text vector and the mean of the text vectors of the history: content alone,
// nothing learned from behaviour.
type TextKNN struct {
	vectors [][]float32 // by item, unit length; nil = no text
	dim     int
}

// NewTextKNN takes the text vector of every item, nil where there is none; the vectors are copied.
func NewTextKNN(vectors [][]float32) (*TextKNN, error) {
	t := &TextKNN{vectors: make([][]float32, len(vectors))}
	for i, v := range vectors {
		if len(v) == 0 {
			continue
		}
		if t.dim == 0 {
			t.dim = len(v)
		}
		if len(v) != t.dim {
			return nil, fmt.Errorf("text vector of item %d has %d values, others have %d", i, len(v), t.dim)
		}
		norm := math.Sqrt(float64(freshet.Dot(v, v)))
		if norm == 0 {
			continue
		}
		unit := make([]float32, len(v))
		for n, x := range v {
			unit[n] = x / float32(norm)
		}
		t.vectors[i] = unit
	}
	return t, nil
}

// Name of the baseline.
func (t *TextKNN) Name() string { return "text" }

// Score of every item; items without text come last.
func (t *TextKNN) Score(_ context.Context, asked []Question, out [][]float32) error {
	mean := make([]float32, t.dim)
	for i, q := range asked {
		clear(mean)
		for _, item := range q.History {
			for n, x := range t.vectors[item] {
				mean[n] += x
			}
		}
		for j, v := range t.vectors {
			if v == nil {
				out[i][j] = float32(math.Inf(-1))
			} else {
				out[i][j] = freshet.Dot(mean, v)
			}
		}
	}
	return nil
}
