package dataset

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/parquet-go/parquet-go"
	meta "github.com/parquet-go/parquet-go/format"
)

// parquetTable shows the flat columns of a parquet file as text; the values of a list column are joined by '|'.
type parquetTable struct {
	f       *file
	header  []string
	leaf    []parquetLeaf // by leaf column index
	groups  []parquet.RowGroup
	rows    parquet.Rows
	ended   bool // rows has no more
	buffer  []parquet.Row
	pending []parquet.Row
	cells   []string
	line    int
	total   int64
}

// parquetLeaf says where the values of a leaf column go and how they are written.
type parquetLeaf struct {
	column int
	unit   time.Duration // of a timestamp; 0 = none
	date   bool          // days since 1970
}

func openParquet(f *file) (t *parquetTable, err error) {
	defer damaged(f, &err)
	data, size := io.ReaderAt(f.disk), f.size
	if f.packed { // the format needs random access
		all, err := io.ReadAll(f.text)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", f.name, err)
		}
		data, size = bytes.NewReader(all), int64(len(all))
	}
	p, err := parquet.OpenFile(data, size)
	if err != nil {
		return nil, fmt.Errorf("open %s as parquet: %w", f.name, err)
	}
	t = &parquetTable{f: f, groups: p.RowGroups(), buffer: make([]parquet.Row, 256), total: p.NumRows()}
	f.read.Store(0)
	for _, path := range p.Schema().Columns() {
		leaf, _ := p.Schema().Lookup(path...)
		name := columnName(path)
		column := find(t.header, []string{name})
		if column < 0 {
			column = len(t.header)
			t.header = append(t.header, name)
		}
		t.leaf = append(t.leaf, newParquetLeaf(column, leaf.Node))
	}
	t.cells = make([]string, len(t.header))
	return t, nil
}

// damaged turns a panic into an error: the library panics on some files whose lengths do not fit their content.
func damaged(f *file, err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("%s is a damaged parquet file: %v", f.name, p)
	}
}

// columnName drops what writers put below a list column.
func columnName(path []string) string {
	var kept []string
	for i, p := range path {
		if i == 0 || p != "list" && p != "element" && p != "item" && p != "array" && p != "bag" {
			kept = append(kept, p)
		}
	}
	return strings.Join(kept, ".")
}

func newParquetLeaf(column int, node parquet.Node) parquetLeaf {
	l := parquetLeaf{column: column}
	logical := node.Type().LogicalType()
	if logical == nil {
		return l
	}
	switch v := logical.Value.(type) {
	case *meta.DateType:
		l.date = true
	case *meta.TimestampType:
		l.unit = v.Unit.Value.Duration()
	}
	return l
}

func (l parquetLeaf) text(v parquet.Value) string {
	switch {
	case l.unit > 0:
		perMs := int64(time.Millisecond / l.unit)
		return time.UnixMilli(v.Int64() / perMs).UTC().Format(time.RFC3339Nano)
	case l.date:
		return time.Unix(int64(v.Int32())*86_400, 0).UTC().Format(time.DateOnly)
	case v.Kind() == parquet.ByteArray || v.Kind() == parquet.FixedLenByteArray:
		return string(v.ByteArray())
	case v.Kind() == parquet.Double:
		return strconv.FormatFloat(v.Double(), 'f', -1, 64)
	case v.Kind() == parquet.Float:
		return strconv.FormatFloat(float64(v.Float()), 'f', -1, 32)
	}
	return v.String()
}

func (t *parquetTable) names() []string { return t.header }

func (t *parquetTable) next() (cells []string, line int, err error) {
	defer damaged(t.f, &err)
	for len(t.pending) == 0 {
		if err := t.fill(); err != nil {
			return nil, 0, err
		}
	}
	row := t.pending[0]
	t.pending = t.pending[1:]
	t.line++
	if t.total > 0 {
		t.f.read.Store(t.f.size * int64(t.line) / t.total)
	}
	clear(t.cells)
	for _, v := range row {
		if v.IsNull() {
			continue
		}
		leaf := t.leaf[v.Column()]
		if v.RepetitionLevel() > 0 {
			t.cells[leaf.column] += "|" + leaf.text(v)
		} else {
			t.cells[leaf.column] = leaf.text(v)
		}
	}
	return t.cells, t.line, nil
}

func (t *parquetTable) fill() error {
	if t.ended { // the rows in hand are used up, their pages may go
		if err := t.rows.Close(); err != nil {
			return fmt.Errorf("close a row group of %s: %w", t.f.name, err)
		}
		t.rows, t.ended = nil, false
	}
	if t.rows == nil {
		if len(t.groups) == 0 {
			return io.EOF
		}
		t.rows, t.groups = t.groups[0].Rows(), t.groups[1:]
	}
	n, err := t.rows.ReadRows(t.buffer)
	t.pending = t.buffer[:n]
	if err != nil && err != io.EOF {
		return fmt.Errorf("read rows of %s after row %d: %w", t.f.name, t.line, err)
	}
	t.ended = err == io.EOF || n == 0
	return nil
}
