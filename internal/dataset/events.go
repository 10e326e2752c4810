package dataset

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"math"
	"strconv"
	"strings"
	"time"

	"freshet"
)

// Options of a reader. The zero value reads every known format with freshet's default event types.
type Options struct {
	Strict bool            // end at the first bad row; default: report it and go on
	OnBad  func(*RowError) // told of every bad row that is left out; default nobody, Bad() still counts

	// Type is the event type of rows that name none. Default: what the format suggests ("rating" where there are ratings and in
	// MovieLens sequences, "click" in session files, else "view").
	Type string
	// TypeNames maps the file's names of event types to configured ones, before the built-in aliases (clicks, addtocart, ...).
	TypeNames map[string]string
	Types     *freshet.EventTypes // configured types, against which rows are validated; default freshet.DefaultEventTypes
	MinTime   time.Time           // earliest believable event time; default freshet.MinTime

	// Files without times get Start for every event (default 2000-01-01 UTC) plus Step for each earlier event of the same
	// user. Default 0: equal times keep the file's order and a time gap of 0, which is what the trainer sees.
	Start time.Time
	Step  time.Duration
}

func (o *Options) fill() error {
	if o.Types == nil {
		types, err := freshet.NewEventTypes(freshet.DefaultEventTypes())
		if err != nil {
			return err
		}
		o.Types = types
	}
	if o.MinTime.IsZero() {
		o.MinTime = freshet.MinTime
	}
	if o.Start.IsZero() {
		o.Start = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	if o.Type != "" {
		if _, ok := o.Types.Lookup(o.Type); !ok {
			return fmt.Errorf("event type %q is not configured; configured types are %s", o.Type, o.Types)
		}
	}
	return nil
}

// row is one event as a file tells it, still text.
type row struct {
	user, item, time, kind, value string
	id, session, surface          string
	recID, target, mergeInto      string
	items, context                json.RawMessage
	line, step                    int    // step: place among the user's events in a file without times
	timeField                     string // what the file calls the time
}

// rowSource yields rows in file order. A *RowError concerns one row only; any other error ends the file.
type rowSource interface {
	next() (row, error)
	untimed() bool       // the format has no times
	defaultType() string // of rows that name no type
}

// EventReader reads the events of one file, in file order.
type EventReader struct {
	file   *file
	format string
	source rowSource
	opt    Options
	bad    bad
	rows   int // rows that became events or were bad
	events int
}

// OpenEvents opens a file of events; see the package comment for the formats.
func OpenEvents(path string, opt Options) (*EventReader, error) {
	if err := opt.fill(); err != nil {
		return nil, err
	}
	f, err := openFile(path)
	if err != nil {
		return nil, err
	}
	r := &EventReader{file: f, opt: opt, bad: bad{file: path, strict: opt.Strict, report: opt.OnBad}}
	if err := r.open(); err != nil {
		f.close()
		return nil, err
	}
	return r, nil
}

func (r *EventReader) open() error {
	head, err := r.file.head()
	if err != nil {
		return err
	}
	shape, err := eventFormat(head)
	if err != nil {
		return fmt.Errorf("%s: %w", r.file.name, err)
	}
	r.format = shape.name
	r.source, err = openRows(r.file, shape)
	return err
}

func openRows(f *file, shape format) (rowSource, error) {
	switch shape.name {
	case jsonLinesName:
		return &jsonRows{lines: lines{r: f.text}}, nil
	case ratingsName:
		return &ratingRows{lines: lines{r: f.text}}, nil
	case sequencesName:
		return newSequenceRows(f)
	}
	t, err := openTable(f, shape)
	if err != nil {
		return nil, err
	}
	if shape.name == historiesName {
		return newHistoryRows(t), nil
	}
	return newTableRows(f.name, t)
}

// Next gives the next event, io.EOF at the end. Bad rows are reported to Options.OnBad and left out; under Options.Strict the
// first one is returned as a *RowError.
func (r *EventReader) Next() (freshet.Event, error) {
	for {
		raw, err := r.source.next()
		var e freshet.Event
		if err == nil {
			r.rows++
			e, err = r.event(&raw)
		}
		switch {
		case err == nil:
			r.events++
			return e, nil
		case err == io.EOF:
			return e, io.EOF
		}
		if err := r.bad.handle(err); err != nil {
			return freshet.Event{}, err
		}
	}
}

// All ranges over the events; an error is the last pair.
func (r *EventReader) All() iter.Seq2[freshet.Event, error] {
	return func(yield func(freshet.Event, error) bool) {
		for {
			e, err := r.Next()
			if err == io.EOF {
				return
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// Close closes the file.
func (r *EventReader) Close() error { return r.file.close() }

// Format names the file's shape, for people.
func (r *EventReader) Format() string { return r.format }

// Count is how many events were read, Bad how many rows were left out.
func (r *EventReader) Count() int { return r.events }

// Bad is the number of rows that could not be read so far.
func (r *EventReader) Bad() int { return r.bad.count }

// Timed tells whether the file says when its events happened.
func (r *EventReader) Timed() bool { return !r.source.untimed() }

// Order names the order of the events: [OrderFile], or [OrderSequences] where times are made up.
func (r *EventReader) Order() string {
	if r.source.untimed() {
		return OrderSequences
	}
	return OrderFile
}

// Progress says how many of the file's bytes on disk were read; it may be called from another goroutine.
func (r *EventReader) Progress() (read, size int64) { return r.file.read.Load(), r.file.size }

// event makes an event of a row and validates it.
func (r *EventReader) event(w *row) (freshet.Event, error) {
	e := freshet.Event{ID: w.id, UserID: w.user, SessionID: w.session, Surface: w.surface, RecID: w.recID,
		TargetEventID: w.target, MergeInto: w.mergeInto, Context: w.context}
	e.Type = r.eventType(w.kind)
	var err error
	if r.source.untimed() {
		e.Time = r.opt.Start.UnixMilli() + int64(w.step)*r.opt.Step.Milliseconds()
	} else if e.Time, err = ParseTime(w.time); err != nil {
		return e, badRow(w.line, or(w.timeField, "timestamp"), "%w", err)
	}
	if w.value != "" {
		v, err := strconv.ParseFloat(w.value, 64)
		if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
			return e, badRow(w.line, "value", "%q is no number", shorten(w.value))
		}
		e.Value = &v
	}
	if e.Items, err = w.eventItems(); err != nil {
		return e, badRow(w.line, "items", "%w", err)
	}
	if e.ID == "" {
		e.ID = contentID(w, r.rows)
	}
	if err := e.Validate(r.opt.Types, r.opt.MinTime); err != nil {
		return e, refused(w.line, err)
	}
	return e, nil
}

func (r *EventReader) eventType(kind string) string {
	if kind == "" {
		return or(r.opt.Type, r.source.defaultType())
	}
	if t, ok := r.opt.TypeNames[kind]; ok {
		return t
	}
	if _, ok := r.opt.Types.Lookup(kind); ok {
		return kind
	}
	kind = strings.ToLower(strings.TrimSpace(kind))
	if t, ok := typeAliases[kind]; ok {
		return t
	}
	return kind
}

func (w *row) eventItems() ([]freshet.EventItem, error) {
	if len(w.items) > 0 {
		return jsonItems(w.items)
	}
	if w.item == "" {
		return nil, nil
	}
	return []freshet.EventItem{{ItemID: w.item}}, nil
}

// contentID identifies a row that has no event id by its content and its number in the file: reading the same content again,
// under whatever name, gives the same ids.
func contentID(w *row, number int) string {
	h := sha256.New()
	for _, s := range []string{w.user, w.item, w.time, w.kind, w.value, string(w.items)} {
		io.WriteString(h, s)
		h.Write([]byte{0})
	}
	io.WriteString(h, strconv.Itoa(number))
	return hex.EncodeToString(h.Sum(nil)[:12])
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
