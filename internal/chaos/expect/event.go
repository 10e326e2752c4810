package expect

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"time"
	"unicode/utf8"
)

// Record is one record of the events topic.
type Record struct {
	Partition int32
	Offset    int64
	Time      int64 // the record's own timestamp, Unix milliseconds
	Key       []byte
	Value     []byte
}

// Event is what a readable record says.
type Event struct {
	ID, Type, User, Target string
	Items                  []string
	Time                   int64 // Unix milliseconds
	Value                  *float64
	At                     Place
}

// Place is where in the log an event lies.
type Place struct {
	Partition int32 `json:"partition"`
	Offset    int64 `json:"offset"`
}

// What events of a type do to a profile.
const (
	extend = iota + 1
	reject
	retract
	observe
	erase
	login
)

var effects = map[string]int{
	"view": extend, "click": extend, "cart": extend, "purchase": extend, "like": extend, "play": extend, "rating": extend,
	"dislike": reject, "remove": retract, "impression": observe, "erase": erase, "login": login,
}

// ratingThreshold: a rating below it rejects.
const ratingThreshold = 3

var minTime = time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()

// Decode reads an event, or says why the record is poison.
func Decode(r *Record) (*Event, error) {
	switch {
	case r.Value == nil:
		return nil, errors.New("value: null")
	case len(r.Value) > 1<<20:
		return nil, errors.New("value: over 1 MiB")
	case !utf8.Valid(r.Value):
		return nil, errors.New("value: not UTF-8")
	}
	var raw struct {
		ID     string          `json:"event_id"`
		Type   string          `json:"type"`
		User   string          `json:"user_id"`
		Item   string          `json:"item_id"`
		Target string          `json:"target_event_id"`
		Merge  string          `json:"merge_into"`
		Time   json.RawMessage `json:"timestamp"`
		Value  *float64        `json:"value"`
		Items  []struct {
			ID string `json:"item_id"`
		} `json:"items"`
	}
	if err := json.Unmarshal(r.Value, &raw); err != nil {
		return nil, err
	}
	e := &Event{ID: raw.ID, Type: raw.Type, User: raw.User, Target: raw.Target, Value: raw.Value, At: Place{r.Partition, r.Offset}}
	for _, i := range raw.Items {
		e.Items = append(e.Items, i.ID)
	}
	if raw.Item != "" {
		e.Items = []string{raw.Item}
	}
	var err error
	if e.Time, err = parseTime(raw.Time); err != nil {
		return nil, err
	}
	return e, e.judge(r, raw.Merge)
}

func parseTime(raw json.RawMessage) (int64, error) {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		t, err := time.Parse(time.RFC3339Nano, text)
		return t.UnixMilli(), err
	}
	var ms float64
	if err := json.Unmarshal(raw, &ms); err != nil {
		return 0, fmt.Errorf("timestamp: %w", err)
	}
	return int64(math.Floor(ms)), nil
}

func (e *Event) judge(r *Record, merge string) error {
	effect := effects[e.Type]
	switch {
	case effect == 0:
		return fmt.Errorf("type: %q", e.Type)
	case e.Time < minTime:
		return errors.New("timestamp: too early")
	case e.Time > r.Time+24*3600*1000:
		return errors.New("timestamp: in the future")
	case len(e.Items) > 200:
		return errors.New("items: more than 200")
	case len(e.Items) == 0 && effect <= observe && (effect != retract || e.Target == ""):
		return errors.New("item_id: missing")
	case r.Key == nil || string(r.Key) != e.User:
		return errors.New("key: not the user_id")
	}
	ids := []struct {
		name, id string
		most     int
	}{{"event_id", e.ID, 128}, {"user_id", e.User, 256}}
	for _, i := range e.Items {
		ids = append(ids, struct {
			name, id string
			most     int
		}{"item_id", i, 128})
	}
	if effect == login {
		ids = append(ids, struct {
			name, id string
			most     int
		}{"merge_into", merge, 256})
	}
	for _, x := range ids {
		if !validID(x.id, x.most) {
			return fmt.Errorf("%s: %.40q", x.name, x.id)
		}
	}
	if e.Target != "" && !validID(e.Target, 128) {
		return errors.New("target_event_id")
	}
	return nil
}

func validID(id string, most int) bool {
	if id == "" || len(id) > most {
		return false
	}
	for _, r := range id {
		if r == 0 {
			return false
		}
	}
	return true
}

// effect is what this very event does: a rating below the threshold rejects.
func (e *Event) effect() int {
	if e.Type == "rating" && e.Value != nil && *e.Value < ratingThreshold {
		return reject
	}
	return effects[e.Type]
}

// hash is the 64 bits under which a profile remembers an event id: FNV-1a.
func hash(id string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(id))
	return h.Sum64()
}
