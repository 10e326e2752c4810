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
	items  []freshet.Ref
	from   []uint32              // which sources proposed the item, a bit each
	flags  []uint8               // what the user did with it: flagSeen ...
	scores [][]float32           // [source][item]
	floor  []float32             // of each source: the least it gave to any item
	lists  [][]freshet.Candidate // of each source: what it proposed, best first

	opinions []freshet.Opinion // of each source; nil = it was asked for the whole batch
	numbers  func(id string) int32
	byNumber []int32 // place in items + 1, by the item's Number
	slots    []int32 // of the items without a Number, open addressing: place in items + 1
	nameless int     // how many they are
	missing  []int32
	asked    []freshet.Ref
	some     []float32
	sums     []float64 // of sources' shares
	places   []int32

	mix    []float64 // weight / temperature of each source, for the surface that is being made
	fused  []float64 // of that surface, boosts and all
	order  []int32   // places that may be chosen, the first `sorted` of them best first
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

func (p *pool) reset(sources int, numbers func(id string) int32) {
	p.numbers = numbers
	p.items, p.from, p.flags = p.items[:0], p.from[:0], p.flags[:0]
	for len(p.scores) < sources {
		p.scores = append(p.scores, nil)
	}
	for k := range p.scores {
		p.scores[k] = p.scores[k][:0]
	}
	p.floor, p.opinions = append(p.floor[:0], make([]float32, sources)...), append(p.opinions[:0], make([]freshet.Opinion, sources)...)
	p.lists = append(p.lists[:0], make([][]freshet.Candidate, sources)...)
	p.mix = nil // of another engine, perhaps
}

// release closes what is open and gives the memory back.
func (p *pool) release() {
	for _, o := range p.opinions {
		if o != nil {
			o.Close()
		}
	}
	for i := range p.items {
		p.byNumber[p.items[i].Number] = 0
	}
	if p.nameless > 0 {
		clear(p.slots)
		p.nameless = 0
	}
	clear(p.items) // ids may be the last references to large strings
	clear(p.asked)
	clear(p.lists)
	p.numbers = nil
	pools.Put(p)
}

// find gives an item's place, -1 = it has none. Most items have a Number, and cost no more than a look at an array.
func (p *pool) find(item freshet.Ref) int32 {
	if item.Number == 0 {
		item.Number = p.numbers(item.ItemID)
	}
	return p.findNumbered(item)
}

func (p *pool) findNumbered(item freshet.Ref) int32 {
	if n := int(item.Number); n > 0 && n < len(p.byNumber) && p.byNumber[n] > 0 {
		return p.byNumber[n] - 1
	}
	if p.nameless == 0 {
		return -1
	}
	at, _ := p.slot(item.ItemID) // it may have got its Number a moment ago
	return at
}

// slot looks among the items without a Number. It gives the place, or -1 and the free slot where the item belongs.
func (p *pool) slot(id string) (place int32, slot uint64) {
	mask := uint64(len(p.slots) - 1)
	for slot = maphash.String(poolSeed, id) & mask; p.slots[slot] != 0; slot = (slot + 1) & mask {
		if at := p.slots[slot] - 1; p.items[at].ItemID == id {
			return at, slot
		}
	}
	return -1, slot
}

// add gives an item a place, if it has none.
func (p *pool) add(item freshet.Ref) int32 {
	if item.Number == 0 {
		item.Number = p.numbers(item.ItemID)
	}
	at := p.findNumbered(item)
	if at >= 0 {
		return at
	}
	at = int32(len(p.items))
	p.items, p.from, p.flags = append(p.items, item), append(p.from, 0), append(p.flags, 0)
	if n := int(item.Number); n >= len(p.byNumber) {
		p.byNumber = append(p.byNumber, make([]int32, n+1+n/4-len(p.byNumber))...)
	}
	if item.Number > 0 {
		p.byNumber[item.Number] = at + 1
		return at
	}
	if p.nameless++; 2*p.nameless > len(p.slots) {
		p.grow()
		return at
	}
	_, slot := p.slot(item.ItemID)
	p.slots[slot] = at + 1
	return at
}

func (p *pool) grow() {
	p.slots = make([]int32, max(512, 2*len(p.slots)))
	for at := range p.items {
		if p.items[at].Number == 0 {
			_, slot := p.slot(p.items[at].ItemID)
			p.slots[slot] = int32(at) + 1
		}
	}
}

// flag notes what the user did with an item, if it is a candidate at all.
func (p *pool) flag(id string, what uint8) {
	if at := p.find(freshet.Ref{ItemID: id}); at >= 0 {
		p.flags[at] |= what
	}
}

// unscored marks an item whose score a source has not told yet.
var unscored = float32(math.NaN())

// propose takes one source's proposals in.
func (p *pool) propose(k int, list []freshet.Candidate) {
	p.lists[k] = list
	for _, c := range list {
		at := int(p.add(freshet.Ref{ItemID: c.ItemID, Number: c.Number}))
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
		p.missing, p.asked = p.missing[:0], p.asked[:0]
		for at, v := range s {
			if v != v {
				p.missing, p.asked = append(p.missing, int32(at)), append(p.asked, p.items[at])
			}
		}
		if len(p.asked) > 0 {
			if len(p.some) < len(p.asked) {
				p.some = make([]float32, 2*len(p.asked))
			}
			some := p.some[:len(p.asked)]
			if o := p.opinions[k]; o != nil {
				o.Score(p.asked, some)
			} else if err := src.Score(ctx, who, p.asked, some); err != nil {
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

// had notes what the user did with an item, if it is a candidate. The profile keeps the item's Number, so that the next list of a user who is
// held here need not look for a hundred items by their ids.
func (p *pool) had(id string, number *int32, what uint8) {
	if *number == 0 {
		*number = p.numbers(id)
	}
	if at := p.findNumbered(freshet.Ref{ItemID: id, Number: *number}); at >= 0 {
		p.flags[at] |= what
	}
}

// refOf names the item on a place of the list.
func (p *pool) refOf(place int) freshet.Ref {
	if k := p.kept[place]; k.at < 0 {
		return freshet.Ref{ItemID: k.id}
	} else {
		return p.items[k.at]
	}
}

// know marks what the user has had among the candidates, as far as any rule asks for it.
func (p *pool) know(profile *freshet.Profile, hides uint8) {
	if len(p.items) == 0 {
		return
	}
	if hides&flagSeen != 0 {
		for i := range profile.Window {
			x := &profile.Window[i]
			p.had(x.ItemID, &x.Number, flagSeen)
		}
	}
	if hides&flagPurchased != 0 {
		for i := range profile.Owned {
			x := &profile.Owned[i]
			p.had(x.ItemID, &x.Number, flagPurchased)
		}
	}
	if hides&flagDismissed != 0 {
		for i := range profile.Dismissed {
			x := &profile.Dismissed[i]
			p.had(x.ItemID, &x.Number, flagDismissed)
		}
	}
}
