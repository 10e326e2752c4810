package stream

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"
)

// Scan reads a topic once, from its beginning to where it ended when Scan began, every partition in order and all of them side by
// side. f is called by one goroutine at a time; its error ends the scan. Tools use it; a worker never does.
func Scan(ctx context.Context, conn Connection, topic string, f func(Record) error) error {
	s := scan{topic: topic, use: f}
	return s.run(ctx, conn)
}

// Tail reads what comes to a topic after Tail began, until ctx ends; ready is closed when nothing that is written later is missed.
func Tail(ctx context.Context, conn Connection, topic string, ready chan<- struct{}, f func(Record) error) error {
	s := scan{topic: topic, use: f, stay: true, ready: ready}
	return s.run(ctx, conn)
}

// scan is one reading of a topic.
type scan struct {
	topic string
	stay  bool // begin at the end and stay, instead of reading what is there
	ready chan<- struct{}
	mu    sync.Mutex
	use   func(Record) error
}

func (s *scan) run(ctx context.Context, conn Connection) error {
	if err := conn.Validate(); err != nil {
		return err
	}
	client, trans, err := conn.withDefaults().client(s.topic)
	if err != nil {
		return err
	}
	defer trans.CloseIdleConnections()
	r := &reader{client: client, topic: s.topic}
	n, err := r.partitions(ctx)
	if err != nil {
		return err
	}
	from, to := make([]int64, n), make([]int64, n)
	for p := range n {
		if from[p], to[p], err = r.bounds(ctx, p); err != nil {
			return err
		}
		if s.stay {
			from[p], to[p] = to[p], math.MaxInt64
		}
	}
	if s.ready != nil {
		close(s.ready)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var partitions sync.WaitGroup
	for p := range n {
		partitions.Go(func() {
			if err := s.read(ctx, r, p, from[p], to[p]); err != nil {
				cancel(err)
			}
		})
	}
	partitions.Wait()
	if s.stay && context.Cause(ctx) == ctx.Err() {
		return nil // ended as asked
	}
	return context.Cause(ctx)
}

func (s *scan) read(ctx context.Context, r *reader, partition int, at, end int64) error {
	for at < end && ctx.Err() == nil {
		a, err := r.fetch(ctx, question{partition: partition, offset: at, maxBytes: 4 << 20, wait: 200 * time.Millisecond})
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		at = a.next
		if err := s.hand(a.records, end); err != nil {
			return fmt.Errorf("scan %s-%d: %w", s.topic, partition, err)
		}
	}
	return nil
}

func (s *scan) hand(records []Record, end int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range records {
		if records[i].Offset >= end {
			return nil
		}
		if err := s.use(records[i]); err != nil {
			return err
		}
	}
	return nil
}
