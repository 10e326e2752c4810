package dataset

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"
)

// EventRow is one behaviour with one item, as the trainer and every reader of this package know it.
type EventRow struct {
	EventID   string   `json:"event_id" parquet:"event_id"`
	Type      string   `json:"type" parquet:"type,dict"`
	UserID    string   `json:"user_id" parquet:"user_id,dict"`
	ItemID    string   `json:"item_id" parquet:"item_id,dict"`
	Timestamp int64    `json:"timestamp" parquet:"timestamp,timestamp(millisecond)"` // Unix milliseconds
	Value     *float64 `json:"value,omitempty" parquet:"value,optional"`
	SessionID string   `json:"session_id,omitempty" parquet:"session_id,optional"`
	Surface   string   `json:"surface,omitempty" parquet:"surface,optional,dict"`
	RecID     string   `json:"rec_id,omitempty" parquet:"rec_id,optional"`
}

// ExampleRow is one item that a user was shown, with the first thing he did with it; Outcome is "" where he did nothing within the window.
type ExampleRow struct {
	ExampleID string  `json:"example_id" parquet:"example_id,dict"`
	UserID    string  `json:"user_id" parquet:"user_id,dict"`
	RecID     string  `json:"rec_id" parquet:"rec_id,dict"`
	Surface   string  `json:"surface" parquet:"surface,dict"`
	Lane      string  `json:"lane" parquet:"lane,dict"`
	Model     string  `json:"model" parquet:"model,dict"`
	ItemID    string  `json:"item_id" parquet:"item_id,dict"`
	ShownAt   int64   `json:"shown_at" parquet:"shown_at,timestamp(millisecond)"`
	Shown     int32   `json:"shown" parquet:"shown"` // place among what was shown, from 1
	Place     int32   `json:"place" parquet:"place"` // place in the list, from 1; 0 = not known
	Score     float64 `json:"score" parquet:"score"`
	Source    string  `json:"source" parquet:"source,dict"`
	Arm       string  `json:"arm" parquet:"arm,dict"`                  // which weights made the list: adapted, control, or "" where they do not adapt
	ArmP      float64 `json:"arm_propensity" parquet:"arm_propensity"` // with which probability that arm was drawn; 0 = not known
	Drawn     float64 `json:"propensity" parquet:"propensity"`         // with which probability the item was drawn for its place; 0 = it was not drawn
	Outcome   string  `json:"outcome" parquet:"outcome,dict"`          // event type
	EventID   string  `json:"event_id" parquet:"event_id"`
	After     int64   `json:"after_ms" parquet:"after_ms"` // from showing to outcome
	Outcomes  int32   `json:"outcomes" parquet:"outcomes"` // how many in all
}

// RowWriter writes rows to a file that appears under its name when Close succeeds.
type RowWriter[T any] struct {
	path  string
	disk  *os.File
	write func(*T) error
	end   func() error
	rows  int
}

// CreateRows begins a file: Parquet where the name ends in .parquet, JSON lines where it ends in .jsonl or .jsonl.zst.
func CreateRows[T any](path string) (*RowWriter[T], error) {
	w := &RowWriter[T]{path: path}
	jsonl, packed := strings.HasSuffix(path, ".jsonl"), strings.HasSuffix(path, ".jsonl.zst")
	if !jsonl && !packed && !strings.HasSuffix(path, ".parquet") {
		return nil, fmt.Errorf("%s: name a file that ends in .parquet, .jsonl or .jsonl.zst", path)
	}
	var err error
	if w.disk, err = os.Create(path + ".part"); err != nil {
		return nil, err
	}
	switch {
	case jsonl:
		out := bufio.NewWriterSize(w.disk, 1<<18)
		lines := json.NewEncoder(out)
		w.write, w.end = func(row *T) error { return lines.Encode(row) }, out.Flush
	case packed:
		z, err := zstd.NewWriter(w.disk)
		if err != nil {
			return nil, errors.Join(err, w.Discard())
		}
		lines := json.NewEncoder(z)
		w.write, w.end = func(row *T) error { return lines.Encode(row) }, z.Close
	default:
		p := parquet.NewGenericWriter[T](w.disk, parquet.Compression(&parquet.Zstd), parquet.MaxRowsPerRowGroup(1<<18))
		w.write, w.end = func(row *T) error { _, err := p.Write([]T{*row}); return err }, p.Close
	}
	return w, nil
}

// Write adds a row.
func (w *RowWriter[T]) Write(row *T) error {
	w.rows++
	if err := w.write(row); err != nil {
		return fmt.Errorf("write row %d of %s: %w", w.rows, w.path, err)
	}
	return nil
}

// Rows is how many were written.
func (w *RowWriter[T]) Rows() int { return w.rows }

// Close finishes the file.
func (w *RowWriter[T]) Close() error {
	if err := errors.Join(w.end(), w.disk.Close()); err != nil {
		return errors.Join(fmt.Errorf("finish %s: %w", w.path, err), os.Remove(w.path+".part"))
	}
	return os.Rename(w.path+".part", w.path)
}

// Discard gives the file up.
func (w *RowWriter[T]) Discard() error {
	return errors.Join(w.disk.Close(), os.Remove(w.path+".part"))
}
