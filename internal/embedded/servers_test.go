package embedded_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/segmentio/kafka-go"

	"freshet/internal/embedded"
)

// The clients here are the ones that serve in production: that they work is what this package is for.

func start(t *testing.T, cfg embedded.Config) (context.Context, *embedded.Servers) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	t.Cleanup(cancel)
	s, err := embedded.Start(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return ctx, s
}

func TestConsumerGroupReadsWhatAWriterWrote(t *testing.T) {
	ctx, s := start(t, embedded.Config{Topics: []embedded.Topic{{Name: "events", Partitions: 4}}})
	const n = 200
	w := &kafka.Writer{Addr: kafka.TCP(s.KafkaAddr()), Topic: "events", Balancer: kafka.Murmur2Balancer{}, RequiredAcks: kafka.RequireAll, BatchTimeout: time.Millisecond}
	defer func() { _ = w.Close() }()
	batch := make([]kafka.Message, n)
	for i := range batch {
		batch[i] = kafka.Message{Key: fmt.Appendf(nil, "u%d", i%17), Value: fmt.Appendf(nil, "%d", i)}
	}
	if err := w.WriteMessages(ctx, batch...); err != nil {
		t.Fatal(err)
	}
	got := consume(ctx, t, s.KafkaAddr(), n)
	last := map[string]int{}
	for _, m := range got {
		var i int
		if _, err := fmt.Sscan(string(m.Value), &i); err != nil {
			t.Fatal(err)
		}
		if before, ok := last[string(m.Key)]; ok && before >= i {
			t.Errorf("key %s: %d came after %d", m.Key, i, before)
		}
		last[string(m.Key)] = i
	}
	if len(last) != 17 {
		t.Errorf("%d keys arrived, want 17", len(last))
	}
}

// consume reads n messages of the topic as one member of a group, partition by partition, and commits them.
func consume(ctx context.Context, t *testing.T, addr string, n int) []kafka.Message {
	t.Helper()
	g, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{ID: "g", Brokers: []string{addr}, Topics: []string{"events"}, SessionTimeout: 6 * time.Second, JoinGroupBackoff: 250 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = g.Close() }()
	gen, err := g.Next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var all []kafka.Message
	for _, a := range gen.Assignments["events"] {
		conn, err := kafka.DialLeader(ctx, "tcp", addr, "events", a.ID)
		if err != nil {
			t.Fatal(err)
		}
		first, last, err := conn.ReadOffsets()
		if err != nil {
			t.Fatal(err)
		}
		for next := first; next < last; {
			if _, err := conn.Seek(next, kafka.SeekAbsolute); err != nil {
				t.Fatal(err)
			}
			b := conn.ReadBatchWith(kafka.ReadBatchConfig{MinBytes: 1, MaxBytes: 1 << 20, MaxWait: time.Second})
			for next < last {
				m, err := b.ReadMessage()
				if err != nil {
					break
				}
				all, next = append(all, m), m.Offset+1
			}
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
		}
		_ = conn.Close()
		if err := gen.CommitOffsets(map[string]map[int]int64{"events": {a.ID: last}}); err != nil {
			t.Fatal(err)
		}
	}
	if len(all) != n {
		t.Fatalf("read %d messages, want %d", len(all), n)
	}
	return all
}

func TestTopicConfigsAreKept(t *testing.T) {
	ctx, s := start(t, embedded.Config{Topics: []embedded.Topic{{Name: "items", Partitions: 2, Configs: map[string]string{"cleanup.policy": "compact"}}}})
	c := &kafka.Client{Addr: kafka.TCP(s.KafkaAddr())}
	r, err := c.DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{Resources: []kafka.DescribeConfigRequestResource{{
		ResourceType: kafka.ResourceTypeTopic, ResourceName: "items", ConfigNames: []string{"cleanup.policy"}}}})
	if err != nil {
		t.Fatal(err)
	}
	if e := r.Resources[0].ConfigEntries; len(e) != 1 || e[0].ConfigValue != "compact" {
		t.Errorf("cleanup.policy = %+v, want compact", e)
	}
}

func TestStoreRunsScriptsAndForgetsAfterTheTTL(t *testing.T) {
	ctx, s := start(t, embedded.Config{ExpiryStep: 10 * time.Millisecond})
	c := redis.NewClient(&redis.Options{Addr: s.RedisAddr()})
	defer func() { _ = c.Close() }()
	cas := redis.NewScript(`if redis.call('GET', KEYS[1]) == ARGV[1] or ARGV[1] == '' then redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) return 1 end return 0`)
	for i, step := range []struct {
		base, value string
		want        int
	}{{"", "a", 1}, {"b", "c", 0}, {"a", "b", 1}} {
		got, err := cas.Run(ctx, c, []string{"k{u1}"}, step.base, step.value, 300).Int()
		if err != nil || got != step.want {
			t.Fatalf("step %d: %d, %v; want %d", i, got, err, step.want)
		}
	}
	if v, err := c.Get(ctx, "k{u1}").Result(); err != nil || v != "b" {
		t.Fatalf("value %q, %v; want b", v, err)
	}
	for c.Exists(ctx, "k{u1}").Val() == 1 {
		if ctx.Err() != nil {
			t.Fatal("the key never expired")
		}
	}
}

func TestServersListenOnLoopbackAndCloseTwice(t *testing.T) {
	_, s := start(t, embedded.Config{})
	for _, addr := range []string{s.KafkaAddr(), s.RedisAddr()} {
		host, _, err := net.SplitHostPort(addr)
		if err != nil || !net.ParseIP(host).IsLoopback() {
			t.Errorf("listens on %q (%v), want loopback", addr, err)
		}
	}
	s.Close()
	s.Close()
	if c, err := net.Dial("tcp", s.RedisAddr()); err == nil {
		_ = c.Close()
		t.Error("the store still answers after Close")
	}
}

func TestConfigNamesTheField(t *testing.T) {
	for want, cfg := range map[string]embedded.Config{
		"topics[0].name":       {Topics: []embedded.Topic{{Partitions: 1}}},
		"no blanks":            {Topics: []embedded.Topic{{Name: "no blanks", Partitions: 1}}},
		"topics[1].name":       {Topics: []embedded.Topic{{Name: "a", Partitions: 1}, {Name: "a", Partitions: 1}}},
		"topics[0].partitions": {Topics: []embedded.Topic{{Name: "a"}}},
		"session_floor":        {SessionFloor: -1},
		"expiry_step":          {ExpiryStep: -1},
	} {
		if _, err := embedded.Start(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one that names %s", err, want)
		}
	}
}
