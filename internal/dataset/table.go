package dataset

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
)

// table is a header and rows of text. The cells of a row are valid until the next call.
type table interface {
	names() []string
	next() (cells []string, line int, err error)
}

// openTable reads the header of a delimited file.
func openTable(f *file, shape format) (table, error) {
	if shape.name == parquetName {
		return openParquet(f)
	}
	if shape.typed || shape.delimiter == '\t' {
		return openPlain(f, shape.delimiter)
	}
	r := csv.NewReader(f.text)
	r.Comma, r.FieldsPerRecord, r.LazyQuotes, r.ReuseRecord = rune(shape.delimiter), -1, true, true
	header, err := r.Read()
	if err != nil {
		return nil, fmt.Errorf("read the header of %s: %w", f.name, err)
	}
	names, _ := headerNames(header)
	return &quotedTable{r: r, header: names}, nil
}

// quotedTable is a csv: cells may be quoted and hold delimiters and line ends.
type quotedTable struct {
	r      *csv.Reader
	header []string
}

func (t *quotedTable) names() []string { return t.header }

func (t *quotedTable) next() ([]string, int, error) {
	cells, err := t.r.Read()
	var parse *csv.ParseError
	switch {
	case err == io.EOF:
		return nil, 0, err
	case errors.As(err, &parse):
		return nil, 0, badRow(parse.StartLine, "", "%w", parse.Err)
	case err != nil:
		return nil, 0, err
	}
	line, _ := t.r.FieldPos(0)
	if len(cells) != len(t.header) {
		return nil, 0, badRow(line, "", "%d cells, the header has %d", len(cells), len(t.header))
	}
	return cells, line, nil
}

// plainTable has no quoting: a quote in a cell is a character like any other.
type plainTable struct {
	lines     lines
	delimiter string
	header    []string
	cells     []string
}

func openPlain(f *file, delimiter byte) (*plainTable, error) {
	t := &plainTable{lines: lines{r: f.text}, delimiter: string(delimiter)}
	line, err := t.lines.next()
	if err != nil {
		return nil, fmt.Errorf("read the header of %s: %w", f.name, err)
	}
	t.header, _ = headerNames(strings.Split(string(line), t.delimiter))
	return t, nil
}

func (t *plainTable) names() []string { return t.header }

func (t *plainTable) next() ([]string, int, error) {
	line, err := t.lines.next()
	if err != nil {
		return nil, 0, err
	}
	t.cells = t.cells[:0]
	for rest, more := string(line), true; more; {
		var cell string
		cell, rest, more = strings.Cut(rest, t.delimiter)
		t.cells = append(t.cells, cell)
	}
	if len(t.cells) != len(t.header) {
		return nil, 0, badRow(t.lines.n, "", "%d cells, the header has %d", len(t.cells), len(t.header))
	}
	return t.cells, t.lines.n, nil
}
