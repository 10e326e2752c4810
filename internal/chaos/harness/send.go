package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// sender writes the stream to the events topic, in bursts, at a pace that lasts as long as the faults.
type sender struct {
	stream *stream
	client *kgo.Client
	rate   float64 // records a second

	mu     sync.Mutex // held while a burst is sent: a pause takes it
	left   int        // records to send; guarded by mu
	hurry  atomic.Bool
	failed atomic.Pointer[error]
	done   chan struct{}
}

func newSender(ctx context.Context, p *plan, servers *servers) (*sender, error) {
	s := &sender{left: p.events, rate: float64(p.events) / p.lasts().Seconds(), done: make(chan struct{})}
	var err error
	if s.stream, err = newStream(p, servers.o.bundle); err != nil {
		return nil, err
	}
	s.client, err = kgo.NewClient(kgo.SeedBrokers(servers.kafka), kgo.DefaultProduceTopic(eventsTopic), kgo.ProducerLinger(0),
		kgo.MetadataMinAge(250*time.Millisecond), kgo.MetadataMaxAge(2*time.Second), kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)),
		kgo.RetryBackoffFn(func(int) time.Duration { return 100 * time.Millisecond })) // how soon the workers go on is measured, not how soon we do
	if err != nil {
		return nil, err
	}
	go s.run(ctx, rand.New(rand.NewPCG(p.seed, 3)))
	return s, nil
}

func (s *sender) close() { s.client.Close() }

// run sends bursts of 1 to a second's worth of records.
func (s *sender) run(ctx context.Context, rnd *rand.Rand) {
	defer close(s.done)
	for ctx.Err() == nil && s.failed.Load() == nil {
		n := s.burst(ctx, 1+rnd.IntN(max(2, int(s.rate))))
		if n == 0 {
			break
		}
		if !s.hurry.Load() {
			select {
			case <-ctx.Done():
			case <-time.After(time.Duration(float64(n) / s.rate * float64(time.Second))):
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.client.Flush(ctx); err != nil {
		s.failed.CompareAndSwap(nil, &err)
	}
}

// burst sends n records at once, as far as there are any left, and tells how many.
func (s *sender) burst(ctx context.Context, n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n = min(n, s.left)
	s.left -= n
	for range n {
		m := s.stream.next()
		s.client.Produce(ctx, &kgo.Record{Key: m.key, Value: m.value, Timestamp: time.Now()}, func(_ *kgo.Record, err error) {
			if err != nil {
				s.failed.CompareAndSwap(nil, &err)
			}
		})
	}
	return n
}

// probe sends one more event of a probe, beside the stream, and tells where it lies.
func (s *sender) probe(ctx context.Context, i int, sent func(partition int32, offset int64)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.stream.probe(probeName(i))
	s.client.Produce(ctx, &kgo.Record{Key: m.key, Value: m.value, Timestamp: time.Now()}, func(r *kgo.Record, err error) {
		if err != nil {
			s.failed.CompareAndSwap(nil, &err)
			return
		}
		sent(r.Partition, r.Offset)
	})
}

// paused does something while nothing is sent and everything sent is acknowledged.
func (s *sender) paused(ctx context.Context, do func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.client.Flush(ctx); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	s.client.ForceMetadataRefresh()
	return nil
}

// finish sends what is left at once.
func (s *sender) finish() error {
	s.hurry.Store(true)
	<-s.done
	if err := s.failed.Load(); err != nil {
		return fmt.Errorf("send events: %w", *err)
	}
	return nil
}
