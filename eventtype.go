package freshet

import (
	"fmt"
	"strings"
)

// Effect is what an event does to a profile.
type Effect uint8

// The effects.
const (
	Extend  Effect = iota + 1 // appends its items to the window and steps the model
	Reject                    // keeps the item out of the user's lists; the window stays
	Retract                   // takes an earlier entry out of the window; the state is refolded
	Observe                   // touches no profile (impressions): joins and counters only
	Erase                     // replaces the profile by a tombstone
	Login                     // names the user an anonymous id belongs to
	Merge                     // brings what an anonymous id did to the user that it belongs to
)

var effectNames = [...]string{Extend: "extend", Reject: "reject", Retract: "retract", Observe: "observe", Erase: "erase", Login: "login", Merge: "merge"}

func (f Effect) String() string {
	if f >= Extend && int(f) < len(effectNames) {
		return effectNames[f]
	}
	return fmt.Sprintf("effect(%d)", uint8(f))
}

// ParseEffect reads the name of an effect.
func ParseEffect(s string) (Effect, error) {
	for f := Extend; int(f) < len(effectNames); f++ {
		if effectNames[f] == s {
			return f, nil
		}
	}
	return 0, fmt.Errorf("unknown effect %q: use one of %s", s, strings.Join(effectNames[Extend:], ", "))
}

func (f Effect) needsItem() bool { return f != Erase && f != Login }

// EventType is one row of configuration: what events of that name do and how much they weigh.
type EventType struct {
	Name   string
	Effect Effect
	Weight float64 // strength in counts and popularity, relative to 1
	Task   string  // the head that learns from it: "click" or "purchase"; "" = none
	// Threshold turns an extend type into a reject below that value ("rating"); nil = never.
	Threshold *float64
	// Retracts names the type a retraction looks for first ("cart"); "" = the latest entry of the item.
	Retracts string
}

// EventTypes is the configured set of types. The zero value knows none.
type EventTypes struct {
	byName map[string]EventType
	names  []string
}

// NewEventTypes builds the set, refusing rows that cannot be meant.
func NewEventTypes(rows []EventType) (*EventTypes, error) {
	s := &EventTypes{byName: make(map[string]EventType, len(rows))}
	for i, r := range rows {
		switch {
		case r.Name == "" || len(r.Name) > 32:
			return nil, fmt.Errorf("events.types[%d].name: 1 to 32 bytes, got %q", i, r.Name)
		case s.byName[r.Name].Name != "":
			return nil, fmt.Errorf("events.types[%d].name: %q is there twice", i, r.Name)
		case r.Effect < Extend || r.Effect > Merge:
			return nil, fmt.Errorf("events.types[%d].effect: %q needs an effect", i, r.Name)
		case r.Weight < 0:
			return nil, fmt.Errorf("events.types[%d].weight: %v is negative", i, r.Weight)
		case r.Threshold != nil && r.Effect != Extend:
			return nil, fmt.Errorf("events.types[%d].threshold: only an extend type has one", i)
		}
		s.byName[r.Name] = r
		s.names = append(s.names, r.Name)
	}
	if len(s.names) == 0 {
		return nil, fmt.Errorf("events.types: at least one type is needed")
	}
	if len(s.names) > maxTypes {
		return nil, fmt.Errorf("events.types: %d types, at most %d", len(s.names), maxTypes)
	}
	return s, nil
}

// Lookup finds a type by name.
func (s *EventTypes) Lookup(name string) (EventType, bool) {
	t, ok := s.byName[name]
	return t, ok
}

// Merged names the type that logins produce; "" = there is none, and logins name users without bringing anything.
func (s *EventTypes) Merged() string {
	for _, name := range s.names {
		if s.byName[name].Effect == Merge {
			return name
		}
	}
	return ""
}

// Names lists the types in configured order.
func (s *EventTypes) Names() []string { return s.names }

func (s *EventTypes) String() string { return strings.Join(s.names, ", ") }

// EffectOf gives the effect of one event: its type's, or reject below the type's threshold.
func (t EventType) EffectOf(e *Event) Effect {
	if t.Threshold != nil && e.Value != nil && *e.Value < *t.Threshold {
		return Reject
	}
	return t.Effect
}

// DefaultEventTypes are the types of docs/contracts.md. A rating below 3 (of 5) rejects.
func DefaultEventTypes() []EventType {
	three := 3.0
	return []EventType{
		{Name: "view", Effect: Extend, Weight: 1, Task: "click"},
		{Name: "click", Effect: Extend, Weight: 1, Task: "click"},
		{Name: "cart", Effect: Extend, Weight: 3, Task: "click"},
		{Name: "purchase", Effect: Extend, Weight: 5, Task: "purchase"},
		{Name: "like", Effect: Extend, Weight: 2, Task: "click"},
		{Name: "play", Effect: Extend, Weight: 1, Task: "click"},
		{Name: "rating", Effect: Extend, Weight: 1, Task: "click", Threshold: &three},
		{Name: "dislike", Effect: Reject},
		{Name: "remove", Effect: Retract, Retracts: "cart"},
		{Name: "impression", Effect: Observe},
		{Name: "erase", Effect: Erase},
		{Name: "login", Effect: Login},
		{Name: "merged", Effect: Merge},
	}
}
