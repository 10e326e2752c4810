package evaluate

import (
	"cmp"
	"fmt"
	"iter"
	"math"
	"slices"
	"strconv"

	"freshet"
)

// Log is a set of events in order, held compactly: users, items and types are numbers into Users, Items and Types.
type Log struct {
	Order  string // name of the order of the events, for reports
	Users  *Vocabulary
	Items  *Vocabulary
	Events []Event

	types []string
	items []int32 // of all events, one after another
}

// Event is one event of a log.
type Event struct {
	Time  int64   // Unix milliseconds
	Value float64 // NaN = none
	User  int32
	first int32 // of its items
	count uint16
	kind  uint8
	// Effect is what the event does to a profile. Only events that extend it are predicted.
	Effect freshet.Effect
}

// Vocabulary numbers ids from 0 in the order of their first mention.
type Vocabulary struct {
	ids   []string
	index map[string]int32
}

func newVocabulary() *Vocabulary { return &Vocabulary{index: map[string]int32{}} }

// Add gives the number of an id, a new one if need be.
func (v *Vocabulary) Add(id string) int32 {
	n, ok := v.index[id]
	if !ok {
		n = int32(len(v.ids))
		v.ids, v.index[id] = append(v.ids, id), n
	}
	return n
}

// Lookup gives the number of an id.
func (v *Vocabulary) Lookup(id string) (int32, bool) {
	n, ok := v.index[id]
	return n, ok
}

// ID gives the id of a number.
func (v *Vocabulary) ID(n int32) string { return v.ids[n] }

// Len is how many ids there are.
func (v *Vocabulary) Len() int { return len(v.ids) }

// ReadLog reads events in the order they come; order names it. Events without items (logins, erasures) and events that touch no
// profile (impressions) are left out.
func ReadLog(events iter.Seq2[freshet.Event, error], types *freshet.EventTypes, order string) (*Log, error) {
	l := &Log{Order: order, Users: newVocabulary(), Items: newVocabulary()}
	for e, err := range events {
		if err != nil {
			return nil, fmt.Errorf("read events after %d: %w", len(l.Events), err)
		}
		t, ok := types.Lookup(e.Type)
		if !ok {
			return nil, fmt.Errorf("event %s: type %q is not configured; configured types are %s", e.ID, e.Type, types)
		}
		effect := t.EffectOf(&e)
		if len(e.Items) == 0 || effect == freshet.Observe || effect == freshet.Erase || effect == freshet.Login || effect == freshet.Merge {
			continue
		}
		if err := l.add(&e, effect); err != nil {
			return nil, err
		}
	}
	if len(l.Events) == 0 {
		return nil, fmt.Errorf("no events with items to evaluate on")
	}
	return l, nil
}

func (l *Log) add(e *freshet.Event, effect freshet.Effect) error {
	kind := slices.Index(l.types, e.Type)
	if kind < 0 {
		if kind = len(l.types); kind > math.MaxUint8 {
			return fmt.Errorf("more than %d event types", math.MaxUint8+1)
		}
		l.types = append(l.types, e.Type)
	}
	if len(l.items) > math.MaxInt32-freshet.MaxEventItems {
		return fmt.Errorf("more than %d events", math.MaxInt32)
	}
	row := Event{Time: e.Time, Value: math.NaN(), User: l.Users.Add(e.UserID), first: int32(len(l.items)), count: uint16(len(e.Items)), kind: uint8(kind), Effect: effect}
	if e.Value != nil {
		row.Value = *e.Value
	}
	for _, i := range e.Items {
		l.items = append(l.items, l.Items.Add(i.ItemID))
	}
	l.Events = append(l.Events, row)
	return nil
}

// SortByTime puts the events in global time order; ties keep their order. name is what reports call the result.
func (l *Log) SortByTime(name string) {
	slices.SortStableFunc(l.Events, func(a, b Event) int { return cmp.Compare(a.Time, b.Time) })
	l.Order = name
}

// AddItems makes items candidates that no event names, so that ranks are over the whole catalogue.
func (l *Log) AddItems(ids iter.Seq[string]) {
	for id := range ids {
		l.Items.Add(id)
	}
}

// ItemsOf gives the items of an event in listed order.
func (l *Log) ItemsOf(e *Event) []int32 { return l.items[e.first : e.first+int32(e.count)] }

// logTopic is the source that events of a log claim to come from.
const logTopic = "evaluation"

// Freshet gives event i as the serving engine takes it. Its position is its place in the log.
func (l *Log) Freshet(i int) freshet.Event {
	row := &l.Events[i]
	items := make([]freshet.EventItem, row.count)
	for n, item := range l.ItemsOf(row) {
		items[n].ItemID = l.Items.ID(item)
	}
	e := freshet.Event{
		ID: "evaluation-" + strconv.Itoa(i), Type: l.types[row.kind], UserID: l.Users.ID(row.User), Items: items, Time: row.Time, RecordTime: row.Time,
		Position: freshet.Position{Source: freshet.Source{Topic: logTopic, Incarnation: 1}, Offset: int64(i)},
	}
	if !math.IsNaN(row.Value) {
		e.Value = &row.Value
	}
	return e
}
