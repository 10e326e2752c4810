package dataset

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"sort"

	"freshet"
)

// jsonItemLines reads one item a line.
type jsonItemLines struct{ lines lines }

func (s *jsonItemLines) next() (freshet.Item, int, error) {
	line, err := s.lines.next()
	if err != nil {
		return freshet.Item{}, 0, err
	}
	item, err := jsonItem(line, "", s.lines.n)
	return item, s.lines.n, err
}

// jsonItem reads freshet's item, and the looser shapes that exports have: another name for the id, one string of categories.
func jsonItem(raw []byte, id string, line int) (freshet.Item, error) {
	var o map[string]json.RawMessage
	if err := json.Unmarshal(raw, &o); err != nil {
		return freshet.Item{}, badRow(line, "", "no JSON object: %w", err)
	}
	if o["item_id"] != nil || id == "" {
		id = pick(o, itemNames)
	}
	delete(o, "item_id") // may be a number
	title := pick(o, titleNames)
	delete(o, "title")
	categories := o["categories"]
	if len(categories) > 0 && categories[0] == '"' {
		delete(o, "categories")
	}
	b, err := json.Marshal(o)
	if err != nil {
		return freshet.Item{}, badRow(line, "", "%w", err)
	}
	item := freshet.Item{}
	if err := json.Unmarshal(b, &item); err != nil {
		return item, badRow(line, jsonField(err), "%w", err)
	}
	item.ItemID, item.Title, item.Description = id, title, plainText(item.Description)
	if item.Categories == nil {
		item.Categories = splitCategories(pick(o, categoryNames))
		if len(categories) > 0 && categories[0] == '"' {
			item.Categories = splitCategories(jsonText(categories))
		}
	}
	return item, nil
}

func jsonField(err error) string {
	if t, ok := err.(*json.UnmarshalTypeError); ok {
		return t.Field
	}
	return ""
}

// jsonItemMap reads one object of id -> item, entry by entry.
type jsonItemMap struct {
	decoder *json.Decoder
	starts  *lineStarts
}

func newJSONItemMap(f *file) (*jsonItemMap, error) {
	starts := &lineStarts{r: f.text}
	s := &jsonItemMap{decoder: json.NewDecoder(bufio.NewReader(starts)), starts: starts}
	if _, err := s.decoder.Token(); err != nil {
		return nil, fmt.Errorf("read %s: %w", f.name, err)
	}
	return s, nil
}

func (s *jsonItemMap) next() (freshet.Item, int, error) {
	if !s.decoder.More() {
		if _, err := s.decoder.Token(); err != nil && err != io.EOF {
			return freshet.Item{}, 0, fmt.Errorf("read the end of the JSON object: %w", err)
		}
		return freshet.Item{}, 0, io.EOF
	}
	key, err := s.decoder.Token()
	if err != nil {
		return freshet.Item{}, 0, fmt.Errorf("line %d: %w", s.line(), err)
	}
	line := s.line()
	var raw json.RawMessage
	if err := s.decoder.Decode(&raw); err != nil {
		return freshet.Item{}, 0, fmt.Errorf("line %d: %w", line, err)
	}
	id, _ := key.(string)
	item, err := jsonItem(raw, id, line)
	return item, line, err
}

func (s *jsonItemMap) line() int { return s.starts.lineAt(s.decoder.InputOffset()) }

// lineStarts notes where the lines of a stream end, so that a byte offset can be told as a line.
type lineStarts struct {
	r    io.Reader
	at   int64
	ends []int64
}

func (l *lineStarts) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	for rest, from := p[:n], 0; ; {
		i := bytes.IndexByte(rest[from:], '\n')
		if i < 0 {
			break
		}
		l.ends = append(l.ends, l.at+int64(from+i))
		from += i + 1
	}
	l.at += int64(n)
	return n, err
}

func (l *lineStarts) lineAt(offset int64) int {
	return 1 + sort.Search(len(l.ends), func(i int) bool { return l.ends[i] >= offset })
}
