package stream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"
)

// Point is a place in the log: its beginning, its end, a time, or an offset.
type Point struct {
	kind    string
	time    time.Time       // of the records: the first one at or after it
	back    time.Duration   // before now
	offset  int64           // of every partition that offsets does not name; -1 = none
	offsets map[int32]int64 // per partition
}

// ParsePoint reads earliest, latest, ts=TIME (RFC 3339 or epoch milliseconds), last=DURATION, offset=N or offset=PARTITION:N,...
func ParsePoint(s string) (Point, error) {
	bad := func(err error) (Point, error) {
		text := "use earliest, latest, ts=2026-11-24T10:00:00Z, last=24h, offset=1000 or offset=0:1000,1:900"
		if err != nil {
			text = err.Error() + ": " + text
		}
		return Point{}, fmt.Errorf("%q is no place in the log: %s", s, text)
	}
	kind, value, has := strings.Cut(s, "=")
	p := Point{kind: kind, offset: -1}
	var err error
	switch {
	case (kind == StartEarliest || kind == StartLatest) && !has:
	case kind == "ts":
		var ms int64
		if ms, err = strconv.ParseInt(value, 10, 64); err == nil {
			p.time = time.UnixMilli(ms)
		} else {
			p.time, err = time.Parse(time.RFC3339, value)
		}
	case kind == "last":
		if p.back, err = time.ParseDuration(value); err == nil && p.back <= 0 {
			err = errors.New("the duration is not positive")
		}
	case kind == "offset":
		err = p.parseOffsets(value)
	default:
		return bad(nil)
	}
	if err != nil {
		return bad(err)
	}
	return p, nil
}

func (p *Point) parseOffsets(value string) error {
	p.offsets = map[int32]int64{}
	for part := range strings.SplitSeq(value, ",") {
		partition, offset, several := strings.Cut(part, ":")
		if !several {
			offset = partition
		}
		at, err := strconv.ParseInt(offset, 10, 64)
		if err == nil && at < 0 {
			err = fmt.Errorf("offset %d is negative", at)
		}
		if err != nil {
			return err
		}
		if !several {
			p.offset = at
			continue
		}
		n, err := strconv.ParseInt(partition, 10, 32)
		if err != nil {
			return err
		}
		p.offsets[int32(n)] = at
	}
	return nil
}

// Range is a piece of one partition: From up to, but not including, To.
type Range struct {
	Partition int32 `json:"partition"`
	From      int64 `json:"from"`
	To        int64 `json:"to"`
	Gap       int64 `json:"gap_records"` // asked for, and deleted from the log before; for a time: what was deleted below From, at most
}

// Records is how many records the range has at most.
func (r Range) Records() int64 { return max(0, r.To-r.From) }

// Ranges resolves two points to a range per partition, as the log is now.
func Ranges(ctx context.Context, conn Connection, topic string, from, to Point, now time.Time) ([]Range, error) {
	client, trans, err := conn.withDefaults().client(topic)
	if err != nil {
		return nil, err
	}
	defer trans.CloseIdleConnections()
	r := &reader{client: client, topic: topic}
	n, err := r.partitions(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]Range, n)
	for i := range out {
		first, end, err := r.bounds(ctx, i)
		if err != nil {
			return nil, err
		}
		start, err := r.at(ctx, i, from, first, end, now)
		if err != nil {
			return nil, err
		}
		stop, err := r.at(ctx, i, to, first, end, now)
		if err != nil {
			return nil, err
		}
		out[i] = Range{Partition: int32(i), From: min(max(start, first), end), Gap: max(0, first-start)}
		if start == first && (from.kind == StartEarliest || from.kind == "ts" || from.kind == "last") {
			out[i].Gap = first
		}
		out[i].To = max(out[i].From, min(stop, end))
	}
	return out, nil
}

// at is the offset of a point in one partition.
func (r *reader) at(ctx context.Context, partition int, p Point, first, end int64, now time.Time) (int64, error) {
	switch p.kind {
	case StartEarliest:
		return first, nil
	case StartLatest:
		return end, nil
	case "offset":
		if at, ok := p.offsets[int32(partition)]; ok {
			return at, nil
		}
		if p.offset < 0 {
			return end, nil // a partition that is not named is not read
		}
		return p.offset, nil
	case "last":
		p.time = now.Add(-p.back)
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	res, err := r.client.ListOffsets(ctx, &kafka.ListOffsetsRequest{
		Topics: map[string][]kafka.OffsetRequest{r.topic: {kafka.TimeOffsetOf(partition, p.time)}}})
	if err != nil {
		return 0, fmt.Errorf("ask %s-%d for the offset at %s: %w", r.topic, partition, p.time.UTC().Format(time.RFC3339), err)
	}
	for _, o := range res.Topics[r.topic] {
		if o.Error != nil {
			return 0, fmt.Errorf("ask %s-%d for the offset at %s: %w", r.topic, partition, p.time.UTC().Format(time.RFC3339), o.Error)
		}
		for at := range o.Offsets {
			if at >= 0 {
				return at, nil
			}
		}
	}
	return end, nil // everything is older
}

// ReadRange hands over the records of a range in order, at most batch at a time, with the offset to go on at. It ends with the range,
// with ctx, or with f's error.
func ReadRange(ctx context.Context, conn Connection, topic string, part Range, batch int, f func(records []Record, next int64) error) error {
	client, trans, err := conn.withDefaults().client(topic)
	if err != nil {
		return err
	}
	defer trans.CloseIdleConnections()
	r := &reader{client: client, topic: topic}
	var wait backoff
	for at := part.From; at < part.To; {
		a, err := r.fetch(ctx, question{partition: int(part.Partition), offset: at, maxBytes: 1 << 20, wait: 200 * time.Millisecond})
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && permanent(err):
			return err
		case err != nil:
			if !wait.wait(ctx) {
				return ctx.Err()
			}
			continue
		}
		wait.reset()
		records := a.records
		for len(records) > 0 && records[len(records)-1].Offset >= part.To {
			records = records[:len(records)-1]
		}
		for len(records) > 0 {
			n := min(batch, len(records))
			if err := f(records[:n], records[n-1].Offset+1); err != nil {
				return err
			}
			records = records[n:]
		}
		at = a.next
	}
	return nil
}

// PartitionOf names the partition of a user's events, as producers should choose it.
func PartitionOf(user string, partitions int) int32 {
	return int32(partitionOf([]byte(user), partitions))
}

// Partitions counts the partitions of a topic.
func Partitions(ctx context.Context, conn Connection, topic string) (int, error) {
	client, trans, err := conn.withDefaults().client(topic)
	if err != nil {
		return 0, err
	}
	defer trans.CloseIdleConnections()
	return partitions(ctx, client, topic)
}
