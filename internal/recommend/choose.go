package recommend

import (
	"cmp"
	"fmt"
	"math"
	"math/bits"
	"slices"

	"freshet"
)

// pick is one chosen place of a list.
type pick struct {
	at  int32   // place in the pool; -1 = a pinned item that nobody proposed
	id  string  // of a pinned item
	why string  // "" = its score; pinned, new
	p   float64 // with which probability it was drawn; 0 = it was not drawn
}

// choose fills p.kept: pinned items, then the best that no rule forbids, within the caps, unlike each other as the dial says, and the
// last places for new items. Rules are asked only until the list is full.
func (e *Engine) choose(s *Surface, who *freshet.Subject, p *pool, hear func(s *Surface, rule, item string)) {
	p.kept = p.kept[:0]
	for i := range p.flags {
		p.flags[i] &^= flagPlaced
	}
	c := chooser{e: e, s: s, who: who, p: p, hear: hear, caps: newCaps(s)}
	c.pin()
	places := s.K - s.Explore
	if s.Diversity > 0 {
		c.diversify(places)
	} else {
		c.best(places)
	}
	if s.Explore > 0 {
		c.explore()
		c.best(s.K) // what exploration left empty
	}
}

// chooser is one list in the making.
type chooser struct {
	e    *Engine
	s    *Surface
	who  *freshet.Subject
	p    *pool
	hear func(s *Surface, rule, item string)
	caps *caps
}

// allowed asks the rules, and tells whoever traces.
func (c *chooser) allowed(item freshet.Ref, flags uint8) bool {
	rule := c.e.forbids(c.s, c.who, item, flags)
	if rule == "" && c.caps != nil {
		rule = c.caps.refuse(c.e.itemOf(item))
	}
	if rule != "" && c.hear != nil {
		c.hear(c.s, rule, item.ItemID)
	}
	return rule == ""
}

func (c *chooser) put(k pick, item freshet.Ref) {
	c.p.kept = append(c.p.kept, k)
	if k.at >= 0 {
		c.p.flags[k.at] |= flagPlaced
	}
	if c.caps != nil {
		c.caps.take(c.e.itemOf(item))
	}
}

func (c *chooser) pin() {
	for _, id := range c.s.Pins {
		at, flags := int32(-1), uint8(0)
		if len(c.p.items) > 0 {
			at = c.p.find(freshet.Ref{ItemID: id})
		}
		if at >= 0 {
			flags = c.p.flags[at]
		} else {
			flags = flagsOf(c.who.Profile, id)
		}
		if flags&flagPlaced == 0 && c.allowed(freshet.Ref{ItemID: id}, flags) {
			c.put(pick{at: at, id: id, why: "pinned"}, freshet.Ref{ItemID: id})
		}
	}
}

// flagsOf is what the user did with an item that is in no pool.
func flagsOf(p *freshet.Profile, id string) (flags uint8) {
	for i := range p.Window {
		if p.Window[i].ItemID == id {
			flags |= flagSeen
		}
	}
	for i := range p.Owned {
		if p.Owned[i].ItemID == id {
			flags |= flagPurchased
		}
	}
	for i := range p.Dismissed {
		if p.Dismissed[i].ItemID == id {
			flags |= flagDismissed
		}
	}
	return flags
}

// best takes the highest scores until there are so many places.
func (c *chooser) best(places int) {
	for n := 0; len(c.p.kept) < places; n++ {
		i, ok := c.p.place(n)
		if !ok {
			return
		}
		if c.p.flags[i]&flagPlaced == 0 && c.allowed(c.p.items[i], c.p.flags[i]) {
			c.put(pick{at: i}, c.p.items[i])
		}
	}
}

// Exploration draws among so many of the best new items, and this share of the draws looks at no score, and at all that are proposed.
const (
	exploreAmong = 20
	exploreBlind = 0.1
	exploreSharp = 3 // odds are the likelihoods of the source "new" to this power: with 1 most places would go to items that few will take
)

// explore draws new items for the last places, the likelier the higher the score that the source "new" gives them, and notes with which
// probability: what users then do with an item says something about all that might have stood there. What other sources say of an item that
// nobody knows yet does not count; boosts do. The same user and event give the same draw.
func (c *chooser) explore() {
	var open []int32
	scores := map[int32]float64{}
	new := c.p.scores[sourceOf(c.s.explore)]
	for i := range c.p.items {
		if c.p.from[i]&c.s.explore == 0 || c.p.flags[i]&flagPlaced != 0 || !c.allowed(c.p.items[i], c.p.flags[i]) {
			continue
		}
		at := int32(i)
		scores[at] = exploreSharp * float64(new[i])
		if len(c.s.boosts) > 0 {
			scores[at] += c.e.boost(c.s, c.p.items[at])
		}
		open = append(open, at)
	}
	slices.SortFunc(open, func(a, b int32) int {
		return cmp.Or(cmp.Compare(scores[b], scores[a]), cmp.Compare(a, b))
	})
	for slot := 0; slot < c.s.Explore && len(c.p.kept) < c.s.K; slot++ {
		open = slices.DeleteFunc(open, func(i int32) bool {
			return c.p.flags[i]&flagPlaced != 0 || c.caps != nil && c.caps.refuse(c.e.itemOf(c.p.items[i])) != ""
		})
		if len(open) == 0 {
			return
		}
		odds, sum := make([]float64, min(len(open), exploreAmong)), 0.0
		for n := range odds {
			odds[n] = math.Exp(scores[open[n]] - scores[open[0]])
			sum += odds[n]
		}
		left, at, p := draw(c.who, fmt.Sprint(c.s.Name, " explores ", slot)), 0, 0.0
		for n := range open {
			p = exploreBlind / float64(len(open))
			if n < len(odds) {
				p += (1 - exploreBlind) * odds[n] / sum
			}
			if at = n; left < p {
				break
			}
			left -= p
		}
		c.put(pick{at: open[at], why: newSource, p: p}, c.p.items[open[at]])
	}
}

// diverseFrom is among how many candidates, in lists of K, diversity chooses.
const diverseFrom = 3

// diversify chooses by maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998): the next item is the one with the greatest
// (1 - dial) x relevance - dial x likeness, where relevance is the score between the worst (0) and the best (1) candidate and likeness the
// highest cosine with an item that was chosen before.
func (c *chooser) diversify(places int) {
	var among []int32
	for n := 0; len(among) < diverseFrom*c.s.K; n++ {
		i, ok := c.p.place(n)
		if !ok {
			break
		}
		if c.p.flags[i]&flagPlaced == 0 && c.allowed(c.p.items[i], c.p.flags[i]) {
			among = append(among, i)
		}
	}
	if len(among) == 0 {
		return
	}
	top, bottom := c.p.fused[among[0]], c.p.fused[among[len(among)-1]]
	vectors, norms, likeness := make([][]float32, len(among)), make([]float32, len(among)), make([]float64, len(among))
	for n, i := range among {
		vectors[n], norms[n] = c.e.vectors.VectorOf(c.p.items[i])
	}
	var items []*freshet.Item // of the candidates, where there are caps; what a cap refuses once it refuses for good
	refused := make([]bool, len(among))
	if c.caps != nil {
		items = make([]*freshet.Item, len(among))
		for n, i := range among {
			items[n] = c.e.itemOf(c.p.items[i])
			refused[n] = c.caps.refuse(items[n]) != ""
		}
	}
	dial := c.s.Diversity
	for len(c.p.kept) < places {
		best, most := -1, math.Inf(-1)
		for n, i := range among {
			if c.p.flags[i]&flagPlaced != 0 || refused[n] {
				continue
			}
			relevance := 1.0
			if top > bottom {
				relevance = (c.p.fused[i] - bottom) / (top - bottom)
			}
			if v := (1-dial)*relevance - dial*likeness[n]; v > most {
				best, most = n, v
			}
		}
		if best < 0 {
			return
		}
		c.put(pick{at: among[best]}, c.p.items[among[best]])
		for n := range items {
			if a, b := items[n], items[best]; a != nil && b != nil && !refused[n] && (a.Brand == b.Brand || overlap(a.Categories, b.Categories)) {
				refused[n] = c.caps.refuse(a) != ""
			}
		}
		for n := range among {
			if vectors[n] != nil && vectors[best] != nil && norms[n] > 0 && norms[best] > 0 {
				likeness[n] = max(likeness[n], float64(freshet.Dot(vectors[n], vectors[best])/(norms[n]*norms[best])))
			}
		}
	}
}

// caps counts brands and categories of one list.
type caps struct {
	perBrand, perCategory int
	brands, categories    map[string]int
}

// newCaps gives nil where a surface has none.
func newCaps(s *Surface) *caps {
	if s.PerBrand == 0 && s.PerCategory == 0 {
		return nil
	}
	return &caps{perBrand: s.PerBrand, perCategory: s.PerCategory, brands: map[string]int{}, categories: map[string]int{}}
}

// refuse names the cap that an item would break; "" = none. An item without brand or category counts for none.
func (c *caps) refuse(item *freshet.Item) string {
	if item == nil {
		return ""
	}
	if c.perBrand > 0 && item.Brand != "" && c.brands[item.Brand] >= c.perBrand {
		return "brand cap"
	}
	if c.perCategory > 0 {
		for _, x := range item.Categories {
			if c.categories[x] >= c.perCategory {
				return "category cap"
			}
		}
	}
	return ""
}

func (c *caps) take(item *freshet.Item) {
	if item == nil {
		return
	}
	c.brands[item.Brand]++
	for i, x := range item.Categories {
		if !slices.Contains(item.Categories[:i], x) { // named twice, it is of the category once
			c.categories[x]++
		}
	}
}

// itemOf is what the catalogue knows of an item; nil = nothing.
func (e *Engine) itemOf(named freshet.Ref) *freshet.Item {
	if e.cfg.Item == nil {
		return nil
	}
	if f := e.judged.at(named.Number); f != nil && f.as.Load() == e.version() && f.as.Load() > 0 {
		return f.item
	}
	item, _ := e.cfg.Item(named.ItemID)
	return item
}

// sourceOf is the first source of a mask.
func sourceOf(mask uint32) int { return bits.TrailingZeros32(mask) }
