package evaluate

import (
	"context"
	"fmt"
	"math"
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
		norm := math.Sqrt(float64(dot(v, v)))
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
				out[i][j] = dot(mean, v)
			}
		}
	}
	return nil
}

func dot(a, b []float32) float32 {
	b = b[:len(a)]
	var s0, s1, s2, s3 float32
	n := len(a) &^ 3
	for i := 0; i < n; i += 4 {
		s0 += a[i] * b[i]
		s1 += a[i+1] * b[i+1]
		s2 += a[i+2] * b[i+2]
		s3 += a[i+3] * b[i+3]
	}
	for i := n; i < len(a); i++ {
		s0 += a[i] * b[i]
	}
	return s0 + s1 + s2 + s3
}
