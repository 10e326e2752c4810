package stream

import (
	"context"
	"errors"
	"fmt"

	"github.com/segmentio/kafka-go"
)

// ErrGroupLive is returned (wrapped) where a consumer group must have no members.
var ErrGroupLive = errors.New("the group has members")

// GroupMembers counts the members of a consumer group; 0 where there is no such group.
func GroupMembers(ctx context.Context, conn Connection, group string) (int, error) {
	client, trans, err := conn.withDefaults().client()
	if err != nil {
		return 0, err
	}
	defer trans.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	res, err := client.DescribeGroups(ctx, &kafka.DescribeGroupsRequest{GroupIDs: []string{group}})
	if err != nil {
		return 0, fmt.Errorf("describe group %s: %w", group, err)
	}
	for _, g := range res.Groups {
		if g.GroupID != group || errors.Is(g.Error, kafka.GroupIdNotFound) {
			continue
		}
		if g.Error != nil {
			return 0, fmt.Errorf("describe group %s: %w", group, g.Error)
		}
		return len(g.Members), nil
	}
	return 0, nil
}

// SetCommitted says where a group without members begins to read.
func SetCommitted(ctx context.Context, conn Connection, group, topic string, offsets map[int32]int64) error {
	n, err := GroupMembers(ctx, conn, group)
	if err != nil {
		return err
	}
	if n > 0 {
		return fmt.Errorf("set the offsets of group %s: %w: %d", group, ErrGroupLive, n)
	}
	client, trans, err := conn.withDefaults().client(topic)
	if err != nil {
		return err
	}
	defer trans.CloseIdleConnections()
	var list []kafka.OffsetCommit
	for p, at := range offsets {
		list = append(list, kafka.OffsetCommit{Partition: int(p), Offset: at})
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	res, err := client.OffsetCommit(ctx, &kafka.OffsetCommitRequest{GroupID: group, GenerationID: -1, Topics: map[string][]kafka.OffsetCommit{topic: list}})
	if err != nil {
		return fmt.Errorf("set the offsets of group %s: %w", group, err)
	}
	for _, p := range res.Topics[topic] {
		if p.Error != nil {
			return fmt.Errorf("set the offsets of group %s: partition %d: %w", group, p.Partition, p.Error)
		}
	}
	return nil
}

// DeleteGroup forgets a group and its commits. One that is not there is no error.
func DeleteGroup(ctx context.Context, conn Connection, group string) error {
	client, trans, err := conn.withDefaults().client()
	if err != nil {
		return err
	}
	defer trans.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	res, err := client.DeleteGroups(ctx, &kafka.DeleteGroupsRequest{GroupIDs: []string{group}})
	if err != nil {
		return fmt.Errorf("delete group %s: %w", group, err)
	}
	if err := res.Errors[group]; err != nil && !errors.Is(err, kafka.GroupIdNotFound) {
		return fmt.Errorf("delete group %s: %w", group, err)
	}
	return nil
}
