package stream

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"freshet"
)

// broker is a Kafka to test against, with names of its own for topics and groups.
type broker struct {
	conn    Connection
	fake    *kfake.Cluster // nil = a real one
	session time.Duration  // the shortest session it allows
	suffix  string
}

// onBrokers runs a test on kfake and on the real Kafka of FRESHET_TEST_KAFKA.
func onBrokers(t *testing.T, test func(t *testing.T, b *broker)) {
	t.Run("kfake", func(t *testing.T) { t.Parallel(); test(t, fakeBroker(t)) })
	t.Run("kafka", func(t *testing.T) { t.Parallel(); test(t, realBroker(t)) })
}

func fakeBroker(t testing.TB, opts ...kfake.Opt) *broker {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(time.Second)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return &broker{conn: Connection{Brokers: c.ListenAddrs()}, fake: c, session: 2 * time.Second, suffix: random()}
}

func realBroker(t testing.TB) *broker {
	t.Helper()
	addr := os.Getenv("FRESHET_TEST_KAFKA")
	if addr == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("FRESHET_TEST_KAFKA is not set: in CI the tests on a real Kafka must run")
		}
		t.Skip("FRESHET_TEST_KAFKA is not set (host:port of a Kafka): not tested on a real one")
	}
	return &broker{conn: Connection{Brokers: []string{addr}}, session: 3 * time.Second, suffix: random()}
}

func random() string {
	b := make([]byte, 6)
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}

func (b *broker) name(s string) string { return s + "-" + b.suffix }

// context ends with the test, or when it hangs.
func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func quiet(t testing.TB) *zap.Logger { return zaptest.NewLogger(t, zaptest.Level(zap.FatalLevel)) }

// rig is everything a consumer needs, on topics of its own.
type rig struct {
	*broker
	t        *testing.T
	producer *Producer
	letters  *DeadLetters
}

func newRig(t *testing.T, b *broker, partitions int) *rig {
	t.Helper()
	ctx := testContext(t)
	_, err := EnsureTopics(ctx, b.conn,
		Topic{Name: b.name("events"), Partitions: partitions, MaxMessageBytes: 2 << 20},
		Topic{Name: b.name("lists"), Partitions: partitions, Compact: true},
		Topic{Name: b.name("dlq"), Partitions: 2, MaxMessageBytes: 1<<20 + DeadLetterRoom},
	)
	if err != nil {
		t.Fatal(err)
	}
	p, err := NewProducer(ProducerConfig{Connection: b.conn, Events: b.name("events"), Lists: b.name("lists"), Items: b.name("items"), BatchBytes: 800_000}, quiet(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	d, err := NewDeadLetters(p, b.name("dlq"), 1<<20+DeadLetterRoom)
	if err != nil {
		t.Fatal(err)
	}
	return &rig{broker: b, t: t, producer: p, letters: d}
}

func (r *rig) config() ConsumerConfig {
	return ConsumerConfig{
		Connection: r.conn, Group: r.name("group"), Topic: r.name("events"), BatchEvents: 16, FetchWait: 100 * time.Millisecond,
		SessionTimeout: r.session, RebalanceTimeout: r.session, LossWindow: 50 * time.Millisecond, CommitTick: 20 * time.Millisecond,
		JoinBackoff: 50 * time.Millisecond,
	}
}

// running is a consumer that runs until it is stopped.
type running struct {
	*Consumer
	stop func()
}

func (r *rig) run(cfg ConsumerConfig, h Handler, o Observer) *running {
	r.t.Helper()
	c, err := NewConsumer(cfg, testDecoder(r.t), h, r.producer, r.letters, o, quiet(r.t))
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Errorf("Run: %v", err)
		}
	})
	r.t.Cleanup(stop)
	return &running{Consumer: c, stop: stop}
}

// send writes n events of several users; from numbers them.
func (r *rig) send(from, n, users int) []freshet.Event {
	r.t.Helper()
	events := make([]freshet.Event, n)
	for i := range events {
		events[i] = event(fmt.Sprintf("u%d", (from+i)%users), from+i)
	}
	if err := r.producer.PublishEvents(testContext(r.t), events); err != nil {
		r.t.Fatal(err)
	}
	return events
}

func event(user string, n int) freshet.Event {
	return freshet.Event{ID: fmt.Sprintf("e%06d", n), Type: "view", UserID: user, Items: []freshet.EventItem{{ItemID: fmt.Sprintf("i%d", n%50), Quantity: 1}}, Time: time.Now().UnixMilli()}
}

// read gives what a topic holds now.
func (r *rig) read(topic string) []Record {
	r.t.Helper()
	var all []Record
	if err := Scan(testContext(r.t), r.conn, topic, func(rec Record) error { all = append(all, rec); return nil }); err != nil {
		r.t.Fatal(err)
	}
	return all
}

// eventually waits for a condition that other goroutines bring about.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited 30 s: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// ledger is a store in memory with the rules of the real one: a user's chain of applied events and the last offset applied per
// partition. Members of a group share one. Applying twice, or out of order, shows in the chain.
type ledger struct {
	mu      sync.Mutex
	chains  map[string][]string                 // user -> event ids in the order applied
	at      map[string]map[freshet.Source]int64 // user -> last offset applied
	last    map[string]freshet.Position         // user -> position of the stored list
	applies int
}

func newLedger() *ledger {
	return &ledger{chains: map[string][]string{}, at: map[string]map[freshet.Source]int64{}, last: map[string]freshet.Position{}}
}

func (l *ledger) events() int { l.mu.Lock(); defer l.mu.Unlock(); return l.applies }

// forget drops everything, as a store does that went back in time.
func (l *ledger) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.chains, l.at, l.last, l.applies = map[string][]string{}, map[string]map[freshet.Source]int64{}, map[string]freshet.Position{}, 0
}

// member is a Handler on a ledger.
type member struct {
	*ledger
	before   func(ctx context.Context, events []freshet.Event) error // what goes wrong first; nil = nothing
	released func(freshet.Source)
	skipped  int // redelivered events; guarded by ledger.mu
	batches  []int
	calls    []freshet.Event // every event offered
}

func (m *member) Handle(ctx context.Context, events []freshet.Event) ([]freshet.Publication, error) {
	if m.before != nil {
		if err := m.before(ctx, events); err != nil {
			return nil, err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.batches = append(m.batches, len(events))
	m.calls = append(m.calls, events...)
	var lists []freshet.Publication
	for _, e := range events {
		stored := false
		if at, ok := m.at[e.UserID][e.Position.Source]; ok && e.Position.Offset <= at {
			m.skipped++
			stored = true
		} else {
			if m.at[e.UserID] == nil {
				m.at[e.UserID] = map[freshet.Source]int64{}
			}
			m.at[e.UserID][e.Position.Source] = e.Position.Offset
			m.chains[e.UserID] = append(m.chains[e.UserID], e.ID)
			m.last[e.UserID] = e.Position
			m.applies++
		}
		from := m.last[e.UserID]
		lists = append(lists, freshet.Publication{UserID: e.UserID, Surface: freshet.HomeSurface, Record: []byte(from.String()), From: from, Stored: stored})
	}
	return lists, nil
}

func (m *member) Release(s freshet.Source) {
	if m.released != nil {
		m.released(s)
	}
}

// check compares the chains with what was sent, per user and in order.
func (l *ledger) check(t *testing.T, sent []freshet.Event) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	want := map[string][]string{}
	for _, e := range sent {
		want[e.UserID] = append(want[e.UserID], e.ID)
	}
	wrong := 0
	for user, ids := range want {
		if !slices.Equal(ids, l.chains[user]) {
			if wrong++; wrong <= 3 {
				t.Errorf("user %s: applied %d events, sent %d; %.200v", user, len(l.chains[user]), len(ids), l.chains[user])
			}
		}
	}
	if wrong > 0 || len(l.chains) != len(want) {
		t.Errorf("%d of %d users wrong, %d users in the ledger", wrong, len(want), len(l.chains))
	}
}

// counter is an Observer that counts.
type counter struct {
	Unobserved
	mu                             sync.Mutex
	letters, rebalances, misrouted int
	gaps                           int64
	rollbacks, retries             int
	progress                       map[int32]Progress
}

func (c *counter) with(f func()) { c.mu.Lock(); defer c.mu.Unlock(); f() }

func (c *counter) DeadLetter(string, string)      { c.with(func() { c.letters++ }) }
func (c *counter) Rebalanced(int)                 { c.with(func() { c.rebalances++ }) }
func (c *counter) Gap(_ freshet.Source, n int64)  { c.with(func() { c.gaps += n }) }
func (c *counter) Rollback(freshet.Source)        { c.with(func() { c.rollbacks++ }) }
func (c *counter) Misrouted(freshet.Source)       { c.with(func() { c.misrouted++ }) }
func (c *counter) Retried(freshet.Source, string) { c.with(func() { c.retries++ }) }
func (c *counter) Moved(s freshet.Source, p Progress) {
	c.with(func() {
		if c.progress == nil {
			c.progress = map[int32]Progress{}
		}
		c.progress[s.Partition] = p
	})
}
func (c *counter) get(f func(*counter) int) int { c.mu.Lock(); defer c.mu.Unlock(); return f(c) }

// deleteBelow does what retention does.
func (r *rig) deleteBelow(topic string, partition int32, offset int64) {
	r.t.Helper()
	req := kmsg.NewPtrDeleteRecordsRequest()
	rt := kmsg.NewDeleteRecordsRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewDeleteRecordsRequestTopicPartition()
	rp.Partition, rp.Offset = partition, offset
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	r.ask(req)
}

func (r *rig) addPartitions(topic string, count int32) {
	r.t.Helper()
	req := kmsg.NewPtrCreatePartitionsRequest()
	rt := kmsg.NewCreatePartitionsRequestTopic()
	rt.Topic, rt.Count = topic, count
	req.Topics = append(req.Topics, rt)
	req.TimeoutMillis = 5000
	r.ask(req)
}

// commit writes offsets of a group that has no members.
func (r *rig) commit(group, topic string, offsets map[int]int64) {
	r.t.Helper()
	req := &kafka.OffsetCommitRequest{GroupID: group, GenerationID: -1, Topics: map[string][]kafka.OffsetCommit{}}
	for p, o := range offsets {
		req.Topics[topic] = append(req.Topics[topic], kafka.OffsetCommit{Partition: p, Offset: o})
	}
	eventually(r.t, "the coordinator takes a commit", func() bool {
		res, err := r.producer.client.OffsetCommit(testContext(r.t), req)
		return err == nil && res.Topics[topic][0].Error == nil
	})
}

func (r *rig) ask(req kmsg.Request) {
	r.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(r.conn.Brokers...))
	if err != nil {
		r.t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Request(testContext(r.t), req); err != nil {
		r.t.Fatal(err)
	}
}
