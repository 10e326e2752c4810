package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"freshet"
	"freshet/stream"
)

// followTable is how often the table of lanes is looked at: its changes are followed within a second.
const followTable = 500 * time.Millisecond

// openFirstLane opens the configured lane. In a store without a table the live lane is created; every other worker must fit what
// the table says.
func (w *worker) openFirstLane(ctx context.Context) error {
	table, err := w.store.Lanes(ctx)
	if err != nil {
		return err
	}
	first := freshet.Lane{Name: w.cfg.Lane}
	if row, ok := table.Lanes[w.cfg.Lane]; ok {
		first = row
	} else if len(table.Lanes) == 0 { // before the table is written: a refused start must leave nothing behind
		if err := w.refuseEmptyStore(ctx); err != nil {
			return err
		}
	}
	l, err := w.openLane(ctx, first)
	if err != nil {
		return err
	}
	l.row, _, err = w.store.JoinLane(ctx, l.name, fingerprintOf(l.bundle))
	if err == nil {
		table, err = w.store.Lanes(ctx)
	}
	if err != nil {
		return errors.Join(err, l.Close())
	}
	w.table.Store(&table)
	w.open(l)
	return nil
}

// refuseEmptyStore stops a worker whose store is empty although its group has committed offsets: going on would forget everybody.
func (w *worker) refuseEmptyStore(ctx context.Context) error {
	conn, err := connection(w.cfg)
	if err != nil {
		return err
	}
	committed, err := stream.Committed(ctx, conn, w.cfg.GroupOf(), w.cfg.Kafka.Topics.Events)
	switch {
	case errors.Is(err, stream.ErrNoTopic) || err == nil && len(committed) == 0:
		return nil // a first run
	case stream.Passing(err):
		return fmt.Errorf("the store at %s is empty; whether offsets are committed cannot be told: %w: %w", strings.Join(w.cfg.Redis.Addrs, ","), freshet.ErrUnavailable, err)
	case err != nil: // the table of lanes would hide from the next start that the store was empty
		return fmt.Errorf("the store at %s is empty; whether offsets are committed cannot be told: %w", strings.Join(w.cfg.Redis.Addrs, ","), err)
	}
	if w.cfg.Bootstrap != "auto" {
		return fmt.Errorf("the store at %s is empty, but group %s has committed offsets: profiles would be lost. Check redis.addrs and redis.prefix; "+
			"to rebuild them from what the log still holds, start with --set bootstrap=auto",
			strings.Join(w.cfg.Redis.Addrs, ","), w.cfg.GroupOf())
	}
	w.log.Warn("the store is empty although offsets are committed: reading the log from its beginning, as bootstrap: auto says")
	return nil
}

func (w *worker) open(l *lane) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lanes[l.name] = l
}

// shut closes a lane whose Run has ended.
func (w *worker) shut(l *lane) error {
	w.mu.Lock()
	delete(w.lanes, l.name)
	w.mu.Unlock()
	w.metrics.Drop(l.name)
	return l.Close()
}

// running lists the lanes that are open, by name.
func (w *worker) running() []*lane {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []*lane
	for _, name := range slices.Sorted(maps.Keys(w.lanes)) {
		out = append(out, w.lanes[name])
	}
	return out
}

// first is the configured lane; nil = it does not run here now.
func (w *worker) first() *lane {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lanes[w.cfg.Lane]
}

// runLanes runs the lanes that are open and follows the table: lanes come, go and change without a restart. The end of the
// configured lane with an error ends the worker; any other lane is opened again.
func (w *worker) runLanes(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	f := &follower{w: w, running: map[string]*attempt{}, fatal: cancel}
	defer f.all.Wait()
	for _, l := range w.running() {
		f.start(ctx, l.row, l)
	}
	tick := time.NewTicker(followTable)
	defer tick.Stop()
	for away := false; ; {
		table, err := w.store.Lanes(ctx)
		switch {
		case ctx.Err() != nil:
			if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
				return cause
			}
			return nil
		case err != nil && !away:
			w.log.Warn("the table of lanes cannot be read; going on with what is known", zap.Error(err))
		case err == nil && table.Version > 0:
			w.table.Store(&table)
			f.follow(ctx, table)
		}
		away = err != nil
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// follower starts and stops lanes as the table says.
type follower struct {
	w       *worker
	running map[string]*attempt
	all     sync.WaitGroup
	fatal   context.CancelCauseFunc
}

// attempt is one lane from its opening to its end.
type attempt struct {
	row  freshet.Lane
	stop context.CancelFunc
	done chan struct{}
}

func (a *attempt) ended() bool {
	select {
	case <-a.done:
		return true
	default:
		return false
	}
}

func (f *follower) follow(ctx context.Context, table freshet.LaneTable) {
	for name, a := range f.running {
		row, there := table.Lanes[name]
		if a.ended() {
			delete(f.running, name)
		} else if !there || other(row, a.row) || row.Dropping {
			a.stop() // it is started anew when it has ended
		}
	}
	for name, row := range table.Lanes {
		if _, runs := f.running[name]; !runs && !row.Dropping && f.w.cfg.runs(name) {
			f.start(ctx, row, nil)
		}
	}
}

// other tells whether a lane that was opened as before must be opened anew.
func other(now, before freshet.Lane) bool {
	return now.Fingerprint != before.Fingerprint || now.Bundle != before.Bundle || now.Settings != before.Settings || now.Since != before.Since
}

// laneBackoff is how long a lane that failed is left alone.
const laneBackoff = 5 * time.Second

// start runs a lane; l is nil where it is still to be opened.
func (f *follower) start(ctx context.Context, row freshet.Lane, l *lane) {
	ctx, stop := context.WithCancel(ctx)
	a := &attempt{row: row, stop: stop, done: make(chan struct{})}
	f.running[row.Name] = a
	f.all.Go(func() {
		defer close(a.done)
		defer stop()
		err := f.w.work(ctx, row, l)
		if err == nil || ctx.Err() != nil {
			return
		}
		if row.Name == f.w.cfg.Lane {
			f.fatal(err)
			return
		}
		f.w.log.Error("a lane failed; it is opened again", zap.String("lane", row.Name), zap.Duration("after", laneBackoff), zap.Error(err))
		select {
		case <-ctx.Done():
		case <-time.After(laneBackoff):
		}
	})
}

// work opens a lane unless it is open, runs it until ctx ends, and closes it.
func (w *worker) work(ctx context.Context, row freshet.Lane, l *lane) (err error) {
	if l == nil {
		if l, err = w.openLane(ctx, row); err != nil {
			return err
		}
		w.open(l)
	}
	w.log.Info("lane starts", zap.String("lane", l.name), zap.String("model", l.bundle.ID()), zap.String("device", l.bundle.Device()), zap.String("group", l.cfg.GroupOf()))
	err = l.Run(ctx)
	return errors.Join(err, w.shut(l))
}

// runs tells whether this worker runs a lane of that name.
func (c *Config) runs(name string) bool {
	return len(c.Lanes) == 0 && c.Lane == freshet.LiveLane || name == c.Lane || slices.Contains(c.Lanes, name)
}

// forLane is the configuration of one lane: the process's, with what the table says over it.
func (c Config) forLane(row freshet.Lane) (Config, error) {
	c.Lane = row.Name
	if row.Bundle != "" {
		c.Model.Bundle = row.Bundle
	}
	if row.Settings != "" {
		c.Surfaces, c.Fusion.Temperatures = slices.Clone(c.Surfaces), maps.Clone(c.Fusion.Temperatures)
		if err := readYAML([]byte(row.Settings), &c); err != nil {
			return c, fmt.Errorf("its settings: %w", err)
		}
		if err := c.Validate(); err != nil {
			return c, fmt.Errorf("its settings: %w", err)
		}
	}
	return c, nil
}

// status lists the partitions of the configured lane.
func (w *worker) status() []stream.PartitionStatus {
	if l := w.first(); l != nil {
		return l.consumer.Status()
	}
	return nil
}
