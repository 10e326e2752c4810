package dataset

import (
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"freshet"
)

// itemSource yields items in file order. A *RowError concerns one row only; any other error ends the file.
type itemSource interface {
	next() (item freshet.Item, line int, err error)
}

// ItemReader reads the items of one file, in file order.
type ItemReader struct {
	file   *file
	format string
	source itemSource
	bad    bad
	items  int
}

// OpenItems opens a catalogue file; see the package comment for the formats. Of the options only Strict and OnBad matter.
func OpenItems(path string, opt Options) (*ItemReader, error) {
	f, err := openFile(path)
	if err != nil {
		return nil, err
	}
	r := &ItemReader{file: f, bad: bad{file: path, strict: opt.Strict, report: opt.OnBad}}
	if err := r.open(); err != nil {
		f.close()
		return nil, err
	}
	return r, nil
}

func (r *ItemReader) open() error {
	head, err := r.file.head()
	if err != nil {
		return err
	}
	shape, err := itemFormat(head)
	if err != nil {
		return fmt.Errorf("%s: %w", r.file.name, err)
	}
	r.format = shape.name
	switch shape.name {
	case jsonLinesName:
		r.source = &jsonItemLines{lines: lines{r: r.file.text}}
	case jsonMapName:
		r.source, err = newJSONItemMap(r.file)
	case moviesName:
		r.source = &movieLines{lines: lines{r: r.file.text}}
	case textsName:
		r.source = &textLines{lines: lines{r: r.file.text}}
	default:
		var t table
		if t, err = openTable(r.file, shape); err == nil {
			r.source, err = newItemTable(r.file.name, t, shape)
		}
	}
	return err
}

// Next gives the next item, io.EOF at the end. Bad rows are treated as EventReader.Next treats them.
func (r *ItemReader) Next() (freshet.Item, error) {
	for {
		item, line, err := r.source.next()
		if err == nil {
			if err = item.Validate(); err != nil {
				err = refused(line, err)
			}
		}
		switch {
		case err == nil:
			r.items++
			return item, nil
		case err == io.EOF:
			return freshet.Item{}, io.EOF
		}
		if err := r.bad.handle(err); err != nil {
			return freshet.Item{}, err
		}
	}
}

// All ranges over the items; an error is the last pair.
func (r *ItemReader) All() iter.Seq2[freshet.Item, error] {
	return func(yield func(freshet.Item, error) bool) {
		for {
			item, err := r.Next()
			if err == io.EOF {
				return
			}
			if !yield(item, err) || err != nil {
				return
			}
		}
	}
}

// Close closes the file.
func (r *ItemReader) Close() error { return r.file.close() }

// Format names the file's shape, for people.
func (r *ItemReader) Format() string { return r.format }

// Count is how many items were read so far, Bad how many rows were left out.
func (r *ItemReader) Count() int { return r.items }

// Bad is the number of rows that could not be read so far.
func (r *ItemReader) Bad() int { return r.bad.count }

// Progress says how many of the file's bytes on disk were read; it may be called from another goroutine.
func (r *ItemReader) Progress() (read, size int64) { return r.file.read.Load(), r.file.size }

// itemTable reads items from a table with a header. Columns of no known name become attributes.
type itemTable struct {
	table   table
	spaced  bool // RecBole: categories are cut at blanks
	columns map[string]int
	extra   []int
}

func newItemTable(name string, t table, shape format) (*itemTable, error) {
	names := t.names()
	s := &itemTable{table: t, spaced: shape.typed, columns: map[string]int{}}
	known := make([]bool, len(names))
	for field, wanted := range map[string][]string{"item": itemNames, "title": titleNames, "text": textNames, "categories": categoryNames,
		"brand": brandNames, "domain": domainNames, "price": priceNames, "currency": currencyNames, "available": availableNames,
		"published": publishedNames, "expires": expiresNames} {
		i := find(names, wanted)
		s.columns[field] = i
		if i >= 0 {
			known[i] = true
		}
	}
	if s.columns["item"] < 0 {
		return nil, fmt.Errorf("%s: the columns %s name no item; call it item_id", name, strings.Join(names, ", "))
	}
	for i := range names {
		if !known[i] {
			s.extra = append(s.extra, i)
		}
	}
	return s, nil
}

func (s *itemTable) next() (freshet.Item, int, error) {
	cells, line, err := s.table.next()
	if err != nil {
		return freshet.Item{}, 0, err
	}
	cell := func(field string) string {
		if i := s.columns[field]; i >= 0 {
			return strings.TrimSpace(latin1(cells[i]))
		}
		return ""
	}
	item := freshet.Item{ItemID: cell("item"), Title: cell("title"), Description: plainText(cell("text")), Brand: cell("brand"),
		Domain: cell("domain"), Currency: cell("currency")}
	if c := cell("categories"); s.spaced {
		item.Categories = strings.Fields(c)
	} else {
		item.Categories = splitCategories(c)
	}
	if err := typedCells(&item, cell, line); err != nil {
		return item, line, err
	}
	item.Attributes = s.attributes(cells)
	return item, line, nil
}

// typedCells reads the cells that are no text.
func typedCells(item *freshet.Item, cell func(string) string, line int) error {
	if p := cell("price"); p != "" {
		v, err := strconv.ParseFloat(strings.TrimLeft(p, "$€£¥"), 64)
		if err != nil {
			return badRow(line, "price", "%q is no number", shorten(p))
		}
		item.Price = v
	}
	if a := cell("available"); a != "" {
		v, err := strconv.ParseBool(strings.ToLower(a))
		if err != nil {
			return badRow(line, "available", "%q is neither true nor false", shorten(a))
		}
		item.Available = &v
	}
	for field, to := range map[string]**time.Time{"published": &item.PublishedAt, "expires": &item.ExpiresAt} {
		if s := cell(field); s != "" {
			ms, err := ParseTime(s)
			if err != nil {
				return badRow(line, field+"_at", "%w", err)
			}
			t := time.UnixMilli(ms).UTC()
			*to = &t
		}
	}
	return nil
}

func (s *itemTable) attributes(cells []string) json.RawMessage {
	b := []byte{'{'}
	for _, i := range s.extra {
		if v := strings.TrimSpace(latin1(cells[i])); v != "" && s.table.names()[i] != "" {
			if len(b) > 1 {
				b = append(b, ',')
			}
			b = append(freshet.AppendJSONString(b, s.table.names()[i]), ':')
			b = freshet.AppendJSONString(b, v)
		}
	}
	if len(b) == 1 {
		return nil
	}
	return append(b, '}')
}

// movieLines reads id::Title (year)::Genre|Genre. The title keeps its year, which says which of two films is meant.
type movieLines struct{ lines lines }

func (s *movieLines) next() (freshet.Item, int, error) {
	line, err := s.lines.next()
	if err != nil {
		return freshet.Item{}, 0, err
	}
	parts := strings.Split(latin1(string(line)), "::")
	if len(parts) != 3 {
		return freshet.Item{}, s.lines.n, badRow(s.lines.n, "", "%d parts between ::, expected id::title::genres", len(parts))
	}
	return freshet.Item{ItemID: parts[0], Title: strings.TrimSpace(parts[1]), Categories: splitCategories(parts[2])}, s.lines.n, nil
}

// textLines reads `id text`; the text is the title.
type textLines struct{ lines lines }

func (s *textLines) next() (freshet.Item, int, error) {
	line, err := s.lines.next()
	if err != nil {
		return freshet.Item{}, 0, err
	}
	id, text, _ := strings.Cut(strings.TrimSpace(latin1(string(line))), " ")
	return freshet.Item{ItemID: id, Title: strings.TrimSpace(text)}, s.lines.n, nil
}

// latin1 gives text that is not UTF-8 the reading it has in files older than UTF-8.
func latin1(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	r := make([]rune, len(s))
	for i := 0; i < len(s); i++ {
		r[i] = rune(s[i])
	}
	return string(r)
}

func splitCategories(s string) []string {
	delimiter := ","
	for _, d := range []string{"|", ";"} {
		if strings.Contains(s, d) {
			delimiter = d
			break
		}
	}
	var out []string
	for _, c := range strings.Split(s, delimiter) {
		if c = strings.TrimSpace(c); c != "" {
			out = append(out, c)
		}
	}
	return out
}

var quotedPart = regexp.MustCompile(`'((?:[^'\\]|\\.)*)'`)

// plainText unpacks a description that was printed as a Python list of strings, as Amazon's metadata has it.
func plainText(s string) string {
	if !strings.HasPrefix(s, "['") {
		return s
	}
	var parts []string
	for _, m := range quotedPart.FindAllStringSubmatch(s, -1) {
		parts = append(parts, m[1])
	}
	return or(strings.Join(parts, " "), strings.Trim(s, `[]'"`))
}
