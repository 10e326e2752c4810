// Package embedded runs a Kafka-protocol broker and a Redis-protocol store inside the process, for the demo and for fast tests.
//
// Both listen on free loopback ports and are reached over TCP by the same clients that serve in production: no second code path
// leads around them. Everything they hold lives in memory and is gone after Close. They are honest about the protocol and not
// about speed: the store runs Lua about ten times slower than a real one, so no figure but the demo's own comes from here.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Config says what the broker holds at the start.
type Config struct {
	// Topics to create. The broker creates no topic by itself; clients may create more. Default none.
	Topics []Topic
	// SessionFloor is the shortest group session that the broker grants, so that tests of lost members need not wait for six
	// seconds. Default 500 ms.
	SessionFloor time.Duration
	// ExpiryStep is how often the store's keys age. A key lives up to this much longer than its TTL. Default 1 s.
	ExpiryStep time.Duration
}

// Topic is one topic to create.
type Topic struct {
	Name       string
	Partitions int
	// Configs by Kafka's names, for example cleanup.policy: compact. The broker knows the policies, retention.ms,
	// retention.bytes, max.message.bytes and keeps other names without acting on them.
	Configs map[string]string
}

// topicName is Kafka's own rule, which the embedded broker does not keep.
var topicName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)

// Validate refuses a configuration that cannot be meant.
func (c Config) Validate() error {
	names := make(map[string]bool, len(c.Topics))
	for i, t := range c.Topics {
		switch {
		case !topicName.MatchString(t.Name):
			return fmt.Errorf("topics[%d].name: %q; use 1 to 249 letters, digits, '.', '_' and '-'", i, t.Name)
		case names[t.Name]:
			return fmt.Errorf("topics[%d].name: %q is there twice", i, t.Name)
		case t.Partitions < 1:
			return fmt.Errorf("topics[%d].partitions: %d, at least 1", i, t.Partitions)
		}
		names[t.Name] = true
	}
	switch {
	case c.SessionFloor < 0:
		return fmt.Errorf("session_floor: %v is negative", c.SessionFloor)
	case c.ExpiryStep < 0:
		return fmt.Errorf("expiry_step: %v is negative", c.ExpiryStep)
	}
	return nil
}

func (c Config) withDefaults() Config {
	if c.SessionFloor == 0 {
		c.SessionFloor = 500 * time.Millisecond
	}
	if c.ExpiryStep == 0 {
		c.ExpiryStep = time.Second
	}
	return c
}

// Servers are a running broker and a running store. The caller owns them and closes them after all their clients.
type Servers struct {
	kafka     *kfake.Cluster
	kafkaAddr string
	redis     *miniredis.Miniredis
	redisAddr string
	stop      context.CancelFunc
	aging     sync.WaitGroup
	close     sync.Once
}

// Start starts both servers and creates the topics. It returns when both answer; ctx bounds the start and nothing after it.
func Start(ctx context.Context, cfg Config) (*Servers, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("embedded servers: %w", err)
	}
	cfg = cfg.withDefaults()
	kafka, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.ListenFn(listenLoopback), kfake.GroupMinSessionTimeout(cfg.SessionFloor))
	if err != nil {
		return nil, fmt.Errorf("start the embedded broker: %w", err)
	}
	s := &Servers{kafka: kafka, kafkaAddr: kafka.ListenAddrs()[0], redis: miniredis.NewMiniRedis()}
	if err := createTopics(ctx, s.kafkaAddr, cfg.Topics); err != nil {
		kafka.Close()
		return nil, err
	}
	if err := s.redis.StartAddr("127.0.0.1:0"); err != nil {
		kafka.Close()
		return nil, fmt.Errorf("start the embedded store: %w", err)
	}
	s.redisAddr = s.redis.Addr()
	aging, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	s.aging.Go(func() { s.age(aging, cfg.ExpiryStep) })
	return s, nil
}

// KafkaAddr is the broker's host:port.
func (s *Servers) KafkaAddr() string { return s.kafkaAddr }

// RedisAddr is the store's host:port.
func (s *Servers) RedisAddr() string { return s.redisAddr }

// Close stops both servers and forgets what they held. A second call does nothing.
func (s *Servers) Close() {
	s.close.Do(func() {
		s.stop()
		s.aging.Wait()
		s.redis.Close()
		s.kafka.Close()
	})
}

// age lets the keys grow older. The store has a clock of its own for that, but it walks over all keys at every command.
func (s *Servers) age(ctx context.Context, step time.Duration) {
	tick := time.NewTicker(step)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			s.redis.FastForward(now.Sub(last))
			last = now
		}
	}
}

// listenLoopback keeps the broker's port and puts it on the loopback interface, whatever address it was going to take.
func listenLoopback(network, address string) (net.Listener, error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("listen on %q: %w", address, err)
	}
	return net.Listen(network, net.JoinHostPort("127.0.0.1", port))
}

// createTopics asks the broker over the wire, as any administrator would.
func createTopics(ctx context.Context, addr string, topics []Topic) error {
	if len(topics) == 0 {
		return nil
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		return fmt.Errorf("connect to the embedded broker: %w", err)
	}
	defer client.Close()
	req := kmsg.NewPtrCreateTopicsRequest()
	for _, t := range topics {
		one := kmsg.NewCreateTopicsRequestTopic()
		one.Topic, one.NumPartitions, one.ReplicationFactor = t.Name, int32(t.Partitions), 1
		for name, value := range t.Configs {
			c := kmsg.NewCreateTopicsRequestTopicConfig()
			c.Name, c.Value = name, kmsg.StringPtr(value)
			one.Configs = append(one.Configs, c)
		}
		req.Topics = append(req.Topics, one)
	}
	answer, err := req.RequestWith(ctx, client)
	if err != nil {
		return fmt.Errorf("create %d topics on the embedded broker: %w", len(topics), err)
	}
	var failed []error
	for _, t := range answer.Topics {
		if err := kerr.ErrorForCode(t.ErrorCode); err != nil {
			text := strconv.Itoa(int(t.ErrorCode))
			if t.ErrorMessage != nil {
				text = *t.ErrorMessage
			}
			failed = append(failed, fmt.Errorf("create topic %q on the embedded broker: %w (%s)", t.Topic, err, text))
		}
	}
	return errors.Join(failed...)
}
