package shop

import (
	"math/rand/v2"
	"time"

	"freshet"
)

// shopper is one person with an interest, a purse and a memory. All his choices come from his own generator, so that what one
// does never depends on who else is in the shop.
type shopper struct {
	id       string
	device   string
	r        *rand.Rand
	level    int        // price level that he keeps to, mostly
	pursuits [2]pursuit // what he is after; he goes to and fro between them
	current  int
	now      int64
	visits   int
	queue    []freshet.Event // rest of the session, in time order
	seen     []int           // products of this stage, so that comparing does not go in circles
}

// pursuit is an interest and how far it has come.
type pursuit struct {
	theme  int
	stage  int // how far along the theme's path
	anchor int // the product that the next one should go with; -1 = none
}

func newShopper(c *catalogue, id string, r *rand.Rand, start int64) *shopper {
	p := &shopper{id: id, r: r, level: r.IntN(levels), now: start}
	p.device = []string{"ios", "android", "web", "web"}[r.IntN(4)]
	for i := range p.pursuits {
		p.pursuits[i] = pursuit{theme: r.IntN(len(c.paths)), stage: r.IntN(3), anchor: -1} // some have begun elsewhere
	}
	p.now += int64(p.r.Float64() * 2 * 24 * float64(time.Hour/time.Millisecond))
	return p
}

func (p *shopper) chance(percent int) bool { return p.r.IntN(100) < percent }

// next gives the shopper's next event, opening a new session when the last one is over.
func (p *shopper) next(c *catalogue) freshet.Event {
	for len(p.queue) == 0 {
		p.session(c)
	}
	e := p.queue[0]
	p.queue = p.queue[1:]
	return e
}

// peek gives the time of the next event without taking it.
func (p *shopper) peek(c *catalogue) int64 {
	for len(p.queue) == 0 {
		p.session(c)
	}
	return p.queue[0].Time
}

// session is one visit: a look at what the shop shows, one to three stages of the path, the till, and a look at what goes with it.
func (p *shopper) session(c *catalogue) {
	p.wait()
	p.visits++
	id := ulid(p.now, p.r)
	if p.visits > 1 && p.chance(10) {
		p.moveOn(c)
	}
	if p.chance(25) {
		p.shown(c)
	}
	var cart []int
	for round := 0; round < 3; round++ {
		cart = p.browse(c, cart)
		if !p.chance(55) {
			break
		}
	}
	if len(cart) > 0 && p.chance(75) {
		p.buy(c, cart)
		if p.chance(50) {
			p.browse(c, nil)
		}
	}
	for i := range p.queue {
		p.queue[i].SessionID = id
	}
}

// wait lets the time between two visits go by: half of them within a day or two, most of them in the evening.
func (p *shopper) wait() {
	if p.visits == 0 {
		return
	}
	const hour = int64(time.Hour / time.Millisecond)
	gap := 2*hour + int64(p.r.ExpFloat64()*40*float64(hour))
	at := p.now + min(gap, 30*24*hour)
	if p.chance(60) { // move to an evening hour of the same day, unless it has gone by
		evening := at - at%(24*hour) + 17*hour + p.r.Int64N(5*hour)
		if evening > p.now+2*hour {
			at = evening
		}
	}
	p.now = at
}

// shown is an impression: the shop put a row of things before the shopper.
func (p *shopper) shown(c *catalogue) {
	e := p.event("impression")
	now := p.pursuits[p.current]
	shelf := c.paths[now.theme][now.stage]
	for level := range levels {
		for _, i := range c.shelves[shelf].byLevel[level] {
			if len(e.Items) < 8 {
				e.Items = append(e.Items, freshet.EventItem{ItemID: c.products[i].item.ItemID})
			}
		}
	}
	p.queue = append(p.queue, e)
}

// browse walks one stage of the path: compare some products, put one into the cart, perhaps take it out again.
func (p *shopper) browse(c *catalogue, cart []int) []int {
	if p.chance(40) {
		p.current = 1 - p.current
	}
	now := &p.pursuits[p.current]
	at := p.enter(c, now)
	p.seen = append(p.seen[:0], at)
	p.look(c, at)
	for p.chance(45) && len(p.seen) < 4 {
		if at = p.compare(c, at); at < 0 {
			break
		}
		p.seen = append(p.seen, at)
		p.look(c, at)
	}
	chosen := p.seen[len(p.seen)-1]
	switch {
	case p.chance(3):
		p.add("dislike", c, chosen)
	case p.chance(45):
		p.add("cart", c, chosen)
		if p.chance(12) {
			p.add("remove", c, chosen)
		} else {
			cart = append(cart, chosen)
		}
	case p.chance(8):
		p.add("like", c, chosen)
	}
	now.anchor = chosen
	if p.chance(85) {
		now.stage++
	}
	if now.stage >= len(c.paths[now.theme]) {
		p.moveOn(c)
	}
	return cart
}

// enter is where a stage begins: with what goes with the last thing, or with a best seller; now and then with anything at all.
func (p *shopper) enter(c *catalogue, now *pursuit) int {
	if p.chance(8) {
		shelf := p.r.IntN(len(c.shelves))
		return c.popular(p.r, shelf, p.r.IntN(levels))
	}
	shelf := c.paths[now.theme][now.stage]
	if now.anchor >= 0 && p.chance(75) && c.products[now.anchor].shelf != shelf {
		return c.companion(now.anchor, shelf)
	}
	level := p.level
	if p.chance(12) {
		level = p.r.IntN(levels)
	}
	return c.popular(p.r, shelf, level)
}

// compare moves along the ring, or to the other end of the price range; -1 when everything near was seen.
func (p *shopper) compare(c *catalogue, at int) int {
	next := 0
	switch n := p.r.IntN(100); {
	case n < 68:
		next = c.beside(at, 1)
	case n < 88:
		next = c.beside(at, 2)
	default:
		next = c.popular(p.r, c.products[at].shelf, p.r.IntN(levels))
	}
	for _, s := range p.seen {
		if s == next {
			return -1
		}
	}
	return next
}

// look is a view, or a click when it came from a list of the shop.
func (p *shopper) look(c *catalogue, product int) {
	kind := "view"
	if p.chance(30) {
		kind = "click"
	}
	p.add(kind, c, product)
}

// buy takes everything in the cart at once, in the order in which it was put there.
func (p *shopper) buy(c *catalogue, cart []int) {
	e := p.event("purchase")
	total := 0.0
	for _, i := range cart {
		it := freshet.EventItem{ItemID: c.products[i].item.ItemID, Quantity: 1, Price: c.products[i].item.Price}
		if it.Price < 20 && p.chance(25) {
			it.Quantity = 2
		}
		total += it.Quantity * it.Price
		e.Items = append(e.Items, it)
	}
	e.Value = &total
	p.queue = append(p.queue, e)
	p.pursuits[p.current].anchor = cart[len(cart)-1]
}

// moveOn lets another interest take over, mostly one next door, and forgets what the next thing should go with.
func (p *shopper) moveOn(c *catalogue) {
	now := &p.pursuits[p.current]
	next := c.nextDoor[now.theme]
	now.theme = next[p.r.IntN(len(next))]
	if p.chance(15) {
		now.theme = p.r.IntN(len(c.paths))
	}
	now.stage, now.anchor = 0, -1
}

func (p *shopper) add(kind string, c *catalogue, product int) {
	e := p.event(kind)
	e.Items = []freshet.EventItem{{ItemID: c.products[product].item.ItemID}}
	p.queue = append(p.queue, e)
}

// event is the next one of the session: some seconds or minutes after the one before.
func (p *shopper) event(kind string) freshet.Event {
	p.now += 4000 + int64(p.r.ExpFloat64()*55_000)
	return freshet.Event{
		ID: ulid(p.now, p.r), Type: kind, UserID: p.id, Time: p.now, Surface: freshet.HomeSurface,
		Context: []byte(`{"device":"` + p.device + `"}`),
	}
}
