package freshet

import (
	"fmt"
	"time"
	"unicode/utf8"
)

// Limits of an event, in bytes unless said otherwise (docs/contracts.md).
const (
	MaxEventBytes = 1 << 20
	MaxEventID    = 128
	MaxUserID     = 256
	MaxItemID     = 128
	MaxEventItems = 200 // items of one multi-item event
	MaxFuture     = 24 * time.Hour
)

// MinTime is the earliest event time that is believed unless configuration says otherwise: 1990-01-01 UTC.
var MinTime = time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC)

// Event is one behaviour of one user, as a producer described it, with the place in the log where it was read.
type Event struct {
	ID            string
	Type          string
	UserID        string
	Items         []EventItem // one or more for events about items; several = one atomic update
	Time          int64       // event time, Unix milliseconds
	SessionID     string
	Surface       string
	RecID         string   // the list that led to this event, when the producer knows it
	TargetEventID string   // what a retraction retracts
	MergeInto     string   // login: the user that the anonymous one turned out to be
	Value         *float64 // rating or amount
	Context       []byte   // raw JSON object, or nil

	Position    Position
	RecordTime  int64  // timestamp of the log record, Unix milliseconds; the future is judged against it
	Traceparent string // W3C trace context from the record's headers
}

// EventItem is one item of an event.
type EventItem struct {
	ItemID   string
	Quantity float64
	Price    float64

	// Of a merged event each item is a behaviour of its own, with what the user's profile knew of it.
	Type   string // of the behaviour; extends
	Time   int64  // of the behaviour, Unix milliseconds
	Origin uint64 // HashID of the event that it came with first: brought twice, it counts once
}

// Source is a place that numbers its records: one partition of one incarnation of a topic. An incarnation counts how often the
// topic of that name was created anew; offsets of two incarnations cannot be compared.
type Source struct {
	Topic       string
	Incarnation int32
	Partition   int32
}

// Position is one record of a source.
type Position struct {
	Source
	Offset int64
}

// String gives topic-partition-offset, the stem of a rec_id.
func (p Position) String() string { return fmt.Sprintf("%s-%d-%d", p.Topic, p.Partition, p.Offset) }

// FieldError says which field of an input is wrong and what would be right. Input that fails with it is poison: it goes to the
// dead letters and is never retried.
type FieldError struct {
	Field  string
	Reason string
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Reason }

func invalid(field, format string, args ...any) error {
	return &FieldError{Field: field, Reason: fmt.Sprintf(format, args...)}
}

// Validate refuses an event that breaks the contract with a *FieldError. minTime is the earliest believable event time.
func (e *Event) Validate(types *EventTypes, minTime time.Time) error {
	if err := validID("event_id", e.ID, MaxEventID); err != nil {
		return err
	}
	t, ok := types.Lookup(e.Type)
	if !ok {
		if e.Type == "" {
			return invalid("type", "missing; configured types are %s", types)
		}
		return invalid("type", "unknown type %q; configured types are %s", truncate(e.Type, 64), types)
	}
	if err := validID("user_id", e.UserID, MaxUserID); err != nil {
		return err
	}
	if err := e.validTime(minTime); err != nil {
		return err
	}
	if err := e.validItems(t); err != nil {
		return err
	}
	if t.Effect == Login {
		if e.MergeInto == e.UserID && e.MergeInto != "" {
			return invalid("merge_into", "is the user_id itself; name the user that the anonymous one turned out to be")
		}
		return validID("merge_into", e.MergeInto, MaxUserID)
	}
	if t.Effect == Merge {
		return e.validMerge(types, minTime)
	}
	if e.TargetEventID != "" {
		return validID("target_event_id", e.TargetEventID, MaxEventID)
	}
	return nil
}

func (e *Event) validTime(minTime time.Time) error {
	switch {
	case e.Time < 0:
		return invalid("timestamp", "negative (%d ms)", e.Time)
	case e.Time < minTime.UnixMilli():
		return invalid("timestamp", "%s is before ingest.min_time %s", FormatTime(e.Time), minTime.UTC().Format(time.RFC3339))
	case e.RecordTime > 0 && e.Time > e.RecordTime+MaxFuture.Milliseconds():
		return invalid("timestamp", "%s is more than 24 h after the record's own timestamp %s", FormatTime(e.Time), FormatTime(e.RecordTime))
	}
	return nil
}

func (e *Event) validItems(t EventType) error {
	switch {
	case len(e.Items) > MaxEventItems:
		return invalid("items", "%d items, at most %d", len(e.Items), MaxEventItems)
	case len(e.Items) == 0 && t.Effect == Retract && e.TargetEventID != "":
		return nil
	case len(e.Items) == 0 && t.Effect.needsItem():
		return invalid("item_id", "missing; a %q event names item_id or items", e.Type)
	}
	for i := range e.Items {
		field := "item_id"
		if len(e.Items) > 1 {
			field = fmt.Sprintf("items[%d].item_id", i)
		}
		if err := validID(field, e.Items[i].ItemID, MaxItemID); err != nil {
			return err
		}
	}
	return nil
}

// validMerge checks the behaviours that a merged event brings.
func (e *Event) validMerge(types *EventTypes, minTime time.Time) error {
	for i := range e.Items {
		it := &e.Items[i]
		field := fmt.Sprintf("items[%d]", i)
		if t, ok := types.Lookup(it.Type); !ok || t.Effect != Extend {
			return invalid(field+".type", "%q is no configured type that extends a profile", truncate(it.Type, 64))
		}
		if it.Time < minTime.UnixMilli() || it.Time > e.Time {
			return invalid(field+".timestamp", "%s is not between ingest.min_time and the event's own time", FormatTime(it.Time))
		}
		if it.Origin == 0 {
			return invalid(field+".origin", "missing; 16 hexadecimal digits that name the behaviour")
		}
	}
	return nil
}

func validID(field, id string, max int) error {
	switch {
	case id == "":
		return invalid(field, "missing")
	case len(id) > max:
		return invalid(field, "%d bytes, at most %d", len(id), max)
	case !utf8.ValidString(id):
		return invalid(field, "not valid UTF-8")
	}
	for i := 0; i < len(id); i++ {
		if id[i] == 0 {
			return invalid(field, "contains a NUL byte")
		}
	}
	return nil
}

func truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n] + "..."
}

// FormatTime writes Unix milliseconds as RFC 3339 in UTC, as records and errors show them.
func FormatTime(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z") }

// HashID maps an event id to the 64 bits under which a profile remembers it (FNV-1a).
func HashID(id string) uint64 {
	h := uint64(14695981039346656037)
	for i := 0; i < len(id); i++ {
		h ^= uint64(id[i])
		h *= 1099511628211
	}
	return h
}
