package candidate

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"freshet"
)

// New proposes items that came lately and that hardly anybody has met: the source of exploration slots. An item stays a candidate
// until it was shown to or met by this worker's users Budget times or is older than MaxAge. Its score is the sequence model's logit, so that
// the users who may like it explore it.
type New struct {
	index  Index
	maxAge time.Duration
	budget int
	now    func() time.Time

	mu    sync.RWMutex
	items map[string]*newcomer
	order []string // newest last
}

type newcomer struct {
	since time.Time
	met   int
}

// maxNew bounds how many new items are held; the oldest give way.
const maxNew = 1000

// NewNew makes the source.
func NewNew(index Index, maxAge time.Duration, budget int, now func() time.Time) *New {
	return &New{index: index, maxAge: maxAge, budget: budget, now: now, items: map[string]*newcomer{}}
}

// Name implements the engine's Source.
func (*New) Name() string { return "new" }

// Arrive takes in an item that the catalogue did not know before. since is when it was published.
func (s *New) Arrive(id string, since time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.items[id] != nil || s.now().Sub(since) > s.maxAge {
		return
	}
	s.items[id] = &newcomer{since: since}
	s.order = append(s.order, id)
	if len(s.order) > maxNew {
		s.drop(s.order[0])
	}
}

func (s *New) drop(id string) {
	delete(s.items, id)
	s.order = slices.DeleteFunc(s.order, func(x string) bool { return x == id })
}

// Learn implements the engine's Learner: an item that was met often enough is explored.
func (s *New) Learn(lessons []freshet.Lesson) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range lessons {
		for k := range lessons[i].Event.Items {
			s.spend(lessons[i].Event.Items[k].ItemID)
		}
	}
}

// Shown notes that an item was before a user's eyes. That spends the budget too: an item that is shown and that nobody takes is explored.
func (s *New) Shown(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spend(id)
}

func (s *New) spend(id string) {
	if n := s.items[id]; n != nil {
		if n.met++; n.met >= s.budget {
			s.drop(id)
		}
	}
}

// Propose gives the new items, those that fit the user's query best first.
func (s *New) Propose(ctx context.Context, subjects []freshet.Subject, n int) ([][]freshet.Candidate, error) {
	out := make([][]freshet.Candidate, len(subjects))
	ids := s.current()
	if len(ids) == 0 {
		return out, nil
	}
	scores, refs := make([]float32, len(ids)), make([]freshet.Ref, len(ids))
	for i, id := range ids {
		refs[i] = freshet.Ref{ItemID: id, Number: s.index.Number(id)}
	}
	for i := range subjects {
		if err := s.Score(ctx, &subjects[i], refs, scores); err != nil {
			return nil, err
		}
		list := make([]freshet.Candidate, 0, len(ids))
		for k, item := range refs {
			if scores[k] > -math.MaxFloat32 { // the index has no vector of it yet
				list = append(list, freshet.Candidate{ItemID: item.ItemID, Number: item.Number, Score: scores[k]})
			}
		}
		sortCandidates(list)
		out[i] = list[:min(n, len(list))]
	}
	return out, nil
}

// current lists what is still new, newest first.
func (s *New) current() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	oldest := s.now().Add(-s.maxAge)
	ids := make([]string, 0, len(s.order))
	for i := len(s.order) - 1; i >= 0; i-- {
		if s.items[s.order[i]].since.After(oldest) {
			ids = append(ids, s.order[i])
		}
	}
	return ids
}

// Score implements the engine's Source: the sequence model's logit of a new item, nothing for others.
func (s *New) Score(_ context.Context, who *freshet.Subject, items []freshet.Ref, out []float32) error {
	if who.Queries == nil {
		clear(out)
		return nil
	}
	s.index.Score(who.Queries[0], items, out)
	return nil
}
