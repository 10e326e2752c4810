package recommend

import (
	"sync"

	"freshet"
)

// room is memory for what a batch's lists are made of: it is used again once they are encoded, and only grows. A nil room hands out memory
// of the caller's own.
type room struct {
	items      []freshet.RecommendedItem
	reasons    []freshet.Reason
	candidates [][]freshet.Candidate // of each source that borrows
}

var rooms = sync.Pool{New: func() any { return new(room) }}

// list gives memory for a list of n items and for two reasons each; a third has memory of its own.
func (r *room) list(n int) (items []freshet.RecommendedItem, reasons []freshet.Reason) {
	if r == nil {
		return make([]freshet.RecommendedItem, n), make([]freshet.Reason, 0, 2*n)
	}
	return carve(&r.items, n), carve(&r.reasons, 2*n)[:0]
}

// carve takes n elements off a slab. A slab that is used up is left to those who hold parts of it, and one of twice its size begun.
func carve[T any](slab *[]T, n int) []T {
	at := len(*slab)
	if cap(*slab)-at < n {
		*slab, at = make([]T, 0, max(n, 2*cap(*slab), 64)), 0
	}
	*slab = (*slab)[:at+n]
	return (*slab)[at : at+n : at+n]
}

// borrowed is the memory for the candidates of a source.
func (r *room) borrowed(source int) *[]freshet.Candidate {
	if r == nil {
		return new([]freshet.Candidate)
	}
	for len(r.candidates) <= source {
		r.candidates = append(r.candidates, nil)
	}
	return &r.candidates[source]
}

// release gives the memory back. Nothing may refer to it any more.
func (r *room) release() {
	r.empty()
	rooms.Put(r)
}

func (r *room) empty() {
	clear(r.items) // ids may be the last references to large strings
	clear(r.reasons)
	for i := range r.candidates {
		clear(r.candidates[i])
		r.candidates[i] = r.candidates[i][:0]
	}
	r.items, r.reasons = r.items[:0], r.reasons[:0]
}
