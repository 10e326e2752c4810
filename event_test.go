package freshet

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func validEvent() Event {
	return Event{ID: "e1", Type: "view", UserID: "u1", Time: 1_700_000_000_000, RecordTime: 1_700_000_000_000, Items: []EventItem{{ItemID: "i1"}}}
}

// Every refusal names the field that is wrong.
func TestValidateNamesTheField(t *testing.T) {
	types, err := NewEventTypes(DefaultEventTypes())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		field  string // "" = valid
		change func(*Event)
	}{
		{"", func(*Event) {}},
		{"event_id", func(e *Event) { e.ID = "" }},
		{"event_id", func(e *Event) { e.ID = strings.Repeat("x", MaxEventID+1) }},
		{"", func(e *Event) { e.ID = strings.Repeat("x", MaxEventID) }},
		{"type", func(e *Event) { e.Type = "" }},
		{"type", func(e *Event) { e.Type = "teleport" }},
		{"user_id", func(e *Event) { e.UserID = "" }},
		{"user_id", func(e *Event) { e.UserID = "a\x00b" }},
		{"user_id", func(e *Event) { e.UserID = "\xff" }},
		{"user_id", func(e *Event) { e.UserID = strings.Repeat("x", MaxUserID+1) }},
		{"timestamp", func(e *Event) { e.Time = -1 }},
		{"timestamp", func(e *Event) { e.Time = MinTime.UnixMilli() - 1 }},
		{"", func(e *Event) { e.Time = MinTime.UnixMilli() }},
		{"timestamp", func(e *Event) { e.Time = e.RecordTime + MaxFuture.Milliseconds() + 1 }},
		{"", func(e *Event) { e.Time = e.RecordTime + MaxFuture.Milliseconds() }},
		{"item_id", func(e *Event) { e.Items = nil }},
		{"item_id", func(e *Event) { e.Items[0].ItemID = strings.Repeat("x", MaxItemID+1) }},
		{"items", func(e *Event) { e.Items = make([]EventItem, MaxEventItems+1) }},
		{"items[1].item_id", func(e *Event) { e.Items = []EventItem{{ItemID: "a"}, {}} }},
		{"", func(e *Event) { e.Type, e.Items = "erase", nil }},
		{"merge_into", func(e *Event) { e.Type, e.Items = "login", nil }},
		{"", func(e *Event) { e.Type, e.Items, e.MergeInto = "login", nil, "u2" }},
		{"item_id", func(e *Event) { e.Type, e.Items = "remove", nil }},
		{"", func(e *Event) { e.Type, e.Items, e.TargetEventID = "remove", nil, "e0" }},
		{"target_event_id", func(e *Event) { e.TargetEventID = strings.Repeat("x", MaxEventID+1) }},
	} {
		e := validEvent()
		c.change(&e)
		err := e.Validate(types, MinTime)
		var field *FieldError
		switch {
		case c.field == "" && err != nil:
			t.Errorf("%+v: %v", e, err)
		case c.field != "" && (!errors.As(err, &field) || field.Field != c.field):
			t.Errorf("%+v: %v, want field %s", e, err, c.field)
		}
	}
}

func TestThresholdTurnsARatingIntoAReject(t *testing.T) {
	types, _ := NewEventTypes(DefaultEventTypes())
	rating, _ := types.Lookup("rating")
	for value, want := range map[float64]Effect{1: Reject, 2.9: Reject, 3: Extend, 5: Extend} {
		if got := rating.EffectOf(&Event{Value: &value}); got != want {
			t.Errorf("a rating of %v: %s, want %s", value, got, want)
		}
	}
	if got := rating.EffectOf(&Event{}); got != Extend {
		t.Errorf("a rating without a value: %s", got)
	}
}

func TestEventTypesRefuseWhatCannotBeMeant(t *testing.T) {
	v := 1.0
	for want, rows := range map[string][]EventType{
		"at least one": {},
		"twice":        {{Name: "a", Effect: Extend}, {Name: "a", Effect: Extend}},
		"effect":       {{Name: "a"}},
		"name":         {{Effect: Extend}},
		"negative":     {{Name: "a", Effect: Extend, Weight: -1}},
		"threshold":    {{Name: "a", Effect: Reject, Threshold: &v}},
	} {
		if _, err := NewEventTypes(rows); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want something about %q", rows, err, want)
		}
	}
	for f := Extend; f <= Login; f++ {
		if back, err := ParseEffect(f.String()); err != nil || back != f {
			t.Errorf("%s became %s (%v)", f, back, err)
		}
	}
	if _, err := ParseEffect("explode"); err == nil {
		t.Error("an unknown effect was read")
	}
}

func TestItemText(t *testing.T) {
	i := Item{ItemID: "i", Title: "Ridge Tent", Categories: []string{"tents", "two person"}, Description: "Light."}
	if got, want := i.Text(), "Ridge Tent. tents, two person. Light."; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	now := time.Now()
	no, past := false, now.Add(-time.Second)
	if !i.Recommendable(now) || (&Item{Available: &no}).Recommendable(now) || (&Item{ExpiresAt: &past}).Recommendable(now) {
		t.Error("availability or expiry is not honoured")
	}
}
