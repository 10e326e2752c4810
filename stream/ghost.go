package stream

import (
	"context"
	"errors"
	"time"

	"github.com/segmentio/kafka-go"
)

// A ghost is a membership that a coordinator still holds and that nobody fills. kafka-go forgets its member id when a join fails, and
// joins as a new member later; the coordinator then holds the rebalance back until the old membership expires, a whole session
// after a broker's return. Told that the old member has left, it goes on at once.

const (
	ghostPatience = 10 * time.Minute       // for a broker to return
	ghostEvery    = 200 * time.Millisecond // between two attempts, at most
)

// forget takes a member out of the group as soon as a coordinator can be told.
func (c *Consumer) forget(ctx context.Context, member string) {
	ctx, cancel := context.WithTimeout(ctx, ghostPatience)
	defer cancel()
	var wait backoff
	for !c.gone(ctx, member) {
		wait.next = min(wait.next, ghostEvery/2) // doubled by wait
		if !wait.wait(ctx) {
			return
		}
	}
}

// gone tells the coordinator that a member has left, and whether it holds it no more. The answer to the first is not believed:
// kafka-go v0.4 takes its error code for a part of the throttle time.
func (c *Consumer) gone(ctx context.Context, member string) bool {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	client, group := c.reader.client, c.cfg.GroupID()
	left, err := client.LeaveGroup(ctx, &kafka.LeaveGroupRequest{GroupID: group, Members: []kafka.LeaveGroupRequestMember{{ID: member}}})
	if err != nil {
		return false
	}
	for _, m := range left.Members {
		if errors.Is(m.Error, kafka.UnknownMemberId) {
			return true
		}
	}
	found, err := client.DescribeGroups(ctx, &kafka.DescribeGroupsRequest{GroupIDs: []string{group}})
	if err != nil || len(found.Groups) != 1 || found.Groups[0].Error != nil {
		return false
	}
	for _, m := range found.Groups[0].Members {
		if m.MemberID == member {
			return false
		}
	}
	return true
}
