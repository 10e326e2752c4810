package stream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sort"
	"strconv"
	"time"

	"github.com/segmentio/kafka-go"
)

// DeadLetterRoom is how much larger than the input's a dead-letter topic's messages may be, in bytes: key, headers and reason.
const DeadLetterRoom = 128 << 10

// Topic describes a topic to be created.
type Topic struct {
	Name            string
	Partitions      int           // default 8
	Replicas        int           // default -1: the brokers' own default
	Compact         bool          // keep the last record per key instead of deleting by age
	Retention       time.Duration // how long records are kept; 0 = the brokers' default
	MaxMessageBytes int           // largest batch; 0 = the brokers' default
}

func (t Topic) config() kafka.TopicConfig {
	c := kafka.TopicConfig{Topic: t.Name, NumPartitions: t.Partitions, ReplicationFactor: t.Replicas}
	if c.NumPartitions == 0 {
		c.NumPartitions = 8
	}
	if c.ReplicationFactor == 0 {
		c.ReplicationFactor = -1
	}
	set := func(name, value string) {
		c.ConfigEntries = append(c.ConfigEntries, kafka.ConfigEntry{ConfigName: name, ConfigValue: value})
	}
	if t.Compact {
		set("cleanup.policy", "compact")
	} else {
		set("cleanup.policy", "delete")
	}
	if t.Retention > 0 {
		set("retention.ms", strconv.FormatInt(t.Retention.Milliseconds(), 10))
	}
	if t.MaxMessageBytes > 0 {
		set("max.message.bytes", strconv.Itoa(t.MaxMessageBytes))
	}
	return c
}

// EnsureTopics creates the topics that do not exist and returns when all of them have leaders. Existing ones stay as they are:
// Inspect tells how.
func EnsureTopics(ctx context.Context, conn Connection, topics ...Topic) (created []string, err error) {
	client, trans, err := conn.withDefaults().client()
	if err != nil {
		return nil, err
	}
	defer trans.CloseIdleConnections()
	for _, t := range topics {
		switch res, err := createTopic(ctx, client, t.config()); {
		case err != nil:
			return created, fmt.Errorf("create topic %s: %w", t.Name, err)
		case errors.Is(res, kafka.TopicAlreadyExists):
		case res != nil:
			return created, fmt.Errorf("create topic %s: %w", t.Name, res)
		default:
			created = append(created, t.Name)
		}
	}
	for _, t := range topics {
		var wait backoff
		for _, err := leaders(ctx, client, t.Name); err != nil; _, err = leaders(ctx, client, t.Name) {
			if !wait.wait(ctx) {
				return created, fmt.Errorf("wait for topic %s: %w (last: %w)", t.Name, ctx.Err(), err)
			}
		}
	}
	return created, nil
}

// createTopic asks once more while no controller is known, as when a cluster has just come up.
func createTopic(ctx context.Context, client *kafka.Client, t kafka.TopicConfig) (refused, err error) {
	var wait backoff
	for {
		ask, cancel := context.WithTimeout(ctx, 2*requestTimeout)
		res, err := client.CreateTopics(ask, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{t}})
		cancel()
		if err == nil {
			if refused = res.Errors[t.Topic]; !errors.Is(refused, kafka.NotController) && !errors.Is(refused, kafka.RequestTimedOut) {
				return refused, nil
			}
			err = refused
		}
		if permanent(err) || !wait.wait(ctx) {
			return nil, err
		}
	}
}

// leaders counts the partitions once each has a leader.
func leaders(ctx context.Context, client *kafka.Client, topic string) (int, error) {
	m, err := client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{topic}})
	if err != nil {
		return 0, err
	}
	t := m.Topics[0]
	if t.Error != nil {
		return 0, t.Error
	}
	for _, p := range t.Partitions {
		if p.Error != nil {
			return 0, p.Error
		}
	}
	if len(t.Partitions) == 0 {
		return 0, kafka.UnknownTopicOrPartition
	}
	return len(t.Partitions), nil
}

// Cluster is what Inspect saw.
type Cluster struct {
	Brokers []string               // host:port as the brokers advertise themselves
	Topics  map[string]TopicStatus // the topics asked for
}

// TopicStatus is one topic. Numbers that a broker did not tell are -1.
type TopicStatus struct {
	Exists          bool
	Partitions      int
	Replicas        int // of partition 0
	InSync          int // replicas in sync of the worst partition
	Cleanup         string
	Retention       time.Duration // -1 = for ever, or unknown
	MaxMessageBytes int
	MinInSync       int
	TimestampType   string // CreateTime or LogAppendTime; kafka-go reads only the former
	Err             error  // what was refused
}

// Inspect asks the cluster about topics. An error means that no broker answered.
func Inspect(ctx context.Context, conn Connection, topics ...string) (*Cluster, error) {
	if err := conn.Validate(); err != nil {
		return nil, err
	}
	client, trans, err := conn.withDefaults().client(topics...)
	if err != nil {
		return nil, err
	}
	defer trans.CloseIdleConnections()
	m, err := client.Metadata(ctx, &kafka.MetadataRequest{Topics: topics})
	if err != nil {
		return nil, fmt.Errorf("ask %v for metadata: %w", conn.Brokers, err)
	}
	c := &Cluster{Topics: map[string]TopicStatus{}}
	for _, b := range m.Brokers {
		c.Brokers = append(c.Brokers, net.JoinHostPort(b.Host, strconv.Itoa(b.Port)))
	}
	sort.Strings(c.Brokers)
	for _, t := range m.Topics {
		c.Topics[t.Name] = inspectTopic(ctx, client, t)
	}
	return c, nil
}

func inspectTopic(ctx context.Context, client *kafka.Client, t kafka.Topic) TopicStatus {
	s := TopicStatus{Partitions: len(t.Partitions), Retention: -1, MaxMessageBytes: -1, MinInSync: -1}
	if errors.Is(t.Error, kafka.UnknownTopicOrPartition) {
		return s
	}
	if s.Err = t.Error; s.Err != nil {
		return s
	}
	s.Exists = true
	for i, p := range t.Partitions {
		if i == 0 {
			s.Replicas, s.InSync = len(p.Replicas), len(p.Isr)
		}
		s.InSync = min(s.InSync, len(p.Isr))
	}
	res, err := client.DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{Resources: []kafka.DescribeConfigRequestResource{{
		ResourceType: kafka.ResourceTypeTopic, ResourceName: t.Name,
		ConfigNames: []string{"cleanup.policy", "retention.ms", "max.message.bytes", "min.insync.replicas", "message.timestamp.type"},
	}}})
	if err != nil || len(res.Resources) == 0 {
		s.Err = err
		return s
	}
	s.Err = res.Resources[0].Error
	for _, e := range res.Resources[0].ConfigEntries {
		n, notNumber := strconv.ParseInt(e.ConfigValue, 10, 64)
		switch e.ConfigName {
		case "cleanup.policy":
			s.Cleanup = e.ConfigValue
		case "message.timestamp.type":
			s.TimestampType = e.ConfigValue
		case "retention.ms":
			if notNumber == nil && n >= 0 {
				s.Retention = time.Duration(min(n, int64(1<<62/time.Millisecond))) * time.Millisecond
			}
		case "max.message.bytes":
			if notNumber == nil {
				s.MaxMessageBytes = int(n)
			}
		case "min.insync.replicas":
			if notNumber == nil {
				s.MinInSync = int(n)
			}
		}
	}
	return s
}
