package feedback

import (
	"slices"
	"time"

	"freshet"
)

// Bounds of one user's state.
const (
	maxOpen      = 32  // exposures; one more closes the oldest
	maxShown     = 200 // items of an exposure; an impression that would pass it opens another
	maxOutcomes  = 8   // of one item
	maxElsewhere = 16  // behaviours with items that were not shown
)

// Rules are what the join needs to know beside the event.
type Rules struct {
	Types  *freshet.EventTypes
	Window time.Duration // of event time, after an item was shown. Default 30 min
	Grace  time.Duration // of the log's time, for records that come late. Default 1 min
}

func (r Rules) withDefaults() Rules {
	if r.Window == 0 {
		r.Window = 30 * time.Minute
	}
	if r.Grace == 0 {
		r.Grace = time.Minute
	}
	return r
}

// rejects tells whether an outcome is a dislike of some kind.
func (r *Rules) rejects(o *Outcome) bool {
	t, _ := r.Types.Lookup(o.Type)
	return t.EffectOf(&freshet.Event{Value: o.Value}) == freshet.Reject
}

// State is what the join remembers of one user.
type State struct {
	Positions []Position `json:"p,omitempty"` // last offset taken in, per source
	Open      []Exposure `json:"o,omitempty"` // in order of opening
	ErasedAt  int64      `json:"e,omitempty"`

	moves []Move
}

// Move is something to count once the state is saved: an item that was shown, or clicked (its first outcome that extends).
type Move struct {
	Lane, Surface, Source string // "" = not known
	ItemID                string
	Clicked               bool
}

// Position is how far one partition has been taken in.
type Position struct {
	freshet.Source
	Offset int64
}

// Exposure is an example that is still open.
type Exposure struct {
	Example
	Deadline int64 `json:"d"` // Unix milliseconds of the log's time until which outcomes are taken in
}

// List is what is known of a list that an impression names.
type List struct {
	RecID, Lane, Model string
	Arm                string
	ArmP               float64
	Items              []Shown // place, score and source
}

// Take folds one event of the user in and gives the exposures that it closes. It tells whether the state changed. list describes the
// list that the event names, if it is known; nil = it is not.
func (s *State) Take(e *freshet.Event, r *Rules, list *List) (closed []Example, changed bool) {
	t, _ := r.Types.Lookup(e.Type)
	effect := t.EffectOf(e)
	if s.covers(e.Position) || (s.ErasedAt > 0 && e.Time <= s.ErasedAt && effect != freshet.Erase) {
		return nil, false
	}
	closed = s.Close(e.RecordTime)
	changed = len(closed) > 0
	switch effect {
	case freshet.Observe:
		closed, changed = append(closed, s.expose(e, r, list)...), true
	case freshet.Extend, freshet.Reject:
		changed = s.join(e, effect, r) || changed
	case freshet.Erase:
		s.Open, s.ErasedAt, changed = nil, max(s.ErasedAt, e.Time), true
		closed = nil
	}
	if changed {
		s.advance(e.Position)
	}
	return closed, changed
}

// Close gives the exposures whose deadline lies before a moment of the log's time, and forgets them.
func (s *State) Close(now int64) (closed []Example) {
	kept := s.Open[:0]
	for _, x := range s.Open {
		if x.Deadline < now {
			closed = append(closed, x.Example)
		} else {
			kept = append(kept, x)
		}
	}
	clear(s.Open[len(kept):])
	s.Open = kept
	return closed
}

// Deadline is when the first open exposure is to be closed; 0 = none is open.
func (s *State) Deadline() int64 {
	first := int64(0)
	for i := range s.Open {
		if d := s.Open[i].Deadline; first == 0 || d < first {
			first = d
		}
	}
	return first
}

func (s *State) covers(at freshet.Position) bool {
	for _, p := range s.Positions {
		if p.Source == at.Source {
			return at.Offset <= p.Offset
		}
	}
	return false
}

func (s *State) advance(at freshet.Position) {
	s.Positions = slices.DeleteFunc(s.Positions, func(p Position) bool { return p.Source == at.Source })
	if len(s.Positions) == freshet.MaxPositions {
		s.Positions = slices.Delete(s.Positions, 0, 1)
	}
	s.Positions = append(s.Positions, Position{at.Source, at.Offset})
}

// expose notes what an impression showed: in the exposure of its list, or in a new one.
func (s *State) expose(e *freshet.Event, r *Rules, list *List) (closed []Example) {
	id := e.ID
	if e.RecID != "" {
		id = e.RecID + "/" + e.ID
	}
	at := slices.IndexFunc(s.Open, func(x Exposure) bool {
		same := e.RecID != "" && x.RecID == e.RecID && x.Surface == e.Surface && len(x.Items)+len(e.Items) <= maxShown
		return same || x.ID == id
	})
	if at < 0 {
		s.Open = append(s.Open, Exposure{Example: Example{V: 1, ID: id, UserID: e.UserID, RecID: e.RecID, Surface: e.Surface, ShownAt: e.Time}})
		at = len(s.Open) - 1
	}
	x := &s.Open[at]
	x.Deadline = max(x.Deadline, e.RecordTime+(r.Window+r.Grace).Milliseconds())
	if list != nil {
		x.Lane, x.Model, x.Arm, x.ArmP = list.Lane, list.Model, list.Arm, list.ArmP
	} else if lane, ok := freshet.LaneOfRecID(e.RecID, e.Position.Topic, e.Surface); ok && x.Lane == "" {
		x.Lane = lane // the list has been replaced since; whose it was still counts
	}
	for i := range e.Items {
		x.show(e.Items[i].ItemID, e.Time, list, &s.moves)
	}
	for len(s.Open) > maxOpen {
		closed = append(closed, s.Open[0].Example)
		s.Open = slices.Delete(s.Open, 0, 1)
	}
	return closed
}

func (x *Exposure) show(item string, at int64, list *List, moves *[]Move) {
	if slices.ContainsFunc(x.Items, func(i Shown) bool { return i.ItemID == item }) {
		return // its first showing counts
	}
	shown := Shown{ItemID: item, ShownAt: at}
	if list != nil {
		for _, l := range list.Items {
			if l.ItemID == item {
				shown.Place, shown.Score, shown.Source, shown.Propensity = l.Place, l.Score, l.Source, l.Propensity
			}
		}
	}
	x.Items = append(x.Items, shown)
	*moves = append(*moves, Move{Lane: x.Lane, Surface: x.Surface, Source: shown.Source, ItemID: item})
}

// join adds a behaviour to the exposure that it follows.
func (s *State) join(e *freshet.Event, effect freshet.Effect, r *Rules) (changed bool) {
	for i := range e.Items {
		o := Outcome{EventID: e.ID, Type: e.Type, Time: e.Time, Value: e.Value}
		if x, item := s.shownLast(e, e.Items[i].ItemID, r); item != nil {
			if len(item.Outcomes) < maxOutcomes && !slices.ContainsFunc(item.Outcomes, func(b Outcome) bool { return b.EventID == e.ID }) {
				if effect == freshet.Extend && !slices.ContainsFunc(item.Outcomes, func(b Outcome) bool { return !r.rejects(&b) }) {
					s.moves = append(s.moves, Move{Lane: x.Lane, Surface: x.Surface, Source: item.Source, ItemID: item.ItemID, Clicked: true})
				}
				item.Outcomes, changed = append(item.Outcomes, o), true
			}
		} else if x != nil {
			o.ItemID = e.Items[i].ItemID
			known := slices.ContainsFunc(x.Elsewhere, func(b Outcome) bool { return b.EventID == o.EventID && b.ItemID == o.ItemID })
			if len(x.Elsewhere) < maxElsewhere && !known {
				x.Elsewhere, changed = append(x.Elsewhere, o), true
			}
		}
	}
	return changed
}

// shownLast finds the item in the list that the behaviour names, else where it was shown last. Where it was not shown, item is nil and
// x is the exposure that the user saw last, nil if there is none within the window.
func (s *State) shownLast(e *freshet.Event, id string, r *Rules) (x *Exposure, item *Shown) {
	within := func(shown int64) bool { return shown <= e.Time && e.Time-shown <= r.Window.Milliseconds() }
	var last *Exposure
	lastAt := int64(-1)
	for i := range s.Open {
		open := &s.Open[i]
		for k := range open.Items {
			shown := &open.Items[k]
			if !within(shown.ShownAt) {
				continue
			}
			if shown.ShownAt >= lastAt {
				last, lastAt = open, shown.ShownAt
			}
			if shown.ItemID != id {
				continue
			}
			if e.RecID != "" && open.RecID == e.RecID {
				return open, shown
			}
			if item == nil || shown.ShownAt >= item.ShownAt {
				x, item = open, shown
			}
		}
	}
	if item == nil {
		return last, nil
	}
	return x, item
}
