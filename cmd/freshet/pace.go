package main

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"freshet"
	"freshet/models"
)

// A lane that catches up has no readers: nobody waits for its lists. So it takes large batches, which cost the model a third of the runs
// and give a user one list for all of his events in them, and it gives way to live traffic, which comes first: as long as the live
// lane of this process is behind it waits, and it works on threads that the system lets run last (background.go). Lists are made at the end.
const (
	catchUpBatch = 4096                  // events
	yieldAbove   = 60 * time.Millisecond // how far live traffic may fall behind before it is waited for
	yieldEach    = 5 * time.Millisecond  // between two looks
	yieldFor     = 2 * time.Second       // waited at most in one batch: live traffic must not starve the lane either
)

// pace holds a lane to its rate while it catches up, and behind live traffic.
type pace struct {
	mu   sync.Mutex
	next time.Time
	left atomic.Int64 // nanoseconds that the present batch may still wait for live traffic
}

// batch is how many events the lane takes at once now.
func (l *lane) batch() int {
	usual := l.cfg.Kafka.BatchMax
	switch {
	case l.caught.Load() || l.live(): // the live lane has readers from its first event on
		return usual
	case l.row.Rate > 0: // a rate is kept within a quarter of a second
		return min(max(l.row.Rate/4, usual), catchUpBatch)
	}
	return max(usual, catchUpBatch)
}

// yield waits before a lane that has not caught up works on n events: for its rate, and for live traffic.
func (l *lane) yield(ctx context.Context, n int) error {
	if l.caught.Load() {
		return nil
	}
	if l.row.Rate > 0 {
		l.pace.mu.Lock()
		now := time.Now()
		wait := l.pace.next.Sub(now)
		l.pace.next = now.Add(max(wait, 0) + time.Duration(float64(n)/float64(l.row.Rate)*float64(time.Second)))
		l.pace.mu.Unlock()
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
	l.pace.left.Store(int64(yieldFor))
	return l.giveWay(ctx)
}

// giveWay waits while live traffic is behind, as long as the batch may.
func (l *lane) giveWay(ctx context.Context) error {
	for l.w.liveLag() > yieldAbove && l.pace.left.Add(-int64(yieldEach)) >= 0 {
		if err := sleep(ctx, yieldEach); err != nil {
			return err
		}
	}
	return nil
}

// stepper is the lane's model as its engine sees it: while the lane catches up, each run gives way first.
type stepper struct {
	*models.Bundle
	l *lane
}

// Advance implements recommend.Model.
func (s stepper) Advance(ctx context.Context, steps *freshet.Steps) error {
	if !s.l.caught.Load() {
		if err := s.l.giveWay(ctx); err != nil {
			return err
		}
	}
	return s.Bundle.Advance(ctx, steps)
}

// lagLook is how often live traffic is looked at: asked for in between, the answer is the last one.
const lagLook = time.Millisecond

// lagSeen is how far the live lane was behind when somebody looked.
type lagSeen struct {
	at  atomic.Int64 // Unix nanoseconds
	lag atomic.Int64
}

// liveLag is how far the live lane is behind in this process.
func (w *worker) liveLag() time.Duration {
	now, before := time.Now().UnixNano(), w.lag.at.Load()
	if now-before < int64(lagLook) || !w.lag.at.CompareAndSwap(before, now) {
		return time.Duration(w.lag.lag.Load())
	}
	lag := w.lookAtLive()
	w.lag.lag.Store(int64(lag))
	return lag
}

func (w *worker) lookAtLive() (worst time.Duration) {
	w.mu.Lock()
	l := w.lanes[w.table.Load().Live]
	w.mu.Unlock()
	if l == nil || !l.caught.Load() {
		return 0
	}
	for _, p := range l.consumer.Status() {
		worst = max(worst, p.Lag)
	}
	return worst
}
