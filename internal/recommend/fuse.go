package recommend

import (
	"math"
	"math/bits"
	"slices"
)

// rankOffset is the constant of reciprocal-rank fusion (Cormack, Clarke, Buettcher, "Reciprocal Rank Fusion outperforms Condorcet",
// SIGIR 2009).
const rankOffset = 60

// fuse gives every item that the surface's sources proposed one number, a log-likelihood up to a constant; place gives them in its order.
//
// Log-linear fusion is a product of experts, p(i) ~ prod over sources of p_s(i)^w_s, with p_s(i) ~ exp(score / temperature): dividing by the
// temperature calibrates a source's scores to log-probabilities (`freshet eval tune` fits it), the weight is the trust in it.
func (e *Engine) fuse(s *Surface, p *pool) {
	if cap(p.fused) < len(p.items) {
		p.fused = make([]float64, 2*len(p.items))
	}
	p.fused = p.fused[:len(p.items)]
	clear(p.fused)
	for mask := s.mask; mask != 0; mask &= mask - 1 {
		k := bits.TrailingZeros32(mask)
		if s.Fusion == Reciprocal {
			p.addRanks(k, s.weights[k])
			continue
		}
		w := p.mix[k]
		for i, v := range p.scores[k] {
			p.fused[i] += w * float64(v)
		}
	}
	p.order = p.order[:0]
	for i := range p.items {
		if s.Fusion == Reciprocal {
			p.fused[i] = math.Log(p.fused[i])
		}
		if p.from[i]&s.mask != 0 {
			p.order = append(p.order, int32(i))
		}
	}
	p.sorted, p.raw, p.boost = 0, p.fused, nil
	if len(s.boosts) == 0 {
		return
	}
	p.raw, p.lift, p.taken, p.open, p.lifted = append(p.rawOwn[:0], p.fused...), s.lift, 0, p.open[:0], p.lifted[:0]
	p.rawOwn = p.raw
	p.boost = func(at int32) float64 {
		v, _ := e.verdictOn(s, p.items[at].ItemID)
		return v.boost
	}
}

// final makes a place's score what boosts make of it.
func (p *pool) final(at int32) float64 {
	if p.boost != nil {
		p.fused[at] = p.raw[at] + p.boost(at)
	}
	return p.fused[at]
}

// place gives the n-th best place (from 0), false behind the last. Most lists need a few more than they are long, so only as many are
// put in order as are asked for. Boosts are expressions over items, and cost more than all else: one is worked out only where an item is
// within the greatest possible boost of the places that are wanted.
func (p *pool) place(n int) (int32, bool) {
	if p.boost == nil {
		return p.inOrder(n)
	}
	for len(p.lifted) <= n {
		next, more := p.inOrder(p.taken)
		best := -1
		for i := range p.open {
			if best < 0 || p.above(p.open[i], p.open[best]) {
				best = i
			}
		}
		switch {
		case best >= 0 && (!more || p.fused[p.open[best]] > p.raw[next]+p.lift): // nothing behind can come before it
			p.lifted = append(p.lifted, p.open[best])
			p.open[best] = p.open[len(p.open)-1]
			p.open = p.open[:len(p.open)-1]
		case more:
			p.final(next)
			p.open, p.taken = append(p.open, next), p.taken+1
		default:
			return 0, false
		}
	}
	return p.lifted[n], true
}

// inOrder is place without boosts.
func (p *pool) inOrder(n int) (int32, bool) {
	if n >= len(p.order) {
		return 0, false
	}
	for n >= p.sorted {
		rest := p.order[p.sorted:]
		chunk := min(len(rest), max(32, p.sorted))
		p.partition(rest, chunk)
		slices.SortFunc(rest[:chunk], p.byRaw)
		p.sorted += chunk
	}
	return p.order[n], true
}

// partition moves the n best places to the front, in no order (Hoare's quickselect).
func (p *pool) partition(places []int32, n int) {
	from, to := 0, len(places)-1
	for from < to && n <= to {
		pivot := places[(from+to)/2]
		i, j := from, to
		for i <= j {
			for p.aboveRaw(places[i], pivot) {
				i++
			}
			for p.aboveRaw(pivot, places[j]) {
				j--
			}
			if i <= j {
				places[i], places[j] = places[j], places[i]
				i, j = i+1, j-1
			}
		}
		switch {
		case n-1 <= j:
			to = j
		case n-1 >= i:
			from = i
		default:
			return
		}
	}
}

// above orders places by score, equal ones as they were proposed.
func (p *pool) above(a, b int32) bool {
	x, y := p.fused[a], p.fused[b]
	return x > y || x == y && a < b
}

func (p *pool) aboveRaw(a, b int32) bool {
	x, y := p.raw[a], p.raw[b]
	return x > y || x == y && a < b
}

func (p *pool) byRaw(a, b int32) int {
	switch {
	case a == b:
		return 0
	case p.aboveRaw(a, b):
		return -1
	}
	return 1
}

// addRanks adds weight / (60 + rank) of one source; items on its floor share the last rank.
func (p *pool) addRanks(k int, weight float64) {
	p.order = p.order[:0]
	for i := range p.items {
		p.order = append(p.order, int32(i))
	}
	scores := p.scores[k]
	slices.SortStableFunc(p.order, func(a, b int32) int {
		switch {
		case scores[a] > scores[b]:
			return -1
		case scores[a] < scores[b]:
			return 1
		}
		return 0
	})
	rank := 0
	for n, i := range p.order {
		if n == 0 || scores[i] > p.floor[k] {
			rank = n + 1
		} else if scores[p.order[n-1]] > p.floor[k] {
			rank = n + 1
		}
		p.fused[i] += weight / float64(rankOffset+rank)
	}
}
