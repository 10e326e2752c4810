// Package topic reads topics for the chaos suite, by another client than the one freshet uses.
package topic

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Partitions counts the partitions of a topic; 0 where there is no such topic.
func Partitions(ctx context.Context, c *kgo.Client, topic string) (int, error) {
	req := kmsg.NewPtrMetadataRequest()
	t := kmsg.NewMetadataRequestTopic()
	t.Topic = kmsg.StringPtr(topic)
	req.Topics = append(req.Topics, t)
	res, err := req.RequestWith(ctx, c)
	if err != nil {
		return 0, fmt.Errorf("ask for the partitions of %s: %w", topic, err)
	}
	if len(res.Topics) == 0 || res.Topics[0].ErrorCode == kerr.UnknownTopicOrPartition.Code {
		return 0, nil
	}
	if err := kerr.ErrorForCode(res.Topics[0].ErrorCode); err != nil {
		return 0, fmt.Errorf("ask for the partitions of %s: %w", topic, err)
	}
	return len(res.Topics[0].Partitions), nil
}

// Ends gives the next offset of every partition.
func Ends(ctx context.Context, c *kgo.Client, topic string) (map[int32]int64, error) {
	n, err := Partitions(ctx, c, topic)
	if err != nil {
		return nil, err
	}
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = -1
	t := kmsg.NewListOffsetsRequestTopic()
	t.Topic = topic
	for i := range n {
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Partition, p.Timestamp = int32(i), -1
		t.Partitions = append(t.Partitions, p)
	}
	req.Topics = append(req.Topics, t)
	ends := map[int32]int64{}
	for _, shard := range c.RequestSharded(ctx, req) {
		if shard.Err != nil {
			return nil, fmt.Errorf("ask for the ends of %s: %w", topic, shard.Err)
		}
		for _, t := range shard.Resp.(*kmsg.ListOffsetsResponse).Topics {
			for _, p := range t.Partitions {
				if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
					return nil, fmt.Errorf("ask for the end of %s-%d: %w", topic, p.Partition, err)
				}
				ends[p.Partition] = p.Offset
			}
		}
	}
	if len(ends) != n {
		return nil, fmt.Errorf("ask for the ends of %s: %d of %d partitions answered", topic, len(ends), n)
	}
	return ends, nil
}

// Committed gives a group's committed offsets; partitions without one are left out.
func Committed(ctx context.Context, c *kgo.Client, group, topic string, partitions int) (map[int32]int64, error) {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Group = group
	t := kmsg.NewOffsetFetchRequestTopic()
	t.Topic = topic
	for i := range partitions {
		t.Partitions = append(t.Partitions, int32(i))
	}
	req.Topics = append(req.Topics, t)
	res, err := req.RequestWith(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("ask for the offsets of group %s: %w", group, err)
	}
	out := map[int32]int64{}
	add := func(topics []kmsg.OffsetFetchResponseTopic) {
		for _, t := range topics {
			for _, p := range t.Partitions {
				if p.ErrorCode == 0 && p.Offset >= 0 {
					out[p.Partition] = p.Offset
				}
			}
		}
	}
	add(res.Topics)
	return out, kerr.ErrorForCode(res.ErrorCode)
}

// patience is how long reading waits for a broker that says nothing.
const patience = 60 * time.Second

// Read gives every record that a topic holds now, each partition in its order.
func Read(ctx context.Context, brokers []string, topic string) ([]*kgo.Record, error) {
	c, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	ends, err := Ends(ctx, c, topic)
	if err != nil {
		return nil, err
	}
	from, left := map[int32]kgo.Offset{}, 0
	for p, end := range ends {
		if end > 0 {
			from[p] = kgo.NewOffset().AtStart()
			left++
		}
	}
	c.AddConsumePartitions(map[string]map[int32]kgo.Offset{topic: from})
	ctx, cancel := context.WithTimeout(ctx, patience+time.Duration(left)*time.Second)
	defer cancel()
	var all []*kgo.Record
	for left > 0 {
		fetches := c.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			return nil, fmt.Errorf("read %s: %w", topic, err)
		}
		for _, e := range fetches.Errors() {
			return nil, fmt.Errorf("read %s-%d: %w", topic, e.Partition, e.Err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if r.Offset >= ends[r.Partition] {
				return
			}
			all = append(all, r)
			if r.Offset == ends[r.Partition]-1 {
				left--
			}
		})
	}
	return all, nil
}
