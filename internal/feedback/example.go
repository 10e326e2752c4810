package feedback

import (
	"encoding/json"
	"fmt"
)

// Example is one list that a user was shown, joined with what he did next: a record of the topic training-examples, version 1. The key
// is the user. Times are Unix milliseconds of event time.
type Example struct {
	V         int       `json:"v"`
	ID        string    `json:"id"` // the same for every copy: the list's rec_id and the event_id of its first impression
	UserID    string    `json:"user_id"`
	RecID     string    `json:"rec_id,omitempty"` // as the impression named it
	Surface   string    `json:"surface,omitempty"`
	Lane      string    `json:"lane,omitempty"`  // as rec_id tells; the model is known where the list still stood when the impression was read
	Model     string    `json:"model,omitempty"` //
	Arm       string    `json:"arm,omitempty"`   // which weights made the list, with which probability: known as lane and model are
	ArmP      float64   `json:"arm_propensity,omitempty"`
	ShownAt   int64     `json:"shown_at"` // of the first impression
	Items     []Shown   `json:"items"`    // in the order shown
	Elsewhere []Outcome `json:"elsewhere,omitempty"`
}

// Shown is one item that was before the user's eyes.
type Shown struct {
	ItemID     string    `json:"item_id"`
	ShownAt    int64     `json:"shown_at"`
	Place      int       `json:"place,omitempty"`      // in the list, from 1; 0 = not known
	Score      float64   `json:"score,omitempty"`      // in the list
	Source     string    `json:"source,omitempty"`     // strongest reason in the list
	Propensity float64   `json:"propensity,omitempty"` // with which probability it was drawn for its place; 0 = it was not drawn
	Outcomes   []Outcome `json:"outcomes,omitempty"`
}

// Outcome is a behaviour after an item was shown. ItemID is set only elsewhere: a behaviour with an item that was not shown.
type Outcome struct {
	EventID string   `json:"event_id"`
	ItemID  string   `json:"item_id,omitempty"`
	Type    string   `json:"type"`
	Time    int64    `json:"timestamp"`
	Value   *float64 `json:"value,omitempty"`
}

// Erasure is the other record of the topic: whoever keeps examples must drop those of the user that were shown up to then.
type Erasure struct {
	V        int    `json:"v"`
	UserID   string `json:"user_id"`
	ErasedAt int64  `json:"erased_at"`
}

// Collection is what a reader of the topic keeps: one example of each id, none that was erased.
type Collection struct {
	Examples []Example // in order of arrival
	Twice    int       // copies that were dropped
	Erased   int       // examples dropped because the user was erased
}

// Collect takes records of the topic in, in the order of each partition.
type Collect struct {
	examples []Example
	known    map[string]bool
	erased   map[string]int64
	twice    int
}

// Add takes one record in.
func (c *Collect) Add(value []byte) error {
	var r struct {
		Example
		ErasedAt int64 `json:"erased_at"`
	}
	if err := json.Unmarshal(value, &r); err != nil {
		return fmt.Errorf("read a training example: %w", err)
	}
	if c.known == nil {
		c.known, c.erased = map[string]bool{}, map[string]int64{}
	}
	switch {
	case r.ErasedAt > 0:
		c.erased[r.UserID] = max(c.erased[r.UserID], r.ErasedAt)
	case r.V != 1 || r.ID == "":
		return fmt.Errorf("read a training example: version %d, id %q; this program reads version 1", r.V, r.ID)
	case c.known[r.UserID+"\x00"+r.ID]:
		c.twice++
	default:
		c.known[r.UserID+"\x00"+r.ID] = true
		c.examples = append(c.examples, r.Example)
	}
	return nil
}

// Result gives what is to be kept.
func (c *Collect) Result() Collection {
	out := Collection{Twice: c.twice}
	for _, e := range c.examples {
		if e.ShownAt <= c.erased[e.UserID] {
			out.Erased++
			continue
		}
		out.Examples = append(out.Examples, e)
	}
	return out
}
