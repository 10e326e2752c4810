package stream

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"

	"freshet"
)

// batcher hands events to a Handler. With joined set, what several partitions bring while another call is under way goes into one call:
// at a moderate rate each partition by itself has an event or two, and a call costs a run of the model and a trip to the store whatever is
// in it. A batch that is full waits for nobody.
type batcher struct {
	handler Handler
	full    func() int // events of a full batch
	observe Observer
	turns   *turns[*part] // nil = every partition by itself
}

// part is what one partition brings, and what came of it.
type part struct {
	ctx    context.Context
	events []freshet.Event
	lists  []freshet.Publication
	err    error
}

func newBatcher(handler Handler, cfg *ConsumerConfig, observe Observer) *batcher {
	b := &batcher{handler: handler, full: cfg.batch, observe: observe}
	if cfg.Joined {
		b.turns = &turns[*part]{slots: runtime.GOMAXPROCS(0), full: b.fill, hold: yield[*part], fits: b.fits, work: b.work}
	}
	return b
}

// yield lets those run who have just been given something by the same call and will ask next, so that one call serves them all.
func yield[P any](P) { runtime.Gosched() }

// handle folds the events of one partition. alone keeps others out of the call: for events that may be at fault, and for users who may have
// some on another partition, too, which has a copy of their profiles.
func (b *batcher) handle(ctx context.Context, events []freshet.Event, alone bool) ([]freshet.Publication, error) {
	p := &part{ctx: ctx, events: events}
	if b.turns == nil || alone || len(events) >= b.full() {
		b.call(p)
	} else {
		b.turns.do(p)
	}
	return p.lists, p.err
}

// call hands a part over and takes a panic for an error.
func (b *batcher) call(p *part) {
	defer func() {
		if r := recover(); r != nil {
			p.lists, p.err = nil, fmt.Errorf("handle %d events: panic: %v\n%s", len(p.events), r, debug.Stack())
		}
	}()
	b.observe.Batch(p.events[0].Position.Source, len(p.events))
	p.lists, p.err = b.handler.Handle(p.ctx, p.events)
}

func eventsOf(parts []*part) (n int) {
	for _, p := range parts {
		n += len(p.events)
	}
	return n
}

// worthwhile is how many events make a call that need not wait for more: what a call costs by itself is shared by enough of them then.
const worthwhile = 32

func (b *batcher) fill(waiting []*part) bool { return eventsOf(waiting) >= min(worthwhile, b.full()) }

func (b *batcher) fits(team []*part, next *part) bool {
	return eventsOf(team)+len(next.events) <= b.full()
}

var joinedEvents = sync.Pool{New: func() any { return new([]freshet.Event) }}

// work handles the parts of a team in one call. Where that fails for another reason than a store or a model that is away, each part is
// handled by itself, so that everybody learns what is true of his own events.
func (b *batcher) work(team []*part) {
	if len(team) == 1 {
		b.call(team[0])
		return
	}
	memory := joinedEvents.Get().(*[]freshet.Event)
	joined := part{ctx: team[0].ctx, events: (*memory)[:0]}
	for _, p := range team {
		joined.events = append(joined.events, p.events...)
	}
	b.call(&joined)
	switch {
	case joined.err == nil:
		deal(team, joined.lists)
	case errors.Is(joined.err, freshet.ErrUnavailable) && !errors.Is(joined.err, freshet.ErrLost):
		for _, p := range team {
			p.err = joined.err
		}
	default:
		for _, p := range team {
			b.call(p)
		}
	}
	clear(joined.events)
	*memory = joined.events
	joinedEvents.Put(memory)
}

// deal gives each part the lists of its users.
func deal(team []*part, lists []freshet.Publication) {
	of := make(map[string]*part, len(lists))
	for _, p := range team {
		for i := range p.events {
			of[p.events[i].UserID] = p
		}
	}
	for _, l := range lists {
		p, ok := of[l.UserID]
		if !ok {
			p = team[0] // any of them can publish it
		}
		p.lists = append(p.lists, l)
	}
}
