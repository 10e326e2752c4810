package expect

import (
	"fmt"
	"sort"
)

// Model is what steps a state. Rows of the batch are independent.
type Model interface {
	// Known tells whether the item has a vector of its own; an unknown one folds as the unknown item.
	Known(item string) bool
	// Fold steps each state over its steps, in place, and returns the query of the last step of each, nil where there is none.
	Fold(states [][]float32, steps [][]Step) ([][]float32, error)
	// Size is the length of a state.
	Size() int
	// Best gives the k items that answer the query best, none of which is hidden.
	Best(query []float32, k int, hidden func(item string) bool) []Scored
}

// Step is one step of the model. Item is "" for the unknown item.
type Step struct {
	Item string
	Type string
	Gap  float32 // seconds since the step before
}

// Scored is an item and its score by the model.
type Scored struct {
	Item  string  `json:"item"`
	Score float64 `json:"score"`
}

// Log is a log being read.
type Log struct {
	model Model
	users map[string]*user
	out   Expectation
}

// Expectation is what freshet must hold.
type Expectation struct {
	Records int              `json:"records"`
	Events  int              `json:"events"`
	Applied int              `json:"applied"` // events that changed a user
	Poison  []Poison         `json:"poison"`
	Users   map[string]*User `json:"users"`
}

// Poison is a record that must lie among the dead letters.
type Poison struct {
	Place
	Reason string `json:"reason"`
}

// User is what freshet must hold of one user.
type User struct {
	Rev        uint64    `json:"rev"`
	Places     []Place   `json:"places"`
	Window     []Entry   `json:"window"`
	Recent     []string  `json:"recent"` // hashes, decimal
	State      []float32 `json:"state"`
	Checkpoint []float32 `json:"checkpoint"`
	ErasedAt   int64     `json:"erased_at"`
	Tombstone  bool      `json:"tombstone"` // nothing happened since the erasure

	Last  Place               `json:"last"` // the event the list was computed after
	LastE string              `json:"last_event"`
	Lists map[string][]Scored `json:"lists"` // by surface; nil for a tombstone
}

// Surface is a list to be expected.
type Surface struct {
	Name string
	K    int
}

// NewLog begins to read.
func NewLog(m Model) *Log {
	return &Log{model: m, users: map[string]*user{}, out: Expectation{Users: map[string]*User{}, Poison: []Poison{}}}
}

// Sort puts the records of all partitions into the order in which they count: by the time they were appended, each partition in
// its own order. Only users who moved to an added partition have events in two.
func Sort(records []Record) {
	sort.SliceStable(records, func(a, b int) bool {
		x, y := &records[a], &records[b]
		switch {
		case x.Partition == y.Partition:
			return x.Offset < y.Offset
		case x.Time != y.Time:
			return x.Time < y.Time
		}
		return x.Partition < y.Partition
	})
}

// Take reads the next record.
func (l *Log) Take(r *Record) {
	l.out.Records++
	e, err := Decode(r)
	if err != nil {
		l.out.Poison = append(l.out.Poison, Poison{Place{r.Partition, r.Offset}, err.Error()})
		return
	}
	l.out.Events++
	u := l.users[e.User]
	if u == nil {
		u = &user{}
		l.users[e.User] = u
	}
	if u.apply(e, l.model.Known) {
		l.out.Applied++
	}
}

// Finish folds every user and gives what freshet must hold.
func (l *Log) Finish(surfaces []Surface) (*Expectation, error) {
	names := make([]string, 0, len(l.users))
	for name, u := range l.users {
		if u.rev > 0 {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	states, gone, window := make([][]float32, len(names)), make([][]Step, len(names)), make([][]Step, len(names))
	for i, name := range names {
		u := l.users[name]
		states[i] = make([]float32, l.model.Size())
		all := steps(append(append([]Entry{}, u.gone...), u.window...))
		gone[i], window[i] = all[:len(u.gone)], all[len(u.gone):]
	}
	if _, err := l.model.Fold(states, gone); err != nil {
		return nil, fmt.Errorf("fold checkpoints: %w", err)
	}
	for i, name := range names {
		l.out.Users[name] = l.users[name].report()
		if len(gone[i]) > 0 {
			l.out.Users[name].Checkpoint = append([]float32{}, states[i]...)
		}
	}
	queries, err := l.model.Fold(states, window)
	if err != nil {
		return nil, fmt.Errorf("fold windows: %w", err)
	}
	for i, name := range names {
		if x := l.out.Users[name]; !x.Tombstone {
			x.State = states[i]
			l.rank(l.users[name], x, queries[i], surfaces)
		}
	}
	return &l.out, nil
}

// rank gives a user his lists; without a window they are empty.
func (l *Log) rank(u *user, x *User, query []float32, surfaces []Surface) {
	for _, s := range surfaces {
		x.Lists[s.Name] = []Scored{}
		if query != nil {
			x.Lists[s.Name] = l.model.Best(query, s.K, u.hides())
		}
	}
}

// steps turns entries into steps. A gap is in seconds, 0 for the first and where time went back.
func steps(entries []Entry) []Step {
	out := make([]Step, len(entries))
	for i, e := range entries {
		out[i] = Step{Item: e.Item, Type: e.Type}
		if e.Unknown {
			out[i].Item = ""
		}
		if i > 0 && e.Time > entries[i-1].Time {
			out[i].Gap = float32(e.Time-entries[i-1].Time) / 1000
		}
	}
	return out
}

func (u *user) report() *User {
	x := &User{Rev: u.rev, Places: u.places, Window: u.window, ErasedAt: u.erasedAt, Lists: map[string][]Scored{}}
	for _, h := range u.recent {
		x.Recent = append(x.Recent, fmt.Sprint(h))
	}
	x.Last, x.LastE = u.last.At, u.last.ID
	x.Tombstone = effects[u.last.Type] == erase
	return x
}

// hides: purchased and dismissed items stand in no list.
func (u *user) hides() func(string) bool {
	set := map[string]bool{}
	for _, d := range append(append([]dated{}, u.owned...), u.disliked...) {
		set[d.item] = true
	}
	return func(item string) bool { return set[item] }
}
