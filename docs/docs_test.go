// Package docs_test holds the code to the published schemas.
package docs_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"freshet"
	"freshet/stream"
)

func schema(t *testing.T, name string) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	s, err := c.Compile("schemas/" + name + ".schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func parse(t *testing.T, b []byte) any {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	return v
}

func decoder(t *testing.T) *stream.Decoder {
	t.Helper()
	types, err := freshet.NewEventTypes(freshet.DefaultEventTypes())
	if err != nil {
		t.Fatal(err)
	}
	d, err := stream.NewDecoder(stream.DecoderConfig{Types: types})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// The decoder and the schema agree about what an event is. Where they cannot (the set of types is configured, the future depends
// on the record), the decoder is stricter, and the row says so.
func TestEventsFollowTheirSchema(t *testing.T) {
	s, d := schema(t, "event"), decoder(t)
	for _, c := range []struct {
		event         string
		schema, codec bool
	}{
		{`{"event_id":"01JD","type":"view","user_id":"u1","item_id":"i9","timestamp":"2026-11-23T10:00:00.123Z","session_id":"s1","surface":"home","rec_id":"events-3-1234","value":4.5,"context":{"device":"ios"}}`, true, true},
		{`{"event_id":"e","type":"purchase","user_id":"u1","items":[{"item_id":"a","quantity":2,"price":9.5},{"item_id":"b"}],"timestamp":1767225600000}`, true, true},
		{`{"event_id":"e","type":"erase","user_id":"u1","timestamp":1767225600000}`, true, true},
		{`{"type":"view","user_id":"u1","item_id":"i9","timestamp":1767225600000}`, false, false},
		{`{"event_id":"","type":"view","user_id":"u1","item_id":"i9","timestamp":1767225600000}`, false, false},
		{`{"event_id":"e","user_id":"u1","item_id":"i9","timestamp":1767225600000}`, false, false},
		{`{"event_id":"e","type":"view","user_id":"u1","item_id":"i9"}`, false, false},
		{`{"event_id":"e","type":"view","user_id":"u1","item_id":"i9","timestamp":"yesterday"}`, false, false},
		{`{"event_id":"e","type":"view","user_id":"u1","item_id":"i9","timestamp":-5}`, false, false},
		{`{"event_id":"e","type":"view","user_id":"u1","item_id":7,"timestamp":1767225600000}`, false, false},
		{`{"event_id":"e","type":"teleport","user_id":"u1","item_id":"i9","timestamp":1767225600000}`, true, false},
		{`{"event_id":"e","type":"view","user_id":"u1","timestamp":1767225600000}`, true, false},
	} {
		if err := s.Validate(parse(t, []byte(c.event))); (err == nil) != c.schema {
			t.Errorf("schema: %v for %s", err, c.event)
		}
		r := stream.Record{Key: []byte("u1"), Value: []byte(c.event), Time: time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC).UnixMilli()}
		if _, err := d.Decode(&r, freshet.Position{}); (err == nil) != c.codec {
			t.Errorf("decoder: %v for %s", err, c.event)
		}
	}
}

func TestWrittenEventsAndItemsFollowTheirSchema(t *testing.T) {
	v := 4.5
	e := freshet.Event{ID: "e1", Type: "rating", UserID: "u\"1", Time: 1_700_000_000_123, Value: &v, SessionID: "s", Surface: "home", RecID: "r",
		Items: []freshet.EventItem{{ItemID: "a", Quantity: 2, Price: 3}, {ItemID: "b"}}, Context: []byte(`{"device":"ios"}`)}
	if err := schema(t, "event").Validate(parse(t, stream.AppendEvent(nil, &e))); err != nil {
		t.Error(err)
	}
	no, at := false, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	item := freshet.Item{ItemID: "i1", Title: "Tent", Categories: []string{"tents"}, Domain: "outdoor", Price: 99, Currency: "EUR", Available: &no,
		PublishedAt: &at, ExpiresAt: &at, Attributes: json.RawMessage(`{"colour":"red"}`), Vectors: map[string][]float32{"image": {1, 2}}}
	r, err := stream.EncodeItem(&stream.ItemChange{ItemID: "i1", Item: &item})
	if err != nil {
		t.Fatal(err)
	}
	if err := schema(t, "item").Validate(parse(t, r.Value)); err != nil {
		t.Error(err)
	}
}

func TestRecordsFollowTheirSchema(t *testing.T) {
	r := freshet.Recommendation{V: 1, CV: 7, Rev: 1234, RecID: "events-3-1234", UserID: "u1", Surface: "home", Lane: "live", Model: "gru-shop@3f9ac2d1",
		Items: []freshet.RecommendedItem{{ItemID: "i7", Score: 1, Reasons: []freshet.Reason{{Source: "sequence", Share: .61, Because: "i9"}, {Source: "popular", Share: .39}}}},
		Event: freshet.RecommendationFrom{Topic: "events", Partition: 3, Offset: 1234, EventID: "01JD", Timestamp: freshet.FormatTime(1_700_000_000_000)}, ComputedAt: freshet.FormatTime(1_700_000_000_000)}
	s := schema(t, "recommendation")
	good := r.AppendJSON(nil)
	if err := s.Validate(parse(t, good)); err != nil {
		t.Error(err)
	}
	bad := bytes.Replace(good, []byte(`"v":1`), []byte(`"v":2`), 1)
	if err := s.Validate(parse(t, bad)); err == nil || !strings.Contains(err.Error(), "/v") {
		t.Errorf("a record of another version passed: %v", err)
	}
}
