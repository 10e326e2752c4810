package candidate

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"freshet"
)

// Trending proposes what is met more often now than it used to be. Two decayed counts of every item, one quick and one slow, are
// compared as rates: score = log((quick + 1) / (expected + 1)), where expected is what the slow count would leave in the quick one if
// nothing had changed. Adding 1 keeps an item that was met twice from trending.
type Trending struct {
	quick, slow *Popular
	numbers     Numbers

	top atomic.Pointer[trends]
	mu  sync.Mutex
}

type trends struct {
	list   []freshet.Candidate
	scores *scores
}

// NewTrending makes the source; the usual half-lives are a few hours and a week. numbers may be nil.
func NewTrending(quick, slow time.Duration, numbers Numbers) *Trending {
	t := &Trending{quick: NewPopular(quick, nil), slow: NewPopular(slow, nil), numbers: numbers}
	if numbers == nil {
		t.numbers = unnumbered{}
	}
	t.top.Store(&trends{scores: scoresOf(nil, 0)})
	return t
}

// Name implements the engine's Source.
func (*Trending) Name() string { return "trending" }

// Learn implements the engine's Learner.
func (t *Trending) Learn(lessons []freshet.Lesson) {
	t.quick.Learn(lessons)
	t.slow.Learn(lessons)
}

// Refresh makes what was learnt visible; the owner calls it about once a second.
func (t *Trending) Refresh() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.quick.Refresh()
	t.slow.Refresh()
	ratio := t.quick.halfLife / t.slow.halfLife // a steady rate leaves counts proportional to the half-lives
	expected := map[string]float64{}
	for _, s := range t.slow.Weights(math.MaxInt) {
		expected[s.ItemID] = s.Score * ratio
	}
	now := &trends{}
	for _, s := range t.quick.Weights(math.MaxInt) {
		if score := float32(math.Log((s.Score + 1) / (expected[s.ItemID] + 1))); score > 0 {
			now.list = append(now.list, freshet.Candidate{ItemID: s.ItemID, Number: t.numbers.Number(s.ItemID), Score: score})
		}
	}
	sortCandidates(now.list)
	now.scores = scoresOf(now.list, 0)
	t.top.Store(now)
}

// Top gives the n strongest trends, best first, read only.
func (t *Trending) Top(n int) []freshet.Candidate {
	list := t.top.Load().list
	return list[:min(n, len(list))]
}

// Propose implements the engine's Source: the same list for everybody.
func (t *Trending) Propose(_ context.Context, subjects []freshet.Subject, n int) ([][]freshet.Candidate, error) {
	out, top := make([][]freshet.Candidate, len(subjects)), t.Top(n)
	for i := range out {
		out[i] = top
	}
	return out, nil
}

// Score implements the engine's Source: 0 for what does not trend.
func (t *Trending) Score(_ context.Context, _ *freshet.Subject, items []freshet.Ref, out []float32) error {
	now := t.top.Load().scores
	for i := range items {
		out[i] = now.of(&items[i])
	}
	return nil
}
