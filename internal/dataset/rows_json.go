package dataset

import (
	"encoding/json"
	"fmt"
	"strings"

	"freshet"
)

// jsonRows reads one object a line: a freshet event, a structured CloudEvent around one, a flat object with the columns of a
// table, or an OTTO session with its events.
type jsonRows struct {
	lines   lines
	pending []row
}

func (s *jsonRows) untimed() bool       { return false }
func (s *jsonRows) defaultType() string { return "view" }

func (s *jsonRows) next() (row, error) {
	for len(s.pending) == 0 {
		line, err := s.lines.next()
		if err != nil {
			return row{}, err
		}
		var o map[string]json.RawMessage
		if err := json.Unmarshal(line, &o); err != nil {
			return row{}, badRow(s.lines.n, "", "no JSON object: %w", err)
		}
		if o["session"] != nil && o["events"] != nil {
			if s.pending, err = sessionRows(o, s.lines.n); err != nil {
				return row{}, err
			}
			continue
		}
		return objectRow(o, s.lines.n)
	}
	w := s.pending[0]
	s.pending = s.pending[1:]
	return w, nil
}

// sessionRows reads {"session":1,"events":[{"aid":2,"ts":3,"type":"clicks"},...]}.
func sessionRows(o map[string]json.RawMessage, line int) ([]row, error) {
	var events []struct {
		Aid  json.RawMessage `json:"aid"`
		TS   json.RawMessage `json:"ts"`
		Type string          `json:"type"`
	}
	if err := json.Unmarshal(o["events"], &events); err != nil {
		return nil, badRow(line, "events", "%w", err)
	}
	session := jsonText(o["session"])
	rows := make([]row, 0, len(events))
	for _, e := range events {
		rows = append(rows, row{line: line, user: session, session: session, item: jsonText(e.Aid), time: jsonText(e.TS), kind: e.Type, timeField: "ts"})
	}
	return rows, nil
}

func objectRow(o map[string]json.RawMessage, line int) (row, error) {
	id := ""
	if o["specversion"] != nil && o["data"] != nil {
		id = jsonText(o["id"])
		kind := o["type"]
		var data map[string]json.RawMessage
		if err := json.Unmarshal(o["data"], &data); err != nil {
			return row{}, badRow(line, "data", "no JSON object: %w", err)
		}
		if o = data; o["type"] == nil && kind != nil {
			o["type"] = kind
		}
	}
	w := row{line: line, user: pick(o, userNames), item: pick(o, itemNames), time: pick(o, timeNames), kind: pick(o, typeNames),
		value: pick(o, valueNames), id: or(pick(o, eventIDNames), id), session: pick(o, sessionNames), surface: pick(o, surfaceNames),
		recID: pick(o, recIDNames), target: pick(o, targetNames), mergeInto: pick(o, mergeNames)}
	if raw := o["items"]; len(raw) > 0 && string(raw) != "null" {
		w.items = raw
	}
	if raw := o["context"]; len(raw) > 0 && string(raw) != "null" {
		if raw[0] != '{' {
			return row{}, badRow(line, "context", "must be a JSON object")
		}
		w.context = raw
	}
	if w.time == "" {
		return row{}, badRow(line, "timestamp", "missing")
	}
	return w, nil
}

func jsonItems(raw json.RawMessage) ([]freshet.EventItem, error) {
	var items []struct {
		ItemID   json.RawMessage `json:"item_id"`
		Quantity float64         `json:"quantity"`
		Price    float64         `json:"price"`
	}
	if err := json.Unmarshal(raw, &items); err != nil {
		return nil, fmt.Errorf("no list of {item_id, quantity, price}: %w", err)
	}
	out := make([]freshet.EventItem, len(items))
	for i, it := range items {
		out[i] = freshet.EventItem{ItemID: jsonText(it.ItemID), Quantity: it.Quantity, Price: it.Price}
	}
	return out, nil
}

// pick gives the text of the first wanted member that is there.
func pick(o map[string]json.RawMessage, wanted []string) string {
	for _, w := range wanted {
		if raw, ok := o[w]; ok {
			if s := jsonText(raw); s != "" {
				return s
			}
		}
	}
	for _, w := range wanted { // other spellings: UserID, itemId
		for name, raw := range o {
			if len(name) == len(w) && strings.EqualFold(name, w) {
				return jsonText(raw)
			}
		}
	}
	return ""
}

// jsonText is a JSON scalar as text: a string's content, a number as written, nothing for null.
func jsonText(raw json.RawMessage) string {
	if len(raw) == 0 || string(raw) == "null" {
		return ""
	}
	if raw[0] == '"' {
		var s string
		if json.Unmarshal(raw, &s) == nil {
			return s
		}
	}
	return string(raw)
}
