package stream

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"freshet"
)

func TestMurmur2EqualsJavas(t *testing.T) {
	for key, want := range map[string]int32{ // org.apache.kafka.common.utils.UtilsTest
		"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536, "a-little-bit-longer-string": -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971, "abc": 479470107,
	} {
		if got := int32(murmur2([]byte(key))); got != want {
			t.Errorf("%q: %d, want %d", key, got, want)
		}
	}
	for i := range 1000 {
		key := []byte(strings.Repeat("é", i%7) + fmt.Sprint(i))
		if got, want := partitionOf(key, 13), (kafka.Murmur2Balancer{}).Balance(kafka.Message{Key: key}, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12); got != want {
			t.Errorf("%q: partition %d, kafka-go says %d", key, got, want)
		}
	}
}

func TestListsOfAUserLieInTheUsersPartition(t *testing.T) {
	onBrokers(t, func(t *testing.T, b *broker) {
		r := newRig(t, b, 5)
		var lists []freshet.Publication
		for i := range 40 {
			user := fmt.Sprintf("u%d", i)
			lists = append(lists,
				freshet.Publication{UserID: user, Surface: "home", Record: []byte("h" + user)},
				freshet.Publication{UserID: user, Surface: "video", Record: []byte("v" + user)},
				freshet.Publication{UserID: user, Surface: "home", Record: nil})
		}
		if err := r.producer.PublishLists(testContext(t), lists); err != nil {
			t.Fatal(err)
		}
		got := r.read(r.name("lists"))
		if len(got) != len(lists) {
			t.Fatalf("%d records of %d", len(got), len(lists))
		}
		last := map[string][]byte{}
		for _, rec := range got {
			user, surface, _ := strings.Cut(string(rec.Key), "\x00")
			if want := partitionOf([]byte(user), 5); int(rec.Partition) != want {
				t.Errorf("user %s surface %q in partition %d, want %d", user, surface, rec.Partition, want)
			}
			last[string(rec.Key)] = rec.Value
			if age := time.Since(time.UnixMilli(rec.Time)); age > time.Minute || age < -time.Minute {
				t.Errorf("a record without a time is stamped %v ago", age)
			}
		}
		for i := range 40 {
			user := fmt.Sprintf("u%d", i)
			if v, ok := last[user]; !ok || v != nil || string(last[user+"\x00video"]) != "v"+user {
				t.Errorf("user %s: home %q, video %q", user, v, last[user+"\x00video"])
			}
		}
	})
}

// refusePartition has the broker write what is for other partitions and turn away what is for this one, as long as away says so.
func refusePartition(b *broker, part int32, away func() bool) {
	b.fake.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		b.fake.KeepControl()
		p := req.(*kmsg.ProduceRequest)
		others := slices.DeleteFunc(slices.Clone(p.Topics[0].Partitions), func(x kmsg.ProduceRequestTopicPartition) bool { return x.Partition == part })
		if len(others) == len(p.Topics[0].Partitions) || !away() {
			return nil, nil, false
		}
		if len(others) > 0 { // the others of the request are written, and the answer does not speak of this one
			p.Topics[0].Partitions = others
			return nil, nil, false
		}
		res := p.ResponseKind().(*kmsg.ProduceResponse)
		rt := kmsg.NewProduceResponseTopic()
		rt.Topic = p.Topics[0].Topic
		rp := kmsg.NewProduceResponseTopicPartition()
		rp.Partition, rp.ErrorCode = part, kerr.NotLeaderForPartition.Code
		rt.Partitions = append(rt.Partitions, rp)
		res.Topics = append(res.Topics, rt)
		return res, nil, true
	})
}

// A partition that is away holds up only those who have lists for it, whoever shares their requests, and no list is written twice.
func TestAPartitionThatIsAwayHoldsUpNobodyElsesLists(t *testing.T) {
	b := fakeBroker(t)
	r := newRig(t, b, 2)
	var back atomic.Bool
	refusePartition(b, 1, func() bool { return !back.Load() })
	lists := map[int32][]freshet.Publication{}
	for i := 0; len(lists[0]) < 20 || len(lists[1]) < 20; i++ {
		user := fmt.Sprintf("u%d", i)
		part := int32(partitionOf([]byte(user), 2))
		lists[part] = append(lists[part], freshet.Publication{UserID: user, Record: []byte(user)})
	}
	var held, others errgroup.Group
	for _, l := range lists[1][:20] {
		held.Go(func() error { return r.producer.PublishLists(testContext(t), []freshet.Publication{l}) })
	}
	for _, l := range lists[0][:20] {
		others.Go(func() error { return r.producer.PublishLists(testContext(t), []freshet.Publication{l}) })
	}
	if err := others.Wait(); err != nil { // while the first twenty wait
		t.Fatal(err)
	}
	if got := r.read(r.name("lists")); len(got) != 20 {
		t.Fatalf("%d lists while partition 1 is away, want the 20 of partition 0", len(got))
	}
	back.Store(true)
	if err := held.Wait(); err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, rec := range r.read(r.name("lists")) {
		seen[string(rec.Key)]++
	}
	for user, n := range seen {
		if n != 1 {
			t.Errorf("list of %s written %d times", user, n)
		}
	}
	if len(seen) != 40 {
		t.Errorf("lists of %d users, want 40", len(seen))
	}
}

func TestOnlyWhatFailedIsWrittenAgainAndInOrder(t *testing.T) {
	b := fakeBroker(t)
	r := newRig(t, b, 3)
	var produces atomic.Int64
	refusePartition(b, 1, func() bool { return produces.Add(1) <= 3 })
	var records []Record
	for i := range 300 {
		records = append(records, Record{Key: fmt.Appendf(nil, "u%d", i%20), Value: bytes.Repeat([]byte{byte(i)}, 20_000)}) // several batches a partition
	}
	if err := r.producer.Publish(testContext(t), r.name("events"), records); err != nil {
		t.Fatal(err)
	}
	got := r.read(r.name("events"))
	if len(got) != len(records) {
		t.Fatalf("%d records, %d written: none may be lost or doubled", len(got), len(records))
	}
	seen := map[string]int{}
	for _, rec := range got {
		var want []int
		for i := range records {
			if string(records[i].Key) == string(rec.Key) {
				want = append(want, i)
			}
		}
		if n := seen[string(rec.Key)]; rec.Value[0] != byte(want[n]) {
			t.Fatalf("key %s: record %d out of order", rec.Key, n)
		}
		seen[string(rec.Key)]++
	}
}

func TestThePartitionsOfALeaderShareARequest(t *testing.T) {
	b := fakeBroker(t)
	r := newRig(t, b, 16)
	var requests, partitions atomic.Int64
	b.fake.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		b.fake.KeepControl()
		requests.Add(1)
		partitions.Add(int64(len(req.(*kmsg.ProduceRequest).Topics[0].Partitions)))
		return nil, nil, false
	})
	var records []Record
	for i := range 400 {
		records = append(records, Record{Key: fmt.Appendf(nil, "u%d", i), Value: []byte{byte(i)}})
	}
	if err := r.producer.Publish(testContext(t), r.name("events"), records); err != nil {
		t.Fatal(err)
	}
	if requests.Load() != 1 || partitions.Load() != 16 {
		t.Errorf("%d requests with %d partitions, want one with all 16", requests.Load(), partitions.Load())
	}
	if got := r.read(r.name("events")); len(got) != len(records) {
		t.Errorf("%d records, %d written", len(got), len(records))
	}
}

func TestPublishGivesUpWhenItsContextEndsOrNothingHelps(t *testing.T) {
	r := newRig(t, fakeBroker(t), 1)
	ctx, cancel := context.WithTimeout(testContext(t), 300*time.Millisecond)
	defer cancel()
	if err := r.producer.Publish(ctx, r.name("missing"), []Record{{Key: []byte("a")}}); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, kafka.UnknownTopicOrPartition) {
		t.Errorf("a topic that is not there: %v", err)
	}
	began := time.Now()
	err := r.producer.Publish(testContext(t), r.name("events"), []Record{{Key: []byte("a"), Value: make([]byte, 3<<20)}})
	if !errors.Is(err, kafka.MessageSizeTooLarge) || time.Since(began) > 10*time.Second {
		t.Errorf("a record larger than the topic takes: %v after %v", err, time.Since(began))
	}
}

func TestConsumerAndProducerOutliveTheBroker(t *testing.T) {
	dir := t.TempDir()
	b := fakeBroker(t, kfake.DataDir(dir), kfake.Ports(0))
	port := b.fake.ListenAddrs()[0]
	_, p, _ := net.SplitHostPort(port)
	r := newRig(t, b, 2)
	l := newLedger()
	c := r.run(r.config(), &member{ledger: l}, nil)
	sent := r.send(0, 100, 10)
	eventually(t, "applied", func() bool { return l.events() == 100 })
	b.fake.Close()
	written := make(chan []freshet.Event)
	go func() { written <- r.send(100, 50, 10) }()
	eventually(t, "the loss is noticed", func() bool {
		s := c.Status()
		return len(s) == 0 || slices.ContainsFunc(s, func(p PartitionStatus) bool { return p.State != StateRunning })
	})
	var n int
	_, _ = fmt.Sscan(p, &n)
	again, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(time.Second), kfake.DataDir(dir), kfake.Ports(n))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(again.Close)
	since := time.Now()
	sent = append(sent, <-written...)
	eventually(t, "applied", func() bool { return l.events() == len(sent) })
	t.Logf("recovered %v after the broker's return", time.Since(since))
	l.check(t, sent)
}

func TestEnsureTopicsCreatesOnceAndInspectTells(t *testing.T) {
	onBrokers(t, func(t *testing.T, b *broker) {
		ctx := testContext(t)
		topic := Topic{Name: b.name("t"), Partitions: 3, Retention: 36 * time.Hour, MaxMessageBytes: 1<<20 + DeadLetterRoom}
		for i, want := range []int{1, 0} {
			created, err := EnsureTopics(ctx, b.conn, topic)
			if err != nil || len(created) != want {
				t.Fatalf("call %d: created %v, %v", i, created, err)
			}
		}
		c, err := Inspect(ctx, b.conn, topic.Name, b.name("missing"))
		if err != nil || len(c.Brokers) != 1 {
			t.Fatal(c, err)
		}
		s := c.Topics[topic.Name]
		if !s.Exists || s.Partitions != 3 || s.Replicas != 1 || s.InSync != 1 || s.Cleanup != "delete" || s.Retention != 36*time.Hour || s.MaxMessageBytes != topic.MaxMessageBytes || s.Err != nil {
			t.Errorf("%+v", s)
		}
		if c.Topics[b.name("missing")].Exists {
			t.Error("a missing topic exists")
		}
	})
}

func TestInspectSaysWhenNoBrokerAnswers(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	ctx, cancel := context.WithTimeout(testContext(t), 3*time.Second)
	defer cancel()
	if _, err := Inspect(ctx, Connection{Brokers: []string{addr}}, "t"); err == nil || !strings.Contains(err.Error(), addr) {
		t.Errorf("got %v", err)
	}
}

func TestTLSAndSASL(t *testing.T) {
	server, roots := certificate(t)
	for _, mechanism := range []string{SASLPlain, SASLSHA256, SASLSHA512} {
		t.Run(mechanism, func(t *testing.T) {
			b := fakeBroker(t, kfake.EnableSASL(), kfake.Superuser(strings.ToUpper(mechanism), "me", "secret"), kfake.TLS(server))
			b.conn.TLS = &tls.Config{RootCAs: roots}
			b.conn.SASL = SASL{Mechanism: mechanism, Username: "me", Password: "secret"}
			r := newRig(t, b, 1)
			l := newLedger()
			r.run(r.config(), &member{ledger: l}, nil)
			r.send(0, 5, 2)
			eventually(t, "applied", func() bool { return l.events() == 5 })
			b.conn.SASL.Password = "wrong"
			ctx, cancel := context.WithTimeout(testContext(t), 2*time.Second)
			defer cancel()
			if _, err := Inspect(ctx, b.conn, "t"); err == nil || strings.Contains(err.Error(), "wrong") {
				t.Errorf("a wrong password: %v", err)
			}
		})
	}
}

func certificate(t *testing.T) (*tls.Config, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	parsed, _ := x509.ParseCertificate(der)
	roots.AddCert(parsed)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, roots
}

// BenchmarkPublish measures one batch until it is acknowledged, beside kafka-go's Writer with the settings nearest to it.
func BenchmarkPublish(b *testing.B) {
	for _, n := range []int{1, 128} {
		lists := make([]freshet.Publication, n)
		messages := make([]kafka.Message, n)
		for i := range lists {
			lists[i] = freshet.Publication{UserID: "u1", Surface: "home", Record: bytes.Repeat([]byte("x"), 2000)}
			messages[i] = kafka.Message{Key: []byte("u1"), Value: lists[i].Record}
		}
		br := fakeBroker(b)
		if _, err := EnsureTopics(testContext(b), br.conn, Topic{Name: "lists", Partitions: 8}); err != nil {
			b.Fatal(err)
		}
		p, err := NewProducer(ProducerConfig{Connection: br.conn, Lists: "lists"}, zap.NewNop())
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("lists=%d/by=producer", n), func(b *testing.B) {
			for b.Loop() {
				if err := p.PublishLists(b.Context(), lists); err != nil {
					b.Fatal(err)
				}
			}
		})
		w := &kafka.Writer{Addr: kafka.TCP(br.conn.Brokers...), Topic: "lists", Balancer: kafka.Murmur2Balancer{}, RequiredAcks: kafka.RequireAll, BatchTimeout: time.Millisecond}
		b.Run(fmt.Sprintf("lists=%d/by=writer", n), func(b *testing.B) {
			for b.Loop() {
				if err := w.WriteMessages(b.Context(), messages...); err != nil {
					b.Fatal(err)
				}
			}
		})
		_ = w.Close()
		p.Close()
	}
}
