package stream

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"freshet"
)

var testTypes, _ = freshet.NewEventTypes(freshet.DefaultEventTypes())

func testDecoder(t testing.TB) *Decoder {
	t.Helper()
	d, err := NewDecoder(DecoderConfig{Types: testTypes, TypePrefix: "com.shop."})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

const (
	plainEvent = `{"event_id":"01JDQ3","type":"view","user_id":"u1","item_id":"i9","timestamp":"2026-11-23T10:00:00.123Z","session_id":"s1","surface":"home","rec_id":"events-3-1234","value":4.5,"context":{"device":"ios"}}`
	trace      = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
)

func headers(kv ...string) []Header {
	var h []Header
	for i := 0; i < len(kv); i += 2 {
		h = append(h, Header{Name: kv[i], Value: []byte(kv[i+1])})
	}
	return h
}

func TestDecodeReadsEveryField(t *testing.T) {
	at := freshet.Position{Source: freshet.Source{Topic: "events", Partition: 3}, Offset: 7}
	r := Record{Key: []byte("u1"), Value: []byte(plainEvent), Headers: headers("traceparent", trace), Time: 1795428000500}
	got, err := testDecoder(t).Decode(&r, at)
	if err != nil {
		t.Fatal(err)
	}
	value := 4.5
	want := freshet.Event{
		ID: "01JDQ3", Type: "view", UserID: "u1", Items: []freshet.EventItem{{ItemID: "i9", Quantity: 1}},
		Time: time.Date(2026, 11, 23, 10, 0, 0, 123e6, time.UTC).UnixMilli(), SessionID: "s1", Surface: "home",
		RecID: "events-3-1234", Value: &value, Context: []byte(`{"device":"ios"}`),
		Position: at, RecordTime: 1795428000500, Traceparent: trace,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestDecodeForms(t *testing.T) {
	want := time.Date(2026, 11, 23, 10, 0, 0, 123e6, time.UTC).UnixMilli()
	base := func(s string) string { return `{"event_id":"e","type":"view","user_id":"u1",` + s + `}` }
	for name, r := range map[string]Record{
		"epoch ms":            {Value: []byte(base(`"item_id":"i9","timestamp":1795428000123`))},
		"epoch ms, exponent":  {Value: []byte(base(`"item_id":"i9","timestamp":1.795428000123e12`))},
		"epoch ms, fraction":  {Value: []byte(base(`"item_id":"i9","timestamp":1795428000123.75`))},
		"another zone":        {Value: []byte(base(`"item_id":"i9","timestamp":"2026-11-23T12:00:00.123+02:00"`))},
		"items":               {Value: []byte(base(`"items":[{"item_id":"i9"}],"timestamp":1795428000123`))},
		"unknown fields":      {Value: []byte(base(`"item_id":"i9","timestamp":1795428000123,"x":[1,{"y":[null,true,"\ud800"]}]`))},
		"null fields":         {Value: []byte(base(`"item_id":"i9","timestamp":1795428000123,"items":null,"context":null,"value":null,"rec_id":null`))},
		"duplicate keys":      {Value: []byte(base(`"item_id":"i0","timestamp":5,"item_id":"i9","timestamp":1795428000123`))},
		"escapes":             {Value: []byte(base(`"item\u005fid":"\u0069\u0039","timestamp":1795428000123`))},
		"white space":         {Value: []byte(" \n" + strings.ReplaceAll(base(`"item_id":"i9","timestamp":1795428000123`), ",", "\t, ") + "\r\n")},
		"binary CloudEvent":   {Value: []byte(`{"user_id":"u1","item_id":"i9"}`), Headers: headers("ce_specversion", "1.0", "ce_id", "e", "ce_source", "/shop", "ce_type", "com.shop.view", "ce_time", "2026-11-23T10:00:00.123Z", "content-type", "application/json; charset=utf-8")},
		"data before headers": {Value: []byte(base(`"item_id":"i9","timestamp":1795428000123`)), Headers: headers("ce_specversion", "1.0", "ce_id", "other", "ce_type", "other", "ce_time", "2001-01-01T00:00:00Z")},
		"structured":          {Value: []byte(`{"specversion":"1.0","id":"e","source":"/shop","type":"com.shop.view","time":"2026-11-23T10:00:00.123Z","data":{"user_id":"u1","item_id":"i9"}}`), Headers: headers("Content-Type", "application/cloudevents+json; charset=UTF-8")},
		"structured, base64":  {Value: []byte(`{"specversion":"1.0","id":"e","type":"view","time":"2026-11-23T10:00:00.123Z","data_base64":"eyJ1c2VyX2lkIjoidTEiLCJpdGVtX2lkIjoiaTkifQ=="}`), Headers: headers("content-type", "application/cloudevents+json")},
	} {
		t.Run(name, func(t *testing.T) {
			r.Key = []byte("u1")
			e, err := testDecoder(t).Decode(&r, freshet.Position{})
			if err != nil {
				t.Fatal(err)
			}
			if e.ID != "e" || e.Type != "view" || e.UserID != "u1" || len(e.Items) != 1 || e.Items[0].ItemID != "i9" || e.Time != want {
				t.Errorf("got %+v", e)
			}
		})
	}
}

func TestDecodeNamesTheFieldThatIsWrong(t *testing.T) {
	base := func(s string) string { return `{"event_id":"e","type":"view","user_id":"u1",` + s + `}` }
	good := base(`"item_id":"i9","timestamp":1795428000123`)
	key := []byte("u1")
	ce := headers("ce_specversion", "1.0")
	for name, c := range map[string]struct {
		field string
		r     Record
	}{
		"null value":            {"value", Record{Key: key}},
		"empty value":           {"value", Record{Key: key, Value: []byte{}}},
		"no JSON":               {"value", Record{Key: key, Value: []byte("hello")}},
		"cut short":             {"value", Record{Key: key, Value: []byte(good[:40])}},
		"two values":            {"value", Record{Key: key, Value: []byte(good + good)}},
		"trailing comma":        {"value", Record{Key: key, Value: []byte(base(`"item_id":"i9","timestamp":1,`))}},
		"an array":              {"value", Record{Key: key, Value: []byte("[]")}},
		"too large":             {"value", Record{Key: key, Value: []byte(base(`"item_id":"i9","timestamp":1795428000123,"x":"` + strings.Repeat("x", 1<<20) + `"`))}},
		"too deep":              {"value", Record{Key: key, Value: []byte(base(`"x":` + strings.Repeat("[", 200)))}},
		"bad UTF-8 in unknown":  {"value", Record{Key: key, Value: []byte(base("\"item_id\":\"i9\",\"timestamp\":1795428000123,\"x\":\"\xff\""))}},
		"bad UTF-8 in item":     {"item_id", Record{Key: key, Value: []byte(base("\"item_id\":\"i\xff\",\"timestamp\":1795428000123"))}},
		"half a surrogate":      {"item_id", Record{Key: key, Value: []byte(base(`"item_id":"i\ud800","timestamp":1795428000123`))}},
		"no event_id":           {"event_id", Record{Key: key, Value: []byte(`{"type":"view","user_id":"u1","item_id":"i","timestamp":1795428000123}`)}},
		"unknown type":          {"type", Record{Key: key, Value: []byte(strings.Replace(good, "view", "stare", 1))}},
		"user as number":        {"user_id", Record{Key: key, Value: []byte(strings.Replace(good, `"u1"`, `1`, 1))}},
		"no item":               {"item_id", Record{Key: key, Value: []byte(base(`"timestamp":1795428000123`))}},
		"item and items":        {"item_id", Record{Key: key, Value: []byte(base(`"item_id":"i","items":[{"item_id":"j"}],"timestamp":1795428000123`))}},
		"items as object":       {"items", Record{Key: key, Value: []byte(base(`"items":{},"timestamp":1795428000123`))}},
		"item as string":        {"items[0]", Record{Key: key, Value: []byte(base(`"items":["i"],"timestamp":1795428000123`))}},
		"201 items":             {"items", Record{Key: key, Value: []byte(base(`"timestamp":1795428000123,"items":[{"item_id":"i"}` + strings.Repeat(`,{"item_id":"i"}`, 200) + `]`))}},
		"no timestamp":          {"timestamp", Record{Key: key, Value: []byte(base(`"item_id":"i"`))}},
		"timestamp in words":    {"timestamp", Record{Key: key, Value: []byte(base(`"item_id":"i","timestamp":"yesterday"`))}},
		"timestamp overflows":   {"timestamp", Record{Key: key, Value: []byte(base(`"item_id":"i","timestamp":1e400`))}},
		"timestamp negative":    {"timestamp", Record{Key: key, Value: []byte(base(`"item_id":"i","timestamp":-5`))}},
		"timestamp in seconds":  {"timestamp", Record{Key: key, Value: []byte(base(`"item_id":"i","timestamp":1795428`))}},
		"timestamp in future":   {"timestamp", Record{Key: key, Value: []byte(good), Time: 1795428000123 - 25*3600*1000}},
		"value overflows":       {"value", Record{Key: key, Value: []byte(base(`"item_id":"i","timestamp":1795428000123,"value":1e999`))}},
		"context as string":     {"context", Record{Key: key, Value: []byte(base(`"item_id":"i","timestamp":1795428000123,"context":"x"`))}},
		"null key":              {"key", Record{Value: []byte(good)}},
		"other key":             {"key", Record{Key: []byte("u2"), Value: []byte(good)}},
		"CloudEvent 0.3":        {"ce_specversion", Record{Key: key, Value: []byte(good), Headers: headers("ce_specversion", "0.3")}},
		"CloudEvent of XML":     {"content-type", Record{Key: key, Value: []byte(good), Headers: append(headers("content-type", "text/xml"), ce...)}},
		"CloudEvent batch":      {"content-type", Record{Key: key, Value: []byte(`[]`), Headers: headers("content-type", "application/cloudevents-batch+json")}},
		"ce_time in words":      {"ce_time", Record{Key: key, Value: []byte(base(`"item_id":"i"`)), Headers: append(headers("ce_time", "noon"), ce...)}},
		"structured, no data":   {"data", Record{Key: key, Value: []byte(`{"specversion":"1.0"}`), Headers: headers("content-type", structuredType)}},
		"structured, version":   {"specversion", Record{Key: key, Value: []byte(`{"data":{}}`), Headers: headers("content-type", structuredType)}},
		"structured, base64":    {"data_base64", Record{Key: key, Value: []byte(`{"specversion":"1.0","data_base64":"*"}`), Headers: headers("content-type", structuredType)}},
		"structured, data type": {"datacontenttype", Record{Key: key, Value: []byte(`{"specversion":"1.0","datacontenttype":"text/xml","data":"x"}`), Headers: headers("content-type", structuredType)}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := testDecoder(t).Decode(&c.r, freshet.Position{})
			var field *freshet.FieldError
			if !errors.As(err, &field) || field.Field != c.field || field.Reason == "" {
				t.Errorf("got %v, want an error of %s", err, c.field)
			}
		})
	}
}

func TestDecodeDropsAnUnsoundTrace(t *testing.T) {
	for _, bad := range []string{"x", strings.ToUpper(trace), "ff" + trace[2:], trace + "-x", "00-" + strings.Repeat("0", 32) + trace[35:]} {
		r := Record{Key: []byte("u1"), Value: []byte(plainEvent), Headers: headers("traceparent", bad)}
		e, err := testDecoder(t).Decode(&r, freshet.Position{})
		if err != nil || e.Traceparent != "" {
			t.Errorf("%q: trace %q, error %v", bad, e.Traceparent, err)
		}
	}
}

func TestEncodedEventDecodesToItself(t *testing.T) {
	value := 2.5
	for _, e := range []freshet.Event{
		{ID: "1", Type: "purchase", UserID: "u\"\u2028é", Items: []freshet.EventItem{{ItemID: "a", Quantity: 2, Price: 9.5}, {ItemID: "b", Quantity: 1}}, Time: 1795428000123, Context: []byte(`{"a":1}`)},
		{ID: "2", Type: "rating", UserID: "u", Items: []freshet.EventItem{{ItemID: "a", Quantity: 1}}, Time: 1795428000123, Value: &value, SessionID: "s", Surface: "video", RecID: "r"},
		{ID: "3", Type: "remove", UserID: "u", Time: 1795428000123, TargetEventID: "1"},
		{ID: "4", Type: "login", UserID: "anon", Time: 1795428000123, MergeInto: "u"},
		{ID: "5", Type: "merged", UserID: "u", Time: 1795428000123, Items: []freshet.EventItem{{ItemID: "a", Quantity: 1, Type: "view", Time: 1795427000123, Origin: 0xfedcba9876543210},
			{ItemID: "b", Quantity: 1, Type: "cart", Time: 1795428000123, Origin: 1}}},
	} {
		r := Record{Key: []byte(e.UserID), Value: AppendEvent(nil, &e)}
		got, err := testDecoder(t).Decode(&r, freshet.Position{})
		if err != nil || !reflect.DeepEqual(got, e) {
			t.Errorf("%s\ngot  %+v, %v\nwant %+v", r.Value, got, err, e)
		}
	}
}

func TestDecodeItem(t *testing.T) {
	yes := true
	item := &freshet.Item{ItemID: "i9", Title: "Boots", Categories: []string{"shoes"}, Price: 9.5, Available: &yes, Attributes: json.RawMessage(`{"a":1}`), Vectors: map[string][]float32{"image": {1, 2}}}
	r, err := EncodeItem(&ItemChange{ItemID: "i9", Item: item})
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeItem(&r)
	if err != nil || !reflect.DeepEqual(got.Item, item) || got.ItemID != "i9" {
		t.Errorf("got %+v, %v", got, err)
	}
	gone, err := DecodeItem(&Record{Key: []byte("i9")})
	if err != nil || gone.Item != nil || gone.ItemID != "i9" {
		t.Errorf("a null value is a removal; got %+v, %v", gone, err)
	}
	for name, c := range map[string]struct{ field, key, value string }{
		"no key":         {"key", "", `{"item_id":"i"}`},
		"other key":      {"key", "j", `{"item_id":"i"}`},
		"no JSON":        {"value", "i", `{`},
		"bad UTF-8":      {"value", "i", "{\"item_id\":\"i\",\"title\":\"\xff\"}"},
		"title a number": {"title", "i", `{"item_id":"i","title":5}`},
		"date in words":  {"expires_at", "i", `{"item_id":"i","expires_at":"soon"}`},
		"negative price": {"price", "i", `{"item_id":"i","price":-1}`},
		"no item_id":     {"item_id", "i", `{"title":"x"}`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := DecodeItem(&Record{Key: []byte(c.key), Value: []byte(c.value)})
			var field *freshet.FieldError
			if !errors.As(err, &field) || field.Field != c.field {
				t.Errorf("got %v, want an error of %s", err, c.field)
			}
		})
	}
}

// FuzzDecodeEvent holds the scanner to encoding/json: what one refuses as JSON the other refuses, and an event that is read can be
// written and read again.
func FuzzDecodeEvent(f *testing.F) {
	for _, s := range []string{plainEvent, `{}`, `null`, `{"timestamp":1e400}`, `{"a":[1,-0.5e+3,{"b":"\ud834\udd1e"}],"a":null}`, `{"a":01}`, `{"\u0000":tru}`, `{"items":[{"item_id":"x","price":1},]}`, "{\"a\":\"\xff\"}", `{"a":"\ud800\ud800\udc00"}`} {
		f.Add([]byte(s), "u1")
	}
	d := testDecoder(f)
	f.Fuzz(func(t *testing.T, value []byte, key string) {
		s := scanner{b: value}
		s.skip()
		s.end()
		deep := s.err != nil && strings.Contains(s.err.Error(), "nested deeper")
		if valid := json.Valid(value); (s.err == nil) != valid && !deep {
			t.Fatalf("encoding/json says valid=%v, the scanner says %v: %q", valid, s.err, value)
		}
		e, err := d.Decode(&Record{Key: []byte(key), Value: value}, freshet.Position{})
		if err != nil {
			var field *freshet.FieldError
			if !errors.As(err, &field) || field.Field == "" {
				t.Fatalf("not a FieldError: %v", err)
			}
			return
		}
		if !utf8.Valid(value) {
			t.Fatalf("bad UTF-8 was read: %q", value)
		}
		var plain struct {
			ID   string   `json:"event_id"`
			User string   `json:"user_id"`
			V    *float64 `json:"value"`
		}
		if json.Unmarshal(value, &plain) == nil && plain.User != e.UserID && !strings.Contains(strings.ToLower(string(value)), `\u`) && plain.ID == e.ID {
			// encoding/json matches names regardless of case; only an exact user_id is ours.
			var exact map[string]json.RawMessage
			_ = json.Unmarshal(value, &exact)
			var user string
			if json.Unmarshal(exact["user_id"], &user) == nil && user != e.UserID {
				t.Fatalf("user %q, encoding/json reads %q", e.UserID, user)
			}
		}
		readAgain(t, d, key, &e)
		if e.Value != nil && (math.IsInf(*e.Value, 0) || math.IsNaN(*e.Value)) {
			t.Fatal("a value that is no number")
		}
	})
}

func FuzzCloudEvent(f *testing.F) {
	f.Add([]byte(`{"user_id":"u1","item_id":"i9"}`), "1.0", "e", "com.shop.view", "2026-11-23T10:00:00Z", "application/json")
	f.Add([]byte(`{"specversion":"1.0","id":"e","type":"view","time":"2026-11-23T10:00:00Z","data":{"user_id":"u1","item_id":"i9"}}`), "", "", "", "", structuredType)
	f.Add([]byte(`{"specversion":"1.0","data_base64":"e30="}`), "", "", "", "", structuredType)
	f.Add([]byte("{\"specversion\":\"\xff\"}"), "1.0", "\xff", "", "", "application/cloudevents+avro")
	d := testDecoder(f)
	f.Fuzz(func(t *testing.T, value []byte, version, id, typ, at, content string) {
		r := Record{Key: []byte("u1"), Value: value, Headers: headers("ce_specversion", version, "ce_id", id, "ce_type", typ, "ce_time", at, "content-type", content)}
		e, err := d.Decode(&r, freshet.Position{})
		var field *freshet.FieldError
		if err != nil && (!errors.As(err, &field) || field.Field == "") {
			t.Fatalf("not a FieldError: %v", err)
		}
		if err != nil {
			return
		}
		if e.UserID != "u1" || e.ID == "" || !utf8.ValidString(e.ID) {
			t.Fatalf("%+v", e)
		}
		readAgain(t, d, "u1", &e)
	})
}

// readAgain holds that an event that was read is written as what is read as the same event.
func readAgain(t *testing.T, d *Decoder, key string, e *freshet.Event) {
	t.Helper()
	value := AppendEvent(nil, e)
	again, err := d.Decode(&Record{Key: []byte(key), Value: value}, freshet.Position{})
	if err != nil {
		t.Fatalf("read again: %v\nwritten %q of %+v", err, value, e)
	}
	want := *e
	want.RecordTime, want.Traceparent = again.RecordTime, again.Traceparent // where and how it came is no part of it
	if !reflect.DeepEqual(again, want) {
		t.Fatalf("read again: %+v\nfirst: %+v\nwritten %q", again, want, value)
	}
}

func FuzzDecodeItem(f *testing.F) {
	f.Add([]byte("i9"), []byte(`{"item_id":"i9","title":"Boots","categories":["a"],"price":1.5,"published_at":"2026-11-23T10:00:00Z","vectors":{"image":[1,2]}}`))
	f.Add([]byte("i"), []byte(`{"item_id":"i","vectors":{"a":[1e99]}}`))
	f.Add([]byte(""), []byte(nil))
	f.Add([]byte("\xff"), []byte(`{"expires_at":5}`))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		c, err := DecodeItem(&Record{Key: key, Value: value})
		var field *freshet.FieldError
		if err != nil {
			if !errors.As(err, &field) || field.Field == "" {
				t.Fatalf("not a FieldError: %v", err)
			}
			return
		}
		if c.ItemID != string(key) || c.Item != nil && c.Item.ItemID != c.ItemID {
			t.Fatalf("%+v of key %q", c, key)
		}
		r, err := EncodeItem(&c)
		if err != nil {
			t.Fatal(err)
		}
		again, err := DecodeItem(&r)
		if err != nil || again.ItemID != c.ItemID {
			t.Fatalf("read again: %+v, %v", again, err)
		}
		if twice, err := EncodeItem(&again); err != nil || !bytes.Equal(twice.Value, r.Value) {
			t.Fatalf("written %q, read and written again %q, %v", r.Value, twice.Value, err)
		}
	})
}

// FuzzDeadLetter holds that a letter gives back the record as it was received, whatever the record holds, and that it cannot be taken
// for another one.
func FuzzDeadLetter(f *testing.F) {
	f.Add([]byte("u1"), []byte(plainEvent), "a", []byte("1"), int32(3), int64(7), "no such thing")
	f.Add([]byte(nil), []byte(nil), headerTopic, []byte("forged"), int32(0), int64(0), "")
	f.Add([]byte("\xff"), []byte("{"), headerRedriven, []byte("2"), int32(-1), int64(-1), strings.Repeat("x", messageBytes+1))
	letters, err := NewDeadLetters(&Producer{}, "dlq", 2*keptBytes)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, key, value []byte, name string, header []byte, partition int32, offset int64, message string) {
		in := Record{Key: key, Value: value, Headers: []Header{{name, header}}, Topic: "events", Partition: partition, Offset: offset}
		r := letters.record(&DeadLetter{Record: in, Stage: StageDecode, Err: errors.New(message)}, letters.max)
		out, err := ParseDeadLetter(&r)
		if err != nil {
			t.Fatal(err)
		}
		if out.Topic != "events" || out.Partition != partition || out.Offset != offset || out.Stage != StageDecode {
			t.Fatalf("%+v", out)
		}
		if !out.Truncated && (!bytes.Equal(out.Value, value) || !bytes.Equal(out.Key, key) || len(out.Headers) != 1 || out.Headers[0].Name != name || !bytes.Equal(out.Headers[0].Value, header)) {
			t.Fatalf("received %q %q %q, the letter gives %+v", key, value, header, out)
		}
		back, err := out.Redrive()
		if err != nil {
			return // cut: it cannot be sent back
		}
		if n, _ := back.Header(headerRedriven); string(n) != strconv.Itoa(out.Redriven+1) || !bytes.Equal(back.Value, value) {
			t.Fatalf("sent back as %+v", back)
		}
	})
}

func BenchmarkDecodeEvent(b *testing.B) {
	d := testDecoder(b)
	many := `{"event_id":"01JDQ3","type":"purchase","user_id":"u1","timestamp":1795428000123,"items":[` + strings.Repeat(`{"item_id":"item-0001","quantity":1,"price":12.5},`, 19) + `{"item_id":"z"}]}`
	for _, c := range []struct {
		name string
		r    Record
	}{
		{"form=plain/items=1", Record{Key: []byte("u1"), Value: []byte(plainEvent)}},
		{"form=plain/items=20", Record{Key: []byte("u1"), Value: []byte(many)}},
		{"form=binary/items=1", Record{Key: []byte("u1"), Value: []byte(plainEvent), Headers: headers("ce_specversion", "1.0", "ce_id", "e", "ce_type", "view", "ce_time", "2026-11-23T10:00:00Z", "content-type", "application/json")}},
		{"form=structured/items=1", Record{Key: []byte("u1"), Value: []byte(`{"specversion":"1.0","id":"e","type":"view","time":"2026-11-23T10:00:00Z","data":` + plainEvent + `}`), Headers: headers("content-type", structuredType)}},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(c.r.Value)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := d.Decode(&c.r, freshet.Position{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("form=plain/items=1/by=encoding-json", func(b *testing.B) { // what the scanner replaces: no validation, no limits
		b.SetBytes(int64(len(plainEvent)))
		b.ReportAllocs()
		for b.Loop() {
			var e struct {
				ID        string          `json:"event_id"`
				Type      string          `json:"type"`
				UserID    string          `json:"user_id"`
				ItemID    string          `json:"item_id"`
				Timestamp json.RawMessage `json:"timestamp"`
				SessionID string          `json:"session_id"`
				Surface   string          `json:"surface"`
				RecID     string          `json:"rec_id"`
				Value     *float64        `json:"value"`
				Context   json.RawMessage `json:"context"`
			}
			if err := json.Unmarshal([]byte(plainEvent), &e); err != nil {
				b.Fatal(err)
			}
		}
	})
}
