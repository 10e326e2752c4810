package shop

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"freshet"
)

// Sort says what a delivery is.
type Sort uint8

// The sorts of deliveries.
const (
	Fresh  Sort = iota // the next event, for the first time
	Repeat             // an event that was delivered before, same event id
	Late               // an event that some later ones have overtaken
	Bad                // a record that no consumer should accept
)

func (s Sort) String() string { return [...]string{"fresh", "repeat", "late", "bad"}[s] }

// Delivery is one record on its way to the events topic.
type Delivery struct {
	Key    []byte
	Value  []byte
	Sort   Sort
	Event  freshet.Event // zero when Sort is Bad
	Reason string        // what is wrong with a Bad one, in words
}

// FeedConfig says how dirty the stream is. Shares are of all deliveries, in [0, 0.5]; default 0.
type FeedConfig struct {
	// Repeats is the share of events delivered a second time.
	Repeats float64
	// Late is the share of events held back for 5 to 60 deliveries.
	Late float64
	// Bad is the share of records that break the contract. All ways to break it take turns.
	Bad float64
}

// Validate refuses shares that cannot be meant.
func (c FeedConfig) Validate() error {
	for name, v := range map[string]float64{"repeats": c.Repeats, "late": c.Late, "bad": c.Bad} {
		if !(v >= 0 && v <= 0.5) {
			return fmt.Errorf("feed.%s: %v, a share between 0 and 0.5", name, v)
		}
	}
	return nil
}

// Feed is a shop's events as they arrive in the real world. It is not safe for concurrent use.
type Feed struct {
	shop    *Shop
	cfg     FeedConfig
	r       *rand.Rand
	n       int // deliveries so far
	bad     int
	recent  []freshet.Event // what a repeat repeats
	delayed []held
}

type held struct {
	event freshet.Event
	due   int // delivery at which it is let go
}

// NewFeed makes the feed of a shop. The same seed, shop and configuration give the same deliveries.
func NewFeed(s *Shop, seed int64, cfg FeedConfig) (*Feed, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Feed{shop: s, cfg: cfg, r: rand.New(rand.NewPCG(uint64(seed), 0xfeed))}, nil
}

// Next gives the next delivery.
func (f *Feed) Next() Delivery {
	f.n++
	if len(f.delayed) > 0 && f.delayed[0].due <= f.n {
		e := f.delayed[0].event
		f.delayed = f.delayed[1:]
		return f.deliver(e, Late)
	}
	switch u := f.r.Float64(); {
	case u < f.cfg.Bad:
		return f.spoil()
	case u < f.cfg.Bad+f.cfg.Repeats && len(f.recent) > 0:
		return f.deliver(f.recent[f.r.IntN(len(f.recent))], Repeat)
	}
	e := f.shop.Next()
	for f.r.Float64() < f.cfg.Late {
		f.hold(e)
		e = f.shop.Next()
	}
	return f.deliver(e, Fresh)
}

// hold keeps an event back; the list stays sorted by the time of release.
func (f *Feed) hold(e freshet.Event) {
	h := held{event: e, due: f.n + 5 + f.r.IntN(56)}
	at := len(f.delayed)
	for at > 0 && f.delayed[at-1].due > h.due {
		at--
	}
	f.delayed = append(f.delayed, held{})
	copy(f.delayed[at+1:], f.delayed[at:])
	f.delayed[at] = h
}

// deliver makes the record of an event and remembers the last hundred, which a repeat draws from: duplicates are recognised
// within a user's recent events, and those are recent enough.
func (f *Feed) deliver(e freshet.Event, s Sort) Delivery {
	if s != Repeat {
		if len(f.recent) == 100 {
			f.recent = f.recent[1:]
		}
		f.recent = append(f.recent, e)
	}
	d := Deliver(e)
	d.Sort = s
	return d
}

// Deliver makes the record of a clean event, keyed by its user.
func Deliver(e freshet.Event) Delivery {
	return Delivery{Key: []byte(e.UserID), Value: AppendEvent(nil, &e), Event: e}
}

// spoil takes the next event and breaks it in the next of all ways.
func (f *Feed) spoil() Delivery {
	d := Spoil(f.shop.Next(), f.bad)
	f.bad++
	return d
}

// BadWays is the number of ways in which Spoil breaks a record.
func BadWays() int { return len(badWays) }

// Spoil breaks an event in the nth way (modulo BadWays). The result is the only copy of that event: it does not come again.
func Spoil(e freshet.Event, n int) Delivery {
	way := badWays[n%len(badWays)]
	d := Delivery{Key: []byte(e.UserID), Sort: Bad, Reason: way.reason}
	way.spoil(&e, &d)
	if d.Value == nil {
		d.Value = AppendEvent(nil, &e)
	}
	return d
}

// badWay breaks the event before it is encoded, or sets the delivery's bytes itself.
type badWay struct {
	reason string
	spoil  func(e *freshet.Event, d *Delivery)
}

var badWays = []badWay{
	{"JSON that ends in the middle", func(e *freshet.Event, d *Delivery) { v := AppendEvent(nil, e); d.Value = v[:len(v)*2/3] }},
	{"user_id is missing", func(e *freshet.Event, d *Delivery) { d.Value = without(e, "user_id", e.UserID) }},
	{"type is not configured", func(e *freshet.Event, _ *Delivery) { e.Type = "teleport" }},
	{"timestamp lies in the year 2099", func(e *freshet.Event, _ *Delivery) { e.Time = time.Date(2099, 7, 1, 12, 0, 0, 0, time.UTC).UnixMilli() }},
	{"key is another user's id", func(e *freshet.Event, d *Delivery) { d.Key = []byte("somebody-else-" + e.UserID) }},
	{"event_id has 300 bytes", func(e *freshet.Event, _ *Delivery) { e.ID = strings.Repeat("x", 300) }},
	{"item_id is not UTF-8", func(e *freshet.Event, d *Delivery) {
		e.Items = []freshet.EventItem{{ItemID: "MARK"}}
		d.Value = bytes.Replace(AppendEvent(nil, e), []byte("MARK"), []byte("o\xff\xfe1"), 1)
	}},
	{"timestamp lies before 1990", func(e *freshet.Event, _ *Delivery) { e.Time = time.Date(1975, 3, 1, 0, 0, 0, 0, time.UTC).UnixMilli() }},
	{"key is missing", func(_ *freshet.Event, d *Delivery) { d.Key = nil }},
	{"item_id and items are missing", func(e *freshet.Event, d *Delivery) {
		e.Items = []freshet.EventItem{{ItemID: "MARK"}}
		d.Value = without(e, "item_id", "MARK")
	}},
	{"timestamp is a word", func(e *freshet.Event, d *Delivery) {
		at := time.UnixMilli(e.Time).UTC().Format("2006-01-02T15:04:05.000Z")
		d.Value = bytes.Replace(AppendEvent(nil, e), []byte(at), []byte("yesterday"), 1)
	}},
	{"value is an array, not an object", func(e *freshet.Event, d *Delivery) {
		d.Value = append(append([]byte{'['}, AppendEvent(nil, e)...), ']')
	}},
	{"201 items in one purchase", func(e *freshet.Event, _ *Delivery) {
		e.Type, e.Items = "purchase", nil
		for i := range freshet.MaxEventItems + 1 {
			e.Items = append(e.Items, freshet.EventItem{ItemID: fmt.Sprintf("o%04d", i+1), Quantity: 1, Price: 9.95})
		}
	}},
	{"user_id contains a NUL byte", func(e *freshet.Event, d *Delivery) {
		e.UserID = "a\x00b"
		d.Key = []byte(e.UserID)
	}},
}

// without leaves a text field out.
func without(e *freshet.Event, name, value string) []byte {
	field := appendText(nil, `"`+name+`":`, value)
	return bytes.Replace(AppendEvent(nil, e), append(field, ','), nil, 1)
}
