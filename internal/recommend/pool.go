package recommend

import (
	"context"
	"fmt"
	"hash/maphash"
	"math"
	"sync"

	"freshet"
)

// pool is the union of what the sources proposed for one subject, with every source's score of every item. All surfaces of the
// subject choose from it. Pools are used again: their memory only grows.
type pool struct {
	items  []string
	from   []uint32              // which sources proposed the item, a bit each
	flags  []uint8               // what the user did with it: flagSeen ...
	scores [][]float32           // [source][item]
	floor  []float32             // of each source: the least it gave to any item
	lists  [][]freshet.Candidate // of each source: what it proposed, best first

	opinions []freshet.Opinion // of each source; nil = it was asked for the whole batch
	slots    []int32           // open addressing: place in items + 1
	missing  []int32
	ids      []string
	some     []float32
	places   []int32

	mix    []float64              // weight / temperature of each source, for the surface that is being made
	fused  []float64              // of that surface; where it boosts, raw until boosted says otherwise
	raw    []float64              // the same without boosts
	boost  func(at int32) float64 // nil = the surface does not boost
	lift   float64                // no boost is above this
	taken  int                    // places in order whose boost is known
	open   []int32                // those of them that are not in lifted yet
	lifted []int32                // best first, boosts and all
	rawOwn []float64              // memory of raw
	order  []int32                // places that may be chosen, the first `sorted` of them best first
	sorted int
	kept   []pick
}

const (
	flagSeen = 1 << iota
	flagPurchased
	flagDismissed
	flagPlaced // stands in the list that is being made
	flagSlate  // stands in the slate that is being made
)

var (
	pools    = sync.Pool{New: func() any { return &pool{} }}
	poolSeed = maphash.MakeSeed()
)

func (p *pool) reset(sources int) {
	p.items, p.from, p.flags = p.items[:0], p.from[:0], p.flags[:0]
	for len(p.scores) < sources {
		p.scores = append(p.scores, nil)
	}
	for k := range p.scores {
		p.scores[k] = p.scores[k][:0]
	}
	p.floor, p.opinions = append(p.floor[:0], make([]float32, sources)...), append(p.opinions[:0], make([]freshet.Opinion, sources)...)
	p.lists = append(p.lists[:0], make([][]freshet.Candidate, sources)...)
	p.mix, p.boost = nil, nil // of another engine, perhaps
	clear(p.slots)
}

// release closes what is open and gives the memory back.
func (p *pool) release() {
	for _, o := range p.opinions {
		if o != nil {
			o.Close()
		}
	}
	clear(p.items) // ids may be the last references to large strings
	clear(p.lists)
	pools.Put(p)
}

// find gives an item's place, or the free slot where it belongs.
func (p *pool) find(id string) (place int32, slot uint64) {
	mask := uint64(len(p.slots) - 1)
	for slot = maphash.String(poolSeed, id) & mask; p.slots[slot] != 0; slot = (slot + 1) & mask {
		if at := p.slots[slot] - 1; p.items[at] == id {
			return at, slot
		}
	}
	return -1, slot
}

// add gives an item a place, if it has none.
func (p *pool) add(id string) int32 {
	if 2*(len(p.items)+1) > len(p.slots) {
		p.grow()
	}
	at, slot := p.find(id)
	if at >= 0 {
		return at
	}
	at = int32(len(p.items))
	p.slots[slot] = at + 1
	p.items, p.from, p.flags = append(p.items, id), append(p.from, 0), append(p.flags, 0)
	return at
}

func (p *pool) grow() {
	p.slots = make([]int32, max(512, 2*len(p.slots)))
	for at, id := range p.items {
		_, slot := p.find(id)
		p.slots[slot] = int32(at) + 1
	}
}

// flag notes what the user did with an item, if it is a candidate at all.
func (p *pool) flag(id string, what uint8) {
	if at, _ := p.find(id); at >= 0 {
		p.flags[at] |= what
	}
}

// unscored marks an item whose score a source has not told yet.
var unscored = float32(math.NaN())

// propose takes one source's proposals in.
func (p *pool) propose(k int, list []freshet.Candidate) {
	p.lists[k] = list
	for _, c := range list {
		at := int(p.add(c.ItemID))
		p.from[at] |= 1 << k
		for len(p.scores[k]) <= at {
			p.scores[k] = append(p.scores[k], unscored)
		}
		p.scores[k][at] = c.Score
	}
}

// fillIn asks the sources for the scores of what others proposed. An item that a source cannot score (the model has no vector of it)
// gets the least that it gave to any: it is judged by the other sources alone.
func (p *pool) fillIn(ctx context.Context, sources []Source, depths []int, who *freshet.Subject) error {
	for k, src := range sources {
		if depths[k] == 0 { // takes no part
			continue
		}
		s := p.scores[k]
		for len(s) < len(p.items) {
			s = append(s, unscored)
		}
		p.scores[k] = s
		p.missing, p.ids = p.missing[:0], p.ids[:0]
		for at, v := range s {
			if v != v {
				p.missing, p.ids = append(p.missing, int32(at)), append(p.ids, p.items[at])
			}
		}
		if len(p.ids) > 0 {
			if len(p.some) < len(p.ids) {
				p.some = make([]float32, 2*len(p.ids))
			}
			some := p.some[:len(p.ids)]
			if o := p.opinions[k]; o != nil {
				o.Score(p.ids, some)
			} else if err := src.Score(ctx, who, p.ids, some); err != nil {
				return fmt.Errorf("score by %s: %w: %w", src.Name(), freshet.ErrUnavailable, err)
			}
			for i, at := range p.missing {
				s[at] = some[i]
			}
		}
		p.floor[k] = level(s)
	}
	return nil
}

// level gives items without a score the least of the others, and tells it.
func level(scores []float32) float32 {
	least, unknown := float32(math.Inf(1)), false
	for _, v := range scores {
		if v > -math.MaxFloat32 && v < math.MaxFloat32 {
			least = min(least, v)
		} else {
			unknown = true
		}
	}
	if least == float32(math.Inf(1)) {
		least = 0
	}
	if unknown {
		for i, v := range scores {
			if !(v > -math.MaxFloat32 && v < math.MaxFloat32) {
				scores[i] = least
			}
		}
	}
	return least
}

// know marks what the user has had among the candidates, as far as any rule asks for it.
func (p *pool) know(profile *freshet.Profile, hides uint8) {
	if len(p.items) == 0 {
		return
	}
	if hides&flagSeen != 0 {
		for i := range profile.Window {
			p.flag(profile.Window[i].ItemID, flagSeen)
		}
	}
	if hides&flagPurchased != 0 {
		for i := range profile.Owned {
			p.flag(profile.Owned[i].ItemID, flagPurchased)
		}
	}
	if hides&flagDismissed != 0 {
		for i := range profile.Dismissed {
			p.flag(profile.Dismissed[i].ItemID, flagDismissed)
		}
	}
}
