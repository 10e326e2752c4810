package main

import (
	"testing"
	"time"

	"freshet"
)

func TestALaneThatCatchesUpTakesLargeBatches(t *testing.T) {
	l := &lane{cfg: DefaultConfig()}
	for _, c := range []struct{ rate, want int }{{0, catchUpBatch}, {100, 128}, {2000, 500}, {1_000_000, catchUpBatch}} {
		l.row = freshet.Lane{Rate: c.rate}
		if got := l.batch(); got != c.want {
			t.Errorf("at %d events/s: %d, want %d", c.rate, got, c.want)
		}
	}
	l.caught.Store(true)
	if got := l.batch(); got != 128 {
		t.Errorf("caught up: %d, want kafka.batch_max", got)
	}
}

// While live traffic is behind, a batch waits, but not for longer than its share.
func TestALaneThatCatchesUpGivesWay(t *testing.T) {
	w := &worker{}
	l := &lane{w: w, cfg: DefaultConfig()}
	waited := func(lag time.Duration) time.Duration {
		w.lag.at.Store(time.Now().Add(time.Hour).UnixNano()) // nobody looks: the lag is what it is said to be
		w.lag.lag.Store(int64(lag))
		l.pace.left.Store(int64(4 * yieldEach))
		before := l.pace.left.Load()
		if err := l.giveWay(t.Context()); err != nil {
			t.Fatal(err)
		}
		return time.Duration(before - max(0, l.pace.left.Load()))
	}
	if d := waited(yieldAbove); d != 0 {
		t.Errorf("live traffic is in time, and the lane waited for %v", d)
	}
	if d := waited(time.Second); d != 4*yieldEach {
		t.Errorf("live traffic is behind, and the lane waited for %v, want all it may", d)
	}
}
