package dataset

import (
	"errors"
	"fmt"

	"freshet"
)

// RowError is one row that could not be read: where it stands and what is wrong with it.
type RowError struct {
	File  string
	Line  int    // 1 = the first line of the file; in a parquet file the first row
	Field string // as the file names it where it has names; "" = the whole row
	Err   error
}

func (e *RowError) Error() string {
	if e.Field == "" {
		return fmt.Sprintf("%s:%d: %v", e.File, e.Line, e.Err)
	}
	return fmt.Sprintf("%s:%d: %s: %v", e.File, e.Line, e.Field, e.Err)
}

func (e *RowError) Unwrap() error { return e.Err }

// badRow is what sources return for a row that is wrong; the readers put the file's name to it.
func badRow(line int, field, format string, args ...any) error {
	return &RowError{Line: line, Field: field, Err: fmt.Errorf(format, args...)}
}

// refused turns what Validate said into a RowError.
func refused(line int, err error) error {
	var f *freshet.FieldError
	if errors.As(err, &f) {
		return &RowError{Line: line, Field: f.Field, Err: errors.New(f.Reason)}
	}
	return &RowError{Line: line, Err: err}
}

// bad keeps the account of unreadable rows for a reader.
type bad struct {
	file   string
	strict bool
	report func(*RowError)
	count  int
}

// handle says whether reading goes on: nil for a row error that was reported, the error itself otherwise.
func (b *bad) handle(err error) error {
	var row *RowError
	if !errors.As(err, &row) {
		return err
	}
	row.File = b.file
	b.count++
	if b.strict {
		return row
	}
	if b.report != nil {
		b.report(row)
	}
	return nil
}
