package candidate

import (
	"context"
	"math"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"freshet"
)

// Popular proposes what many users did lately. Every event adds its type's weight to its items; a weight halves every HalfLife
// of event time. Decay runs forward (Cormode et al., "Forward Decay", 2009): an addition at time t counts
// weight x 2^((t - landmark)/half-life), so that nothing stored ever has to be aged.
type Popular struct {
	halfLife float64 // ms
	numbers  Numbers

	mu       sync.Mutex
	landmark int64 // ms; the event time whose additions count as written; 0 = no event yet
	latest   int64 // ms; the newest event time
	counts   map[string]float64

	top atomic.Pointer[ranking]
}

type ranking struct {
	list   []freshet.Candidate
	most   float64 // weight of the first, as of the latest event
	scores *scores
}

// NewPopular makes the source. Additions older than a few half-lives no longer matter. numbers may be nil.
func NewPopular(halfLife time.Duration, numbers Numbers) *Popular {
	p := &Popular{halfLife: float64(halfLife.Milliseconds()), numbers: numbers, counts: map[string]float64{}}
	if numbers == nil {
		p.numbers = unnumbered{}
	}
	p.top.Store(&ranking{scores: scoresOf(nil, 0)})
	return p
}

// Name implements the engine's Source.
func (p *Popular) Name() string { return "popular" }

// Learn implements the engine's Learner.
func (p *Popular) Learn(lessons []freshet.Lesson) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range lessons {
		if l.Type.EffectOf(l.Event) != freshet.Extend || l.Type.Weight == 0 {
			continue
		}
		for i := range l.Event.Items {
			p.add(l.Event.Items[i].ItemID, l.Type.Weight, l.Event.Time)
		}
	}
}

// maxExponent is when the landmark moves up: 2^60 still leaves a float64 its precision.
const maxExponent = 60

func (p *Popular) add(item string, weight float64, at int64) {
	if p.landmark == 0 {
		p.landmark = at
	}
	p.latest = max(p.latest, at)
	exponent := float64(at-p.landmark) / p.halfLife
	if exponent > maxExponent {
		p.rebase(at)
		exponent = 0
	}
	p.counts[item] += weight * math.Exp2(exponent)
}

// rebase moves the landmark and forgets what has decayed to nothing.
func (p *Popular) rebase(to int64) {
	scale := math.Exp2(-float64(to-p.landmark) / p.halfLife)
	for item, c := range p.counts {
		if c *= scale; c < 1e-9 {
			delete(p.counts, item)
		} else {
			p.counts[item] = c
		}
	}
	p.landmark = to
}

// Refresh makes what was learnt visible to Propose; the owner calls it about once a second.
func (p *Popular) Refresh() {
	p.mu.Lock()
	decay := math.Exp2(-float64(p.latest-p.landmark) / p.halfLife)
	r := &ranking{list: make([]freshet.Candidate, 0, len(p.counts))}
	most := 0.0
	for item, c := range p.counts {
		r.list = append(r.list, freshet.Candidate{ItemID: item, Score: float32(math.Log(c))})
		most = max(most, c)
	}
	p.mu.Unlock()
	r.most = most * decay
	// Scores are relative to the most popular item, so that the landmark does not show.
	top, floor := float32(math.Log(most)), float32(0)
	for i := range r.list {
		r.list[i].Score -= top
		r.list[i].Number = p.numbers.Number(r.list[i].ItemID)
		floor = min(floor, r.list[i].Score)
	}
	sort.Slice(r.list, func(a, b int) bool {
		if r.list[a].Score != r.list[b].Score {
			return r.list[a].Score > r.list[b].Score
		}
		return r.list[a].ItemID < r.list[b].ItemID
	})
	r.scores = scoresOf(r.list, floor)
	p.top.Store(r)
}

// Top gives the n most popular items, best first, read only.
func (p *Popular) Top(n int) []freshet.Candidate {
	list := p.top.Load().list
	return list[:min(n, len(list))]
}

// Weights gives the n most popular items with what is left of their weight as of the latest event: what a worker leaves behind
// for the next one, and what frontends sort by.
func (p *Popular) Weights(n int) []freshet.Scored {
	r := p.top.Load()
	out := make([]freshet.Scored, min(n, len(r.list)))
	for i := range out {
		out[i] = freshet.Scored{ItemID: r.list[i].ItemID, Score: r.most * math.Exp(float64(r.list[i].Score))}
	}
	return out
}

// Seed begins with what another worker has left behind, as if it had just happened when the first event comes.
func (p *Popular) Seed(weights []freshet.Scored) {
	p.mu.Lock()
	for _, w := range weights {
		if w.Score > 0 {
			p.counts[w.ItemID] += w.Score
		}
	}
	p.mu.Unlock()
	p.Refresh()
}

// Propose implements the engine's Source: the same list for everybody.
func (p *Popular) Propose(_ context.Context, subjects []freshet.Subject, n int) ([][]freshet.Candidate, error) {
	out := make([][]freshet.Candidate, len(subjects))
	top := p.Top(n)
	for i := range out {
		out[i] = top
	}
	return out, nil
}

// Score implements the engine's Source. An item nobody touched scores like the least popular one.
func (p *Popular) Score(_ context.Context, _ *freshet.Subject, items []freshet.Ref, out []float32) error {
	r := p.top.Load()
	for i := range items {
		out[i] = r.scores.of(&items[i])
	}
	return nil
}
