package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/fetch"
	"github.com/segmentio/kafka-go/protocol/metadata"
)

// requestTimeout bounds what a request may take beyond the wait that it asks for.
const requestTimeout = 5 * time.Second

// ErrNoTopic is returned (wrapped) for a topic that the brokers do not have.
var ErrNoTopic error = kafka.UnknownTopicOrPartition

// reader asks one cluster about a topic. kafka-go's Client serves rather than its Conn: it knows control batches for what they
// are, tells the log's start with every answer, and follows a moved leader by itself.
type reader struct {
	client *kafka.Client
	topic  string
}

// partitions counts the topic's partitions, from metadata that is at most metadataTTL old.
func (r *reader) partitions(ctx context.Context) (int, error) {
	return partitions(ctx, r.client, r.topic)
}

func partitions(ctx context.Context, client *kafka.Client, topic string) (int, error) {
	leaders, err := leadersOf(ctx, client, topic)
	return len(leaders), err
}

// leadersOf gives the broker that leads each partition, -1 where none is known.
func leadersOf(ctx context.Context, client *kafka.Client, topic string) ([]int32, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	m, err := client.Transport.RoundTrip(ctx, client.Addr, &metadata.Request{TopicNames: []string{topic}})
	if err != nil {
		return nil, fmt.Errorf("ask for the partitions of %s: %w", topic, err)
	}
	for _, t := range m.(*metadata.Response).Topics {
		if t.Name == topic && t.ErrorCode != 0 {
			return nil, fmt.Errorf("ask for the partitions of %s: %w", topic, kafka.Error(t.ErrorCode))
		}
		if t.Name == topic && len(t.Partitions) > 0 {
			leaders := make([]int32, len(t.Partitions))
			for i := range leaders {
				leaders[i] = -1
			}
			for _, p := range t.Partitions {
				if i := int(p.PartitionIndex); i < len(leaders) {
					leaders[i] = p.LeaderID
				}
			}
			return leaders, nil
		}
	}
	return nil, fmt.Errorf("ask for the partitions of %s: %w", topic, kafka.UnknownTopicOrPartition)
}

// bounds asks for the first offset that the log still has and the next one it will give.
func (r *reader) bounds(ctx context.Context, partition int) (first, end int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	res, err := r.client.ListOffsets(ctx, &kafka.ListOffsetsRequest{
		Topics: map[string][]kafka.OffsetRequest{r.topic: {kafka.FirstOffsetOf(partition), kafka.LastOffsetOf(partition)}},
	})
	if err != nil {
		return 0, 0, fmt.Errorf("ask for the offsets of %s-%d: %w", r.topic, partition, err)
	}
	for _, p := range res.Topics[r.topic] {
		switch {
		case p.Partition != partition:
		case p.Error != nil:
			return 0, 0, fmt.Errorf("ask for the offsets of %s-%d: %w", r.topic, partition, p.Error)
		case p.FirstOffset < 0 || p.LastOffset < 0:
			return 0, 0, fmt.Errorf("ask for the offsets of %s-%d: no answer", r.topic, partition)
		default:
			return p.FirstOffset, p.LastOffset, nil
		}
	}
	return 0, 0, fmt.Errorf("ask for the offsets of %s-%d: %w", r.topic, partition, kafka.UnknownTopicOrPartition)
}

// question is one fetch.
type question struct {
	partition int
	offset    int64
	maxBytes  int
	wait      time.Duration // how long the broker may wait for something to be there
}

// answer is what a fetch brought. The records' bytes are fresh memory and belong to the caller.
type answer struct {
	records    []Record
	next       int64 // where to go on: past what was read, and past what holds nothing to read
	start, end int64 // the log's bounds
}

// asking is a question, and what came of it.
type asking struct {
	ctx context.Context
	q   question
	a   answer
	err error
}

// fetch asks for one partition.
func (r *reader) fetch(ctx context.Context, q question) (answer, error) {
	one := &asking{ctx: ctx, q: q}
	r.ask([]*asking{one}, q.wait)
	return one.a, one.err
}

// ask makes one request for partitions of one broker, which answers as soon as it has something for one of them, or after wait.
func (r *reader) ask(team []*asking, wait time.Duration) {
	ctx, cancel := context.WithTimeout(team[0].ctx, wait+requestTimeout)
	defer cancel()
	parts := make([]fetch.RequestPartition, len(team))
	most := 0
	for i, one := range team {
		parts[i] = fetch.RequestPartition{Partition: int32(one.q.partition), CurrentLeaderEpoch: -1, FetchOffset: one.q.offset, LogStartOffset: -1, PartitionMaxBytes: int32(one.q.maxBytes)}
		one.err = r.failed(one.q, kafka.UnknownTopicOrPartition) // until the answer names the partition
		most += one.q.maxBytes
	}
	m, err := r.client.Transport.RoundTrip(ctx, r.client.Addr, &fetch.Request{ReplicaID: -1, MaxWaitTime: int32(max(wait.Milliseconds(), 1)), MinBytes: 1,
		MaxBytes: int32(min(most, maxRequestBytes)), SessionID: -1, SessionEpoch: -1, Topics: []fetch.RequestTopic{{Topic: r.topic, Partitions: parts}}})
	if err == nil {
		if code := m.(*fetch.Response).ErrorCode; code != 0 {
			err = kafka.Error(code)
		}
	}
	if err != nil {
		for _, one := range team {
			one.err = r.failed(one.q, err)
		}
		return
	}
	for _, t := range m.(*fetch.Response).Topics {
		for i := range t.Partitions {
			for _, one := range team {
				if t.Topic == r.topic && t.Partitions[i].Partition == int32(one.q.partition) {
					r.answer(one, &t.Partitions[i])
				}
			}
		}
	}
}

// answer reads one partition's part. A panic while it is taken apart is an error like others.
func (r *reader) answer(one *asking, p *fetch.ResponsePartition) {
	defer func() {
		if c := recover(); c != nil {
			one.err = r.failed(one.q, fmt.Errorf("panic: %v\n%s", c, debug.Stack()))
		}
	}()
	if p.ErrorCode != 0 {
		one.err = r.failed(one.q, kafka.Error(p.ErrorCode))
		return
	}
	records := p.RecordSet.Records
	if records == nil {
		records = protocol.NewRecordReader()
	}
	one.a, one.err = r.read(one.q, p.LogStartOffset, p.HighWatermark, records)
}

func (r *reader) failed(q question, err error) error {
	return fmt.Errorf("fetch %s-%d at %d: %w", r.topic, q.partition, q.offset, err)
}

// read takes apart what one partition answered.
func (r *reader) read(q question, start, end int64, records kafka.RecordReader) (a answer, err error) {
	a = answer{next: q.offset, start: start, end: end}
	batches := []kafka.RecordReader{records}
	if stream, ok := records.(*protocol.RecordStream); ok {
		batches = stream.Records
	}
	buf := arena{}
	found := false
	for _, batch := range batches {
		control, isControl := batch.(*protocol.ControlBatch)
		if isControl {
			batch = control.Records
		}
		if err := r.take(&a, &buf, batch, q, isControl); err != nil {
			return answer{}, err
		}
		_, isBatch := batch.(*protocol.RecordBatch)
		found = found || isBatch || isControl
	}
	if a.next == q.offset && found && a.end > q.offset {
		// A batch whose tail was compacted away answers for offsets that no record has; kafka-go does not tell where it ends.
		a.next = q.offset + 1
	}
	return a, nil
}

// take reads the records of one batch. A batch may begin before the offset asked for.
func (r *reader) take(a *answer, buf *arena, batch kafka.RecordReader, q question, control bool) error {
	for {
		rec, err := batch.ReadRecord()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read %s-%d after %d: %w", r.topic, q.partition, a.next, err)
		}
		if rec.Offset >= a.next {
			a.next = rec.Offset + 1
			if !control {
				out := Record{Topic: r.topic, Partition: int32(q.partition), Offset: rec.Offset, Time: rec.Time.UnixMilli()}
				if err := buf.record(rec, &out); err != nil {
					return fmt.Errorf("read %s-%d at %d: %w", r.topic, q.partition, rec.Offset, err)
				}
				a.records = append(a.records, out)
				continue
			}
		}
		closeBytes(rec.Key)
		closeBytes(rec.Value)
	}
}

func closeBytes(b kafka.Bytes) {
	if b != nil {
		_ = b.Close()
	}
}

// arena hands out memory for keys and values in pieces, so that a record does not cost two allocations. Pieces grow from 1 to 64 KiB: an
// answer that brings one event, as most do while there is little to do, does not take (and clear, and have collected) memory for hundreds.
type arena struct {
	free []byte
	size int // of the piece taken last
}

func (m *arena) record(from *kafka.Record, to *Record) (err error) {
	if to.Key, err = m.read(from.Key); err != nil {
		return err
	}
	if to.Value, err = m.read(from.Value); err != nil {
		return err
	}
	for _, h := range from.Headers {
		to.Headers = append(to.Headers, Header{Name: h.Key, Value: h.Value})
	}
	return nil
}

func (m *arena) read(b kafka.Bytes) ([]byte, error) {
	if b == nil {
		return nil, nil
	}
	defer closeBytes(b)
	n := b.Len()
	if n == 0 {
		return []byte{}, nil // empty is not null
	}
	if n > len(m.free) {
		m.size = min(max(2*m.size, 1<<10), 64<<10)
		m.free = make([]byte, max(n, m.size))
	}
	out := m.free[:n:n]
	m.free = m.free[n:]
	_, err := io.ReadFull(b, out)
	return out, err
}
