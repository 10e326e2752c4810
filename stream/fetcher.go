package stream

import (
	"context"
	"math"
	"sync"
	"time"
)

// fetcher asks for the records of a consumer's partitions. While little comes, each partition asks by itself and the broker holds the
// request until something is there: an event is on its way at once. When several events would come within the linger time, partitions ask
// together, one request to each broker and at most one within that time, so that what comes meanwhile goes through all the stages as one batch.
type fetcher struct {
	reader *reader
	linger time.Duration // 0 or less = never together

	mu      sync.Mutex
	rate    float64   // records a second, lately
	at      time.Time // when it was noted
	leaders []int32   // of each partition
	looked  time.Time // when that was asked for
	asks    map[int32]*turns[*asking]
}

func newFetcher(r *reader, linger time.Duration) *fetcher {
	return &fetcher{reader: r, linger: linger, asks: map[int32]*turns[*asking]{}}
}

// several is how many events within the linger time make it worth waiting for: with fewer, each would wait for about one other.
const several = 3

// rateWindow is how long the rate remembers.
const rateWindow = 250 * time.Millisecond

// fetch asks once.
func (f *fetcher) fetch(ctx context.Context, q question) (answer, error) {
	one := &asking{ctx: ctx, q: q}
	if together := f.together(ctx, q.partition); together != nil {
		together.do(one)
	} else {
		one.a, one.err = f.reader.fetch(ctx, q)
	}
	if n := len(one.a.records); n > 0 {
		f.mu.Lock()
		now := time.Now()
		f.rate, f.at = f.decayed(now)+float64(n)/rateWindow.Seconds(), now
		f.mu.Unlock()
	}
	return one.a, one.err
}

// decayed is the rate by now; the caller holds mu.
func (f *fetcher) decayed(now time.Time) float64 {
	return f.rate * math.Exp(-float64(now.Sub(f.at))/float64(rateWindow))
}

// together gives the turns of the broker that leads a partition; nil = ask alone.
func (f *fetcher) together(ctx context.Context, partition int) *turns[*asking] {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	if f.linger <= 0 || f.decayed(now)*f.linger.Seconds() < several {
		return nil
	}
	if now.Sub(f.looked) > time.Second { // a leader that has moved is the broker's to say
		leaders, err := leadersOf(ctx, f.reader.client, f.reader.topic)
		if err != nil {
			return nil
		}
		f.leaders, f.looked = leaders, now
	}
	if partition >= len(f.leaders) || f.leaders[partition] < 0 {
		return nil
	}
	leader := f.leaders[partition]
	if f.asks[leader] == nil {
		f.asks[leader] = f.newTurns()
	}
	return f.asks[leader]
}

func (f *fetcher) newTurns() *turns[*asking] {
	var began time.Time // of the last request; one is under way at a time
	return &turns[*asking]{slots: 1,
		full: func([]*asking) bool { return false },
		fits: func([]*asking, *asking) bool { return true },
		hold: func(first *asking) {
			if left := f.linger - time.Since(began); left > 0 {
				timer := time.NewTimer(left)
				defer timer.Stop()
				select {
				case <-first.ctx.Done():
				case <-timer.C:
				}
			}
			began = time.Now()
		},
		work: func(team []*asking) { f.reader.ask(team, f.linger) },
	}
}
