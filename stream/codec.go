package stream

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"freshet"
)

// DecoderConfig says what a readable event is.
type DecoderConfig struct {
	Types   *freshet.EventTypes // the configured event types; required
	MinTime time.Time           // earliest event time that is believed; default 1990-01-01 UTC
	// TypePrefix is cut from a CloudEvent's type before it is looked up ("com.shop.view" -> "view"); default "".
	TypePrefix string
}

// Validate says which field cannot work.
func (c DecoderConfig) Validate() error {
	if c.Types == nil {
		return errors.New("decoder: event types are needed")
	}
	return nil
}

// Decoder turns records into events. It is safe for concurrent use.
type Decoder struct {
	types   *freshet.EventTypes
	minTime time.Time
	prefix  string
	names   map[string]string // strings that come again and again: kept once
}

// NewDecoder builds a decoder.
func NewDecoder(cfg DecoderConfig) (*Decoder, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	d := &Decoder{types: cfg.Types, minTime: cfg.MinTime, prefix: cfg.TypePrefix, names: map[string]string{freshet.HomeSurface: freshet.HomeSurface}}
	if d.minTime.IsZero() {
		d.minTime = freshet.MinTime
	}
	for _, name := range cfg.Types.Names() {
		d.names[name] = name
	}
	return d, nil
}

// Decode reads and validates the event of a record. at is where the record lies. A failure is a *freshet.FieldError: the record
// is poison and will never be readable.
func (d *Decoder) Decode(r *Record, at freshet.Position) (freshet.Event, error) {
	e := freshet.Event{Position: at, RecordTime: max(0, r.Time)}
	if len(r.Value) > freshet.MaxEventBytes {
		return e, invalid("value", "%d bytes, at most %d", len(r.Value), freshet.MaxEventBytes)
	}
	if r.Value == nil {
		return e, invalid("value", "null; an event is a JSON object")
	}
	cloud, data, err := d.unwrap(r)
	if err != nil {
		return e, err
	}
	if err := d.parse(data, &e); err != nil {
		return e, err
	}
	if err := d.fill(&e, r, &cloud); err != nil {
		return e, err
	}
	if err := e.Validate(d.types, d.minTime); err != nil {
		return e, err
	}
	return e, checkKey(r.Key, e.UserID)
}

func checkKey(key []byte, user string) error {
	switch {
	case key == nil:
		return invalid("key", "null; the record's key must be the user_id, or one user's events would lie in several partitions")
	case string(key) != user:
		return invalid("key", "%.64q is not the user_id %.64q", key, user)
	}
	return nil
}

// parse reads the fields of an event. Unknown fields are ignored; of a field that is there twice the last one counts.
func (d *Decoder) parse(data []byte, e *freshet.Event) error {
	s := scanner{b: data}
	if s.peek() != '{' {
		s.wrong("value", "a JSON object")
		return s.err
	}
	var itemID string
	e.Time = absentTime
	for first := s.open('{'); s.more(first, '}'); first = false {
		name := s.name()
		switch string(name) {
		case "event_id":
			e.ID = string(s.stringField("event_id"))
		case "type":
			e.Type = d.intern(s.stringField("type"))
		case "user_id":
			e.UserID = string(s.stringField("user_id"))
		case "item_id":
			itemID = string(s.stringField("item_id"))
		case "items":
			e.Items = s.items()
		case "timestamp":
			e.Time = s.timestamp("timestamp")
		case "session_id":
			e.SessionID = string(s.stringField("session_id"))
		case "surface":
			e.Surface = d.intern(s.stringField("surface"))
		case "rec_id":
			e.RecID = string(s.stringField("rec_id"))
		case "target_event_id":
			e.TargetEventID = string(s.stringField("target_event_id"))
		case "merge_into":
			e.MergeInto = string(s.stringField("merge_into"))
		case "value":
			e.Value = s.value()
		case "context":
			e.Context = s.context()
		default:
			s.skip()
		}
	}
	s.end()
	switch {
	case s.err != nil:
		return s.err
	case !utf8.Valid(data): // in a field that nobody reads
		return invalid("value", "not valid UTF-8")
	case itemID != "" && len(e.Items) > 0:
		return invalid("item_id", "there beside items; use one of the two")
	case itemID != "":
		e.Items = []freshet.EventItem{{ItemID: itemID, Quantity: 1}}
	}
	return nil
}

// intern keeps one copy of the strings that every event carries, and allocates for others.
func (d *Decoder) intern(b []byte) string {
	if s, ok := d.names[string(b)]; ok {
		return s
	}
	return string(b)
}

func (s *scanner) value() *float64 {
	v, ok := s.floatField("value")
	if !ok {
		return nil
	}
	return &v
}

func (s *scanner) context() []byte {
	if s.null() {
		return nil
	}
	if s.peek() != '{' {
		s.wrong("context", "an object")
		return nil
	}
	raw := s.skip()
	if !utf8.Valid(raw) {
		s.err = invalid("context", "not valid UTF-8")
		return nil
	}
	return bytes.Clone(raw)
}

// absentTime marks a timestamp that is not there. A producer that sends this very number is told that it is missing.
const absentTime = math.MinInt64

// timestamp reads RFC 3339 or Unix milliseconds.
func (s *scanner) timestamp(field string) int64 {
	switch c := s.peek(); {
	case c == '"':
		return s.rfc3339(field)
	case c == '-' || c >= '0' && c <= '9':
		return s.epoch(field)
	case s.null():
		return absentTime
	}
	s.wrong(field, "RFC 3339 or Unix milliseconds")
	return 0
}

func (s *scanner) rfc3339(field string) int64 {
	text := s.stringField(field)
	if s.err != nil {
		return 0
	}
	t, err := time.Parse(time.RFC3339Nano, string(text))
	if err != nil {
		s.err = invalid(field, "%.40q is neither RFC 3339 nor a number of Unix milliseconds", text)
		return 0
	}
	return t.UnixMilli()
}

func (s *scanner) epoch(field string) int64 {
	digits := s.number()
	if s.err != nil {
		return 0
	}
	if ms, err := strconv.ParseInt(string(digits), 10, 64); err == nil {
		return ms
	}
	f, err := strconv.ParseFloat(string(digits), 64) // 1.7e12, 1700000000000.5
	if err != nil || math.Abs(f) >= 1<<62 {
		s.err = invalid(field, "%.32s ms is out of range", digits)
		return 0
	}
	return int64(math.Floor(f))
}

// items reads the items of one event. An item without a quantity is one piece.
func (s *scanner) items() []freshet.EventItem {
	if s.null() {
		return nil
	}
	if s.peek() != '[' {
		s.wrong("items", "an array")
		return nil
	}
	var items []freshet.EventItem
	for first := s.open('['); s.more(first, ']'); first = false {
		if len(items) == freshet.MaxEventItems {
			s.err = invalid("items", "more than %d items", freshet.MaxEventItems)
			return nil
		}
		items = append(items, s.item(len(items)))
	}
	return items
}

func (s *scanner) item(n int) freshet.EventItem {
	item := freshet.EventItem{Quantity: 1}
	if s.peek() != '{' {
		s.wrong("items["+strconv.Itoa(n)+"]", "an object")
		return item
	}
	for first := s.open('{'); s.more(first, '}'); first = false {
		switch string(s.name()) {
		case "item_id":
			item.ItemID = string(s.stringField("items.item_id"))
		case "quantity":
			if v, ok := s.floatField("items.quantity"); ok {
				item.Quantity = v
			}
		case "price":
			item.Price, _ = s.floatField("items.price")
		case "type": // the rest belongs to merged events
			item.Type = string(s.stringField("items.type"))
		case "timestamp":
			item.Time = s.timestamp("items.timestamp")
		case "origin":
			item.Origin = s.origin()
		default:
			s.skip()
		}
	}
	return item
}

// origin reads 16 hexadecimal digits.
func (s *scanner) origin() uint64 {
	text := s.stringField("items.origin")
	if s.err != nil || len(text) == 0 {
		return 0
	}
	n, err := strconv.ParseUint(string(text), 16, 64)
	if err != nil || len(text) != 16 {
		s.err = invalid("items.origin", "%.40q is not 16 hexadecimal digits", text)
	}
	return n
}

func invalid(field, format string, args ...any) error {
	return &freshet.FieldError{Field: field, Reason: fmt.Sprintf(format, args...)}
}

// AppendEvent appends an event's JSON as contracts want it. Where it was read (position, record time, trace) is not part of it.
func AppendEvent(b []byte, e *freshet.Event) []byte {
	b = freshet.AppendJSONString(append(b, `{"event_id":`...), e.ID)
	b = freshet.AppendJSONString(append(b, `,"type":`...), e.Type)
	b = freshet.AppendJSONString(append(b, `,"user_id":`...), e.UserID)
	b = appendItems(b, e.Items)
	b = append(b, `,"timestamp":"`...)
	b = time.UnixMilli(e.Time).UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z")
	b = append(b, '"')
	for _, f := range [...]struct{ name, value string }{
		{`,"session_id":`, e.SessionID}, {`,"surface":`, e.Surface}, {`,"rec_id":`, e.RecID},
		{`,"target_event_id":`, e.TargetEventID}, {`,"merge_into":`, e.MergeInto},
	} {
		if f.value != "" {
			b = freshet.AppendJSONString(append(b, f.name...), f.value)
		}
	}
	if e.Value != nil {
		b = strconv.AppendFloat(append(b, `,"value":`...), *e.Value, 'g', -1, 64)
	}
	if len(e.Context) > 0 {
		b = append(append(b, `,"context":`...), e.Context...)
	}
	return append(b, '}')
}

func appendItems(b []byte, items []freshet.EventItem) []byte {
	if len(items) == 1 && items[0].Quantity == 1 && items[0].Price == 0 && items[0].Type == "" {
		return freshet.AppendJSONString(append(b, `,"item_id":`...), items[0].ItemID)
	}
	if len(items) == 0 {
		return b
	}
	b = append(b, `,"items":`...)
	for n, i := range items {
		if n == 0 {
			b = append(b, '[')
		} else {
			b = append(b, ',')
		}
		b = freshet.AppendJSONString(append(b, `{"item_id":`...), i.ItemID)
		b = strconv.AppendFloat(append(b, `,"quantity":`...), i.Quantity, 'g', -1, 64)
		if i.Price != 0 {
			b = strconv.AppendFloat(append(b, `,"price":`...), i.Price, 'g', -1, 64)
		}
		if i.Type != "" {
			b = freshet.AppendJSONString(append(b, `,"type":`...), i.Type)
			b = strconv.AppendInt(append(b, `,"timestamp":`...), i.Time, 10)
			b = fmt.Appendf(b, `,"origin":"%016x"`, i.Origin)
		}
		b = append(b, '}')
	}
	return append(b, ']')
}
