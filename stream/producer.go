package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/produce"
	"go.uber.org/zap"

	"freshet"
)

// ProducerConfig says where records go.
type ProducerConfig struct {
	Connection Connection
	Lists      string // topic of recommendations; default recommendations
	Events     string // topic of events; default events
	Items      string // topic of items; default items
	// BatchBytes bounds one batch to one partition; it must stay below the topics' max.message.bytes (brokers' default
	// 1,048,588). A record larger than that travels alone. Default 900,000.
	BatchBytes  int
	Compression string        // "", gzip, snappy, lz4 or zstd; default "" (none)
	AckTimeout  time.Duration // for one attempt; default 10 s
}

func (c ProducerConfig) withDefaults() ProducerConfig {
	c.Connection = c.Connection.withDefaults()
	for _, t := range []struct {
		name *string
		to   string
	}{{&c.Lists, "recommendations"}, {&c.Events, "events"}, {&c.Items, "items"}} {
		if *t.name == "" {
			*t.name = t.to
		}
	}
	if c.BatchBytes == 0 {
		c.BatchBytes = 900_000
	}
	if c.AckTimeout == 0 {
		c.AckTimeout = 10 * time.Second
	}
	return c
}

var compressions = map[string]kafka.Compression{"": 0, "gzip": kafka.Gzip, "snappy": kafka.Snappy, "lz4": kafka.Lz4, "zstd": kafka.Zstd}

// Validate says which field cannot work.
func (c ProducerConfig) Validate() error {
	c = c.withDefaults()
	if err := c.Connection.Validate(); err != nil {
		return err
	}
	switch _, known := compressions[c.Compression]; {
	case c.BatchBytes < 1024:
		return fmt.Errorf("kafka.batch_bytes: %d, at least 1024", c.BatchBytes)
	case !known:
		return fmt.Errorf("kafka.compression: %q is none of gzip, snappy, lz4, zstd", c.Compression)
	case c.AckTimeout < 10*time.Millisecond:
		return fmt.Errorf("kafka.ack_timeout: %v, at least 10ms", c.AckTimeout)
	}
	return nil
}

// Producer writes records and returns when all replicas in sync have them. It is safe for concurrent use.
//
// It speaks kafka-go's protocol, one request to each leader for all of its partitions at once, not through its Writer, nor through
// Client.Produce, which takes one partition a request: the Writer holds a lone record back for
// its batch timeout (a millisecond at least), retries out of reach of the caller's context, and after the attempts are used up
// drops a batch and sends the next one, which breaks the order of a key. Here a partition's batches go one after the other, only
// what failed is sent again, and it is sent again before what follows. There is no idempotence in kafka-go: an attempt whose
// answer got lost may leave its records twice.
type Producer struct {
	cfg    ProducerConfig
	client *kafka.Client
	trans  *kafka.Transport
	log    *zap.Logger

	postings *turns[*posting]

	mu   sync.Mutex
	away bool // a partition is being tried again
}

// NewProducer builds a producer. It opens no connection yet.
func NewProducer(cfg ProducerConfig, log *zap.Logger) (*Producer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	client, trans, err := cfg.Connection.client()
	if err != nil {
		return nil, err
	}
	p := &Producer{cfg: cfg, client: client, trans: trans, log: log.Named("producer")}
	p.postings = p.newPostings()
	return p, nil
}

// Close closes the connections. No call may be running.
func (p *Producer) Close() { p.trans.CloseIdleConnections() }

// PublishLists writes lists to the output topic, in order per user. A home list's key is the user, another surface's the user, a
// NUL and the surface; the partition is always the user's.
func (p *Producer) PublishLists(ctx context.Context, lists []freshet.Publication) error {
	records := make([]addressed, len(lists))
	for i := range lists {
		l := &lists[i]
		key := []byte(l.UserID)
		if l.Surface != "" && l.Surface != freshet.HomeSurface {
			key = append(append(key, 0), l.Surface...)
		}
		records[i] = addressed{record: Record{Key: key, Value: l.Record}, hash: murmur2(key[:len(l.UserID)])}
	}
	if len(records) == 0 {
		return nil
	}
	one := &posting{ctx: ctx, records: records}
	for i := range records {
		one.bytes += records[i].record.batched()
	}
	if one.bytes < p.cfg.BatchBytes {
		p.postings.do(one)
	}
	return p.send(ctx, p.cfg.Lists, one.records)
}

// posting is what one caller has to publish. What gathers while a request is under way goes into the next one: a request costs the broker
// about the same whatever is in it.
type posting struct {
	ctx     context.Context
	records []addressed // those that are not acknowledged yet
	bytes   int
}

func (p *Producer) newPostings() *turns[*posting] {
	bytes := func(team []*posting) (n int) {
		for _, one := range team {
			n += one.bytes
		}
		return n
	}
	return &turns[*posting]{slots: 1, hold: yield[*posting], work: p.post,
		full: func(waiting []*posting) bool { return bytes(waiting) >= p.cfg.BatchBytes },
		fits: func(team []*posting, next *posting) bool { return bytes(team)+next.bytes <= p.cfg.BatchBytes }}
}

// post tries once for a team, and leaves to each what was not acknowledged: a partition that is away is then waited for by those who have
// something for it, and by nobody else.
func (p *Producer) post(team []*posting) {
	var records []addressed
	for _, one := range team {
		records = append(records, one.records...)
	}
	ctx := team[0].ctx
	leaders, err := leadersOf(ctx, p.client, p.cfg.Lists)
	if err != nil {
		return
	}
	queues := queuesOf(records, len(leaders))
	p.round(ctx, p.cfg.Lists, queues, leaders)
	acknowledged := make([]bool, len(leaders))
	for _, q := range queues {
		acknowledged[q.partition] = q.err == nil
	}
	for _, one := range team {
		one.records = slices.DeleteFunc(one.records, func(r addressed) bool { return acknowledged[r.partition(len(leaders))] })
	}
}

// PublishEvents writes events, keyed by user.
func (p *Producer) PublishEvents(ctx context.Context, events []freshet.Event) error {
	records := make([]Record, len(events))
	for i := range events {
		e := &events[i]
		records[i] = Record{Key: []byte(e.UserID), Value: AppendEvent(nil, e)}
		if e.Traceparent != "" {
			records[i].Headers = []Header{{Name: "traceparent", Value: []byte(e.Traceparent)}}
		}
	}
	return p.Publish(ctx, p.cfg.Events, records)
}

// PublishItems writes items and removals, keyed by item.
func (p *Producer) PublishItems(ctx context.Context, changes []ItemChange) error {
	records := make([]Record, len(changes))
	for i := range changes {
		r, err := EncodeItem(&changes[i])
		if err != nil {
			return err
		}
		records[i] = r
	}
	return p.Publish(ctx, p.cfg.Items, records)
}

// Publish writes records as they are, to the partition that murmur2 of the key names; without a key, to partition 0.
func (p *Producer) Publish(ctx context.Context, topic string, records []Record) error {
	out := make([]addressed, len(records))
	for i, r := range records {
		out[i] = addressed{record: r}
		if r.Key != nil {
			out[i].hash = murmur2(r.Key)
		}
	}
	return p.send(ctx, topic, out)
}

// addressed is a record and the hash that names its partition.
type addressed struct {
	record Record
	hash   uint32
}

// batched is a record's bytes in a batch: with its lengths, deltas and attributes.
func (r *Record) batched() int { return r.bytes() + 32 }

func (a *addressed) partition(of int) int { return int(a.hash&0x7fffffff) % of }

// send returns when every record is acknowledged, when ctx ends, or when a broker says that trying again is of no use. In the last
// two cases some records may have been written.
func (p *Producer) send(ctx context.Context, topic string, records []addressed) error {
	if len(records) == 0 {
		return nil
	}
	var leaders []int32
	ask := func() (err error) { leaders, err = leadersOf(ctx, p.client, topic); return err }
	if err := p.retry(ctx, topic, ask); err != nil {
		return err
	}
	return p.drain(ctx, topic, queuesOf(records, len(leaders)))
}

// queuesOf deals records to the partitions that they have something for.
func queuesOf(records []addressed, partitions int) []queue {
	queues := make([]queue, partitions)
	for i := range queues {
		queues[i].partition = int32(i)
	}
	for i := range records {
		q := &queues[records[i].partition(partitions)]
		q.records = append(q.records, records[i].record)
	}
	return slices.DeleteFunc(queues, func(q queue) bool { return len(q.records) == 0 })
}

// queue is what waits for one partition. Its batches go one after the other.
type queue struct {
	partition int32
	records   []Record
	sent      int // records at the front that are in the request under way
	err       error
}

// next cuts the next batch off.
func (q *queue) next(most int) []Record {
	size := q.records[0].batched()
	for q.sent = 1; q.sent < len(q.records); q.sent++ {
		if size += q.records[q.sent].batched(); size > most {
			break
		}
	}
	return q.records[:q.sent]
}

// drain sends rounds: one request to each leader, with the next batch of every partition it leads. What failed is sent again in
// the next round, before what follows it.
func (p *Producer) drain(ctx context.Context, topic string, queues []queue) error {
	var wait backoff
	for {
		leaders, err := leadersOf(ctx, p.client, topic)
		if err == nil {
			p.round(ctx, topic, queues, leaders)
			err = settleRound(queues)
			queues = slices.DeleteFunc(queues, func(q queue) bool { return len(q.records) == 0 })
		}
		switch {
		case err == nil:
			p.transition(topic, nil)
			if len(queues) == 0 {
				return nil
			}
			wait.reset()
			continue
		case ctx.Err() != nil:
			return fmt.Errorf("%w (last: %w)", ctx.Err(), err)
		case permanent(err):
			return err
		}
		p.transition(topic, err)
		if !wait.wait(ctx) {
			return fmt.Errorf("%w (last: %w)", ctx.Err(), err)
		}
	}
}

// settleRound takes what was acknowledged off the queues and gives the first error, one that no retry can mend before others.
func settleRound(queues []queue) (first error) {
	for i := range queues {
		q := &queues[i]
		switch {
		case q.err == nil:
			q.records = q.records[q.sent:]
		case first == nil, permanent(q.err) && !permanent(first):
			first = q.err
		}
	}
	return first
}

// round sends one request to each leader and notes in the queues what came of it.
func (p *Producer) round(ctx context.Context, topic string, queues []queue, leaders []int32) {
	byLeader := map[int32][]*queue{}
	for i := range queues {
		leader := int32(-1) // nobody known leads it: the request fails and is made again
		if int(queues[i].partition) < len(leaders) {
			leader = leaders[queues[i].partition]
		}
		byLeader[leader] = append(byLeader[leader], &queues[i])
	}
	var requests sync.WaitGroup
	for _, group := range byLeader {
		for len(group) > 0 {
			n := min(len(group), max(1, maxRequestBytes/p.cfg.BatchBytes))
			one := group[:n]
			group = group[n:]
			if len(byLeader) == 1 && len(group) == 0 { // the usual case needs no other goroutine
				p.produce(ctx, topic, one)
				continue
			}
			requests.Go(func() { p.produce(ctx, topic, one) })
		}
	}
	requests.Wait()
}

// maxRequestBytes bounds one request; brokers take 100 MiB (socket.request.max.bytes).
const maxRequestBytes = 16 << 20

// produce makes one request with the next batch of each queue.
func (p *Producer) produce(ctx context.Context, topic string, group []*queue) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.AckTimeout)
	defer cancel()
	parts := make([]produce.RequestPartition, len(group))
	attributes := protocol.Attributes(compressions[p.cfg.Compression]) & 7
	for i, q := range group {
		parts[i] = produce.RequestPartition{Partition: q.partition,
			RecordSet: protocol.RecordSet{Attributes: attributes, Records: &batchReader{batch: q.next(p.cfg.BatchBytes)}}}
		q.err = kafka.UnknownTopicOrPartition // until the answer names the partition
	}
	m, err := p.client.Transport.RoundTrip(ctx, p.client.Addr, &produce.Request{Acks: int16(kafka.RequireAll), Timeout: int32(p.cfg.AckTimeout.Milliseconds()),
		Topics: []produce.RequestTopic{{Topic: topic, Partitions: parts}}})
	if err == nil {
		for _, t := range m.(*produce.Response).Topics {
			for _, answer := range t.Partitions {
				for _, q := range group {
					if q.partition == answer.Partition && t.Topic == topic {
						q.err = nil
						if answer.ErrorCode != 0 {
							q.err = kafka.Error(answer.ErrorCode)
						}
					}
				}
			}
		}
	}
	for _, q := range group {
		if err != nil {
			q.err = err
		}
		if q.err != nil {
			q.err = fmt.Errorf("write %d records to %s-%d: %w", q.sent, topic, q.partition, q.err)
		}
	}
}

// retry tries until it works. It gives up when ctx ends and on what no retry can mend.
func (p *Producer) retry(ctx context.Context, topic string, do func() error) error {
	var wait backoff
	for {
		err := do()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%w (last: %w)", ctx.Err(), err)
		}
		if permanent(err) {
			return err
		}
		p.transition(topic, err)
		if !wait.wait(ctx) {
			return fmt.Errorf("%w (last: %w)", ctx.Err(), err)
		}
	}
}

// permanent tells what stays wrong until somebody changes the record, the topic or the rights.
func permanent(err error) bool {
	for _, e := range []kafka.Error{
		kafka.MessageSizeTooLarge, kafka.RecordListTooLarge, kafka.InvalidTopic, kafka.InvalidRecord,
		kafka.TopicAuthorizationFailed, kafka.GroupAuthorizationFailed, kafka.ClusterAuthorizationFailed, kafka.SASLAuthenticationFailed,
		kafka.UnsupportedSASLMechanism, kafka.InvalidTimestamp, kafka.PolicyViolation,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// Passing tells errors that waiting mends from those that somebody has to mend. A configuration that cannot work never comes here.
func Passing(err error) bool { return err != nil && !permanent(err) && !errors.Is(err, ErrNoTopic) }

// transition logs the first failure of a row, and its end.
func (p *Producer) transition(topic string, err error) {
	p.mu.Lock()
	was := p.away
	p.away = err != nil
	p.mu.Unlock()
	switch {
	case err != nil && !was:
		p.log.Warn("write failed; trying again", zap.String("topic", topic), zap.Error(err))
	case err == nil && was:
		p.log.Info("writing again", zap.String("topic", topic))
	}
}

// batchReader gives a batch's records to kafka-go.
type batchReader struct {
	batch  []Record
	at     int
	record kafka.Record
}

// ReadRecord implements kafka.RecordReader.
func (b *batchReader) ReadRecord() (*kafka.Record, error) {
	if b.at == len(b.batch) {
		return nil, io.EOF
	}
	r := &b.batch[b.at]
	b.at++
	b.record = kafka.Record{Key: kafka.NewBytes(r.Key), Value: kafka.NewBytes(r.Value)}
	if r.Time > 0 {
		b.record.Time = time.UnixMilli(r.Time)
	}
	for _, h := range r.Headers {
		b.record.Headers = append(b.record.Headers, kafka.Header{Key: h.Name, Value: h.Value})
	}
	return &b.record, nil
}
