package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"freshet"
)

func TestConsumerAppliesEveryEventOnceInOrder(t *testing.T) {
	onBrokers(t, func(t *testing.T, b *broker) {
		r := newRig(t, b, 4)
		l := newLedger()
		o := &counter{}
		c := r.run(r.config(), &member{ledger: l}, o)
		sent := r.send(0, 500, 20)
		eventually(t, "all applied", func() bool { return l.events() == 500 })
		l.check(t, sent)
		eventually(t, "all committed once the loss window passed", func() bool {
			n := int64(0)
			for _, s := range c.Status() {
				n += max(0, s.Committed)
			}
			return n == 500
		})
		if n := o.get(func(o *counter) int { return o.misrouted + o.letters + o.rollbacks }); n != 0 {
			t.Errorf("%d misrouted, dead letters or rollbacks", n)
		}
		for _, s := range c.Status() {
			if s.Records() != 0 || s.Lag != 0 || s.State != StateRunning {
				t.Errorf("drained, yet %+v", s)
			}
		}
		latest := map[string]string{}
		for _, rec := range r.read(r.name("lists")) {
			latest[string(rec.Key)] = string(rec.Value)
		}
		for user, at := range l.last {
			if latest[user] != at.String() {
				t.Errorf("user %s: the output topic's last list is %q, the store's %q", user, latest[user], at)
			}
		}
	})
}

func TestMembersComingAndGoingLeaveEveryEventAppliedOnce(t *testing.T) {
	onBrokers(t, func(t *testing.T, b *broker) {
		r := newRig(t, b, 6)
		l := newLedger()
		first := r.run(r.config(), &member{ledger: l}, nil)
		var sent []freshet.Event
		sent = append(sent, r.send(0, 300, 30)...)
		for round := range 3 {
			second := r.run(r.config(), &member{ledger: l}, nil)
			sent = append(sent, r.send(len(sent), 300, 30)...)
			eventually(t, "both members own half", func() bool { return len(first.Status()) == 3 && len(second.Status()) == 3 })
			sent = append(sent, r.send(len(sent), 300, 30)...)
			if round%2 == 0 {
				second.stop()
			} else {
				first.stop()
				first = second
			}
		}
		sent = append(sent, r.send(len(sent), 100, 30)...)
		eventually(t, "all applied", func() bool { return l.events() >= len(sent) })
		l.check(t, sent)
	})
}

func TestPoisonGoesToTheDeadLettersAndTheOthersGoOn(t *testing.T) {
	onBrokers(t, func(t *testing.T, b *broker) {
		r := newRig(t, b, 1)
		l := newLedger()
		sent := r.send(0, 20, 3)
		bad := []Record{
			{Key: []byte("u1"), Value: []byte("{broken"), Headers: []Header{{"a", []byte("1")}, {"a", []byte{0xff, 0}}, {"b", nil}}, Time: time.Now().UnixMilli()},
			{Key: nil, Value: []byte(plainEvent)},
			{Key: []byte("u1"), Value: nil},
			{Key: []byte("u9"), Value: []byte(plainEvent)},
			{Key: []byte("u1"), Value: bytes.Repeat([]byte("x"), 1_500_000)},
		}
		if err := r.producer.Publish(testContext(t), r.name("events"), bad); err != nil {
			t.Fatal(err)
		}
		sent = append(sent, r.send(20, 20, 3)...)
		o := &counter{}
		c := r.run(r.config(), &member{ledger: l}, o)
		eventually(t, "the good ones are applied", func() bool { return l.events() == 40 })
		l.check(t, sent)
		eventually(t, "all committed", func() bool { s := c.Status(); return len(s) == 1 && s[0].Committed == 45 })
		letters := r.read(r.name("dlq"))
		if len(letters) != len(bad) {
			t.Fatalf("%d dead letters, %d planted", len(letters), len(bad))
		}
		for i, rec := range letters {
			d, err := ParseDeadLetter(&rec)
			if err != nil {
				t.Fatal(err)
			}
			want := bad[i]
			if i == 4 {
				if !d.Truncated || len(d.Value) != keptBytes || d.SHA256 == "" || !bytes.Equal(d.Value, want.Value[:keptBytes]) {
					t.Errorf("a value over the topic's limit: %d bytes kept, truncated=%v", len(d.Value), d.Truncated)
				}
			} else if !bytes.Equal(d.Value, want.Value) || (d.Value == nil) != (want.Value == nil) {
				t.Errorf("letter %d: value %q, received %q", i, d.Value, want.Value)
			}
			if !bytes.Equal(d.Key, want.Key) || (d.Key == nil) != (want.Key == nil) || !slices.EqualFunc(d.Headers, want.Headers, func(a, b Header) bool { return a.Name == b.Name && bytes.Equal(a.Value, b.Value) }) {
				t.Errorf("letter %d: key %q headers %v, received %q %v", i, d.Key, d.Headers, want.Key, want.Headers)
			}
			if d.Topic != r.name("events") || d.Partition != 0 || d.Offset != int64(20+i) || d.Stage != StageDecode || d.Message == "" || d.Attempted.IsZero() {
				t.Errorf("letter %d: %+v", i, d)
			}
		}
		if n := o.get(func(o *counter) int { return o.letters }); n != len(bad) {
			t.Errorf("observed %d dead letters", n)
		}
	})
}

func TestRestartReadsAgainWhatWasNotCommittedAndChangesNothing(t *testing.T) {
	onBrokers(t, func(t *testing.T, b *broker) {
		r := newRig(t, b, 2)
		l := newLedger()
		cfg := r.config()
		cfg.LossWindow = time.Hour // nothing is ever old enough
		c := r.run(cfg, &member{ledger: l}, nil)
		sent := r.send(0, 200, 10)
		eventually(t, "all applied", func() bool { return l.events() == 200 })
		eventually(t, "all published", func() bool { return len(r.read(r.name("lists"))) >= 200 })
		c.stop()
		offsets, err := Committed(testContext(t), b.conn, cfg.GroupID(), cfg.Topic)
		if err != nil || len(offsets) != 0 {
			t.Fatalf("committed %v (%v) although nothing was older than the loss window", offsets, err)
		}
		published := len(r.read(r.name("lists")))
		m := &member{ledger: l}
		cfg.LossWindow = 50 * time.Millisecond
		again := r.run(cfg, m, nil)
		eventually(t, "all committed", func() bool {
			n := int64(0)
			for _, s := range again.Status() {
				n += max(0, s.Committed)
			}
			return n == 200
		})
		l.check(t, sent)
		l.mu.Lock()
		skipped := m.skipped
		l.mu.Unlock()
		if skipped != 200 {
			t.Errorf("%d events came again, 200 were sent", skipped)
		}
		// Each user's stored list is published again, once per fetch, and nothing else.
		more := len(r.read(r.name("lists"))) - published
		if more < 10 || more > 100 {
			t.Errorf("%d lists published again for 10 users", more)
		}
	})
}

func TestNothingYoungerThanTheLossWindowIsCommitted(t *testing.T) {
	var m marks
	t0 := time.Unix(1000, 0)
	for i := range int64(100) {
		m.note(i+1, t0.Add(time.Duration(i)*10*time.Millisecond))
	}
	if n := len(m.list); n > 11 {
		t.Errorf("%d marks for one second", n)
	}
	for _, age := range []time.Duration{0, 50, 95, 300, 777} {
		limit := t0.Add(age * time.Millisecond)
		if got, most := m.due(limit), int64(age/10)+1; got > most {
			t.Errorf("at %d ms offset %d is due; below it lies what was saved later", age, got)
		}
	}
	if got := m.due(t0.Add(time.Hour)); got != 100 {
		t.Errorf("in the end %d is due, want 100", got)
	}
	m.note(7, t0)
	m.forget()
	if got := m.due(t0.Add(time.Hour)); got != -1 {
		t.Errorf("forgotten, yet %d is due", got)
	}
}

func TestPassingErrorsAreRetriedInPlaceWhileOtherPartitionsRun(t *testing.T) {
	r := newRig(t, fakeBroker(t), 2)
	l := newLedger()
	var away atomic.Bool
	var tries atomic.Int64
	away.Store(true)
	m := &member{ledger: l, before: func(_ context.Context, events []freshet.Event) error {
		if away.Load() && events[0].Position.Partition == 0 {
			tries.Add(1)
			return fmt.Errorf("save: %w", freshet.ErrUnavailable)
		}
		return nil
	}}
	o := &counter{}
	c := r.run(r.config(), m, o)
	sent := r.send(0, 100, 40)
	other := 0
	for _, e := range sent {
		if partitionOf([]byte(e.UserID), 2) == 1 {
			other++
		}
	}
	if other == 0 || other == 100 {
		t.Fatal("the users lie in one partition")
	}
	eventually(t, "partition 1 runs", func() bool { return l.events() == other })
	eventually(t, "ten attempts", func() bool { return tries.Load() >= 6 })
	if s := c.Status(); s[0].State != StateRetrying || s[0].Err == nil || s[0].Records() == 0 {
		t.Errorf("status while retrying: %+v", s[0])
	}
	if stuck := c.Stuck(5 * time.Second); len(stuck) != 0 {
		t.Errorf("a loop that retries is not stuck: %v", stuck)
	}
	away.Store(false)
	since := time.Now()
	eventually(t, "the rest is applied", func() bool { return l.events() == 100 })
	if took := time.Since(since); took > 2*time.Second {
		t.Errorf("recovery took %v", took)
	}
	l.check(t, sent)
	if n := o.get(func(o *counter) int { return o.letters }); n != 0 {
		t.Errorf("%d events were held to be at fault", n)
	}
}

func TestAnEventThatCannotBeHandledIsFoundByBisecting(t *testing.T) {
	for name, fail := range map[string]func() error{
		"error": func() error { return errors.New("no such thing") },
		"panic": func() error { panic("nil map") },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, fakeBroker(t), 1)
			l := newLedger()
			var offered atomic.Int64
			m := &member{ledger: l, before: func(_ context.Context, events []freshet.Event) error {
				for _, e := range events {
					if e.ID == "e000013" {
						if len(events) == 1 {
							offered.Add(1)
						}
						return fail()
					}
				}
				return nil
			}}
			sent := r.send(0, 40, 5)
			r.run(r.config(), m, nil)
			eventually(t, "the others are applied", func() bool { return l.events() == 39 })
			l.check(t, slices.Concat(sent[:13], sent[14:]))
			letters := r.read(r.name("dlq"))
			if len(letters) != 1 {
				t.Fatalf("%d dead letters", len(letters))
			}
			d, err := ParseDeadLetter(&letters[0])
			if err != nil || d.Offset != 13 || d.Stage != StageHandle || !bytes.Equal(d.Value, AppendEvent(nil, &sent[13])) {
				t.Errorf("%+v %v", d, err)
			}
			if n := offered.Load(); n != handleTries {
				t.Errorf("the event was offered alone %d times, want %d", n, handleTries)
			}
			back, err := d.Redrive()
			if n, _ := back.Header(headerRedriven); err != nil || string(n) != "1" || !bytes.Equal(back.Value, d.Value) {
				t.Errorf("redrive: %+v %v", back, err)
			}
		})
	}
}

func TestALostStoreIsFilledAgainFromTheCommittedOffset(t *testing.T) {
	onBrokers(t, func(t *testing.T, b *broker) {
		r := newRig(t, b, 1)
		l := newLedger()
		var lose atomic.Bool
		var released atomic.Int64
		m := &member{ledger: l, released: func(freshet.Source) { released.Add(1) }}
		m.before = func(context.Context, []freshet.Event) error {
			if lose.CompareAndSwap(true, false) {
				l.forget()
				return fmt.Errorf("save: %w", freshet.ErrLost)
			}
			return nil
		}
		cfg := r.config()
		cfg.LossWindow = time.Hour // so the committed offset is the beginning
		o := &counter{}
		r.run(cfg, m, o)
		sent := r.send(0, 60, 5)
		eventually(t, "applied", func() bool { return l.events() == 60 })
		lose.Store(true)
		sent = append(sent, r.send(60, 10, 5)...)
		eventually(t, "applied again", func() bool { return l.events() == 70 })
		l.check(t, sent)
		if n := o.get(func(o *counter) int { return o.rollbacks }); n != 1 || released.Load() != 1 {
			t.Errorf("%d rollbacks counted, %d releases", n, released.Load())
		}
	})
}

func TestRewindGoesBehindTheCommittedOffsetAndCommitsThat(t *testing.T) {
	r := newRig(t, fakeBroker(t), 1)
	l := newLedger()
	m := &member{ledger: l}
	c := r.run(r.config(), m, nil)
	sent := r.send(0, 50, 5)
	eventually(t, "committed", func() bool { s := c.Status(); return len(s) == 1 && s[0].Committed == 50 })
	l.forget()
	c.Rewind(map[int32]int64{0: 0})
	eventually(t, "applied again", func() bool { return l.events() == 50 })
	l.check(t, sent)
	eventually(t, "committed again", func() bool { return c.Status()[0].Committed == 50 })
}

func TestAGapAtTheLogsStartIsCountedAndPassed(t *testing.T) {
	r := newRig(t, fakeBroker(t), 1)
	l := newLedger()
	cfg := r.config()
	c := r.run(cfg, &member{ledger: l}, nil)
	r.send(0, 30, 5)
	eventually(t, "committed", func() bool { s := c.Status(); return len(s) == 1 && s[0].Committed == 30 })
	c.stop()
	r.send(30, 30, 5)
	r.deleteBelow(r.name("events"), 0, 50)
	o := &counter{}
	r.run(cfg, &member{ledger: l}, o)
	eventually(t, "the rest is applied", func() bool { return l.events() == 40 })
	if n := o.get(func(o *counter) int { return int(o.gaps) }); n != 20 {
		t.Errorf("gap of %d records, want 20", n)
	}
}

func TestAnOffsetBeyondTheEndStopsThePartitionAndNamesTheWayOut(t *testing.T) {
	onBrokers(t, func(t *testing.T, b *broker) {
		r := newRig(t, b, 2)
		cfg := r.config()
		r.commit(cfg.GroupID(), cfg.Topic, map[int]int64{0: 1000})
		sent := r.send(0, 60, 20)
		l := newLedger()
		c := r.run(cfg, &member{ledger: l}, nil)
		eventually(t, "partition 0 stopped", func() bool { return len(c.Stuck(time.Hour)) == 1 })
		s := c.Status()
		if s[0].State != StateStopped || !strings.Contains(s[0].Err.Error(), "kafka.topic_incarnation=1") {
			t.Errorf("%+v", s[0])
		}
		other := 0
		for _, e := range sent {
			other += partitionOf([]byte(e.UserID), 2)
		}
		eventually(t, "partition 1 runs", func() bool { return l.events() == other })
		c.stop()
		cfg.TopicIncarnation = 1
		fresh := newLedger()
		r.run(cfg, &member{ledger: fresh}, nil)
		eventually(t, "read as a new topic", func() bool { return fresh.events() == 60 })
		fresh.check(t, sent)
		for _, at := range fresh.at {
			for s := range at {
				if s.Incarnation != 1 {
					t.Errorf("source %+v", s)
				}
			}
		}
	})
}

func TestTransactionMarkersAreNoEvents(t *testing.T) {
	onBrokers(t, func(t *testing.T, b *broker) {
		r := newRig(t, b, 1)
		client, err := kgo.NewClient(kgo.SeedBrokers(b.conn.Brokers...), kgo.TransactionalID(b.name("tx")), kgo.DefaultProduceTopic(r.name("events")))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		var sent []freshet.Event
		for i := range 3 {
			if err := client.BeginTransaction(); err != nil {
				t.Fatal(err)
			}
			e := event("u1", i)
			sent = append(sent, e)
			if err := client.ProduceSync(testContext(t), &kgo.Record{Key: []byte("u1"), Value: AppendEvent(nil, &e)}).FirstErr(); err != nil {
				t.Fatal(err)
			}
			if err := client.EndTransaction(testContext(t), kgo.TryCommit); err != nil {
				t.Fatal(err)
			}
		}
		l := newLedger()
		o := &counter{}
		c := r.run(r.config(), &member{ledger: l}, o)
		eventually(t, "passed the last marker", func() bool { s := c.Status(); return len(s) == 1 && s[0].Committed == 6 && s[0].Records() == 0 })
		l.check(t, sent)
		if n := o.get(func(o *counter) int { return o.letters }); n != 0 {
			t.Errorf("%d markers were taken for bad events", n)
		}
	})
}

func TestALoneEventIsPublishedAtOnce(t *testing.T) {
	onBrokers(t, func(t *testing.T, b *broker) {
		r := newRig(t, b, 1)
		l := newLedger()
		cfg := r.config()
		cfg.FetchWait = 500 * time.Millisecond
		done := make(chan time.Time, 1)
		o := &publishTimes{done: done}
		r.run(cfg, &member{ledger: l}, o)
		var took []time.Duration
		for i := range 30 {
			began := time.Now()
			if i == 0 {
				began = time.Time{}
			}
			r.send(i, 1, 5)
			select {
			case at := <-done:
				if !began.IsZero() {
					took = append(took, at.Sub(began))
				}
			case <-testContext(t).Done():
				t.Fatal("not published")
			}
		}
		slices.Sort(took)
		t.Logf("event sent -> list acknowledged: p50 %v, max %v", took[len(took)/2], took[len(took)-1])
		if p50 := took[len(took)/2]; p50 > 50*time.Millisecond {
			t.Errorf("the median event took %v", p50)
		}
	})
}

type publishTimes struct {
	Unobserved
	done chan time.Time
}

func (p *publishTimes) Stage(stage string, _ time.Duration) {
	if stage == StagePublish {
		p.done <- time.Now()
	}
}

func TestStopFinishesTheBatchInHandAndPublishesIt(t *testing.T) {
	r := newRig(t, fakeBroker(t), 1)
	entered, leave := make(chan struct{}), make(chan struct{})
	first := true
	m := &member{ledger: newLedger(), before: func(ctx context.Context, _ []freshet.Event) error {
		if first {
			first = false
			close(entered)
			<-leave
		}
		return ctx.Err()
	}}
	cfg := r.config()
	cfg.LossWindow = time.Hour
	c := r.run(cfg, m, nil)
	r.send(0, 3, 1)
	<-entered
	stopped := make(chan struct{})
	go func() { c.stop(); close(stopped) }()
	eventually(t, "the generation ended", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		select {
		case <-stopped:
			return true
		default:
			return c.owned[0].ending.Load()
		}
	})
	close(leave)
	<-stopped
	if n := len(r.read(r.name("lists"))); n == 0 || m.events() == 0 {
		t.Errorf("%d events applied, %d lists published", m.events(), n)
	}
	if offsets, err := Committed(testContext(t), r.conn, cfg.GroupID(), cfg.Topic); err != nil || len(offsets) > 0 {
		t.Errorf("committed %v (%v) although nothing was older than the loss window", offsets, err)
	}
}

func TestABatchThatOutlastsTheDrainIsGivenUpAndDoneAgainByTheNextOwner(t *testing.T) {
	r := newRig(t, fakeBroker(t), 1)
	l := newLedger()
	entered := make(chan struct{}, 100)
	slow := &member{ledger: l, before: func(ctx context.Context, _ []freshet.Event) error {
		entered <- struct{}{}
		<-ctx.Done() // a store that never answers
		return ctx.Err()
	}}
	c := r.run(r.config(), slow, nil)
	sent := r.send(0, 5, 2)
	<-entered
	began := time.Now()
	c.stop()
	if took := time.Since(began); took < r.config().drain()/2 || took > r.session {
		t.Errorf("stopping took %v, the drain is %v", took, r.config().drain())
	}
	r.run(r.config(), &member{ledger: l}, nil)
	eventually(t, "applied by the next owner", func() bool { return l.events() == 5 })
	l.check(t, sent)
}

func TestStuckNamesALoopWhoseHandlerNeverReturns(t *testing.T) {
	r := newRig(t, fakeBroker(t), 2)
	hang := make(chan struct{})
	m := &member{ledger: newLedger(), before: func(_ context.Context, events []freshet.Event) error {
		if events[0].Position.Partition == 1 {
			<-hang
		}
		return nil
	}}
	c := r.run(r.config(), m, nil)
	r.send(0, 50, 20)
	eventually(t, "partition 1 is stuck, 0 is not", func() bool {
		stuck := c.Stuck(time.Second)
		return len(stuck) == 1 && stuck[0].Partition == 1
	})
	close(hang)
	eventually(t, "nothing is stuck", func() bool { return len(c.Stuck(time.Second)) == 0 })
}

func TestLatestSkipsWhatWasThereAndReadsAddedPartitionsWhole(t *testing.T) {
	r := newRig(t, fakeBroker(t), 1)
	r.send(0, 10, 3)
	l := newLedger()
	cfg := r.config()
	cfg.Start = StartLatest
	cfg.PartitionWatch = 100 * time.Millisecond
	c := r.run(cfg, &member{ledger: l}, nil)
	eventually(t, "the end is committed", func() bool { s := c.Status(); return len(s) == 1 && s[0].Committed == 10 })
	sent := r.send(10, 10, 3)
	eventually(t, "the new ones are applied", func() bool { return l.events() == 10 })
	l.check(t, sent)
	r.addPartitions(r.name("events"), 3)
	eventually(t, "the producer sees them", func() bool {
		n, err := partitions(testContext(t), r.producer.client, r.name("events"))
		return err == nil && n == 3
	})
	r.send(20, 60, 30)
	eventually(t, "all partitions are read", func() bool { return l.events() == 70 && len(c.Status()) == 3 })
}

func TestConsumerConfigNamesWhatIsWrong(t *testing.T) {
	good := ConsumerConfig{Connection: Connection{Brokers: []string{"127.0.0.1:9092"}}, Group: "g", Topic: "t"}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for want, edit := range map[string]func(*ConsumerConfig){
		"kafka.brokers":           func(c *ConsumerConfig) { c.Connection.Brokers = nil },
		"kafka.brokers[0]":        func(c *ConsumerConfig) { c.Connection.Brokers = []string{"localhost"} },
		"kafka.sasl.mechanism":    func(c *ConsumerConfig) { c.Connection.SASL.Mechanism = "kerberos" },
		"kafka.sasl.username":     func(c *ConsumerConfig) { c.Connection.SASL.Mechanism = SASLPlain },
		"kafka.group":             func(c *ConsumerConfig) { c.Group = "" },
		"kafka.topics.events":     func(c *ConsumerConfig) { c.Topic = "" },
		"kafka.start":             func(c *ConsumerConfig) { c.Start = "middle" },
		"kafka.batch_max":         func(c *ConsumerConfig) { c.BatchEvents = -1 },
		"kafka.linger":            func(c *ConsumerConfig) { c.Linger = time.Minute },
		"kafka.session":           func(c *ConsumerConfig) { c.SessionTimeout = time.Millisecond },
		"kafka.topic_incarnation": func(c *ConsumerConfig) { c.TopicIncarnation = -1 },
	} {
		c := good
		edit(&c)
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want an error of %s", err, want)
		}
	}
	secret := Connection{SASL: SASL{Mechanism: SASLPlain, Username: "u", Password: "hunter2"}}
	if s := fmt.Sprintf("%v %+v %#v", secret, secret, secret.SASL); strings.Contains(s, "hunter2") {
		t.Errorf("the password is printed: %s", s)
	}
}
