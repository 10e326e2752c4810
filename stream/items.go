package stream

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"unicode/utf8"

	"freshet"
)

// ItemChange is one record of the items topic: the whole item, or its removal.
type ItemChange struct {
	ItemID   string
	Item     *freshet.Item // nil = removed
	Position freshet.Position
}

// DecodeItem reads a record of the items topic. Items come rarely, so encoding/json serves. A failure is a *freshet.FieldError.
func DecodeItem(r *Record) (ItemChange, error) {
	change := ItemChange{ItemID: string(r.Key), Position: r.position(0)}
	switch {
	case len(r.Key) == 0:
		return change, invalid("key", "missing; the record's key must be the item_id")
	case len(r.Key) > freshet.MaxItemID || !utf8.Valid(r.Key):
		return change, invalid("key", "an item_id has at most %d bytes of UTF-8", freshet.MaxItemID)
	case r.Value == nil:
		return change, nil
	case len(r.Value) > freshet.MaxEventBytes:
		return change, invalid("value", "%d bytes, at most %d", len(r.Value), freshet.MaxEventBytes)
	case !utf8.Valid(r.Value):
		return change, invalid("value", "not valid UTF-8")
	}
	item := new(freshet.Item)
	if err := json.Unmarshal(r.Value, item); err != nil {
		return change, itemError(r.Value, err)
	}
	if err := item.Validate(); err != nil {
		return change, err
	}
	if item.ItemID != change.ItemID {
		return change, invalid("key", "%.64q is not the item_id %.64q", r.Key, item.ItemID)
	}
	change.Item = item
	return change, nil
}

// itemError names the field that encoding/json stumbled over.
func itemError(value []byte, err error) error {
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) && kind.Field != "" {
		return invalid(kind.Field, "want %s, got %s", kind.Type, kind.Value)
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(value, &fields) == nil {
		for _, name := range slices.Sorted(maps.Keys(fields)) {
			one, _ := json.Marshal(map[string]json.RawMessage{name: fields[name]})
			if err := json.Unmarshal(one, new(freshet.Item)); err != nil {
				return invalid(name, "%v", err)
			}
		}
	}
	return invalid("value", "not an item's JSON object: %v", err)
}

// EncodeItem gives the record of an item change, without a topic.
func EncodeItem(c *ItemChange) (Record, error) {
	if c.Item == nil {
		return Record{Key: []byte(c.ItemID)}, nil
	}
	value, err := json.Marshal(c.Item)
	if err != nil {
		return Record{}, fmt.Errorf("encode item %q: %w", c.Item.ItemID, err)
	}
	return Record{Key: []byte(c.Item.ItemID), Value: value}, nil
}
