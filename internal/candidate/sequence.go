package candidate

import (
	"context"
	"fmt"
	"math"
	"sync"

	"freshet"
)

// Index finds the items that answer a query vector; models.Index is one.
type Index interface {
	// SearchInto gives the n best items for each of the B queries, [B, dim] row-major, over the memory of earlier hits.
	SearchInto(ctx context.Context, queries []float32, n int, hits *freshet.Hits) error
	// Score writes the score of each item for one query, the lowest number for an item without a vector.
	Score(query []float32, items []freshet.Ref, out []float32)
	// Vector gives an item's vector, read only.
	Vector(itemID string) ([]float32, freshet.VectorKind)
	// VectorOf gives an item's vector, read only, and its length; nil for an item without one.
	VectorOf(item freshet.Ref) (vector []float32, norm float32)
	// Number is the item's freshet.Ref.Number, 0 where it has none.
	Number(itemID string) int32
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

// hitsPool keeps the memory of searches: a batch's hits are hundreds of kilobytes, and candidates are copied out of them.
var hitsPool = sync.Pool{New: func() any { return new(freshet.Hits) }}

// NewSequence makes a source of one task of the model. name is what reasons call it: "sequence" for the first task.
func NewSequence(name string, task int, index Index) *Sequence {
	return &Sequence{name: name, task: task, index: index}
}

// Name implements the engine's Source.
func (s *Sequence) Name() string { return s.name }

// Propose searches the whole catalogue, one run for all subjects. A subject without a window gets nothing.
func (s *Sequence) Propose(ctx context.Context, subjects []freshet.Subject, n int) ([][]freshet.Candidate, error) {
	return s.ProposeIn(ctx, subjects, n, new([]freshet.Candidate))
}

// ProposeIn implements the engine's Borrower.
func (s *Sequence) ProposeIn(ctx context.Context, subjects []freshet.Subject, n int, memory *[]freshet.Candidate) ([][]freshet.Candidate, error) {
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
	hits := hitsPool.Get().(*freshet.Hits)
	defer hitsPool.Put(hits)
	if err := s.index.SearchInto(ctx, queries, n, hits); err != nil {
		return nil, fmt.Errorf("search %d queries: %w", len(asked), err)
	}
	flat := emptied(memory, len(hits.Items))
	for row, i := range asked {
		start := len(flat)
		for k := row * hits.N; k < (row+1)*hits.N && hits.Items[k] != ""; k++ {
			flat = append(flat, freshet.Candidate{ItemID: hits.Items[k], Number: hits.Numbers[k], Score: hits.Scores[k]})
		}
		out[i] = flat[start:len(flat):len(flat)]
	}
	*memory = flat
	return out, nil
}

// emptied gives room for n candidates, in the memory where it is large enough.
func emptied(memory *[]freshet.Candidate, n int) []freshet.Candidate {
	if cap(*memory) < n {
		*memory = make([]freshet.Candidate, 0, n)
	}
	return (*memory)[:0]
}

// Score implements the engine's Source: the model's logit of each item.
func (s *Sequence) Score(_ context.Context, who *freshet.Subject, items []freshet.Ref, out []float32) error {
	if who.Queries == nil {
		clear(out)
		return nil
	}
	s.index.Score(who.Queries[s.task], items, out)
	return nil
}

// Estimates says that Because is an estimate.
func (*Sequence) Estimates() bool { return true }

// Because estimates which of the latest entries led to each item: the one whose vector points most the same way. The exact answer,
// folding the window without each entry in turn, would cost a refold per entry; this one is cheap enough to stand in every record.
func (s *Sequence) Because(who *freshet.Subject, items []freshet.Ref) []string {
	w := who.Profile.Window
	w = w[max(0, len(w)-explainHistory):]
	var history [explainHistory][]float32
	for i := range w {
		if w[i].Vector == freshet.Unknown {
			continue
		}
		if w[i].Number == 0 {
			w[i].Number = s.index.Number(w[i].ItemID)
		}
		history[i], _ = s.index.VectorOf(freshet.Ref{ItemID: w[i].ItemID, Number: w[i].Number})
	}
	out := make([]string, len(items))
	for n, item := range items {
		target, _ := s.index.VectorOf(item)
		if target == nil {
			continue
		}
		best := float32(math.Inf(-1))
		for i := len(w) - 1; i >= 0; i-- { // on a tie the latest
			if history[i] == nil || w[i].ItemID == item.ItemID {
				continue
			}
			if d := freshet.Dot(history[i], target); d > best {
				best, out[n] = d, w[i].ItemID
			}
		}
	}
	return out
}
