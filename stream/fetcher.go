package stream

import (
	"context"
	"fmt"
	"math"
	"runtime/debug"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/fetch"
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

// asking is a partition's question and what came of it.
type asking struct {
	ctx context.Context
	q   question
	a   answer
	err error
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
		work: f.reader.fetchTogether(f.linger),
	}
}

// fetchTogether makes one request for several partitions of one broker, which answers as soon as it has something for one of them.
func (r *reader) fetchTogether(wait time.Duration) func(team []*asking) {
	return func(team []*asking) {
		ctx, cancel := context.WithTimeout(team[0].ctx, wait+requestTimeout)
		defer cancel()
		parts := make([]fetch.RequestPartition, len(team))
		of := make(map[int32]*asking, len(team))
		most := 0
		for i, one := range team {
			parts[i] = fetch.RequestPartition{Partition: int32(one.q.partition), CurrentLeaderEpoch: -1, FetchOffset: one.q.offset, LogStartOffset: -1, PartitionMaxBytes: int32(one.q.maxBytes)}
			of[int32(one.q.partition)] = one
			one.err = r.failed(one.q, kafka.UnknownTopicOrPartition) // until the answer names the partition
			most += one.q.maxBytes
		}
		m, err := r.client.Transport.RoundTrip(ctx, r.client.Addr, &fetch.Request{ReplicaID: -1, MaxWaitTime: int32(max(wait.Milliseconds(), 1)), MinBytes: 1,
			MaxBytes: int32(min(most, maxRequestBytes)), SessionID: -1, SessionEpoch: -1, Topics: []fetch.RequestTopic{{Topic: r.topic, Partitions: parts}}})
		if err == nil {
			if code := m.(*fetch.Response).ErrorCode; code != 0 {
				err = kafka.Error(code)
			}
		}
		if err != nil {
			for _, one := range team {
				one.err = r.failed(one.q, err)
			}
			return
		}
		for _, t := range m.(*fetch.Response).Topics {
			for i := range t.Partitions {
				if one := of[t.Partitions[i].Partition]; one != nil && t.Topic == r.topic {
					r.answer(one, &t.Partitions[i])
				}
			}
		}
	}
}

// answer reads one partition's part. A panic while it is taken apart is an error like others.
func (r *reader) answer(one *asking, p *fetch.ResponsePartition) {
	defer func() {
		if c := recover(); c != nil {
			one.err = r.failed(one.q, fmt.Errorf("panic: %v\n%s", c, debug.Stack()))
		}
	}()
	if p.ErrorCode != 0 {
		one.err = r.failed(one.q, kafka.Error(p.ErrorCode))
		return
	}
	records := p.RecordSet.Records
	if records == nil {
		records = protocol.NewRecordReader()
	}
	one.a, one.err = r.read(one.q, p.LogStartOffset, p.HighWatermark, records)
}
