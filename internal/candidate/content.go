package candidate

import (
	"context"
	"fmt"
	"math"

	"freshet"
)

// contentLast is how many of the latest items a content query looks at.
const contentLast = 10

// Content proposes items that are like what the user met lately: by their vectors, which for items that training never saw are made
// of their text. With h_k the k-th item from the end of the history and votes k^-0.7 that sum to 1, the score is
//
//	sum over k <= 10 of vote_k x cos(h_k, item)
//
// between -1 and 1. It is a pure function of profile and catalogue. The same item weighs once, where it was met last.
type Content struct {
	name  string
	last  int
	index Index
}

// NewContent makes the source that looks at the latest items.
func NewContent(index Index) *Content { return &Content{"content", contentLast, index} }

// NewContentLast makes the source that looks at the last item alone: what "because you viewed" shows.
func NewContentLast(index Index) *Content { return &Content{"content-last", 1, index} }

// Name implements the engine's Source.
func (c *Content) Name() string { return c.name }

// voter is one item of the history with its share of the vote, its vector scaled to length 1.
type voter struct {
	id     string
	vote   float32
	vector []float32
	norm   float32
}

// electorate gives the items that vote for a subject.
func (c *Content) electorate(who *freshet.Subject) []voter {
	return votersOf(c.index, who.Profile.Window, c.last)
}

// votersOf gives the latest items of a history, so many of those that have a vector.
func votersOf(index Index, w []freshet.Entry, last int) []voter {
	out := make([]voter, 0, last)
	total := float32(0)
next:
	for i := len(w) - 1; i >= 0 && len(out) < last; i-- {
		if w[i].Vector == freshet.Unknown {
			continue
		}
		for k := range out {
			if out[k].id == w[i].ItemID {
				continue next
			}
		}
		v, kind := index.Vector(w[i].ItemID)
		if norm := length(v); kind != freshet.Unknown && norm > 0 {
			vote := float32(math.Pow(float64(len(out)+1), -0.7))
			out, total = append(out, voter{w[i].ItemID, vote, v, norm}), total+vote
		}
	}
	for k := range out {
		out[k].vote /= total
	}
	return out
}

// Propose searches with the sum of the votes' vectors, one run for all subjects.
func (c *Content) Propose(ctx context.Context, subjects []freshet.Subject, n int) ([][]freshet.Candidate, error) {
	return c.ProposeIn(ctx, subjects, n, new([]freshet.Candidate))
}

// ProposeIn implements the engine's Borrower.
func (c *Content) ProposeIn(ctx context.Context, subjects []freshet.Subject, n int, memory *[]freshet.Candidate) ([][]freshet.Candidate, error) {
	out := make([][]freshet.Candidate, len(subjects))
	voters := make([][]voter, len(subjects))
	asked := make([]int, 0, len(subjects))
	var queries []float32
	for i := range subjects {
		if voters[i] = c.electorate(&subjects[i]); len(voters[i]) > 0 {
			asked, queries = append(asked, i), appendQuery(queries, voters[i])
		}
	}
	if len(asked) == 0 {
		return out, nil
	}
	hits := hitsPool.Get().(*freshet.Hits)
	defer hitsPool.Put(hits)
	if err := c.index.SearchInto(ctx, queries, n, hits); err != nil {
		return nil, fmt.Errorf("search %d queries: %w", len(asked), err)
	}
	dim := len(queries) / len(asked)
	flat := emptied(memory, len(hits.Items))
	for row, i := range asked {
		start, query := len(flat), queries[row*dim:(row+1)*dim]
		for k := row * hits.N; k < (row+1)*hits.N && hits.Items[k] != ""; k++ {
			item := freshet.Ref{ItemID: hits.Items[k], Number: hits.Numbers[k]}
			flat = append(flat, freshet.Candidate{ItemID: item.ItemID, Number: item.Number, Score: c.cosine(query, item)})
		}
		list := flat[start:len(flat):len(flat)]
		sortCandidates(list) // the search knows biases and lengths, which likeness does not
		out[i] = list
	}
	*memory = flat
	return out, nil
}

func appendQuery(queries []float32, voters []voter) []float32 {
	start := len(queries)
	queries = append(queries, make([]float32, len(voters[0].vector))...)
	query := queries[start:]
	for _, v := range voters {
		for i := range query {
			query[i] += v.vote * v.vector[i] / v.norm
		}
	}
	return queries
}

func (c *Content) cosine(query []float32, item freshet.Ref) float32 {
	v, norm := c.index.VectorOf(item)
	if norm == 0 {
		return -math.MaxFloat32
	}
	return freshet.Dot(query, v) / norm
}

// Score implements the engine's Source.
func (c *Content) Score(_ context.Context, who *freshet.Subject, items []freshet.Ref, out []float32) error {
	voters := c.electorate(who)
	if len(voters) == 0 {
		clear(out)
		return nil
	}
	query := appendQuery(nil, voters)
	for i := range items {
		out[i] = c.cosine(query, items[i])
	}
	return nil
}

// Because names exactly the item of the history that added most to the score.
func (c *Content) Because(who *freshet.Subject, items []freshet.Ref) []string {
	voters := c.electorate(who)
	out := make([]string, len(items))
	for i := range items {
		v, _ := c.index.VectorOf(items[i])
		if v == nil {
			continue
		}
		best := float32(math.Inf(-1))
		for k := range voters {
			if s := voters[k].vote * freshet.Dot(voters[k].vector, v) / voters[k].norm; s > best && voters[k].id != items[i].ItemID {
				best, out[i] = s, voters[k].id
			}
		}
	}
	return out
}

func length(v []float32) float32 { return float32(math.Sqrt(float64(freshet.Dot(v, v)))) }
