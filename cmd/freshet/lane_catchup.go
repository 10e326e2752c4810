package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"go.uber.org/zap"

	"freshet"
	rules "freshet/internal/lane"
	"freshet/internal/recommend"
	"freshet/stream"
)

// laneProgress is what a worker leaves in Redis of each partition while a lane catches up.
type laneProgress struct {
	From    int64 `json:"from"` // where it was when the lane began
	Applied int64 `json:"applied"`
	End     int64 `json:"end"`
	Seeded  int   `json:"seeded"` // users whose profile and lists were taken over by the scan
	Users   int   `json:"users"`  // users that the scan has to look at
	Scanned bool  `json:"scanned"`
	Caught  bool  `json:"caught"`
	Began   int64 `json:"began"` // Unix milliseconds
	At      int64 `json:"at"`
}

// caughtWithin is how far behind a lane may be that counts as caught up.
const caughtWithin = time.Second

// fewRecords is how many may wait where nobody can tell how old they are.
const fewRecords = 100

// caughtUp tells whether a partition is at the log's end, or close behind it. Until a first batch is done nothing is known of its lag.
func caughtUp(p stream.PartitionStatus) bool {
	switch {
	case p.State != stream.StateRunning:
		return false
	case p.Lag > 0:
		return p.Lag < caughtWithin
	}
	return p.Records() <= fewRecords
}

// catchUp follows a new lane until it has caught up: it leaves its progress in Redis, takes profiles over by a scan where the lane
// begins with another one's, and notes in the table when every partition has caught up, whoever works on it.
func (l *lane) catchUp(ctx context.Context) {
	if l.caught.Load() {
		return
	}
	if b := l.w.background; b != nil && !l.live() {
		defer b.begin()()
	}
	s := &seeding{l: l, parts: map[int32]*laneProgress{}}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for failing := false; !l.caught.Load(); {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := s.step(ctx)
		if row, ok := l.w.table.Load().Lanes[l.name]; ok && row.Caught && err == nil {
			if err = s.settle(ctx); err == nil {
				l.caught.Store(true)
				l.log.Info("the lane has caught up")
			}
		}
		if err != nil && ctx.Err() == nil && !failing {
			l.log.Warn("catching up is held up; trying again every second", zap.Error(err))
		}
		failing = err != nil
	}
}

type seeding struct {
	l     *lane
	parts map[int32]*laneProgress
}

// step looks at the partitions of this moment, scans for those that nobody has scanned, and reports.
func (s *seeding) step(ctx context.Context) error {
	stored, err := s.l.store.Progress(ctx, s.l.name)
	if err != nil {
		return err
	}
	known := map[int32]laneProgress{}
	for p, b := range stored {
		var v laneProgress
		if err := json.Unmarshal(b, &v); err != nil {
			return fmt.Errorf("progress of partition %d: %w", p, err)
		}
		known[p] = v
	}
	now := time.Now()
	mine := map[int32]*laneProgress{}
	todo, near := false, true
	for _, p := range s.l.consumer.Status() {
		v, ok := known[p.Source.Partition]
		if !ok {
			v = laneProgress{From: max(p.Committed, 0), Began: now.UnixMilli(), Scanned: s.l.row.Seed == "" && s.l.live()} // live owes nothing
		}
		if s.l.owes() { // whoever had the partition before, from now on its lists are owed again
			v.Scanned = false
		}
		v.Applied, v.End, v.At = p.Applied, p.End, now.UnixMilli()
		v.Caught = v.Scanned && caughtUp(p)
		todo, near = todo || !v.Scanned, near && caughtUp(p)
		mine[p.Source.Partition], known[p.Source.Partition] = &v, v
	}
	s.parts = mine
	if err := s.report(ctx); err != nil {
		return err
	}
	switch {
	case !todo:
		return s.finish(ctx, known)
	case s.l.row.Seed != "":
		return s.scan(ctx, s.l.row.Seed, s.l.takeOver)
	case near:
		s.l.listAll()
		return s.scan(ctx, s.l.name, s.l.makeOwed)
	}
	return nil
}

// settle makes what is still owed here when the lane has caught up: a partition may have changed hands in that very second.
func (s *seeding) settle(ctx context.Context) error {
	if !s.l.owes() {
		return nil
	}
	s.l.listAll()
	for _, p := range s.parts {
		p.Scanned = false
	}
	return s.scan(ctx, s.l.name, s.l.makeOwed)
}

func (s *seeding) report(ctx context.Context) error {
	out := map[int32][]byte{}
	for p, v := range s.parts {
		b, err := json.Marshal(v)
		if err != nil {
			return err
		}
		out[p] = b
	}
	return s.l.store.PutProgress(ctx, out)
}

// finish notes in the table that the lane has caught up, when every partition has.
func (s *seeding) finish(ctx context.Context, known map[int32]laneProgress) error {
	conn, err := connection(s.l.cfg)
	if err != nil {
		return err
	}
	n, err := stream.Partitions(ctx, conn, s.l.cfg.Kafka.Topics.Events)
	if err != nil {
		return err
	}
	for p := range n {
		if !known[int32(p)].Caught {
			return nil
		}
	}
	_, err = s.l.store.ChangeLanes(ctx, func(t *freshet.LaneTable) error { return rules.CatchUp(t, s.l.name) })
	return err
}

// seedBatch is how many users are taken over at once.
const seedBatch = 64

// scan gives lists to those users of the partitions at hand, among the ones whom a lane has profiles of, who have none here: it takes them
// over from another lane, or makes what this one owes. Whoever comes with an event meanwhile is served by that: a save finds the newer profile
// and leaves it.
func (s *seeding) scan(ctx context.Context, lane string, serve func(context.Context, []string) error) error {
	conn, err := connection(s.l.cfg)
	if err != nil {
		return err
	}
	n, err := stream.Partitions(ctx, conn, s.l.cfg.Kafka.Topics.Events)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	var users []string
	err = s.l.store.EachProfile(ctx, lane, func(found []string) error {
		for _, u := range found {
			if p := s.parts[stream.PartitionOf(u, n)]; p != nil && !p.Scanned && !seen[u] {
				seen[u] = true
				users = append(users, u)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, p := range s.parts {
		if !p.Scanned {
			p.Users, p.Seeded = 0, 0
		}
	}
	for _, u := range users {
		s.parts[stream.PartitionOf(u, n)].Users++
	}
	for told := time.Now(); len(users) > 0; {
		batch := users[:min(seedBatch, len(users))]
		if err := s.l.yield(ctx, len(batch)); err != nil {
			return err
		}
		if err := serve(ctx, batch); err != nil {
			return err
		}
		for _, u := range batch {
			s.parts[stream.PartitionOf(u, n)].Seeded++
		}
		if users = users[len(batch):]; time.Since(told) > time.Second {
			told = time.Now()
			if err := s.report(ctx); err != nil {
				return err
			}
		}
	}
	for _, p := range s.parts {
		p.Scanned = true
	}
	return s.report(ctx)
}

// owes tells whether lists are left for later: while the lane reads the topic from far behind, nobody could read one before the next.
func (l *lane) owes() bool {
	return l.row.Seed == "" && !l.caught.Load() && !l.listing.Load() && !l.live()
}

// listAll has every event from now on make its lists, and waits for the batches that began before.
func (l *lane) listAll() {
	l.listing.Store(true)
	l.inHand.Lock()
	defer l.inHand.Unlock()
}

// makeOwed makes the lists that are owed to users: those without items.
func (l *lane) makeOwed(ctx context.Context, users []string) error {
	own := make([]freshet.RecordKey, len(users))
	for i, u := range users {
		own[i] = freshet.RecordKey{UserID: u, Surface: l.cfg.Surfaces[0].Name, Place: freshet.PlaceOwn}
	}
	have, err := l.store.Records(ctx, own)
	if err != nil {
		return err
	}
	var renew []recommend.Renewal
	for i, u := range users {
		if have[i] == nil || !bytes.Contains(have[i], []byte(`"items":[]`)) {
			continue
		}
		r, err := renewalOf(u, have[i], int32(l.cfg.Kafka.Incarnation))
		if err != nil {
			return err
		}
		renew = append(renew, r)
	}
	return l.renew(ctx, renew)
}

// renew makes lists anew, and publishes those that are public.
func (l *lane) renew(ctx context.Context, users []recommend.Renewal) error {
	public, err := l.engine.Renew(ctx, users)
	if err != nil || len(public) == 0 {
		return err
	}
	return l.w.producer.PublishLists(ctx, public)
}

// takeOver gives users their profile in this lane and the lists of this lane's bundle.
func (l *lane) takeOver(ctx context.Context, users []string) error {
	var keys, own []freshet.RecordKey
	for _, u := range users {
		keys = append(keys, freshet.RecordKey{UserID: u, Surface: l.cfg.Surfaces[0].Name, Place: freshet.PlacePublic})
		own = append(own, freshet.RecordKey{UserID: u, Surface: l.cfg.Surfaces[0].Name, Place: freshet.PlaceOwn})
	}
	if _, err := l.store.Adopt(ctx, l.row.Seed, users); err != nil {
		return err
	}
	lists, err := l.store.Records(ctx, keys)
	if err != nil {
		return err
	}
	have, err := l.store.Records(ctx, own)
	if err != nil {
		return err
	}
	var renew []recommend.Renewal
	for i, u := range users {
		if lists[i] == nil || have[i] != nil {
			continue // he has no list anywhere, or has one here
		}
		r, err := renewalOf(u, lists[i], int32(l.cfg.Kafka.Incarnation))
		if err != nil {
			return err
		}
		renew = append(renew, r)
	}
	return l.renew(ctx, renew)
}

// renewalOf names the event that the user's list was computed after.
func renewalOf(user string, list []byte, incarnation int32) (recommend.Renewal, error) {
	var r freshet.Recommendation
	if err := json.Unmarshal(list, &r); err != nil {
		return recommend.Renewal{}, fmt.Errorf("read a list: %w", err)
	}
	at, err := time.Parse(time.RFC3339Nano, r.Event.Timestamp)
	if err != nil {
		return recommend.Renewal{}, fmt.Errorf("read a list: %w", err)
	}
	return recommend.Renewal{UserID: user, Event: freshet.Event{ID: r.Event.EventID, UserID: user, Time: at.UnixMilli(),
		Position: freshet.Position{Source: freshet.Source{Topic: r.Event.Topic, Incarnation: incarnation, Partition: r.Event.Partition}, Offset: r.Event.Offset}}}, nil
}
