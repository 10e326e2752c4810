package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"freshet"
	"freshet/internal/telemetry"
	"freshet/stream"
)

// awayReplay reads a part of the log in this process, into a namespace that nobody serves. It is no member of a group: its progress
// lies in the namespace, and every profile knows which events it has applied.
type awayReplay struct {
	o    *operator
	r    replayOptions
	plan *plan
	w    *worker
	l    *lane

	mu    sync.Mutex
	parts map[int32]*laneProgress
	left  int64 // events of others, or that cannot be read
	took  int64 // events handled
	tick  *ticker
}

func (o *operator) replayAway(ctx context.Context, r replayOptions, p *plan) error {
	table, err := o.store.Lanes(ctx)
	if err != nil {
		return err
	}
	if _, there := table.Lanes[p.Lane]; there {
		return fmt.Errorf("lane %s: %w; a replay goes into a namespace of its own: choose another --lane", p.Lane, stream.ErrGroupLive)
	}
	n := r.newLane
	n.name = p.Lane
	row, err := o.row(&table, n)
	if err != nil {
		return err
	}
	a := &awayReplay{o: o, r: r, plan: p, parts: map[int32]*laneProgress{}, tick: newTicker(os.Stderr)}
	a.w = &worker{cfg: o.cfg, log: o.log, metrics: telemetry.NewMetrics(), lanes: map[string]*lane{}, arms: newArms()}
	defer func() { _ = a.w.Close() }()
	a.w.table.Store(&table)
	if a.w.types, err = o.cfg.EventTypes(); err != nil {
		return err
	}
	for _, open := range []func(context.Context) error{a.w.openRuntime, a.w.openStore, a.w.openStream} {
		if err := open(ctx); err != nil {
			return err
		}
	}
	a.w.letters = a.w.letters.While(func() bool { return false })
	if a.l, err = a.w.openLane(ctx, row); err != nil {
		return err
	}
	a.l.listing.Store(true) // what would have been recommended, each time
	a.w.open(a.l)
	if err := a.resume(ctx); err != nil {
		return err
	}
	if err := a.run(ctx); err != nil {
		return err
	}
	return a.finish(ctx)
}

// resume takes up what an earlier run of the same command has done. Its ranges stand: "last=24h" means what it meant then.
func (a *awayReplay) resume(ctx context.Context) error {
	stored, err := a.l.store.Progress(ctx, a.plan.Lane)
	if err != nil {
		return err
	}
	var kept []stream.Range
	for _, part := range a.plan.Partitions {
		v := &laneProgress{From: part.From, Applied: part.From, End: part.To, Began: time.Now().UnixMilli(), Scanned: true}
		if b := stored[part.Partition]; b != nil {
			if err := json.Unmarshal(b, v); err != nil {
				return fmt.Errorf("progress of partition %d: %w", part.Partition, err)
			}
		}
		part.From, part.To = v.Applied, v.End
		a.parts[part.Partition] = v
		kept = append(kept, part)
	}
	a.plan.Partitions = kept
	return a.store(ctx)
}

// store leaves how far we are. It may be behind the profiles, never ahead of them.
func (a *awayReplay) store(ctx context.Context) error {
	out := map[int32][]byte{}
	var done, all int64
	a.mu.Lock()
	for p, v := range a.parts {
		v.At = time.Now().UnixMilli()
		b, err := json.Marshal(v)
		if err != nil {
			a.mu.Unlock()
			return err
		}
		out[p] = b
		done, all = done+v.Applied-v.From, all+v.End-v.From
	}
	a.mu.Unlock()
	a.tick.show(done, all)
	return a.l.store.PutProgress(ctx, out)
}

func (a *awayReplay) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return ignoreEnded(ctx, a.w.follower.Run(ctx)) })
	g.Go(func() error { a.w.items.Run(ctx); return nil })
	g.Go(func() error {
		defer cancel()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-a.w.follower.Caught():
		}
		if err := a.l.catalogueRead(ctx); err != nil {
			return err
		}
		return a.read(ctx)
	})
	return g.Wait()
}

func ignoreEnded(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// read works the ranges off, partitions side by side, and leaves the progress once a second.
func (a *awayReplay) read(ctx context.Context) error {
	conn, err := connection(a.o.cfg)
	if err != nil {
		return err
	}
	readers, work := errgroup.WithContext(ctx)
	for _, part := range a.plan.Partitions {
		readers.Go(func() error {
			return stream.ReadRange(work, conn, a.o.cfg.Kafka.Topics.Events, part, a.o.cfg.Kafka.BatchMax, func(records []stream.Record, next int64) error {
				return a.batch(work, part.Partition, records, next)
			})
		})
	}
	done := make(chan error, 1)
	go func() { done <- readers.Wait() }()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			if err != nil {
				return err
			}
			for _, v := range a.parts { // the tail of a range may hold nothing to read
				v.Applied, v.Caught = v.End, true
			}
			return a.store(ctx)
		case <-tick.C:
			if err := a.store(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, freshet.ErrUnavailable) {
				return err
			}
		}
	}
}

// batch folds the records of one partition. What the worker would bury is left out; nothing is buried twice.
func (a *awayReplay) batch(ctx context.Context, partition int32, records []stream.Record, next int64) error {
	source := freshet.Source{Topic: a.o.cfg.Kafka.Topics.Events, Incarnation: int32(a.o.cfg.Kafka.Incarnation), Partition: partition}
	events := make([]freshet.Event, 0, len(records))
	left := int64(0)
	for i := range records {
		r := &records[i]
		if a.r.user != "" && string(r.Key) != a.r.user {
			left++
			continue
		}
		e, err := a.w.decoder.Decode(r, freshet.Position{Source: source, Offset: r.Offset})
		if err != nil {
			left++
			continue
		}
		events = append(events, e)
	}
	if err := a.l.yield(ctx, len(events)); err != nil {
		return err
	}
	if err := a.handle(ctx, events); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.parts[partition].Applied = next
	a.left, a.took = a.left+left, a.took+int64(len(events))
	return nil
}

// handle tries until the store and the model work.
func (a *awayReplay) handle(ctx context.Context, events []freshet.Event) error {
	if len(events) == 0 {
		return nil
	}
	for {
		_, err := a.l.engine.Handle(ctx, events)
		if err == nil && a.r.emit {
			err = a.emit(ctx, events)
		}
		if !errors.Is(err, freshet.ErrUnavailable) {
			return err
		}
		if err := sleep(ctx, 250*time.Millisecond); err != nil {
			return err
		}
	}
}

// emit publishes the lists that the events led to, under the namespace's name and with cv 0: a consumer that keeps the highest
// (cv, rev) does not take them for a user's list.
func (a *awayReplay) emit(ctx context.Context, events []freshet.Event) error {
	var keys []freshet.RecordKey
	seen := map[string]bool{}
	for i := range events {
		if u := events[i].UserID; !seen[u] {
			seen[u] = true
			for _, s := range a.l.cfg.Surfaces {
				keys = append(keys, freshet.RecordKey{UserID: u, Surface: s.Name, Place: freshet.PlaceOwn})
			}
		}
	}
	lists, err := a.l.store.Records(ctx, keys)
	if err != nil {
		return err
	}
	var out []freshet.Publication
	for i, b := range lists {
		if b != nil {
			out = append(out, freshet.Publication{UserID: keys[i].UserID, Surface: keys[i].Surface, Record: b})
		}
	}
	return a.w.producer.PublishLists(ctx, out)
}

func (a *awayReplay) finish(ctx context.Context) error {
	all := int64(0)
	for _, v := range a.parts {
		all += v.End - v.From
	}
	a.tick.end(all)
	if a.o.json {
		return printJSON(a.o.out, map[string]any{"namespace": a.plan.Lane, "records": all, "events": a.took, "left_out": a.left, "user": a.r.user})
	}
	fmt.Fprintf(a.o.out, "%d events handled, %d records left out. The namespace stays until: freshet lanes drop %s\n", a.took, a.left, a.plan.Lane)
	if a.r.user == "" {
		_, err := fmt.Fprintf(a.o.out, "compare: freshet lanes diff %s %s; one user: freshet user show ID --set lane=%s\n", a.w.table.Load().Live, a.plan.Lane, a.plan.Lane)
		return err
	}
	return showUser(ctx, a.l.cfg, a.l.store, a.r.user, showOptions{stored: true}, a.o.out)
}
