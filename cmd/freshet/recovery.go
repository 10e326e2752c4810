package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"

	"freshet"
	"freshet/featurestore"
)

// recovery stands between the stream and the engine and watches over the store's memory. Every second it leaves a mark on every
// master of how far each partition is saved; a store that comes back without its last seconds comes back without its last marks.
// When that is noticed, all partitions stop at the gate, the servers are accepted as they are now, every partition is told to go
// back to where the marks end, and work goes on. What is applied twice that way changes nothing; what was lost is applied again.
type recovery struct {
	l     *lane
	marks *featurestore.Sentinels
	log   *zap.Logger

	// gate is held for reading while a batch is handled and for writing while the store is taken back.
	gate  sync.RWMutex
	epoch int // recoveries so far; guarded by gate
}

func newRecovery(l *lane) *recovery {
	name := fmt.Sprintf("%s-%d-%s", hostname(), os.Getpid(), strconv.FormatInt(time.Now().UnixNano(), 36))
	return &recovery{l: l, marks: l.store.Sentinels(l.cfg.GroupOf(), name), log: l.log.Named("recovery")}
}

func hostname() string {
	h, err := os.Hostname()
	if err != nil {
		return "worker"
	}
	return h
}

// Open accepts the servers as they are; before it nothing is read from a partition. A store that takes no writes is waited for.
func (r *recovery) Open(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for told := false; ; told = true {
		_, err := r.marks.Accept(ctx, time.Now())
		if ctx.Err() != nil {
			return nil // told to stop meanwhile
		}
		if !errors.Is(err, freshet.ErrUnavailable) {
			return err
		}
		if !told {
			r.log.Warn("the store cannot be used yet; trying again every second", zap.Error(err))
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// Handle implements stream.Handler.
func (r *recovery) Handle(ctx context.Context, events []freshet.Event) ([]freshet.Publication, error) {
	if err := r.l.yield(ctx, len(events)); err != nil { // before the gate: waiting must not hold anybody up
		return nil, err
	}
	var lists []freshet.Publication
	epoch := 0
	var err error
	work := func() {
		r.l.inHand.RLock()
		defer r.l.inHand.RUnlock()
		r.gate.RLock()
		defer r.gate.RUnlock()
		epoch = r.epoch
		lists, err = r.handle(ctx, events)
	}
	if b := r.l.w.background; b != nil && !r.l.caught.Load() && !r.l.live() {
		if full := b.do(ctx, work); full != nil {
			return nil, full
		}
	} else {
		work()
	}
	if errors.Is(err, freshet.ErrLost) {
		return nil, errors.Join(err, r.recover(ctx, epoch))
	}
	return lists, err
}

func (r *recovery) handle(ctx context.Context, events []freshet.Event) ([]freshet.Publication, error) {
	// A batch that was read before a recovery and waited at the gate meanwhile must not be applied after it: it would cover the
	// events that were lost.
	for i := range events {
		source := events[i].Position.Source
		if (i == 0 || source != events[i-1].Position.Source) && r.l.consumer.Rewinding(source) {
			return nil, fmt.Errorf("events read before the store was taken back: %w", freshet.ErrLost)
		}
	}
	lists, err := r.l.engine.Handle(ctx, events)
	if w := r.l.w; err == nil && w.watch != nil && r.l.name == w.cfg.Lane {
		w.watch(events, lists)
	}
	return lists, err
}

// guarded is the store as the engine sees it: that somebody is not there is only believed while the store holds our last mark. It
// may have been emptied since, and what is saved for him now would cover the events that were lost.
type guarded struct {
	*featurestore.Redis
	l *lane
}

// Load implements recommend.Store.
func (g guarded) Load(ctx context.Context, users []string) ([][]byte, error) {
	profiles, err := g.Redis.Load(ctx, users)
	if err != nil || !slices.ContainsFunc(profiles, func(p []byte) bool { return p == nil }) {
		return profiles, err
	}
	if err := g.l.recovery.marks.Hold(ctx); err != nil {
		return nil, fmt.Errorf("look for %d users: %w", len(users), err)
	}
	return g.adopt(ctx, users, profiles)
}

// adopt gives users whom a lane meets for the first time the profile that another lane has of them, as long as it takes them over.
func (g guarded) adopt(ctx context.Context, users []string, profiles [][]byte) ([][]byte, error) {
	if g.l.row.Seed == "" || g.l.caught.Load() {
		return profiles, nil
	}
	var missing []string
	var at []int
	for i, p := range profiles {
		if p == nil {
			missing, at = append(missing, users[i]), append(at, i)
		}
	}
	if n, err := g.Redis.Adopt(ctx, g.l.row.Seed, missing); err != nil || n == 0 {
		return profiles, err
	}
	// The other lane may have been ahead: a profile that covers the event at hand leads to no list, so that one is made here.
	if err := g.l.takeOver(ctx, missing); err != nil {
		return nil, err
	}
	found, err := g.Redis.Load(ctx, missing)
	if err != nil {
		return nil, err
	}
	for k, i := range at {
		profiles[i] = found[k]
	}
	return profiles, nil
}

// Release implements stream.Handler.
func (r *recovery) Release(s freshet.Source) { r.l.engine.Release(s) }

// Recheck implements stream.Rechecker.
func (r *recovery) Recheck(ctx context.Context, published []freshet.Publication) ([]freshet.Publication, error) {
	return r.l.engine.Recheck(ctx, published)
}

// Start implements stream.Starter: a partition begins where its commit says, or where the store's memory of it ends.
func (r *recovery) Start(ctx context.Context, source freshet.Source, next int64) (from, saved int64, err error) {
	r.gate.RLock()
	epoch := r.epoch
	found, err := r.marks.Read(ctx)
	r.gate.RUnlock()
	if errors.Is(err, freshet.ErrLost) {
		return next, -1, errors.Join(err, r.recover(ctx, epoch))
	}
	if err != nil {
		return next, -1, err
	}
	return startAt(found, source, next), savedTo(found, source), nil
}

// savedTo is the offset after the highest that any master remembers of a partition; -1 = none remembers any.
func savedTo(found []featurestore.Sentinel, source freshet.Source) int64 {
	next := int64(-1)
	for _, s := range found {
		for _, p := range s.Saved {
			if p.Source == source {
				next = max(next, p.Offset+1)
			}
		}
	}
	return next
}

// startAt is where to read from. A master that holds no mark at all of a partition of which something was committed has lost it.
func startAt(found []featurestore.Sentinel, source freshet.Source, next int64) int64 {
	start, unknown := featurestore.StartAt(found, source, next)
	if unknown > 0 {
		return 0
	}
	return start
}

// Run leaves marks until ctx ends. It returns an error only where going on needs a person.
func (r *recovery) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	quiet := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		r.gate.RLock()
		epoch := r.epoch
		err := r.marks.Mark(ctx, time.Now(), r.saved())
		r.gate.RUnlock()
		if errors.Is(err, freshet.ErrLost) {
			err = r.recover(ctx, epoch)
		}
		switch {
		case errors.Is(err, errStoreEmpty):
			return err
		case err != nil && ctx.Err() == nil && !quiet:
			r.log.Warn("the store takes no marks; trying again every second", zap.Error(err))
		}
		quiet = err != nil
	}
}

// saved is how far each partition of ours is saved.
func (r *recovery) saved() []freshet.Position {
	var list []freshet.Position
	for _, p := range r.l.consumer.Status() {
		if !r.l.consumer.Rewinding(p.Source) && p.Applied > 0 {
			list = append(list, freshet.Position{Source: p.Source, Offset: p.Applied - 1})
		}
	}
	return list
}

var errStoreEmpty = errors.New("the store has been emptied while offsets are committed: profiles are lost. To rebuild them from the log, " +
	"start again with --set bootstrap=auto; check redis.addrs first")

// recover takes the store back, once for all who notice the same loss.
func (r *recovery) recover(ctx context.Context, epoch int) error {
	r.gate.Lock()
	defer r.gate.Unlock()
	if r.epoch != epoch {
		return nil
	}
	// A loss of one user's profile is not a loss of memory: if the marks hold, the partition's own rewind is all there is to do.
	err := r.marks.Mark(ctx, time.Now(), nil)
	if !errors.Is(err, freshet.ErrLost) {
		return err
	}
	r.log.Warn("the store lost data; taking it back as it is now", zap.Error(err))
	found, err := r.marks.Accept(ctx, time.Now())
	if err != nil {
		return fmt.Errorf("accept the store: %w", err)
	}
	if r.l.cfg.Bootstrap != "auto" && empty(found) {
		return errStoreEmpty
	}
	to, forgot := map[int32]int64{}, false
	for _, p := range r.l.consumer.Status() {
		to[p.Source.Partition] = startAt(found, p.Source, max(p.Committed, 0))
		_, unknown := featurestore.StartAt(found, p.Source, p.Committed)
		forgot = forgot || p.Committed > 0 && unknown > 0
	}
	if forgot {
		if err := r.l.w.putBack(ctx); err != nil {
			return fmt.Errorf("put back what the store forgot: %w", err)
		}
	}
	r.l.consumer.Rewind(to)
	r.l.feedback.rewind()
	r.epoch++
	return nil
}

func empty(found []featurestore.Sentinel) bool {
	for _, s := range found {
		if len(s.Saved) > 0 {
			return false
		}
	}
	return true
}
