package shop

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"freshet"
)

// Config says how big and how old the shop is.
type Config struct {
	// CatalogueSeed makes the catalogue. Default 1, the catalogue that the committed bundle was trained on.
	CatalogueSeed int64
	// Shoppers who are active at the same time. Default 400.
	Shoppers int
	// Start of the virtual clock. Default 2026-06-01 00:00 UTC, after everything in the training history. The clock runs as fast
	// as events are taken: a hundred shoppers make about 270 events a virtual day, so 400 of them at 500 events a second use up a
	// year in 13 minutes. An event more than 24 h after its record's timestamp is refused, so a live stream starts years before
	// today, and waits when Shop.Now has caught up.
	Start time.Time
}

func (c Config) withDefaults() Config {
	if c.CatalogueSeed == 0 {
		c.CatalogueSeed = 1
	}
	if c.Shoppers == 0 {
		c.Shoppers = 400
	}
	if c.Start.IsZero() {
		c.Start = time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	}
	return c
}

// TrainingSeed is the seed of the history that the committed bundle was trained on. Streams take any other, so that the model
// meets shoppers it has never seen.
const TrainingSeed = 20260105

// Training is the configuration of that history: 1,500 shoppers from 2026-01-05 on.
func Training() Config {
	return Config{Shoppers: 1500, Start: time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC)}
}

// Shop is a catalogue and its shoppers under one virtual clock. It is not safe for concurrent use.
type Shop struct {
	catalogue *catalogue
	shoppers  byNext
	followed  *shopper
}

// New opens a shop. Two shops of the same seed and configuration give the same items and the same events.
func New(seed int64, cfg Config) *Shop {
	cfg = cfg.withDefaults()
	s := &Shop{catalogue: newCatalogue(cfg.CatalogueSeed)}
	s.shoppers.catalogue = s.catalogue
	ids := make(map[string]bool, cfg.Shoppers)
	for i := range cfg.Shoppers {
		r := rand.New(rand.NewPCG(uint64(seed), uint64(i)+1))
		id := userID(r, ids)
		s.shoppers.list = append(s.shoppers.list, newShopper(s.catalogue, id, r, cfg.Start.UnixMilli()))
	}
	heap.Init(&s.shoppers)
	return s
}

// userID is a first name and four characters: "greta-7k3f".
func userID(r *rand.Rand, taken map[string]bool) string {
	for {
		var tail [4]byte
		for i := range tail {
			tail[i] = crockford[r.IntN(32)]
		}
		id := strings.ToLower(pick(r, firstNames) + "-" + string(tail[:]))
		if !taken[id] {
			taken[id] = true
			return id
		}
	}
}

// Items gives the catalogue, in a fixed order.
func (s *Shop) Items() []freshet.Item {
	items := make([]freshet.Item, len(s.catalogue.products))
	for i := range items {
		items[i] = s.catalogue.products[i].item
	}
	return items
}

// Next gives the next event of any shopper, in global time order; equal times in a fixed order.
func (s *Shop) Next() freshet.Event {
	p := s.shoppers.list[0]
	e := p.next(s.catalogue)
	heap.Fix(&s.shoppers, 0)
	return e
}

// Now is the virtual clock: the time of the event that Next will give.
func (s *Shop) Now() time.Time { return time.UnixMilli(s.shoppers.list[0].peek(s.catalogue)).UTC() }

// History gives the next n events.
func (s *Shop) History(n int) []freshet.Event {
	events := make([]freshet.Event, n)
	for i := range events {
		events[i] = s.Next()
	}
	return events
}

// Follow takes the shopper who would come next out of the crowd and gives his id: from now on Next leaves him out and
// NextFollowed gives his events one by one, so that somebody can watch him at a pace of his own. Per-user order is kept, and
// that is all that a consumer relies on. Follow panics when nobody would be left.
func (s *Shop) Follow() string {
	if s.followed != nil {
		heap.Push(&s.shoppers, s.followed)
	}
	if len(s.shoppers.list) < 2 {
		panic(fmt.Sprintf("shop: %d shoppers, following one leaves nobody", len(s.shoppers.list)))
	}
	s.followed = heap.Pop(&s.shoppers).(*shopper)
	return s.followed.id
}

// NextFollowed gives the next event of the followed shopper.
func (s *Shop) NextFollowed() freshet.Event { return s.followed.next(s.catalogue) }

// byNext is a heap of shoppers by the time of their next event, ties by id.
type byNext struct {
	catalogue *catalogue
	list      []*shopper
}

func (h *byNext) Len() int { return len(h.list) }
func (h *byNext) Less(i, j int) bool {
	a, b := h.list[i].peek(h.catalogue), h.list[j].peek(h.catalogue)
	if a != b {
		return a < b
	}
	return h.list[i].id < h.list[j].id
}
func (h *byNext) Swap(i, j int) { h.list[i], h.list[j] = h.list[j], h.list[i] }
func (h *byNext) Push(x any)    { h.list = append(h.list, x.(*shopper)) }
func (h *byNext) Pop() any {
	last := h.list[len(h.list)-1]
	h.list = h.list[:len(h.list)-1]
	return last
}
