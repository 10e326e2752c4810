package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"freshet"
	"freshet/featurestore"
	"freshet/internal/recommend"
	"freshet/models"
	"freshet/stream"
)

// benchLoad makes up who meets what and when: users alike, items by Zipf's law, events in order of time but for those that are
// late. It is the same for the same seed.
type benchLoad struct {
	users int
	items []string
	types []string
	late  float64 // share of events whose time lies before that of events sent already
	hot   float64 // share of the events of the first user
	base  int64   // event time of event 0, Unix milliseconds; event n happens n ms later
	n     int     // events made so far

	r    *rand.Rand
	zipf *rand.Zipf
}

// maxLate is how far back a late event lies at most.
const maxLate = 10 * time.Minute

func newBenchLoad(users int, items []string, types *freshet.EventTypes, late float64, base time.Time, seed uint64) *benchLoad {
	l := &benchLoad{users: users, items: items, late: late, base: base.UnixMilli(), r: rand.New(rand.NewPCG(seed, 0xbe7c4))}
	l.zipf = rand.NewZipf(l.r, 1.05, 10, uint64(len(items)-1))
	for _, name := range types.Names() {
		if t, _ := types.Lookup(name); t.Effect == freshet.Extend && t.Threshold == nil {
			l.types = append(l.types, name)
		}
	}
	return l
}

// again draws from here on what a fresh load of that seed would draw.
func (l *benchLoad) again(seed uint64) { *l.r = *rand.New(rand.NewPCG(seed, 0xbe7c4)) }

func benchUser(n int) string { return fmt.Sprintf("u%07d", n) }

// next makes the next event of a random user.
func (l *benchLoad) next() freshet.Event {
	if l.hot > 0 && l.r.Float64() < l.hot {
		return l.of(0)
	}
	return l.of(l.r.IntN(l.users))
}

// of makes the next event of one user. Its id ends with its number.
func (l *benchLoad) of(user int) freshet.Event {
	at := l.base + int64(l.n)
	if l.r.Float64() < l.late {
		at -= l.r.Int64N(maxLate.Milliseconds())
	}
	kind := l.types[0] // most events are the first of the types (a view)
	if l.n%4 == 0 {
		kind = l.types[l.n/4%len(l.types)]
	}
	e := freshet.Event{ID: fmt.Sprintf("bench-%x-%d", l.base, l.n), Type: kind, UserID: benchUser(user), Surface: freshet.HomeSurface,
		Items: []freshet.EventItem{{ItemID: l.items[l.zipf.Uint64()]}}, Time: at, SessionID: "s" + strconv.Itoa(l.n%100_000)}
	l.n++
	return e
}

// numberOf reads an event's number from its id; -1 = it is not one of ours.
func numberOf(id string) int {
	n, err := strconv.Atoi(id[strings.LastIndexByte(id, '-')+1:])
	if err != nil {
		return -1
	}
	return n
}

// publishPiece is how many events are handed to the producer at once.
const publishPiece = 10_000

// publish writes n events to the topic.
func (l *benchLoad) publish(ctx context.Context, p *stream.Producer, n int) error {
	for n > 0 {
		batch := make([]freshet.Event, min(n, publishPiece))
		for i := range batch {
			batch[i] = l.next()
		}
		if err := p.PublishEvents(ctx, batch); err != nil {
			return err
		}
		n -= len(batch)
	}
	return nil
}

// benchTemplates is how many different histories the users have: user n has that of n modulo benchTemplates.
const benchTemplates = 512

// seedProfiles gives every user a full window, a state and a checkpoint, by the code that serves: the histories of some users are
// folded in memory, and the others get copies of their profiles.
func seedProfiles(ctx context.Context, at *lane, l *benchLoad, history int) error {
	past, err := foldHistories(ctx, at.cfg, at.bundle, at.index, at.w.items.Item, at.w.types, l, history)
	if err != nil {
		return err
	}
	return copyProfiles(ctx, at.store, past.profiles, l.users)
}

// histories are users with full windows in an engine over a store in memory.
type histories struct {
	engine   *recommend.Engine
	store    *featurestore.Memory
	users    []string
	profiles [][]byte
}

// foldHistories makes at most benchTemplates users with that many events and a few more behind them. item may be nil.
func foldHistories(ctx context.Context, c Config, bundle *models.Bundle, index *models.Index, item func(string) (*freshet.Item, bool),
	types *freshet.EventTypes, l *benchLoad, history int) (*histories, error) {
	cfg, err := engineConfig(c, types)
	if err != nil {
		return nil, err
	}
	cfg.Item = item
	h := &histories{}
	if h.store, err = featurestore.NewMemory(featurestore.Config{Owner: true, CV: 1}, time.Now); err != nil {
		return nil, err
	}
	if h.engine, err = recommend.New(cfg, h.store, bundle, index, newSources(c, bundle, index, time.Now).all, unobserved{}, zap.NewNop()); err != nil {
		return nil, err
	}
	past := newBenchLoad(l.users, l.items, types, 0, time.UnixMilli(l.base).Add(-time.Duration(history+8)*time.Minute), 0x5eed)
	h.users = make([]string, min(benchTemplates, l.users))
	for round := range history + 8 { // a few more, so that the checkpoint has taken steps
		batch := make([]freshet.Event, len(h.users))
		for i := range h.users {
			batch[i] = past.of(i)
			batch[i].Position = freshet.Position{Source: freshet.Source{Topic: "seed"}, Offset: int64(past.n)}
			batch[i].Time = past.base + int64(round)*time.Minute.Milliseconds() + int64(i)
			batch[i].RecordTime, h.users[i] = batch[i].Time, batch[i].UserID
		}
		if _, err := h.engine.Handle(ctx, batch); err != nil {
			return nil, err
		}
	}
	h.profiles, err = h.store.Load(ctx, h.users)
	return h, err
}

func copyProfiles(ctx context.Context, store *featurestore.Redis, profiles [][]byte, users int) error {
	const piece = 1000
	for from := 0; from < users; from += piece {
		updates := make([]freshet.Update, min(piece, users-from))
		for i := range updates {
			updates[i] = freshet.Update{UserID: benchUser(from + i), Profile: profiles[(from+i)%len(profiles)],
				Records: []freshet.Record{{Surface: freshet.HomeSurface}}}
		}
		results, err := store.Save(ctx, updates)
		if err != nil {
			return err
		}
		for i, r := range results {
			if r != freshet.Saved {
				return fmt.Errorf("seed user %s: %v; is redis.prefix used already?", updates[i].UserID, r)
			}
		}
	}
	return nil
}
