package recommend

import (
	"context"
	"fmt"
	"math"
	"math/bits"

	"freshet"
)

// Estimator is an Explainer that answers by estimate: what an event costs allows no more. Account finds the exact answer.
type Estimator interface {
	Explainer
	Estimates() bool
}

// Account says exactly why a user's lists are what they are.
type Account struct {
	Reasons []Grounds
	Removed []Removal
}

// Grounds is why one item stands in one list. The likelihood that is spoken of is that of the item among the candidates of the surface.
type Grounds struct {
	Surface string `json:"surface"`
	ItemID  string `json:"item_id"`
	Title   string `json:"title,omitempty"`
	Text    string `json:"text,omitempty"` // for people
	// Because is the item of the history without which the likelihood would be least; "" = without none of them would it be less.
	Because  string          `json:"because,omitempty"`
	LowersBy float64         `json:"lowers_by"` // share of the likelihood that goes without it, 0 to 1
	Sources  []SourceGrounds `json:"sources"`   // strongest first; shares sum to 1
}

// SourceGrounds is one source's part of Grounds.
type SourceGrounds struct {
	Source string  `json:"source"`
	Share  float64 `json:"share"`
	// Because is the item of the history that this source has it from, exactly: what added most to the source's score or, where that
	// is no sum, the one without which the source would think it least likely.
	Because  string  `json:"because,omitempty"`
	LowersBy float64 `json:"lowers_by"`
	Estimate string  `json:"estimate,omitempty"` // what the record says
}

// Removal is an item that a rule kept out of a list that would have had it.
type Removal struct {
	Surface string `json:"surface"`
	ItemID  string `json:"item_id"`
	Title   string `json:"title,omitempty"`
	Rule    string `json:"rule"`
}

// Account explains the lists that stand (or, where none stands for a surface, the list of this moment) by leaving each item of the
// history out in turn: the window is folded anew without it, every source scores anew, and what that costs each recommendation is what
// the item was worth to it. All of it is exact as of now: counts and catalogue may have moved since a list was made. What lies before the
// window stays in the checkpoint. The stored profile is read and never written.
//
// With profile.late other than reorder there is no checkpoint, and both sides of each comparison start from the window alone.
func (e *Engine) Account(ctx context.Context, user string, standing []freshet.Recommendation) (*Account, error) {
	t := &task{user: user}
	if err := e.load(ctx, []*task{t}); err != nil {
		return nil, err
	}
	w := t.profile.Window
	if len(w) == 0 {
		return nil, ErrNoProfile
	}
	t.last = &freshet.Event{Time: w[len(w)-1].Time}
	t.profile.Repair()
	left, without := leaveOut(t)
	if err := e.fold(ctx, new(scratch), append([]*task{t}, without...)); err != nil {
		return nil, err
	}
	out := &Account{Reasons: []Grounds{}, Removed: []Removal{}}
	lists := map[string][]freshet.RecommendedItem{}
	told := map[Removal]bool{}
	err := e.lists(ctx, nil, []freshet.Subject{t.subject()}, new(laps), func(_ int, s *Surface, item, rule string) {
		if r := (Removal{Surface: s.Name, ItemID: item, Rule: rule}); !told[r] {
			told[r] = true
			out.Removed = append(out.Removed, r)
		}
	}, func(_ int, s *Surface, l list) { lists[s.Name] = l.items })
	if err != nil {
		return nil, err
	}
	for i := range standing {
		lists[standing[i].Surface] = standing[i].Items
	}
	who := make([]freshet.Subject, 1+len(without))
	who[0] = t.subject()
	for i, x := range without {
		who[1+i] = x.subject()
	}
	for i := range e.cfg.Surfaces {
		s := &e.cfg.Surfaces[i]
		grounds, err := e.grounds(ctx, s, who, left, lists[s.Name])
		if err != nil {
			return nil, fmt.Errorf("surface %s: %w", s.Name, err)
		}
		out.Reasons = append(out.Reasons, grounds...)
	}
	return out, nil
}

// leaveOut gives, for each item of a user's window, the task of the same user who never met it.
func leaveOut(t *task) (left []string, without []*task) {
	seen := map[string]bool{}
	for i := range t.profile.Window {
		id := t.profile.Window[i].ItemID
		if seen[id] {
			continue
		}
		seen[id] = true
		p := *t.profile
		p.Window = nil
		for k := range t.profile.Window {
			if t.profile.Window[k].ItemID != id {
				p.Window = append(p.Window, t.profile.Window[k])
			}
		}
		p.Repair()
		left, without = append(left, id), append(without, &task{user: t.user, profile: &p, last: t.last})
	}
	return left, without
}

// leastDrop is what a likelihood must lose, in its logarithm, to be called less: scores are float32.
const leastDrop = 1e-6

// grounds explains the items of one list. who[0] is the user, who[1+i] the user without left[i].
func (e *Engine) grounds(ctx context.Context, s *Surface, who []freshet.Subject, left []string, items []freshet.RecommendedItem) ([]Grounds, error) {
	p := pools.Get().(*pool)
	defer p.release()
	p.reset(len(e.sources), e.vectors.Number)
	depth := s.Depth
	if s.hides != 0 {
		depth += len(who[0].Profile.Window) + len(who[0].Profile.Owned) + len(who[0].Profile.Dismissed)
	}
	for mask := s.asks(); mask != 0; mask &= mask - 1 {
		k := bits.TrailingZeros32(mask)
		list, err := e.sources[k].Propose(ctx, who[:1], depth)
		if err != nil {
			return nil, fmt.Errorf("propose from %s: %w", e.sources[k].Name(), err)
		}
		for _, c := range list[0] {
			p.from[p.add(freshet.Ref{ItemID: c.ItemID, Number: c.Number})] |= 1 << k
		}
	}
	at := make([]int32, len(items))
	for i := range items {
		at[i] = p.add(freshet.Ref{ItemID: items[i].ItemID})
	}
	base, err := e.likelihoods(ctx, s, p, &who[0])
	if err != nil {
		return nil, err
	}
	out := make([]Grounds, len(items))
	for i := range items {
		out[i] = Grounds{Surface: s.Name, ItemID: items[i].ItemID, Sources: make([]SourceGrounds, len(items[i].Reasons))}
		for n, r := range items[i].Reasons {
			out[i].Sources[n] = SourceGrounds{Source: r.Source, Share: r.Share, Estimate: r.Because}
		}
	}
	places := e.placesOf(items)
	for v := range left {
		other, err := e.likelihoods(ctx, s, p, &who[1+v])
		if err != nil {
			return nil, err
		}
		for i := range out {
			if left[v] == out[i].ItemID { // a recommendation is not its own reason
				continue
			}
			drop(&out[i].Because, &out[i].LowersBy, left[v], base.fused[at[i]]-other.fused[at[i]])
			for n, k := range places[i] {
				if k >= 0 && base.of[k] != nil {
					drop(&out[i].Sources[n].Because, &out[i].Sources[n].LowersBy, left[v], base.of[k][at[i]]-other.of[k][at[i]])
				}
			}
		}
	}
	e.own(&who[0], items, places, out)
	return out, nil
}

// drop keeps the item with the greatest loss, as the share of the likelihood that is lost.
func drop(because *string, by *float64, item string, loss float64) {
	if share := -math.Expm1(-loss); loss > leastDrop && share > *by {
		*because, *by = item, share
	}
}

// placesOf finds the source of each reason; -1 = it is none, such as a pin.
func (e *Engine) placesOf(items []freshet.RecommendedItem) [][]int {
	byName := map[string]int{}
	for k, src := range e.sources {
		byName[src.Name()] = k
	}
	out := make([][]int, len(items))
	for i := range items {
		for _, r := range items[i].Reasons {
			k, ok := byName[r.Source]
			if !ok {
				k = -1
			}
			out[i] = append(out[i], k)
		}
	}
	return out
}

// own has the sources name the item of the history where they know it exactly: what they add up is a sum over the history.
func (e *Engine) own(who *freshet.Subject, items []freshet.RecommendedItem, places [][]int, out []Grounds) {
	for i := range items {
		for n, k := range places[i] {
			if k < 0 {
				continue
			}
			switch src := e.sources[k].(type) {
			case Estimator:
			case Explainer:
				out[i].Sources[n].Because = src.Because(who, []freshet.Ref{{ItemID: items[i].ItemID}})[0]
			case Voter:
				o := src.Ask(who)
				out[i].Sources[n].Because = o.Because(freshet.Ref{ItemID: items[i].ItemID})
				o.Close()
			}
		}
	}
}

// likelihood is the logarithm of what every candidate of a pool has of all that there is to have: by the fusion, and by each source.
type likelihood struct {
	fused []float64
	of    [][]float64
}

func (e *Engine) likelihoods(ctx context.Context, s *Surface, p *pool, who *freshet.Subject) (*likelihood, error) {
	out := &likelihood{of: make([][]float64, len(e.sources))}
	for k, src := range e.sources {
		p.scores[k] = append(p.scores[k][:0], make([]float32, len(p.items))...)
		if s.asks()&(1<<k) == 0 {
			continue
		}
		if err := src.Score(ctx, who, p.items, p.scores[k]); err != nil {
			return nil, fmt.Errorf("score by %s: %w", src.Name(), err)
		}
		p.floor[k] = level(p.scores[k])
		out.of[k] = make([]float64, len(p.items))
		for i, v := range p.scores[k] {
			out.of[k][i] = float64(v) * e.scale[k]
		}
		normalise(out.of[k])
	}
	_, _, p.mix = e.arm(s, who)
	e.fuse(s, p)
	out.fused = append([]float64(nil), p.fused...)
	normalise(out.fused)
	return out, nil
}

// normalise takes the logarithm of the sum of exponentials off.
func normalise(scores []float64) {
	if len(scores) == 0 {
		return
	}
	most, sum := math.Inf(-1), 0.0
	for _, v := range scores {
		most = max(most, v)
	}
	for _, v := range scores {
		sum += math.Exp(v - most)
	}
	for i := range scores {
		scores[i] -= most + math.Log(sum)
	}
}
