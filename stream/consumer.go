package stream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"go.uber.org/zap"

	"freshet"
)

// Handler is the middle: it folds events into profiles and says what to publish.
type Handler interface {
	// Handle folds events of one partition, in offset order, or with ConsumerConfig.Joined of several, one after the other, no user on two
	// of them; it is safe for concurrent use by different partitions. The slice is good during the call only; what its events point at is the handler's to keep. freshet.ErrUnavailable and a context's error mean: again later, in place. freshet.ErrLost
	// means: read again from the last committed offset. Any other error, and a panic, is held against the events.
	Handle(ctx context.Context, events []freshet.Event) ([]freshet.Publication, error)
	// Release drops whatever is held for a partition that is not ours any more, or must be read again. No Handle of that
	// partition is running.
	Release(source freshet.Source)
}

// Rechecker is a Handler that can look again at what it saved. It gives the records that are newer than those published, none when
// all are equal.
type Rechecker interface {
	Recheck(ctx context.Context, published []freshet.Publication) ([]freshet.Publication, error)
}

// Starter is a Handler that knows how much of a partition its store holds. It is asked before a partition is read; next is the
// committed offset, -1 where nothing is committed.
type Starter interface {
	// Start gives the offset to read from, next or a lower one, 0 for the log's beginning, and the offset after the highest that the
	// store says is saved, -1 where it says nothing. A log that ends before that is another one than was read.
	Start(ctx context.Context, source freshet.Source, next int64) (from, saved int64, err error)
}

// Where a group without committed offsets begins.
const (
	StartEarliest = "earliest"
	StartLatest   = "latest"
)

// ConsumerConfig describes one worker's part of a consumer group.
type ConsumerConfig struct {
	Connection Connection
	Group      string // consumer group; one per lane
	Topic      string // the events
	// TopicIncarnation counts how often the topic of that name was created anew; default 0. Each has committed offsets of its
	// own: from 1 on they are kept under the group GROUP.iN.
	TopicIncarnation int32
	Start            string // StartEarliest (default) or StartLatest, where nothing is committed

	BatchEvents int           // most events handed over at once; default 128
	BatchNow    func() int    // the same, asked for every batch; nil = always BatchEvents
	Joined      bool          // hand over what several partitions bring at about the same time in one call
	Linger      time.Duration // how long events may wait for others, while several come within it (fetcher); default 2 ms, negative = never
	FetchBytes  int           // most bytes asked for at once per partition; default 1 MiB
	FetchWait   time.Duration // how long the broker holds a fetch that finds nothing; default 500 ms

	LossWindow time.Duration // what the store may forget; an offset is committed when it was saved longer ago; default 3 s
	CommitTick time.Duration // how often offsets are committed; default 500 ms

	SessionTimeout   time.Duration // silence after which the group thinks us dead; default 10 s
	RebalanceTimeout time.Duration // how long the group waits for a member to come back; default 10 s
	JoinBackoff      time.Duration // between two attempts to join; default 300 ms
	PartitionWatch   time.Duration // how often to look for added partitions; default 5 s
}

func (c ConsumerConfig) withDefaults() ConsumerConfig {
	c.Connection = c.Connection.withDefaults()
	if c.Start == "" {
		c.Start = StartEarliest
	}
	set := func(d *time.Duration, to time.Duration) {
		if *d == 0 {
			*d = to
		}
	}
	set(&c.Linger, 2*time.Millisecond)
	set(&c.FetchWait, 500*time.Millisecond)
	set(&c.LossWindow, 3*time.Second)
	set(&c.CommitTick, 500*time.Millisecond)
	set(&c.SessionTimeout, 10*time.Second)
	set(&c.RebalanceTimeout, 10*time.Second)
	set(&c.JoinBackoff, 300*time.Millisecond)
	set(&c.PartitionWatch, 5*time.Second)
	if c.BatchEvents == 0 {
		c.BatchEvents = 128
	}
	if c.FetchBytes == 0 {
		c.FetchBytes = 1 << 20
	}
	return c
}

// Validate says which field cannot work.
func (c ConsumerConfig) Validate() error {
	c = c.withDefaults()
	if err := c.Connection.Validate(); err != nil {
		return err
	}
	switch {
	case c.Group == "":
		return errors.New("kafka.group: missing")
	case c.Topic == "":
		return errors.New("kafka.topics.events: missing")
	case c.TopicIncarnation < 0:
		return fmt.Errorf("kafka.topic_incarnation: %d is negative", c.TopicIncarnation)
	case c.Start != StartEarliest && c.Start != StartLatest:
		return fmt.Errorf("kafka.start: %q is neither earliest nor latest", c.Start)
	case c.BatchEvents < 1 || c.BatchEvents > 10_000:
		return fmt.Errorf("kafka.batch_max: %d is not within 1..10000", c.BatchEvents)
	case c.Linger > c.FetchWait:
		return fmt.Errorf("kafka.linger: %v is longer than kafka.fetch_wait %v", c.Linger, c.FetchWait)
	case c.FetchBytes < 64<<10:
		return fmt.Errorf("kafka.fetch_bytes: %d, at least 65536", c.FetchBytes)
	case c.FetchWait < time.Millisecond || c.FetchWait > 10*time.Second:
		return fmt.Errorf("kafka.fetch_wait: %v is not within 1ms..10s", c.FetchWait)
	case c.LossWindow < 0 || c.CommitTick < time.Millisecond:
		return fmt.Errorf("kafka.loss_window %v, kafka.commit_tick %v: negative or too short", c.LossWindow, c.CommitTick)
	case c.SessionTimeout < time.Second || c.RebalanceTimeout < time.Second:
		return fmt.Errorf("kafka.session %v (rebalance %v): at least 1s each", c.SessionTimeout, c.RebalanceTimeout)
	case c.JoinBackoff < 0 || c.PartitionWatch < 0:
		return errors.New("kafka.join_backoff, kafka.partition_watch: negative")
	}
	return nil
}

// GroupID is the group's name at the brokers.
func (c ConsumerConfig) GroupID() string {
	if c.TopicIncarnation == 0 {
		return c.Group
	}
	return c.Group + ".i" + strconv.Itoa(int(c.TopicIncarnation))
}

// batch is how many events are handed over at once at this moment.
func (c *ConsumerConfig) batch() int {
	if c.BatchNow == nil {
		return c.BatchEvents
	}
	return max(c.BatchNow(), 1)
}

// drain is how long a batch in hand may take once its generation is over: less than half of what the group waits, since a longer
// one leaves a member that works on partitions it has lost.
func (c ConsumerConfig) drain() time.Duration {
	return min(c.SessionTimeout, c.RebalanceTimeout) * 2 / 5
}

// Consumer is one member of the group. Run owns every goroutine it starts.
type Consumer struct {
	cfg     ConsumerConfig
	decoder *Decoder
	handler Handler
	batcher *batcher
	fetcher *fetcher
	lists   *Producer    // nil = nothing is published
	letters *DeadLetters // nil = bad records are counted and dropped (lanes that are not live)
	observe Observer
	log     *zap.Logger
	reader  reader
	trans   *kafka.Transport
	added   int32 // with StartLatest: partitions from this one on were added since the group began to commit; set by Run

	mu    sync.Mutex
	owned []*partition // of the generation that runs
}

// NewConsumer builds a consumer. lists may be nil where nothing is published (a lane that only shadows), letters where another
// lane keeps the dead letters. It opens no connection yet.
func NewConsumer(cfg ConsumerConfig, decoder *Decoder, handler Handler, lists *Producer, letters *DeadLetters, observe Observer, log *zap.Logger) (*Consumer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	client, trans, err := cfg.Connection.client(cfg.Topic)
	if err != nil {
		return nil, err
	}
	if observe == nil {
		observe = Unobserved{}
	}
	c := &Consumer{
		cfg: cfg, decoder: decoder, handler: handler, lists: lists, letters: letters, observe: observe,
		log: log.Named("consumer"), reader: reader{client: client, topic: cfg.Topic}, trans: trans,
	}
	c.batcher, c.fetcher = newBatcher(handler, &c.cfg, observe), newFetcher(&c.reader, cfg.Linger)
	return c, nil
}

// Run consumes until ctx ends, then finishes the batches in hand, commits what is old enough and leaves the group. It returns nil
// after such an end; any other return is an error that waiting does not mend.
func (c *Consumer) Run(ctx context.Context) error {
	defer c.trans.CloseIdleConnections()
	if err := c.awaitTopic(ctx); err != nil {
		return ignoreEnd(ctx, err)
	}
	if err := c.findAdded(ctx); err != nil {
		return ignoreEnd(ctx, err)
	}
	dialer, err := c.cfg.Connection.dialer()
	if err != nil {
		return err
	}
	group, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID: c.cfg.GroupID(), Brokers: c.cfg.Connection.Brokers, Dialer: dialer, Topics: []string{c.cfg.Topic},
		GroupBalancers:        []kafka.GroupBalancer{kafka.RangeGroupBalancer{}},
		HeartbeatInterval:     min(c.cfg.SessionTimeout/10, time.Second),
		SessionTimeout:        c.cfg.SessionTimeout,
		RebalanceTimeout:      c.cfg.RebalanceTimeout,
		JoinGroupBackoff:      c.cfg.JoinBackoff,
		WatchPartitionChanges: true, PartitionWatchInterval: c.cfg.PartitionWatch,
		StartOffset: kafka.FirstOffset, // stands for "nothing committed"; locate decides what that means
		Timeout:     min(requestTimeout, c.cfg.SessionTimeout/2),
	})
	if err != nil {
		return fmt.Errorf("join group %s: %w", c.cfg.GroupID(), err)
	}
	err = c.generations(ctx, group)
	_ = group.Close() // waits for the loops, then leaves the group
	return ignoreEnd(ctx, err)
}

func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// findAdded looks at what the group has committed: all partitions of a new group are there from the beginning, and those above the
// highest committed one were added later.
func (c *Consumer) findAdded(ctx context.Context) error {
	if c.cfg.Start == StartEarliest {
		return nil
	}
	return c.untilItWorks(ctx, "waiting for the group's committed offsets", func() error {
		n, err := c.reader.partitions(ctx)
		if err != nil {
			return err
		}
		offsets, err := committed(ctx, c.reader.client, c.cfg.GroupID(), c.cfg.Topic)
		if err != nil {
			return err
		}
		if c.added = int32(n); len(offsets) > 0 {
			c.added = slices.Max(slices.Collect(maps.Keys(offsets))) + 1
		}
		return nil
	})
}

// awaitTopic waits until the topic exists: a group that subscribes to a missing one would have the brokers create it, with
// whatever number of partitions they think right.
func (c *Consumer) awaitTopic(ctx context.Context) error {
	return c.untilItWorks(ctx, "waiting for the topic", func() error {
		_, err := c.reader.partitions(ctx)
		return err
	})
}

func (c *Consumer) untilItWorks(ctx context.Context, what string, do func() error) error {
	var wait backoff
	for told := false; ; told = true {
		err := do()
		if err == nil {
			return nil
		}
		if !told && ctx.Err() == nil {
			c.log.Warn(what, zap.String("topic", c.cfg.Topic), zap.Strings("brokers", c.cfg.Connection.Brokers), zap.Error(err))
		}
		if !wait.wait(ctx) {
			return ctx.Err()
		}
	}
}

// generations serves one generation after the other.
func (c *Consumer) generations(ctx context.Context, group *kafka.ConsumerGroup) error {
	away, member := false, ""
	var ghosts sync.WaitGroup
	defer ghosts.Wait()
	for {
		gen, err := group.Next(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, kafka.RebalanceInProgress):
			continue
		case err != nil:
			if !away {
				c.log.Warn("cannot join the group; trying again", zap.String("group", c.cfg.GroupID()), zap.Error(err))
			}
			if member != "" { // kafka-go has forgotten it
				old := member
				ghosts.Go(func() { c.forget(ctx, old) })
			}
			away, member = true, ""
			continue
		}
		away, member = false, gen.MemberID
		c.begin(ctx, gen)
	}
}

// begin starts the loops of one generation. They end with it, and the group waits for them before it goes on.
func (c *Consumer) begin(ctx context.Context, gen *kafka.Generation) {
	assigned := gen.Assignments[c.cfg.Topic]
	g := &generation{c: c, gen: gen, run: context.WithoutCancel(ctx)}
	for _, a := range assigned {
		g.partitions = append(g.partitions, newPartition(c, g, a))
	}
	c.mu.Lock()
	c.owned = g.partitions
	c.mu.Unlock()
	c.observe.Rebalanced(len(assigned))
	ids := make([]int, len(assigned))
	for i, a := range assigned {
		ids[i] = a.ID
	}
	slices.Sort(ids)
	c.log.Info("generation begins", zap.Int32("generation", gen.ID), zap.String("group", gen.GroupID), zap.Ints("partitions", ids))
	for _, p := range g.partitions {
		g.loops.Add(1)
		gen.Start(func(ended context.Context) {
			defer g.loops.Done()
			p.run(ended)
		})
	}
	gen.Start(g.commitLate)
}

// generation is one assignment of partitions to this member.
type generation struct {
	c          *Consumer
	gen        *kafka.Generation
	run        context.Context // Run's values without its end
	partitions []*partition
	loops      sync.WaitGroup
	mu         sync.Mutex // one commit at a time
	refused    bool       // the last commit was refused; guarded by mu
}

// commitLate commits by a timer what was saved longer ago than the loss window, and once more when the loops have ended.
func (g *generation) commitLate(ended context.Context) {
	tick := time.NewTicker(g.c.cfg.CommitTick)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			g.commitDue()
		case <-ended.Done():
			g.loops.Wait()
			g.commitDue()
			return
		}
	}
}

func (g *generation) commitDue() {
	limit := time.Now().Add(-g.c.cfg.LossWindow)
	for _, p := range g.partitions {
		p.markDue(limit)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	offsets := map[int]int64{}
	for _, p := range g.partitions {
		if next, ok := p.toCommit(); ok {
			offsets[int(p.source.Partition)] = next
		}
	}
	_ = g.commit(offsets)
}

// commit writes offsets to the group; the caller holds mu.
func (g *generation) commit(offsets map[int]int64) error {
	if len(offsets) == 0 {
		return nil
	}
	err := g.gen.CommitOffsets(map[string]map[int]int64{g.c.cfg.Topic: offsets})
	if err != nil {
		if !g.refused {
			g.c.log.Warn("commit refused; trying again", zap.Int32("generation", g.gen.ID), zap.Error(err))
		}
		g.refused = true
		return fmt.Errorf("commit offsets of %s: %w", g.gen.GroupID, err)
	}
	g.refused = false
	for _, p := range g.partitions {
		if next, ok := offsets[int(p.source.Partition)]; ok {
			p.committedAt(next)
		}
	}
	return nil
}

// PartitionStatus is what the consumer knows of one partition that it owns.
type PartitionStatus struct {
	Source freshet.Source
	Progress
	State string        // StateStarting to StateStopped
	Since time.Duration // how long the loop has not turned: waited for a handler, a broker
	Err   error         // what it retries or stopped for
}

// Status lists the partitions owned now, in order.
func (c *Consumer) Status() []PartitionStatus {
	c.mu.Lock()
	owned := slices.Clone(c.owned)
	c.mu.Unlock()
	list := make([]PartitionStatus, 0, len(owned))
	for _, p := range owned {
		if s, ok := p.status(); ok {
			list = append(list, s)
		}
	}
	slices.SortFunc(list, func(a, b PartitionStatus) int { return int(a.Source.Partition - b.Source.Partition) })
	return list
}

// Stuck lists the partitions whose loop has not turned for longer than the limit (a handler or a broker that never answers), and
// those that stopped. A loop that waits and tries again turns: a store that is away is no reason to restart the process.
func (c *Consumer) Stuck(limit time.Duration) []freshet.Source {
	var stuck []freshet.Source
	for _, s := range c.Status() {
		if s.State == StateStopped || s.Since > limit {
			stuck = append(stuck, s.Source)
		}
	}
	return stuck
}

// Rewinding tells whether a partition was asked to rewind and has not done so yet: what it hands over now was read before.
func (c *Consumer) Rewinding(source freshet.Source) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.owned {
		if p.source == source {
			return p.behindRewind()
		}
	}
	return false
}

// Rewind has every owned partition drop its local copies and read again from its committed offset, or from the offset given for
// it where that is lower (it is then committed, too). It is for whoever notices that the store went back in time; the loops do it
// before their next batch.
func (c *Consumer) Rewind(to map[int32]int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.owned {
		at, ok := to[p.source.Partition]
		if !ok {
			at = -1
		}
		p.askRewind(at)
	}
}

// patience bounds how long a question that a person or a start waits for is asked again, while a broker that has just started
// finds its coordinators.
const patience = 30 * time.Second

// Committed asks for a group's committed offsets of a topic; partitions without one are left out. An empty map means that the
// group never committed; ErrNoTopic, that there is no such topic. A broker that cannot tell yet is asked again, half a minute long.
func Committed(ctx context.Context, conn Connection, group, topic string) (map[int32]int64, error) {
	client, trans, err := conn.withDefaults().client(topic)
	if err != nil {
		return nil, err
	}
	defer trans.CloseIdleConnections()
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for pause := (backoff{}); ; {
		offsets, err := committed(ctx, client, group, topic)
		var answer kafka.Error
		if !errors.As(err, &answer) || !answer.Temporary() || errors.Is(err, ErrNoTopic) || !pause.wait(waiting) {
			return offsets, err
		}
	}
}

func committed(ctx context.Context, client *kafka.Client, group, topic string) (map[int32]int64, error) {
	n, err := partitions(ctx, client, topic)
	if err != nil {
		return nil, err
	}
	ids := make([]int, n)
	for i := range ids {
		ids[i] = i
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	res, err := client.OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: group, Topics: map[string][]int{topic: ids}})
	if err == nil {
		err = res.Error
	}
	if errors.Is(err, kafka.GroupIdNotFound) {
		return map[int32]int64{}, nil // a group that never was
	}
	if err != nil {
		return nil, fmt.Errorf("ask for the committed offsets of %s: %w", group, err)
	}
	offsets := map[int32]int64{}
	for _, p := range res.Topics[topic] {
		if p.Error != nil {
			return nil, fmt.Errorf("ask for the committed offsets of %s: partition %d: %w", group, p.Partition, p.Error)
		}
		if p.CommittedOffset >= 0 {
			offsets[int32(p.Partition)] = p.CommittedOffset
		}
	}
	return offsets, nil
}
