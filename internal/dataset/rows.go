package dataset

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// tableRows reads events from a table with a header.
type tableRows struct {
	table   table
	columns map[string]int // "user", "time", ... -> column
	kind    string
}

func newTableRows(name string, t table) (*tableRows, error) {
	names := t.names()
	s := &tableRows{table: t, kind: "view", columns: map[string]int{
		"user": find(names, userNames), "item": find(names, itemNames), "time": find(names, timeNames), "type": find(names, typeNames),
		"value": find(names, valueNames), "id": find(names, eventIDNames), "session": find(names, sessionNames),
		"surface": find(names, surfaceNames), "rec": find(names, recIDNames), "target": find(names, targetNames), "merge": find(names, mergeNames),
	}}
	for _, need := range []string{"user", "item"} {
		if s.columns[need] < 0 {
			return nil, fmt.Errorf("%s: the columns %s name no %s; call it for example %s_id", name, strings.Join(names, ", "), need, need)
		}
	}
	switch {
	case s.columns["value"] >= 0 && strings.EqualFold(names[s.columns["value"]], "rating"):
		s.kind = "rating"
	case strings.HasPrefix(strings.ToLower(names[s.columns["user"]]), "session"):
		s.kind = "click"
	}
	return s, nil
}

func (s *tableRows) untimed() bool       { return s.columns["time"] < 0 }
func (s *tableRows) defaultType() string { return s.kind }

func (s *tableRows) next() (row, error) {
	cells, line, err := s.table.next()
	if err != nil {
		return row{}, err
	}
	cell := func(name string) string {
		if i := s.columns[name]; i >= 0 {
			return strings.TrimSpace(cells[i])
		}
		return ""
	}
	w := row{line: line, user: cell("user"), item: cell("item"), time: cell("time"), kind: cell("type"), value: cell("value"), id: cell("id"),
		session: cell("session"), surface: cell("surface"), recID: cell("rec"), target: cell("target"), mergeInto: cell("merge")}
	if i := s.columns["time"]; i >= 0 {
		w.timeField = s.table.names()[i]
	}
	return w, nil
}

// ratingRows reads user::item::rating::time.
type ratingRows struct{ lines lines }

func (s *ratingRows) untimed() bool       { return false }
func (s *ratingRows) defaultType() string { return "rating" }

func (s *ratingRows) next() (row, error) {
	line, err := s.lines.next()
	if err != nil {
		return row{}, err
	}
	parts := strings.Split(string(line), "::")
	if len(parts) != 4 {
		return row{}, badRow(s.lines.n, "", "%d parts between ::, expected user::item::rating::time", len(parts))
	}
	return row{line: s.lines.n, user: parts[0], item: parts[1], value: parts[2], time: strings.TrimSpace(parts[3])}, nil
}

// sequenceRows reads a user a line: the user, then the items in order, cut at blanks. A tab after the user marks MovieLens
// sequences, whose events are ratings.
type sequenceRows struct {
	lines lines
	kind  string
	user  string
	items []string
	step  int
}

func newSequenceRows(f *file) (*sequenceRows, error) {
	head, err := f.head()
	if err != nil {
		return nil, err
	}
	s := &sequenceRows{lines: lines{r: f.text}, kind: "view"}
	if strings.Contains(firstLine(head), "\t") {
		s.kind = "rating"
	}
	return s, nil
}

func (s *sequenceRows) untimed() bool       { return true }
func (s *sequenceRows) defaultType() string { return s.kind }

func (s *sequenceRows) next() (row, error) {
	for s.step == len(s.items) {
		line, err := s.lines.next()
		if err != nil {
			return row{}, err
		}
		words := strings.Fields(string(line))
		if len(words) < 2 {
			return row{}, badRow(s.lines.n, "", "a user and no item")
		}
		s.user, s.items, s.step = words[0], words[1:], 0
	}
	s.step++
	return row{line: s.lines.n, user: s.user, item: s.items[s.step-1], step: s.step - 1}, nil
}

// historyRows reads a csv whose rows hold a history and the next item, several rows a user: each user's longest history is
// taken, followed by its next item. The file is read wholly before the first event.
type historyRows struct {
	table   table
	user    int
	item    int
	history int
	users   []string
	longest map[string]userHistory
	bad     []error
	read    bool
	at      int
	step    int
}

type userHistory struct {
	items []string
	line  int
}

func newHistoryRows(t table) *historyRows {
	return &historyRows{table: t, user: find(t.names(), userNames), item: find(t.names(), itemNames),
		history: find(t.names(), []string{"history_item_id"}), longest: map[string]userHistory{}}
}

func (s *historyRows) untimed() bool       { return true }
func (s *historyRows) defaultType() string { return "view" }

func (s *historyRows) next() (row, error) {
	if !s.read {
		if err := s.readAll(); err != nil {
			return row{}, err
		}
	}
	if len(s.bad) > 0 {
		err := s.bad[0]
		s.bad = s.bad[1:]
		return row{}, err
	}
	if s.at == len(s.users) {
		return row{}, io.EOF
	}
	user := s.users[s.at]
	h := s.longest[user]
	w := row{line: h.line, user: user, item: h.items[s.step], step: s.step}
	if s.step++; s.step == len(h.items) {
		s.at, s.step = s.at+1, 0
	}
	return w, nil
}

func (s *historyRows) readAll() error {
	s.read = true
	for {
		cells, line, err := s.table.next()
		if err == io.EOF {
			return nil
		}
		if _, ok := err.(*RowError); ok {
			s.bad = append(s.bad, err)
			continue
		}
		if err != nil {
			return err
		}
		var past []json.Number
		if err := json.Unmarshal([]byte(cells[s.history]), &past); err != nil {
			s.bad = append(s.bad, badRow(line, "history_item_id", "%q is no list of item numbers", shorten(cells[s.history])))
			continue
		}
		user := strings.Clone(cells[s.user])
		if known, ok := s.longest[user]; !ok || len(past)+1 > len(known.items) {
			if !ok {
				s.users = append(s.users, user)
			}
			items := make([]string, 0, len(past)+1)
			for _, n := range past {
				items = append(items, n.String())
			}
			s.longest[user] = userHistory{append(items, strings.Clone(cells[s.item])), line}
		}
	}
}
