package freshet

// Steps is one round of the sequence model: row i moves one user's state by one event. All matrices are row-major and belong to
// the caller; the model overwrites States and Queries.
type Steps struct {
	Items   []float32   // [B, dim] vector of each row's item
	Types   []int64     // [B] event type as the model numbers it
	Gaps    []float32   // [B] seconds since the user's event before, >= 0
	States  []float32   // [B, state size] before; after the call, the state after
	Queries [][]float32 // one [B, dim] matrix per task, in the model's order; nil where nobody asks
}

// Len is the number of rows, B.
func (s *Steps) Len() int { return len(s.Types) }

// Hits are the best rows of an item matrix for a batch of queries, best first.
type Hits struct {
	N       int       // per query
	Items   []string  // [B*N] item ids; "" where fewer than N items could be returned
	Numbers []int32   // [B*N] of the items, as in Ref
	Scores  []float32 // [B*N]
}
