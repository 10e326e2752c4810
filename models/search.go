package models

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"freshet"
)

// maxScores bounds the scores that one run keeps at a time: 32 Mi of them are 128 MiB.
const maxScores = 32 << 20

// maxTogether bounds the queries that are taken through the cells together.
const maxTogether = 512

// Search finds the n best recommendable items for each query, best first. queries is [B, dim], row-major. Score = query . vector +
// bias.
func (x *Index) Search(ctx context.Context, queries []float32, n int) (freshet.Hits, error) {
	var h freshet.Hits
	err := x.SearchInto(ctx, queries, n, &h)
	return h, err
}

// SearchInto is Search over the memory of earlier hits: h is overwritten.
func (x *Index) SearchInto(ctx context.Context, queries []float32, n int, h *freshet.Hits) error {
	d := x.bundle.Dim()
	if n < 1 || len(queries)%d != 0 {
		return fmt.Errorf("search: n is %d and the queries hold %d values; want n >= 1 and a multiple of %d", n, len(queries), d)
	}
	b := len(queries) / d
	h.N, h.Items, h.Numbers, h.Scores = n, grown(h.Items, b*n), grown(h.Numbers, b*n), grown(h.Scores, b*n)
	s, err := x.hold()
	if err != nil {
		return fmt.Errorf("search: %w", err)
	}
	defer s.generation.session.release()
	scratch, ok := x.scratch.Get().(*searchScratch)
	if !ok {
		scratch = new(searchScratch)
	}
	defer x.scratch.Put(scratch)
	piece := max(1, maxScores/len(s.generation.mask))
	if c := s.generation.cells; c != nil {
		if piece = maxTogether; c.centres != nil {
			x.samples.keep(queries[:min(d, len(queries))])
		}
	}
	for from := 0; from < b; from += piece {
		if err := ctx.Err(); err != nil {
			return err
		}
		to := min(from+piece, b)
		part := freshet.Hits{N: n, Items: h.Items[from*n : to*n], Numbers: h.Numbers[from*n : to*n], Scores: h.Scores[from*n : to*n]}
		if err := s.search(scratch, queries[from*d:to*d], d, &part); err != nil {
			return err
		}
	}
	return nil
}

// hold returns the current snapshot with its session kept open.
func (x *Index) hold() (*snapshot, error) {
	for {
		s := x.current.Load()
		if s.generation.session.acquire() {
			return s, nil
		}
		if x.closed.Load() {
			return nil, ErrClosed
		} // else it was exchanged between the two lines: take the new one
	}
}

// searchScratch is what one search needs beside its result. It is reused and only grows.
type searchScratch struct {
	t      tensors
	k      []int64 // one value, memory of its own: the library may not be shown memory that holds Go pointers
	scores []float32
	rows   []int64
	best   []candidate
	cells  cellsScratch
}

type candidate struct {
	e     *entry
	score float32
}

// search fills hits for a batch of queries.
func (s *snapshot) search(x *searchScratch, queries []float32, d int, hits *freshet.Hits) error {
	b, k := len(queries)/d, min(hits.N, len(s.generation.mask))
	if err := s.run(x, queries, d, b, k); err != nil {
		return err
	}
	for i := range b {
		x.best = s.fromMatrix(x.best[:0], x.scores[i*k:(i+1)*k], x.rows[i*k:(i+1)*k])
		x.best = s.beside(x.best, queries[i*d:(i+1)*d], hits.N)
		items, numbers, scores := hits.Items[i*hits.N:(i+1)*hits.N], hits.Numbers[i*hits.N:(i+1)*hits.N], hits.Scores[i*hits.N:(i+1)*hits.N]
		for j := range items {
			if j < len(x.best) {
				items[j], numbers[j], scores[j] = x.best[j].e.id, int32(x.best[j].e.order), x.best[j].score
			} else {
				items[j], numbers[j], scores[j] = "", 0, hidden
			}
		}
	}
	return nil
}

// run asks the session for the k best rows of each query.
func (s *snapshot) run(x *searchScratch, queries []float32, d, b, k int) error {
	x.k, x.scores, x.rows = append(x.k[:0], int64(k)), grown(x.scores, b*k), grown(x.rows, b*k)
	if c := s.generation.cells; c != nil {
		return c.search(&x.cells, s.generation.mask, queries, k, x.scores, x.rows)
	}
	defer x.t.free()
	for _, v := range [...]view{
		floats(queries, b, d), floats(s.generation.mask, len(s.generation.mask)), ints(x.k, 1),
		floats(x.scores, b, k), ints(x.rows, b, k),
	} {
		if err := x.t.add(&v); err != nil {
			return err
		}
	}
	return s.generation.session.run(&x.t, len(searchInputs))
}

// fromMatrix takes the session's rows, which come best first, but for hidden ones and those whose newer vector stands beside.
func (s *snapshot) fromMatrix(best []candidate, scores []float32, rows []int64) []candidate {
	for j, score := range scores {
		if score == hidden {
			break
		}
		e := s.generation.entries[rows[j]]
		if e == nil || e.at.Load().version > s.generation.version && slices.Contains(s.newest, e) {
			continue
		}
		best = append(best, candidate{e, score})
	}
	if c := s.generation.cells; c == nil || c.centres != nil { // rows that are not in order of arrival, or a TopK that promises none for equal scores
		slices.SortFunc(best, better)
	}
	return best
}

// beside scores the newest items and keeps the n best of all.
func (s *snapshot) beside(best []candidate, query []float32, n int) []candidate {
	if len(s.newest) == 0 {
		return best
	}
	full, least := len(best) >= n, float32(0)
	if full {
		least = best[n-1].score
	}
	for _, e := range s.newest {
		p := e.at.Load()
		if !p.shown {
			continue
		}
		if score := freshet.Dot(query, p.vector) + p.bias; !full || score >= least {
			best = append(best, candidate{e, score})
		}
	}
	slices.SortFunc(best, better)
	return best[:min(n, len(best))]
}

// better orders by score, then by arrival.
func better(a, b candidate) int {
	if c := cmp.Compare(b.score, a.score); c != 0 {
		return c
	}
	return cmp.Compare(a.e.order, b.e.order)
}

// Score writes query . vector + bias of each item, recommendable or not; -Inf for an item that the index does not know, and for
// all when the query is not Dim long.
func (x *Index) Score(query []float32, items []freshet.Ref, out []float32) {
	for i := range items {
		out[i] = hidden
		if e := x.find(items[i]); e != nil && len(query) == x.bundle.Dim() {
			p := e.at.Load()
			out[i] = freshet.Dot(query, p.vector) + p.bias
		}
	}
}
