package recommend

import (
	"math"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"

	"freshet"
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
	p.sorted = 0
	if len(s.boosts) > 0 {
		version := e.version()
		for i := range p.items {
			p.fused[i] += e.boostAt(s, p.items[i], version)
		}
	}
}

// boost is the logarithm of the factors that a surface's boosts give an item. Expressions are worked out once for each version of an item.
func (e *Engine) boost(s *Surface, item freshet.Ref) float64 { return e.boostAt(s, item, e.version()) }

func (e *Engine) boostAt(s *Surface, item freshet.Ref, version uint64) float64 {
	if v, ok := s.known.at(item.Number, version); ok {
		return v
	}
	v, _ := e.verdictOn(s, item)
	if !s.clockwise {
		s.known.put(item.Number, version, v.boost)
	}
	return v.boost
}

// boosts remembers a surface's boosts by item number. A list looks at those of hundreds of items all over the catalogue, so that what
// counts is how many lines of memory a look takes: here one of eight items, with the version of the items that the boost was found at.
type boosts struct {
	mu     sync.Mutex // guards what follows for writers
	cells  atomic.Pointer[[]atomic.Uint64]
	values atomic.Pointer[[]float64] // the few that there are; a cell holds the place of one
}

func (b *boosts) at(number int32, version uint64) (float64, bool) {
	cells := b.cells.Load()
	if cells == nil || number <= 0 || int(number) >= len(*cells) || uint32(version) == 0 {
		return 0, false
	}
	cell := (*cells)[number].Load()
	if uint32(cell>>32) != uint32(version) {
		return 0, false
	}
	return (*b.values.Load())[uint32(cell)], true
}

func (b *boosts) put(number int32, version uint64, boost float64) {
	if number <= 0 || uint32(version) == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	cells := b.cells.Load()
	if cells == nil || int(number) >= len(*cells) {
		larger := make([]atomic.Uint64, max(1024, int(number)+int(number)/4+1))
		if cells != nil {
			for i := range *cells {
				larger[i].Store((*cells)[i].Load())
			}
		}
		cells = &larger
		b.cells.Store(cells)
	}
	values := b.values.Load()
	if values == nil {
		values = &[]float64{}
	}
	at := slices.Index(*values, boost)
	if at < 0 {
		more := append(slices.Clone(*values), boost)
		at, values = len(*values), &more
		b.values.Store(values)
	}
	(*cells)[number].Store(uint64(uint32(version))<<32 | uint64(at))
}

// place gives the n-th best place (from 0), false behind the last. Most lists need a few more than they are long, so only as many are
// put in order as are asked for.
func (p *pool) place(n int) (int32, bool) {
	if n >= len(p.order) {
		return 0, false
	}
	for n >= p.sorted {
		rest := p.order[p.sorted:]
		chunk := min(len(rest), max(32, p.sorted))
		p.partition(rest, chunk)
		slices.SortFunc(rest[:chunk], p.byFused)
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
			for p.above(places[i], pivot) {
				i++
			}
			for p.above(pivot, places[j]) {
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

func (p *pool) byFused(a, b int32) int {
	switch {
	case a == b:
		return 0
	case p.above(a, b):
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
