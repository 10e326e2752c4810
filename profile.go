package freshet

import (
	"fmt"
	"slices"
	"sort"
)

// Bounds of a profile.
const (
	MaxPositions = 4   // sources whose last offset is remembered
	MaxRecent    = 64  // event-id hashes of events that did not extend the window
	MaxOwned     = 128 // purchases remembered exactly
	MaxDismissed = 128 // dismissals remembered exactly
)

// VectorKind says which vector an entry was folded with, so that a refold uses the same one.
type VectorKind uint8

// The kinds. An item moves from Unknown to Tower when the catalogue learns of it; entries folded before keep their kind.
const (
	Trained VectorKind = iota // a row of the bundle
	Tower                     // the bundle's item tower over the catalogue's text
	Unknown                   // the bundle's unknown row
)

// Entry is one behaviour in a profile's window.
type Entry struct {
	ItemID   string
	Type     string
	Time     int64 // event time, Unix milliseconds
	Position Position
	Index    uint8  // place within a multi-item event, after cutting to the last max_history
	Number   int32  // of the item as in Ref, noted by whoever asked the index first; never stored
	Event    uint64 // HashID of the event id
	Vector   VectorKind
}

// compare orders entries: (timestamp, topic, incarnation, partition, offset, place in the event).
func (a *Entry) compare(b *Entry) int {
	switch {
	case a.Time != b.Time:
		return cmp(a.Time, b.Time)
	case a.Position.Topic != b.Position.Topic:
		return cmp(a.Position.Topic, b.Position.Topic)
	case a.Position.Incarnation != b.Position.Incarnation:
		return cmp(a.Position.Incarnation, b.Position.Incarnation)
	case a.Position.Partition != b.Position.Partition:
		return cmp(a.Position.Partition, b.Position.Partition)
	case a.Position.Offset != b.Position.Offset:
		return cmp(a.Position.Offset, b.Position.Offset)
	}
	return cmp(a.Index, b.Index)
}

func cmp[T int64 | int32 | uint8 | string](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// Dated is an item and when something happened to it, Unix milliseconds.
type Dated struct {
	ItemID string
	Time   int64
	Number int32 // as in Ref, noted by whoever asked the index first; never stored
}

// Profile is what freshet knows of one user in one lane. Its invariant: State = fold(Checkpoint, Window), bit for bit with the
// serving kernel on a CPU; between Apply and Folded the steps that Plan names are still owed.
type Profile struct {
	UserID         string
	Rev            uint64     // events ever applied
	Fingerprint    uint64     // first 8 bytes of the bundle's fingerprint; states of another bundle mean nothing
	Positions      []Position // last offset applied per source, most recently used last
	Window         []Entry    // the last max_history behaviours in event order
	Recent         []uint64   // event-id hashes of the last events that did not extend the window
	State          []float32  // encoder state now
	Checkpoint     []float32  // encoder state before the window's first entry; nil unless Late is Reorder
	CheckpointTime int64      // event time of the last entry folded into the checkpoint; 0 = none
	Mixed          bool       // was stepped on more than one kind of device: equal within 1e-4, not bit for bit
	Half           bool       // states are float16 values, quantised after every step
	ErasedAt       int64      // time of the last erasure, Unix milliseconds; 0 = never
	Owned          []Dated    // exact purchases, latest last
	Dismissed      []Dated    // rejected items, latest last
	Alias          string     // the user that this anonymous one turned out to be; "" = nobody yet

	leaving []Entry // left the window since the last fold, not yet in the checkpoint
	covered int     // how many of leaving+Window the state has taken in
	refold  bool    // the state must be folded anew, from the last waypoint, else from the checkpoint
	way     []waypoint
}

// waypoint is a state on the way to the present one. What comes late is mostly little late: the state is then folded anew from a waypoint, a
// few steps back, instead of from the checkpoint. They live in memory only; the states are the same bits either way.
type waypoint struct {
	at    int // entries of the window that the state has taken in
	state []float32
}

// A waypoint is set every so many entries, and the last few are kept.
const (
	waypointEvery = 8
	maxWaypoints  = 3
)

// Pass tells the profile the state, which it copies, after the first `at` entries of its window. A profile without a checkpoint must not be
// told: its window is folded from nothing.
func (p *Profile) Pass(at int, state []float32) {
	n, last := len(p.way), 0
	if n > 0 {
		last = p.way[n-1].at
	}
	switch {
	case at < last+waypointEvery:
	case n < maxWaypoints:
		p.way = append(p.way, waypoint{at, slices.Clone(state)})
	default:
		oldest := p.way[0]
		copy(p.way, p.way[1:])
		copy(oldest.state, state)
		p.way[n-1] = waypoint{at, oldest.state}
	}
}

// keepWay drops the waypoints that have taken in more than the first `at` entries.
func (p *Profile) keepWay(at int) {
	n := len(p.way)
	for n > 0 && p.way[n-1].at > at {
		n--
	}
	p.way = p.way[:n]
}

// LatePolicy says what happens to an event that is older than the latest one of its user.
type LatePolicy uint8

// The policies. Only Reorder keeps a checkpoint (it doubles the bytes of state).
const (
	Reorder    LatePolicy = iota // put where it belongs; the state is refolded exactly
	AppendLate                   // taken as if it happened now
	DropLate                     // counted, not applied
)

// ParseLatePolicy reads reorder, append or drop.
func ParseLatePolicy(s string) (LatePolicy, error) {
	switch s {
	case "reorder":
		return Reorder, nil
	case "append":
		return AppendLate, nil
	case "drop":
		return DropLate, nil
	}
	return 0, fmt.Errorf("unknown late policy %q: use reorder, append or drop", s)
}

// Rules are what Apply needs to know beside the event.
type Rules struct {
	Types      *EventTypes
	MaxHistory int // entries of the window
	Late       LatePolicy
	// KindOf says which vector the model has for an item at this moment; nil = every item is Trained.
	KindOf func(itemID string) VectorKind
}

// Outcome says what Apply did. Only Applied changes the profile.
type Outcome uint8

// The outcomes.
const (
	Applied   Outcome = iota + 1
	Covered           // its offset was applied before: a redelivery
	Duplicate         // another record with an event id that the profile remembers
	TooLate           // older than a full window's first entry, or late where the policy drops
	Observed          // touches no profile
	Forgotten         // not later than the user's erasure
)

var outcomeNames = [...]string{Applied: "applied", Covered: "covered", Duplicate: "duplicate", TooLate: "too_late", Observed: "observed", Forgotten: "forgotten"}

func (o Outcome) String() string { return outcomeNames[o] }

// Covers tells whether the profile has applied that position already. A source it has no pair for covers nothing.
func (p *Profile) Covers(at Position) bool {
	for i := range p.Positions {
		if p.Positions[i].Source == at.Source {
			return at.Offset <= p.Positions[i].Offset
		}
	}
	return false
}

// Apply takes one event in. It never fails: the event was validated, and every other case has an outcome.
func (p *Profile) Apply(e *Event, r *Rules) Outcome {
	t, _ := r.Types.Lookup(e.Type)
	effect := t.EffectOf(e)
	switch {
	case effect == Observe:
		return Observed
	case p.Covers(e.Position):
		return Covered
	case p.ErasedAt > 0 && e.Time <= p.ErasedAt: // an erasure that comes again, too: it must not take what the user did since
		return Forgotten
	case effect == Erase:
		p.erase(e)
		return Applied
	}
	hash := HashID(e.ID)
	if p.remembers(hash) {
		return Duplicate
	}
	switch effect {
	case Extend:
		if p.tooLate(e, r) {
			return TooLate
		}
		p.extend(e, t, hash, r)
	case Reject:
		p.Dismissed = keepDated(p.Dismissed, e.Items, e.Time, MaxDismissed)
		p.remember(hash)
	case Retract:
		p.retract(e, t, r)
		p.remember(hash)
	case Login:
		p.Alias = e.MergeInto
		p.remember(hash)
	case Merge:
		if !p.merge(e, r) {
			return Duplicate
		}
		p.remember(hash)
	}
	p.advance(e.Position)
	return Applied
}

func (p *Profile) advance(at Position) {
	p.Rev++
	for i := range p.Positions {
		if p.Positions[i].Source == at.Source {
			p.Positions = append(slices.Delete(p.Positions, i, i+1), at)
			return
		}
	}
	if len(p.Positions) == MaxPositions {
		p.Positions = slices.Delete(p.Positions, 0, 1)
	}
	p.Positions = append(p.Positions, at)
}

func (p *Profile) remembers(hash uint64) bool {
	for i := range p.Window {
		if p.Window[i].Event == hash {
			return true
		}
	}
	return slices.Contains(p.Recent, hash)
}

func (p *Profile) remember(hash uint64) {
	if len(p.Recent) == MaxRecent {
		p.Recent = slices.Delete(p.Recent, 0, 1)
	}
	p.Recent = append(p.Recent, hash)
}

// tooLate applies the two limits of lateness. Equal timestamps are never late.
func (p *Profile) tooLate(e *Event, r *Rules) bool {
	n := len(p.Window)
	if n == 0 {
		return false
	}
	if r.Late == DropLate && e.Time < p.Window[n-1].Time {
		return true
	}
	return r.Late == Reorder && n >= r.MaxHistory && e.Time < p.Window[0].Time
}

// extend puts the event's items into the window as steps in listed order, then lets the oldest entries leave.
func (p *Profile) extend(e *Event, t EventType, hash uint64, r *Rules) {
	items := e.Items
	if len(items) > r.MaxHistory {
		items = items[len(items)-r.MaxHistory:]
	}
	for i := range items {
		p.enter(Entry{ItemID: items[i].ItemID, Type: e.Type, Time: e.Time, Position: e.Position, Index: uint8(i), Event: hash}, r)
	}
	if t.Task == "purchase" {
		p.Owned = keepDated(p.Owned, items, e.Time, MaxOwned)
	}
	p.trim(r)
}

// enter puts an entry into the window with the kind of vector that its item has now.
func (p *Profile) enter(n Entry, r *Rules) {
	if r.KindOf != nil {
		n.Vector = r.KindOf(n.ItemID)
	}
	p.insert(n, r.Late)
}

// trim lets the oldest entries leave.
func (p *Profile) trim(r *Rules) {
	if over := len(p.Window) - r.MaxHistory; over > 0 {
		p.leaving = append(p.leaving, p.Window[:over]...)
		p.Window = slices.Delete(p.Window, 0, over)
		for i := range p.way {
			p.way[i].at -= over
		}
		p.way = slices.DeleteFunc(p.way, func(w waypoint) bool { return w.at < 1 })
	}
}

// merge takes in what the user did under another id, each behaviour at its own time, and tells whether anything was new. What the
// profile knows already, what lies before a full window and what was erased is left out.
func (p *Profile) merge(e *Event, r *Rules) bool {
	fresh := make([]int, 0, len(e.Items))
	for i := range e.Items {
		if it := &e.Items[i]; !p.remembers(it.Origin) && (p.ErasedAt == 0 || it.Time > p.ErasedAt) {
			fresh = append(fresh, i)
		}
	}
	taken := false
	for _, i := range fresh {
		it := &e.Items[i]
		if p.tooLate(&Event{Time: it.Time}, r) {
			continue
		}
		taken = true
		p.enter(Entry{ItemID: it.ItemID, Type: it.Type, Time: it.Time, Position: e.Position, Index: uint8(i), Event: it.Origin}, r)
		if t, _ := r.Types.Lookup(it.Type); t.Task == "purchase" {
			p.Owned = keepDated(p.Owned, e.Items[i:i+1], it.Time, MaxOwned)
		}
		p.trim(r)
	}
	return taken
}

// insert puts one entry where event order wants it. Most events are the latest, so the search runs from the end.
func (p *Profile) insert(n Entry, late LatePolicy) {
	at := len(p.Window)
	if late == Reorder {
		for at > 0 && n.compare(&p.Window[at-1]) < 0 {
			at--
		}
	}
	p.Window = slices.Insert(p.Window, at, n)
	p.touch(at)
}

// touch notes that the window changed from entry at on: a state that has taken it in must be folded anew.
func (p *Profile) touch(at int) {
	p.keepWay(at)
	if at += len(p.leaving); at < p.covered {
		p.refold, p.covered = true, 0
	}
}

// retract removes what the event names: the entries of target_event_id, else the latest entry of the type that a retraction
// looks for, else the latest entry, of each item.
func (p *Profile) retract(e *Event, t EventType, r *Rules) {
	if e.TargetEventID != "" {
		target := HashID(e.TargetEventID)
		for i := len(p.Window) - 1; i >= 0; i-- {
			if p.Window[i].Event == target && (len(e.Items) == 0 || hasItem(e.Items, p.Window[i].ItemID)) {
				p.remove(i, r)
			}
		}
		return
	}
	for i := range e.Items {
		if at := p.latest(e.Items[i].ItemID, t.Retracts); at >= 0 {
			p.remove(at, r)
		}
	}
}

func (p *Profile) latest(item, preferred string) int {
	found := -1
	for i := len(p.Window) - 1; i >= 0; i-- {
		if p.Window[i].ItemID != item {
			continue
		}
		if p.Window[i].Type == preferred {
			return i
		}
		if found < 0 {
			found = i
		}
	}
	return found
}

func (p *Profile) remove(at int, r *Rules) {
	gone := p.Window[at]
	if t, _ := r.Types.Lookup(gone.Type); t.Task == "purchase" {
		p.Owned = slices.DeleteFunc(p.Owned, func(d Dated) bool { return d.ItemID == gone.ItemID && d.Time == gone.Time })
	}
	p.touch(at)
	p.Window = slices.Delete(p.Window, at, at+1)
}

func hasItem(items []EventItem, id string) bool {
	return slices.ContainsFunc(items, func(i EventItem) bool { return i.ItemID == id })
}

// keepDated moves each item to the end of a bounded list with its latest time; an older event never takes a later time back.
func keepDated(list []Dated, items []EventItem, at int64, max int) []Dated {
	for i := range items {
		d := Dated{ItemID: items[i].ItemID, Time: at}
		if old := slices.IndexFunc(list, func(x Dated) bool { return x.ItemID == d.ItemID }); old >= 0 {
			d.Time = max64(d.Time, list[old].Time)
			list = slices.Delete(list, old, old+1)
		}
		list = append(list, d)
	}
	sort.SliceStable(list, func(a, b int) bool { return list[a].Time < list[b].Time })
	if over := len(list) - max; over > 0 {
		list = slices.Delete(list, 0, over)
	}
	return list
}

func max64(a, b int64) int64 {
	if a > b {
		return a
	}
	return b
}

// erase leaves a tombstone: positions, rev and the time, no data.
func (p *Profile) erase(e *Event) {
	at := max64(p.ErasedAt, e.Time)
	*p = Profile{UserID: p.UserID, Rev: p.Rev, Positions: p.Positions, ErasedAt: at}
	p.advance(e.Position)
}

// Tombstone tells whether the profile holds nothing but the fact of an erasure.
func (p *Profile) Tombstone() bool { return p.ErasedAt > 0 && len(p.Window) == 0 && p.State == nil }

// Plan is the model's work that a profile owes: fold Checkpoint over Leaving, and fold the state over Steps, starting from the
// checkpoint as it was before when FromCheckpoint is set, from From where there is one.
type Plan struct {
	Leaving        []Entry
	LeavingGaps    []float32 // seconds since the entry before
	Steps          []Entry
	Gaps           []float32
	FromCheckpoint bool
	From           []float32 // a state on the way, read only
	At             int       // entries of the window before the first of Steps; negative = so many of Steps have left it
}

// Plan says which steps bring the profile up to date. Gaps are event-time differences in seconds, never negative.
func (p *Profile) Plan() Plan {
	n := len(p.leaving)
	plan := Plan{Leaving: p.leaving, FromCheckpoint: p.refold}
	covered := p.covered
	if last := len(p.way) - 1; p.refold && last >= 0 {
		covered, plan.From, plan.FromCheckpoint = n+p.way[last].at, p.way[last].state, false
	}
	if plan.At = covered - n; covered < n { // rare: what leaves is to be folded by the state, too
		plan.Steps = append(append(make([]Entry, 0, n-covered+len(p.Window)), p.leaving[covered:]...), p.Window...)
	} else {
		plan.Steps = p.Window[covered-n:]
	}
	gaps := make([]float32, n+len(plan.Steps))
	plan.LeavingGaps, plan.Gaps = gaps[:n:n], gaps[n:]
	gapsOf(p.leaving, p.CheckpointTime, plan.LeavingGaps)
	before := p.CheckpointTime
	switch {
	case covered > n:
		before = p.Window[covered-n-1].Time
	case covered > 0:
		before = p.leaving[covered-1].Time
	}
	gapsOf(plan.Steps, before, plan.Gaps)
	return plan
}

// gapsOf writes the seconds since the entry before each; before = 0: there was none.
func gapsOf(entries []Entry, before int64, gaps []float32) {
	for i := range entries {
		if before != 0 && entries[i].Time > before {
			gaps[i] = float32(entries[i].Time-before) / 1000
		}
		before = entries[i].Time
	}
}

// Folded notes that the plan was carried out: State and Checkpoint now hold what Plan asked for.
func (p *Profile) Folded() {
	if n := len(p.leaving); n > 0 {
		p.CheckpointTime = p.leaving[n-1].Time
	}
	p.leaving, p.refold, p.covered = nil, false, len(p.Window)
}

// Forget drops what another bundle computed: the window is refolded from nothing and what lies before it is forgotten.
func (p *Profile) Forget() {
	p.State, p.Checkpoint, p.CheckpointTime = nil, nil, 0
	p.leaving, p.covered, p.refold, p.way = nil, 0, true, nil
}

// Owes tells whether steps are owed that Plan names.
func (p *Profile) Owes() bool { return p.refold || len(p.leaving) > 0 || p.covered != len(p.Window) }

// Repair asks for the state to be folded anew from the checkpoint, whatever it holds now.
func (p *Profile) Repair() { p.covered, p.refold, p.way = 0, true, nil }

// Again asks for the last steps once more: they give the queries of the present state.
func (p *Profile) Again() {
	p.covered, p.refold = 0, true
	p.keepWay(len(p.Window) - 1)
}
