package main

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// How the stream is made.
const (
	hotShare       = 0.30
	duplicateShare = 0.10
	maxDistance    = 10_000 // between a record and its duplicate
	lateShare      = 0.05
	tooLateShare   = 0.003
	equalShare     = 0.01
	poisonShare    = 0.001
	unknownShare   = 0.02 // items that the bundle does not know
	eraseShare     = 0.02 // of the users
	eventEvery     = 100 * time.Millisecond
)

// beginning is the event time of the stream's start: fixed, so that a seed gives the same bytes on every day.
var beginning = time.Date(2026, 1, 5, 8, 0, 0, 0, time.UTC).UnixMilli()

// message is one record to send.
type message struct {
	key, value []byte
}

// stream makes messages, the same ones for the same seed.
type stream struct {
	rnd      *rand.Rand
	items    []string
	shoppers []*shopper
	eraseAt  map[int]*shopper // before which message somebody is erased
	now      int64            // event time, Unix milliseconds
	made     int
	recent   []message // the last maxDistance good ones

	poison, duplicates, late int
	probes                   int // records of probes, which are not among those made
	erased                   []string
}

// shopper is one user.
type shopper struct {
	id       string
	times    []int64  // of his last events, as sent
	carts    []string // event ids that a removal may name
	items    []string // items that a removal may name
	erasedAt int64
	silent   bool // does nothing new after his erasure; what still comes is older
}

func newStream(p *plan, bundle string) (*stream, error) {
	s := &stream{rnd: rand.New(rand.NewPCG(p.seed, 1)), now: beginning, eraseAt: map[int]*shopper{}}
	raw, err := os.ReadFile(filepath.Join(bundle, "items.json"))
	if err != nil {
		return nil, err
	}
	var list struct {
		IDs []string `json:"ids"`
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf("items.json: %w", err)
	}
	s.items = list.IDs[1:]
	for i := range p.users {
		id := fmt.Sprintf("u%d", i)
		if i%50 == 49 { // what keys must escape
			id = fmt.Sprintf("ü {%d} 100%%", i)
		}
		s.shoppers = append(s.shoppers, &shopper{id: id})
	}
	for i := range max(2, int(float64(p.users)*eraseShare)) {
		who := s.shoppers[1+s.rnd.IntN(p.users-1)]
		who.silent = i%2 == 0
		s.eraseAt[p.events/5+s.rnd.IntN(p.events*3/5)] = who
	}
	return s, nil
}

// next makes one message.
func (s *stream) next() message {
	s.now += int64(s.rnd.ExpFloat64() * float64(eventEvery.Milliseconds()))
	s.made++
	if who := s.eraseAt[s.made]; who != nil {
		return s.keep(s.erase(who))
	}
	switch x := s.rnd.Float64(); {
	case x < poisonShare:
		s.poison++
		return s.poisonous()
	case x < poisonShare+duplicateShare && len(s.recent) > 0:
		distance := int(math.Exp(s.rnd.Float64() * math.Log(maxDistance)))
		s.duplicates++
		return s.recent[max(0, len(s.recent)-distance)]
	}
	who := s.shoppers[0]
	if s.rnd.Float64() >= hotShare {
		who = s.shoppers[1+s.rnd.IntN(len(s.shoppers)-1)]
	}
	return s.keep(s.event(who))
}

func (s *stream) keep(m message) message {
	s.recent = append(s.recent, m)
	if len(s.recent) > 2*maxDistance {
		s.recent = append(s.recent[:0], s.recent[maxDistance:]...)
	}
	return m
}

func (s *stream) erase(who *shopper) message {
	if who.erasedAt == 0 {
		s.erased = append(s.erased, who.id)
	}
	who.erasedAt = s.now
	return s.encode(who, "erase", s.now, nil, nil)
}

// when is the event time of somebody's next event: now, or as late as real ones are.
func (s *stream) when(who *shopper) int64 {
	n := len(who.times)
	switch x := s.rnd.Float64(); {
	case who.silent && who.erasedAt > 0:
		return who.erasedAt - s.rnd.Int64N(60_000)
	case n > 1 && x < lateShare:
		s.late++
		k := 1 + s.rnd.IntN(n-1)
		return who.times[n-1-k] + s.rnd.Int64N(1+max(0, who.times[n-k]-who.times[n-1-k]))
	case n > 0 && x < lateShare+equalShare:
		return who.times[n-1]
	case n == cap(who.times) && x < lateShare+equalShare+tooLateShare:
		return beginning
	}
	return s.now
}

func (s *stream) event(who *shopper) message {
	at := s.when(who)
	if who.times == nil {
		who.times = make([]int64, 0, 24)
	}
	if n := len(who.times); n == 0 || at > who.times[n-1] {
		if n == cap(who.times) {
			who.times = append(who.times[:0], who.times[1:]...)
		}
		who.times = append(who.times, at)
	}
	item := s.item()
	switch x := s.rnd.Float64(); {
	case x < 0.08:
		return s.purchase(who, at)
	case x < 0.13 && len(who.items) > 0:
		return s.remove(who, at)
	case x < 0.17:
		return s.encode(who, "dislike", at, []string{item}, nil)
	case x < 0.20:
		return s.encode(who, "impression", at, []string{item}, nil)
	case x < 0.24:
		return s.encode(who, "rating", at, []string{item}, map[string]any{"value": 1 + s.rnd.IntN(5)})
	case x < 0.36:
		who.items = append(who.items[max(0, len(who.items)-9):], item)
		m := s.encode(who, "cart", at, []string{item}, nil)
		who.carts = append(who.carts[max(0, len(who.carts)-9):], s.id())
		return m
	case x < 0.50:
		return s.encode(who, "click", at, []string{item}, nil)
	case x < 0.54:
		return s.encode(who, "like", at, []string{item}, nil)
	}
	return s.encode(who, "view", at, []string{item}, nil)
}

// purchase has one item, or several, or more than a profile keeps.
func (s *stream) purchase(who *shopper, at int64) message {
	n := 1
	switch x := s.rnd.Float64(); {
	case x < 0.02:
		n = 51 + s.rnd.IntN(150)
	case x < 0.5:
		n = 2 + s.rnd.IntN(5)
	}
	items := make([]string, n)
	for i := range items {
		items[i] = s.item()
	}
	return s.encode(who, "purchase", at, items, nil)
}

// remove names an item, or an event, or both.
func (s *stream) remove(who *shopper, at int64) message {
	item := who.items[s.rnd.IntN(len(who.items))]
	if len(who.carts) == 0 || s.rnd.IntN(2) == 0 {
		return s.encode(who, "remove", at, []string{item}, nil)
	}
	target := map[string]any{"target_event_id": who.carts[s.rnd.IntN(len(who.carts))]}
	if s.rnd.IntN(2) == 0 {
		return s.encode(who, "remove", at, nil, target)
	}
	return s.encode(who, "remove", at, []string{item}, target)
}

func (s *stream) item() string {
	if s.rnd.Float64() < unknownShare {
		return fmt.Sprintf("new-%d", s.rnd.IntN(20))
	}
	return s.items[s.rnd.IntN(len(s.items))]
}

// id is the event id of the message being made.
func (s *stream) id() string { return fmt.Sprintf("e%08d", s.made) }

func (s *stream) encode(who *shopper, kind string, at int64, items []string, more map[string]any) message {
	e := map[string]any{"event_id": s.id(), "type": kind, "user_id": who.id, "timestamp": at}
	if s.rnd.IntN(2) == 0 {
		e["timestamp"] = time.UnixMilli(at).UTC().Format("2006-01-02T15:04:05.000Z")
	}
	switch {
	case len(items) == 1:
		e["item_id"] = items[0]
	case len(items) > 1:
		list := make([]map[string]any, len(items))
		for i, id := range items {
			list[i] = map[string]any{"item_id": id, "quantity": 1 + i%3}
		}
		e["items"] = list
	}
	for k, v := range more {
		e[k] = v
	}
	raw, err := json.Marshal(e)
	if err != nil {
		panic(err) // strings and numbers
	}
	return message{[]byte(who.id), raw}
}

// probe makes a plain event of a user of whom nothing else comes, with nothing drawn from the seed.
func (s *stream) probe(user string) message {
	s.probes++
	raw, err := json.Marshal(map[string]any{"event_id": fmt.Sprintf("p%08d", s.probes), "type": "view", "user_id": user,
		"item_id": s.items[s.probes%len(s.items)], "timestamp": s.now})
	if err != nil {
		panic(err) // strings and numbers
	}
	return message{[]byte(user), raw}
}

// poisonous makes a record that cannot be read, one kind after the other.
func (s *stream) poisonous() message {
	who := s.shoppers[s.rnd.IntN(len(s.shoppers))]
	m := s.encode(who, "view", s.now, []string{s.item()}, nil)
	set := func(field string, value any) message {
		var e map[string]any
		_ = json.Unmarshal(m.value, &e) // encode made it
		if value == nil {
			delete(e, field)
		} else {
			e[field] = value
		}
		raw, _ := json.Marshal(e)
		return message{m.key, raw}
	}
	switch s.poison % 14 {
	case 0:
		return message{m.key, m.value[:len(m.value)/2]}
	case 1:
		return message{nil, m.value}
	case 2:
		return message{[]byte("somebody else"), m.value}
	case 3:
		return message{m.key, nil}
	case 4:
		return set("event_id", nil)
	case 5:
		return set("type", "gaze")
	case 6:
		return set("timestamp", -5)
	case 7:
		return set("timestamp", "1989-12-31T23:59:59Z")
	case 8:
		return set("timestamp", "2100-01-01T00:00:00Z")
	case 9:
		return set("item_id", nil)
	case 10:
		return set("item_id", strings.Repeat("x", 129))
	case 11:
		return message{m.key, append(m.value[:len(m.value)-1:len(m.value)-1], ",\"surface\":\"\xff\"}"...)}
	case 12:
		return set("event_id", "with\x00NUL")
	}
	return set("timestamp", "yesterday")
}
