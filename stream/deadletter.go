package stream

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/segmentio/kafka-go"

	"freshet"
)

// Headers of a dead letter, after those of Kafka Connect.
const (
	deadHeader     = "__connect.errors."
	headerTopic    = deadHeader + "topic"
	headerPart     = deadHeader + "partition"
	headerOffset   = deadHeader + "offset"
	headerStage    = deadHeader + "stage"
	headerClass    = deadHeader + "exception.class.name"
	headerMessage  = deadHeader + "exception.message"
	headerAttempt  = "freshet.attempt_time"
	headerTruncate = "truncated"
	headerSHA256   = "freshet.value_sha256"
	headerRedriven = "freshet.redriven"
)

// What a dead letter keeps of a value that is too large for its topic, and the most that a message in a header takes.
const (
	keptBytes    = 64 << 10
	messageBytes = 1024
)

// DeadLetter is a record that could not be used, as it was received, and why.
type DeadLetter struct {
	Record // as received, with its topic, partition and offset
	Stage  string
	Err    error

	// Of a letter that was read back.
	Class     string // kind of the error
	Message   string
	Attempted time.Time
	Truncated bool   // the value is only the first 64 KiB
	SHA256    string // of the whole value, if truncated
	Redriven  int    // how often it was sent back before
}

// DeadLetters writes bad records to their topic. It is safe for concurrent use.
type DeadLetters struct {
	producer *Producer
	topic    string
	max      int
	now      func() time.Time
	live     func() bool // nil = always
}

// NewDeadLetters builds the writer. maxBytes is the topic's max.message.bytes: what does not fit is cut.
func NewDeadLetters(producer *Producer, topic string, maxBytes int) (*DeadLetters, error) {
	switch {
	case topic == "":
		return nil, errors.New("kafka.topics.dead_letters: missing")
	case maxBytes < 2*keptBytes:
		return nil, fmt.Errorf("max.message.bytes of %s: %d, at least %d", topic, maxBytes, 2*keptBytes)
	}
	return &DeadLetters{producer: producer, topic: topic, max: maxBytes, now: time.Now}, nil
}

// Topic is where the letters go.
func (d *DeadLetters) Topic() string { return d.topic }

// While gives a writer that drops letters whenever live says no: every lane reads every record, and one of them buries it.
func (d *DeadLetters) While(live func() bool) *DeadLetters {
	other := *d
	other.live = live
	return &other
}

// Put writes letters and returns when they are acknowledged. Letters of one partition keep their order.
func (d *DeadLetters) Put(ctx context.Context, letters ...DeadLetter) error {
	if d.live != nil && !d.live() {
		return nil
	}
	err := d.put(ctx, letters, d.max)
	if errors.Is(err, kafka.MessageSizeTooLarge) { // the topic takes less than was configured: no reason to stop a partition
		err = d.put(ctx, letters, 2*keptBytes)
	}
	return err
}

func (d *DeadLetters) put(ctx context.Context, letters []DeadLetter, most int) error {
	records := make([]addressed, len(letters))
	for i := range letters {
		records[i] = addressed{record: d.record(&letters[i], most), hash: uint32(letters[i].Partition)}
	}
	return d.producer.send(ctx, d.topic, records)
}

// record appends what went wrong to the headers as they were received. What would be larger than most is cut.
func (d *DeadLetters) record(l *DeadLetter, most int) Record {
	r := Record{Key: l.Key, Value: l.Value, Headers: append([]Header(nil), l.Headers...)}
	message := l.Err.Error()
	if len(message) > messageBytes {
		message = message[:messageBytes] + "..."
	}
	add := func(name, value string) { r.Headers = append(r.Headers, Header{Name: name, Value: []byte(value)}) }
	add(headerTopic, l.Topic)
	add(headerPart, strconv.Itoa(int(l.Partition)))
	add(headerOffset, strconv.FormatInt(l.Offset, 10))
	add(headerStage, l.Stage)
	add(headerClass, class(l.Err))
	add(headerMessage, message)
	add(headerAttempt, d.now().UTC().Format(time.RFC3339Nano))
	if room := most - 4096; r.bytes() > room { // 4096: the batch's and the records' own bytes
		sum := sha256.Sum256(l.Value)
		r.Value = l.Value[:min(len(l.Value), keptBytes)]
		add(headerTruncate, "true")
		add(headerSHA256, hex.EncodeToString(sum[:]))
		if r.bytes() > room { // headers or a key of that size: they are cut to what says where the record lies
			r.Headers = r.Headers[len(l.Headers):]
			r.Key = r.Key[:min(len(r.Key), messageBytes)]
		}
	}
	return r
}

// class is a short, stable name for a kind of error.
func class(err error) string {
	var field *freshet.FieldError
	if errors.As(err, &field) {
		return "FieldError:" + field.Field
	}
	return fmt.Sprintf("%T", err)
}

// ParseDeadLetter reads a record of a dead-letter topic: the record as it was received, and why it lies there.
func ParseDeadLetter(r *Record) (DeadLetter, error) {
	at := -1
	for i := len(r.Headers) - 1; i >= 0 && at < 0; i-- {
		if r.Headers[i].Name == headerTopic {
			at = i
		}
	}
	if at < 0 {
		return DeadLetter{}, invalid(headerTopic, "missing; not a dead letter")
	}
	l := DeadLetter{Record: *r}
	l.Headers = r.Headers[:at:at]
	for _, h := range r.Headers[at:] {
		value := string(h.Value)
		var err error
		switch h.Name {
		case headerTopic:
			l.Topic = value
		case headerPart:
			var n int64
			n, err = strconv.ParseInt(value, 10, 32)
			l.Partition = int32(n)
		case headerOffset:
			l.Offset, err = strconv.ParseInt(value, 10, 64)
		case headerStage:
			l.Stage = value
		case headerClass:
			l.Class = value
		case headerMessage:
			l.Message, l.Err = value, errors.New(value)
		case headerAttempt:
			l.Attempted, err = time.Parse(time.RFC3339Nano, value)
		case headerTruncate:
			l.Truncated = value == "true"
		case headerSHA256:
			l.SHA256 = value
		}
		if err != nil {
			return l, invalid(h.Name, "%v", err)
		}
	}
	if n, ok := (&Record{Headers: l.Headers}).Header(headerRedriven); ok {
		l.Redriven, _ = strconv.Atoi(string(n))
	}
	return l, nil
}

// Redrive gives the record to send back to its topic: as it was received, and with a count of how often it was sent back, so that
// a letter that comes again is known and cannot go round for ever.
func (l *DeadLetter) Redrive() (Record, error) {
	if l.Truncated {
		return Record{}, fmt.Errorf("dead letter of %s-%d at %d: only its first %d bytes were kept", l.Topic, l.Partition, l.Offset, len(l.Value))
	}
	r := Record{Key: l.Key, Value: l.Value}
	for _, h := range l.Headers {
		if h.Name != headerRedriven {
			r.Headers = append(r.Headers, h)
		}
	}
	r.Headers = append(r.Headers, Header{Name: headerRedriven, Value: strconv.AppendInt(nil, int64(l.Redriven)+1, 10)})
	return r, nil
}
