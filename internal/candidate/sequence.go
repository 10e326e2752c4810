package candidate

import (
	"context"
	"fmt"

	"freshet"
)

// Index finds the items that answer a query vector; models.Index is one.
type Index interface {
	// Search gives the n best items for each of the B queries, [B, dim] row-major.
	Search(ctx context.Context, queries []float32, n int) (freshet.Hits, error)
	// Score gives the score of each item for one query, the lowest number for an item without a vector.
	Score(ctx context.Context, query []float32, items []string) []float32
	// Vector gives an item's vector, read only.
	Vector(itemID string) ([]float32, freshet.VectorKind)
}

// explainHistory is how many of the latest entries are looked at for the item behind a recommendation: the estimate stands in
// every record, so it must cost next to nothing.
const explainHistory = 10

// Sequence proposes what the sequence model expects next: the items whose vectors answer the query of one of its tasks.
type Sequence struct {
	name  string
	task  int
	index Index
}

// NewSequence makes a source of one task of the model. name is what reasons call it: "sequence" for the first task.
func NewSequence(name string, task int, index Index) *Sequence {
	return &Sequence{name: name, task: task, index: index}
}

// Name implements the engine's Source.
func (s *Sequence) Name() string { return s.name }

// Propose searches the whole catalogue, one run for all subjects. A subject without a window gets nothing.
func (s *Sequence) Propose(ctx context.Context, subjects []freshet.Subject, n int) ([][]freshet.Candidate, error) {
	out := make([][]freshet.Candidate, len(subjects))
	asked := make([]int, 0, len(subjects))
	var queries []float32
	for i := range subjects {
		if subjects[i].Queries != nil {
			asked, queries = append(asked, i), append(queries, subjects[i].Queries[s.task]...)
		}
	}
	if len(asked) == 0 {
		return out, nil
	}
	hits, err := s.index.Search(ctx, queries, n)
	if err != nil {
		return nil, fmt.Errorf("search %d queries: %w", len(asked), err)
	}
	flat := make([]freshet.Candidate, 0, len(hits.Items))
	for row, i := range asked {
		start := len(flat)
		for k := row * hits.N; k < (row+1)*hits.N && hits.Items[k] != ""; k++ {
			flat = append(flat, freshet.Candidate{ItemID: hits.Items[k], Score: hits.Scores[k]})
		}
		out[i] = flat[start:len(flat):len(flat)]
	}
	return out, nil
}

// Score implements the engine's Source: the model's logit of each item.
func (s *Sequence) Score(ctx context.Context, who *freshet.Subject, items []string, out []float32) error {
	if who.Queries == nil {
		clear(out)
		return nil
	}
	copy(out, s.index.Score(ctx, who.Queries[s.task], items))
	return nil
}

// Because estimates which of the latest entries led to an item: the one whose vector points most the same way. The exact answer,
// folding the window without each entry in turn, costs a refold per entry and is given by `freshet user show`.
func (s *Sequence) Because(who *freshet.Subject, item string) string {
	target, kind := s.index.Vector(item)
	if kind == freshet.Unknown {
		return ""
	}
	best, because := float32(0), ""
	w := who.Profile.Window
	for i := len(w) - 1; i >= 0 && i >= len(w)-explainHistory; i-- {
		if w[i].Vector == freshet.Unknown || w[i].ItemID == item {
			continue
		}
		v, _ := s.index.Vector(w[i].ItemID)
		if d := dot(v, target); because == "" || d > best {
			best, because = d, w[i].ItemID
		}
	}
	return because
}

func dot(a, b []float32) float32 {
	var sum float32
	for i := range a {
		sum += a[i] * b[i]
	}
	return sum
}
