package dataset

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// format is the shape of a file.
type format struct {
	name      string // for people
	delimiter byte   // of a table
	typed     bool   // RecBole: the header says name:type
}

const (
	tableName     = "table"
	parquetName   = "parquet"
	jsonLinesName = "json lines"
	jsonMapName   = "json object of items"
	ratingsName   = "user::item::rating::time"
	moviesName    = "id::title::genres"
	sequencesName = "a user a line"
	historiesName = "histories with the next item"
	textsName     = "id and text a line"
)

// eventFormat tells the shape of an events file by its beginning.
func eventFormat(head []byte) (format, error) {
	if f, ok, err := commonFormat(head); ok || err != nil {
		return f, err
	}
	line := firstLine(head)
	if f, names, ok := tableFormat(line); ok {
		user, item := find(names, userNames) >= 0, find(names, itemNames) >= 0
		switch {
		case user && item && find(names, []string{"history_item_id"}) >= 0:
			return format{name: historiesName, delimiter: f.delimiter}, nil
		case user && item:
			return f, nil
		case item:
			return format{}, fmt.Errorf("the header %s names items but no user: this looks like a file of items", strings.Join(names, ", "))
		default:
			return format{}, fmt.Errorf("the header %s names users but no item: this is no file of events", strings.Join(names, ", "))
		}
	}
	switch parts := strings.Split(line, "::"); {
	case len(parts) == 4:
		return format{name: ratingsName}, nil
	case len(parts) == 3:
		return format{}, fmt.Errorf("id::title::genres is a file of items")
	}
	user, rest, tab := strings.Cut(line, "\t")
	switch {
	case tab && user != "" && rest != "" && !strings.Contains(rest, "\t"):
		return format{name: sequencesName}, nil
	case !tab && !strings.ContainsAny(line, ",;") && len(strings.Fields(line)) >= 2:
		return format{name: sequencesName}, nil
	}
	return format{}, fmt.Errorf("the first line %q is of no known format; a table starts with a header such as user,item,timestamp", shorten(line))
}

// itemFormat tells the shape of a catalogue file by its beginning.
func itemFormat(head []byte) (format, error) {
	if f, ok, err := commonFormat(head); ok || err != nil {
		if f.name == jsonLinesName && !wholeItem(head) {
			f.name = jsonMapName
		}
		return f, err
	}
	line := firstLine(head)
	if f, names, ok := tableFormat(line); ok {
		switch item := find(names, itemNames) >= 0; {
		case item && find(names, userNames) >= 0:
			return format{}, fmt.Errorf("the header %s names users: this looks like a file of events", strings.Join(names, ", "))
		case item:
			return f, nil
		}
	}
	switch parts := strings.Split(line, "::"); {
	case len(parts) == 3:
		return format{name: moviesName}, nil
	case len(parts) > 3:
		return format{}, fmt.Errorf("user::item::rating::time is a file of events")
	}
	if !strings.ContainsAny(line, "\t,;") && len(strings.Fields(line)) >= 2 {
		return format{name: textsName}, nil
	}
	return format{}, fmt.Errorf("the first line %q is of no known format; a table starts with a header such as item_id,title,categories", shorten(line))
}

// commonFormat knows the shapes that the first bytes give away.
func commonFormat(head []byte) (format, bool, error) {
	start := bytes.TrimLeft(head, " \t\r\n")
	switch {
	case bytes.HasPrefix(start, []byte("PAR1")):
		return format{name: parquetName}, true, nil
	case start[0] == '{':
		return format{name: jsonLinesName}, true, nil
	case start[0] == '[':
		return format{}, false, fmt.Errorf("one JSON array; write one object a line instead (jq -c '.[]')")
	case bytes.IndexByte(head, 0) >= 0:
		return format{}, false, fmt.Errorf("binary content of no known format")
	}
	return format{}, false, nil
}

// tableFormat looks for a header: a line that, cut at some delimiter, has a cell that is a known name of a user or an item.
func tableFormat(line string) (format, []string, bool) {
	for _, d := range []byte{'\t', ',', ';', '|'} {
		cells := strings.Split(line, string(d))
		if len(cells) < 2 {
			continue
		}
		names, typed := headerNames(cells)
		if find(names, userNames) >= 0 || find(names, itemNames) >= 0 {
			return format{name: tableName, delimiter: d, typed: typed}, names, true
		}
	}
	return format{}, nil, false
}

// headerNames cleans the cells of a header; typed tells that one carried RecBole's name:type.
func headerNames(cells []string) (names []string, typed bool) {
	for _, c := range cells {
		name, _, found := strings.Cut(strings.Trim(strings.TrimSpace(c), `"`), ":")
		typed = typed || found
		names = append(names, strings.TrimSpace(name))
	}
	return names, typed
}

// wholeItem tells whether the first JSON value of head is an item itself rather than a map of ids to items.
func wholeItem(head []byte) bool {
	var o map[string]json.RawMessage
	if json.NewDecoder(bytes.NewReader(head)).Decode(&o) != nil {
		return false // longer than what was peeked: only a map of many items is
	}
	for _, n := range itemNames {
		if raw, ok := o[n]; ok && len(raw) > 0 && raw[0] != '{' {
			return true
		}
	}
	return false
}

func firstLine(head []byte) string {
	head = bytes.TrimLeft(head, "\r\n")
	if i := bytes.IndexByte(head, '\n'); i >= 0 {
		head = head[:i]
	}
	return string(bytes.TrimRight(head, "\r"))
}

func shorten(s string) string {
	if len(s) > 80 {
		return s[:80] + "..."
	}
	return s
}
