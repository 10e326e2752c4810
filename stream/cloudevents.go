package stream

import (
	"encoding/base64"
	"strings"
	"unicode/utf8"

	"freshet"
)

// cloud is what a CloudEvent says about its data. It stands in where the data says nothing.
type cloud struct {
	id, typ, time, trace string
}

const structuredType = "application/cloudevents+json"

// unwrap finds the event's own fields: in the data of a structured CloudEvent, else in the value. contentType decides, as the
// Kafka binding of CloudEvents 1.0 wants it.
func (d *Decoder) unwrap(r *Record) (cloud, []byte, error) {
	if len(r.Headers) == 0 {
		return cloud{}, r.Value, nil
	}
	content := contentType(r)
	switch {
	case content == structuredType:
		return structured(r.Value)
	case strings.HasPrefix(content, "application/cloudevents"):
		return cloud{}, nil, invalid("content-type", "%.64q; of CloudEvents' formats only %s is read", content, structuredType)
	}
	version, ok := r.Header("ce_specversion")
	if !ok {
		return cloud{}, r.Value, nil
	}
	if string(version) != "1.0" {
		return cloud{}, nil, invalid("ce_specversion", "%.16q; this build reads 1.0", version)
	}
	if content != "" && !jsonType(content) {
		return cloud{}, nil, invalid("content-type", "%.64q; the data must be JSON", content)
	}
	c := cloud{}
	for _, h := range [...]struct {
		name string
		to   *string
	}{{"ce_id", &c.id}, {"ce_type", &c.typ}, {"ce_time", &c.time}, {"ce_traceparent", &c.trace}} {
		value, _ := r.Header(h.name)
		if !utf8.Valid(value) {
			return cloud{}, nil, invalid(h.name, "not valid UTF-8")
		}
		*h.to = string(value)
	}
	return c, r.Value, nil
}

// contentType is the media type without its parameters, in lower case.
func contentType(r *Record) string {
	for i := len(r.Headers) - 1; i >= 0; i-- {
		if strings.EqualFold(r.Headers[i].Name, "content-type") {
			media, _, _ := strings.Cut(string(r.Headers[i].Value), ";")
			return strings.ToLower(strings.TrimSpace(media))
		}
	}
	return ""
}

func jsonType(content string) bool {
	return content == "application/json" || content == "text/json" || strings.HasSuffix(content, "+json")
}

// structured reads the envelope of a structured CloudEvent and gives the bytes of its data.
func structured(value []byte) (cloud, []byte, error) {
	s := scanner{b: value}
	if s.peek() != '{' {
		s.wrong("value", "a CloudEvent's JSON object")
		return cloud{}, nil, s.err
	}
	var c cloud
	var data, base64Data []byte
	version := ""
	for first := s.open('{'); s.more(first, '}'); first = false {
		switch string(s.name()) {
		case "specversion":
			version = string(s.stringField("specversion"))
		case "id":
			c.id = string(s.stringField("id"))
		case "type":
			c.typ = string(s.stringField("type"))
		case "time":
			c.time = string(s.stringField("time"))
		case "traceparent":
			c.trace = string(s.stringField("traceparent"))
		case "datacontenttype":
			if t := string(s.stringField("datacontenttype")); s.err == nil && t != "" && !jsonType(mediaType(t)) {
				s.err = invalid("datacontenttype", "%.64q; the data must be JSON", t)
			}
		case "data":
			data = s.skip()
		case "data_base64":
			base64Data = append([]byte(nil), s.stringField("data_base64")...)
		default:
			s.skip()
		}
	}
	s.end()
	switch {
	case s.err != nil:
		return c, nil, s.err
	case version != "1.0":
		return c, nil, invalid("specversion", "%.16q; this build reads 1.0", version)
	case data != nil && base64Data != nil:
		return c, nil, invalid("data_base64", "there beside data; use one of the two")
	case base64Data != nil:
		n, err := base64.StdEncoding.Decode(base64Data, base64Data)
		if err != nil {
			return c, nil, invalid("data_base64", "%v", err)
		}
		return c, base64Data[:n], nil
	case data == nil:
		return c, nil, invalid("data", "missing; it holds the event's fields")
	}
	return c, data, nil
}

func mediaType(t string) string {
	media, _, _ := strings.Cut(t, ";")
	return strings.ToLower(strings.TrimSpace(media))
}

// fill puts the envelope's words where the data had none, and takes over the trace.
func (d *Decoder) fill(e *freshet.Event, r *Record, c *cloud) error {
	if e.ID == "" {
		e.ID = c.id
	}
	if e.Type == "" && c.typ != "" {
		e.Type = d.intern([]byte(strings.TrimPrefix(c.typ, d.prefix)))
	}
	if e.Time == absentTime && c.time != "" {
		s := scanner{b: freshet.AppendJSONString(nil, c.time)}
		if e.Time = s.timestamp("ce_time"); s.err != nil {
			return s.err
		}
	}
	if e.Time == absentTime {
		return invalid("timestamp", "missing; give RFC 3339 or Unix milliseconds")
	}
	if len(r.Headers) == 0 {
		return nil
	}
	trace, _ := r.Header("traceparent")
	if e.Traceparent = string(trace); !soundTrace(e.Traceparent) {
		e.Traceparent = c.trace
	}
	if !soundTrace(e.Traceparent) {
		e.Traceparent = ""
	}
	return nil
}

// soundTrace checks the form of a W3C traceparent: version-trace-parent-flags in lower-case hexadecimal. One that is not sound is
// dropped, as the recommendation wants; it is no reason to refuse an event.
func soundTrace(t string) bool {
	if len(t) < 55 || t[:2] == "ff" || t[2] != '-' || t[35] != '-' || t[52] != '-' || len(t) > 55 && (t[:2] == "00" || t[55] != '-') {
		return false
	}
	zero := true
	for i := 0; i < 55; i++ {
		c := t[i]
		if i == 2 || i == 35 || i == 52 {
			if i > 2 && zero {
				return false
			}
			zero = true
			continue
		}
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
		zero = zero && c == '0'
	}
	return true
}
