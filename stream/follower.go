package stream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"
	"go.uber.org/zap"
)

// FollowerConfig says what to follow.
type FollowerConfig struct {
	Connection Connection
	Topic      string        // the compacted topic; default items
	BatchItems int           // most changes handed over at once; default 1024
	FetchBytes int           // most bytes asked for at once per partition; default 1 MiB
	FetchWait  time.Duration // how long the broker holds a fetch that finds nothing; default 500 ms
}

func (c FollowerConfig) withDefaults() FollowerConfig {
	c.Connection = c.Connection.withDefaults()
	if c.Topic == "" {
		c.Topic = "items"
	}
	if c.BatchItems == 0 {
		c.BatchItems = 1024
	}
	if c.FetchBytes == 0 {
		c.FetchBytes = 1 << 20
	}
	if c.FetchWait == 0 {
		c.FetchWait = 500 * time.Millisecond
	}
	return c
}

// Validate says which field cannot work.
func (c FollowerConfig) Validate() error {
	c = c.withDefaults()
	switch {
	case c.BatchItems < 1:
		return fmt.Errorf("kafka.items.batch: %d, at least 1", c.BatchItems)
	case c.FetchBytes < 64<<10:
		return fmt.Errorf("kafka.items.fetch_bytes: %d, at least 65536", c.FetchBytes)
	case c.FetchWait < time.Millisecond:
		return fmt.Errorf("kafka.items.fetch_wait: %v, at least 1ms", c.FetchWait)
	}
	return c.Connection.Validate()
}

// Follower reads the whole items topic, all partitions from the beginning, and stays with it. It is no member of a group: every
// worker has the whole catalogue. Run owns the goroutines.
type Follower struct {
	cfg    FollowerConfig
	apply  func(context.Context, []ItemChange) error
	bad    func(context.Context, DeadLetter) error
	log    *zap.Logger
	reader reader
	trans  *kafka.Transport
	caught chan struct{}

	read, total atomic.Int64 // records applied and to be applied until caught
	mu          sync.Mutex
	again       map[int]int64 // partition -> offset to read from once more
}

// NewFollower builds a follower. apply takes the changes of one partition, in order; it is called from one goroutine per
// partition and is called again with the same changes while it fails. bad takes records that are no items (nil = they are only
// logged); it, too, is called again while it fails, so that one worker's dead letters hold them all.
func NewFollower(cfg FollowerConfig, apply func(context.Context, []ItemChange) error, bad func(context.Context, DeadLetter) error, log *zap.Logger) (*Follower, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	client, trans, err := cfg.Connection.client(cfg.Topic)
	if err != nil {
		return nil, err
	}
	return &Follower{
		cfg: cfg, apply: apply, bad: bad, log: log.Named("follower").With(zap.String("topic", cfg.Topic)),
		reader: reader{client: client, topic: cfg.Topic}, trans: trans, caught: make(chan struct{}), again: map[int]int64{},
	}, nil
}

// Caught is closed when everything that the topic held at Run's start has been applied.
func (f *Follower) Caught() <-chan struct{} { return f.caught }

// Progress is how many records have been applied of how many that the topic held at Run's start, as far as that is known.
func (f *Follower) Progress() (applied, of int64) { return f.read.Load(), f.total.Load() }

// Again has a partition applied once more, from an offset on. It shows within FetchWait.
func (f *Follower) Again(partition int, from int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.again[partition] = from
}

func (f *Follower) rewound(partition int) (from int64, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	from, ok = f.again[partition]
	delete(f.again, partition)
	return from, ok
}

// Run follows until ctx ends, and returns nil then. Partitions that are added later are followed from their beginning.
func (f *Follower) Run(ctx context.Context) error {
	defer f.trans.CloseIdleConnections()
	n, err := f.awaitTopic(ctx)
	if err != nil {
		return nil // ctx ended
	}
	var loops sync.WaitGroup
	defer loops.Wait()
	follow := func(partition int, caught func()) {
		loops.Add(1)
		go func() { defer loops.Done(); f.follow(ctx, partition, caught) }()
	}
	var behind atomic.Int32
	behind.Store(int32(n))
	for partition := range n {
		follow(partition, sync.OnceFunc(func() {
			if behind.Add(-1) == 0 {
				close(f.caught)
			}
		}))
	}
	look := time.NewTicker(metadataTTL)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
		}
		if now, err := f.reader.partitions(ctx); err == nil {
			for ; n < now; n++ {
				follow(n, func() {})
			}
		}
	}
}

func (f *Follower) awaitTopic(ctx context.Context) (int, error) {
	var wait backoff
	for told := false; ; told = true {
		n, err := f.reader.partitions(ctx)
		if err == nil {
			return n, nil
		}
		if !told && ctx.Err() == nil {
			f.log.Warn("waiting for the topic", zap.Error(err))
		}
		if !wait.wait(ctx) {
			return 0, ctx.Err()
		}
	}
}

// follow reads one partition. caught is called once what it held at the beginning has been applied.
func (f *Follower) follow(ctx context.Context, partition int, caught func()) {
	log := f.log.With(zap.Int("partition", partition))
	at := place{partition: partition, next: -1, caught: caught}
	var wait backoff
	failing := false
	for {
		err := f.step(ctx, &at)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !failing:
			log.Warn("trying again until it works", zap.Error(err))
		case err == nil && failing:
			log.Info("works again")
		}
		if failing = err != nil; failing {
			wait.wait(ctx)
		} else {
			wait.reset()
		}
	}
}

// place is how far a partition was read.
type place struct {
	partition int
	next      int64 // -1 = not begun
	end       int64 // where the log ended then
	known     bool  // counted in the follower's total
	caught    func()
}

// step fetches once and applies what came.
func (f *Follower) step(ctx context.Context, at *place) error {
	if at.next < 0 {
		next, end, err := f.reader.bounds(ctx, at.partition)
		if err != nil {
			return err
		}
		if at.next, at.end = next, end; !at.known {
			at.known = true
			f.total.Add(end - next)
		}
	}
	if from, ok := f.rewound(at.partition); ok && from < at.next {
		at.next = from
	}
	if at.next >= at.end {
		at.caught()
	}
	a, err := f.reader.fetch(ctx, question{partition: at.partition, offset: at.next, maxBytes: f.cfg.FetchBytes, wait: f.cfg.FetchWait})
	if errors.Is(err, kafka.OffsetOutOfRange) {
		at.next = -1 // the log moved on, or the topic is another one: read what it has
	}
	if err != nil {
		return err
	}
	if err := f.takeAll(ctx, at, a.records); err != nil {
		return err
	}
	at.next = a.next
	return nil
}

// takeAll applies records, and moves at.next with each batch applied, so that a failure repeats no more than it must.
func (f *Follower) takeAll(ctx context.Context, at *place, records []Record) error {
	changes := make([]ItemChange, 0, min(len(records), f.cfg.BatchItems))
	for i := range records {
		change, bad := DecodeItem(&records[i])
		if bad == nil {
			changes = append(changes, change)
		}
		if full := len(changes) == f.cfg.BatchItems; len(changes) > 0 && (full || bad != nil || i == len(records)-1) {
			if err := f.apply(ctx, changes); err != nil {
				return err
			}
			f.read.Add(int64(len(changes)))
			changes = changes[:0]
			if at.next = records[i].Offset; bad == nil {
				at.next++
			}
		}
		if bad != nil {
			if err := f.bury(ctx, DeadLetter{Record: records[i], Stage: StageDecode, Err: bad}); err != nil {
				return err
			}
			at.next = records[i].Offset + 1
		}
	}
	return nil
}

func (f *Follower) bury(ctx context.Context, l DeadLetter) error {
	if f.bad != nil {
		return f.bad(ctx, l)
	}
	f.log.Warn("a record is no item", zap.Int32("partition", l.Partition), zap.Int64("offset", l.Offset), zap.Error(l.Err))
	return nil
}
