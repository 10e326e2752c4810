package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
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
// It stands on kafka-go's Client.Produce, one request per partition, not on its Writer: the Writer holds a lone record back for
// its batch timeout (a millisecond at least), retries out of reach of the caller's context, and after the attempts are used up
// drops a batch and sends the next one, which breaks the order of a key. Here a partition's batches go one after the other, only
// what failed is sent again, and it is sent again before what follows. There is no idempotence in kafka-go: an attempt whose
// answer got lost may leave its records twice.
type Producer struct {
	cfg    ProducerConfig
	client *kafka.Client
	trans  *kafka.Transport
	log    *zap.Logger

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
	return &Producer{cfg: cfg, client: client, trans: trans, log: log.Named("producer")}, nil
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
	return p.send(ctx, p.cfg.Lists, records)
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

// send returns when every record is acknowledged, when ctx ends, or when a broker says that trying again is of no use. In the last
// two cases some records may have been written.
func (p *Producer) send(ctx context.Context, topic string, records []addressed) error {
	if len(records) == 0 {
		return nil
	}
	var n int
	count := func() (err error) { n, err = partitions(ctx, p.client, topic); return err }
	if err := p.retry(ctx, topic, count); err != nil {
		return err
	}
	byPartition := map[int][]Record{}
	for i := range records {
		at := int(records[i].hash&0x7fffffff) % n
		byPartition[at] = append(byPartition[at], records[i].record)
	}
	if len(byPartition) == 1 {
		for at, list := range byPartition {
			return p.sendTo(ctx, topic, at, list)
		}
	}
	errs := make(chan error, len(byPartition))
	for at, list := range byPartition {
		go func() { errs <- p.sendTo(ctx, topic, at, list) }()
	}
	var first error
	for range byPartition {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	return first
}

// sendTo writes to one partition, batch after batch.
func (p *Producer) sendTo(ctx context.Context, topic string, partition int, records []Record) error {
	for len(records) > 0 {
		n, size := 1, records[0].bytes()
		for n < len(records) {
			if size += records[n].bytes() + 32; size > p.cfg.BatchBytes { // 32: a record's lengths, deltas and attributes
				break
			}
			n++
		}
		batch := records[:n]
		produce := func() error { return p.produce(ctx, topic, partition, batch) }
		if err := p.retry(ctx, topic, produce); err != nil {
			return err
		}
		records = records[n:]
	}
	return nil
}

func (p *Producer) produce(ctx context.Context, topic string, partition int, batch []Record) error {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.AckTimeout)
	defer cancel()
	res, err := p.client.Produce(ctx, &kafka.ProduceRequest{
		Topic: topic, Partition: partition, RequiredAcks: kafka.RequireAll,
		Compression: compressions[p.cfg.Compression], Records: &batchReader{batch: batch},
	})
	if err == nil {
		err = res.Error
	}
	if err != nil {
		return fmt.Errorf("write %d records to %s-%d: %w", len(batch), topic, partition, err)
	}
	return nil
}

// retry tries until it works. It gives up when ctx ends and on what no retry can mend.
func (p *Producer) retry(ctx context.Context, topic string, do func() error) error {
	var wait backoff
	for {
		err := do()
		if err == nil {
			p.transition(topic, nil)
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
		kafka.TopicAuthorizationFailed, kafka.ClusterAuthorizationFailed, kafka.SASLAuthenticationFailed,
		kafka.UnsupportedSASLMechanism, kafka.InvalidTimestamp, kafka.PolicyViolation,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

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
