package main

import (
	"testing"
	"time"

	"freshet"
	"freshet/stream"
)

func TestALaneThatCatchesUpTakesLargeBatches(t *testing.T) {
	w := &worker{}
	w.table.Store(&freshet.LaneTable{Live: freshet.LiveLane})
	l := &lane{w: w, name: "v2", cfg: DefaultConfig()}
	l.cfg.Kafka.BatchMax = 128
	for _, c := range []struct{ rate, want int }{{0, catchUpBatch}, {100, 128}, {2000, 500}, {1_000_000, catchUpBatch}} {
		l.row = freshet.Lane{Rate: c.rate}
		if got := l.batch(); got != c.want {
			t.Errorf("at %d events/s: %d, want %d", c.rate, got, c.want)
		}
	}
	live := &lane{w: w, name: freshet.LiveLane, cfg: l.cfg}
	if got := live.batch(); got != 128 {
		t.Errorf("the live lane, from its first event on: %d, want kafka.batch_max", got)
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

// A lane that has done nothing yet has no lag that anybody knows of: it has not caught up for that.
func TestALaneHasNotCaughtUpBeforeItsFirstBatch(t *testing.T) {
	status := func(state string, applied, end int64, lag time.Duration) stream.PartitionStatus {
		return stream.PartitionStatus{State: state, Progress: stream.Progress{Applied: applied, End: end, Lag: lag}}
	}
	for _, c := range []struct {
		what   string
		at     stream.PartitionStatus
		caught bool
	}{
		{"before its first batch", status(stream.StateRunning, 0, 50_000, 0), false},
		{"before it knows the log's end", status(stream.StateStarting, 0, 0, 0), false},
		{"far behind", status(stream.StateRunning, 10, 50_000, time.Hour), false},
		{"close behind", status(stream.StateRunning, 49_000, 50_000, 20*time.Millisecond), true},
		{"at the end", status(stream.StateRunning, 50_000, 50_000, 0), true},
		{"of a clock that runs behind, close to the end", status(stream.StateRunning, 49_990, 50_000, 0), true},
	} {
		if got := caughtUp(c.at); got != c.caught {
			t.Errorf("%s: %v, want %v", c.what, got, c.caught)
		}
	}
}
