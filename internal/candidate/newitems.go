package candidate

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"freshet"
)

// NewConfig shapes the source of new items. A zero field means its default.
type NewConfig struct {
	MaxAge time.Duration    // how long an item is new; default 14 days
	Budget int              // it is, until it was shown or taken so often; default 100
	Basis  string           // names the vectors: what is learnt in those of one bundle means nothing in another's
	Now    func() time.Time // default time.Now
}

// How new items are ranked. Chosen on MovieLens 100K without the second tenth of its items, on the events from 72 to 80 %.
const (
	newPrior    = 0.3 // users that an item of which nothing is known is taken to have won
	newPatience = 30  // so often shown and not taken halves an item's odds
	newFit      = 6   // what it is worth that a user's taste is wholly that of the item's first users
	newOwn      = 1   // how many users an item's own vector counts for
	newCommon   = 50  // tastes from which on it is known what is common to all
	newRecall   = 10_000
	newSample   = 8 // of so many events one says what is common
)

// New proposes items that came lately and that hardly anybody has met: the source of exploration places. An item stays a candidate until
// it was shown to or taken by users Budget times or is older than MaxAge. Items are ranked by how their first users responded, and by how
// much the user at hand is like those who took them:
//
//	log((taken + 0.3) / (1 + shown / 30)) + 6 cos(x_u, g_i)
//
// taken counts users, each once; shown counts impressions, where there are any. x_u is the user's taste less everybody's, at length 1: a taste
// is the mean of the vectors of the last 10 items, as in Content. g_i is the sum of x over the users who took the item and of one more, the item's own
// vector less the mean of all new items': of an item that nobody took its vector is all there is, and vectors made of texts crowd around a
// few, so that without that mean the same items would lead for everybody. An item that is not new has no score.
//
// newitems_sync.go shares what is learnt between workers.
type New struct {
	cfg   NewConfig
	index Index

	mu      sync.RWMutex
	items   map[string]*newcomer
	order   []*newcomer // newest last
	stale   bool        // own vectors are to be worked out again
	waits   bool        // some have no vector yet
	looked  time.Time   // when that was seen
	common  []float32
	tastes  int // of which common is the mean, at most newRecall
	lessons int

	gone   []freshet.Response // of items that are new no more, for the store
	rotate int
	idle   bool
}

// newcomer is what is known of one new item.
type newcomer struct {
	id     string
	number int32 // as in freshet.Ref
	since  time.Time
	all    response  // everybody's, with what is owed
	owed   response  // of this worker, not in the store yet
	read   bool      // from the store
	known  bool      // the index has a vector of it
	own    []float32 // its direction, apart from all new items
	odds   float32   // log((taken + ...) / ...)
	aim    []float32 // g at length 1; nil = nothing is known of whom it is for
}

// response is sums over users.
type response struct {
	taken, shown float64
	taste        []float64
}

func (r *response) add(o *response) {
	r.taken, r.shown = r.taken+o.taken, r.shown+o.shown
	if o.taste != nil {
		r.taste = sized(r.taste, len(o.taste))
		for i, v := range o.taste {
			r.taste[i] += v
		}
	}
}

func sized(v []float64, n int) []float64 {
	if len(v) == n {
		return v
	}
	return make([]float64, n)
}

// maxNew bounds how many new items are held; the oldest give way.
const maxNew = 1000

// NewNew makes the source.
func NewNew(index Index, cfg NewConfig) *New {
	setDefault(&cfg.MaxAge, 14*24*time.Hour)
	setDefault(&cfg.Budget, 100)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &New{cfg: cfg, index: index, items: map[string]*newcomer{}}
}

// Name implements the engine's Source.
func (*New) Name() string { return "new" }

// Idle makes the source learn nothing: where no surface asks for it, it should cost nothing. To be called before the first event.
func (s *New) Idle() { s.idle = true }

// Arrive takes in an item that the catalogue did not know before. since is when it was published.
func (s *New) Arrive(id string, since time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.items[id] != nil || s.cfg.Now().Sub(since) > s.cfg.MaxAge {
		return
	}
	n := &newcomer{id: id, since: since}
	n.judge()
	s.items[id], s.stale = n, true
	s.order = append(s.order, n)
	if len(s.order) > maxNew {
		s.drop(s.order[0])
	}
}

// drop forgets an item; what it is still owed goes to the store, where the other workers learn that it is new no more.
func (s *New) drop(n *newcomer) {
	if (n.owed.taken > 0 || n.owed.shown > 0) && len(s.gone) < maxNew {
		s.gone = append(s.gone, n.owed.of(n.id))
	}
	delete(s.items, n.id)
	s.order = slices.DeleteFunc(s.order, func(x *newcomer) bool { return x == n })
}

// Learn implements the engine's Learner: who took a new item says whom it is for, and an item that was taken often enough is explored.
func (s *New) Learn(lessons []freshet.Lesson) {
	if s.idle {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range lessons {
		l := &lessons[i]
		if s.lessons++; s.lessons%newSample == 0 || s.tastes < newCommon {
			s.recall(tasteOf(s.index, l.Before))
		}
		effect := l.Type.EffectOf(l.Event)
		for k := range l.Event.Items {
			n := s.items[l.Event.Items[k].ItemID]
			switch {
			case n == nil || metBefore(l.Before, n.id):
			case effect == freshet.Extend:
				s.take(n, &response{taken: 1, taste: wide(s.apart(tasteOf(s.index, l.Before)))})
			case effect == freshet.Reject:
				s.take(n, &response{shown: 1})
			}
		}
	}
}

func wide(v []float32) []float64 {
	if v == nil {
		return nil
	}
	out := make([]float64, len(v))
	for i := range v {
		out[i] = float64(v[i])
	}
	return out
}

func metBefore(before []freshet.Entry, id string) bool {
	return slices.ContainsFunc(before, func(e freshet.Entry) bool { return e.ItemID == id })
}

// Shown notes that an item was before a user's eyes. That spends the budget too: an item that is shown and that nobody takes is explored.
func (s *New) Shown(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.items[id]; n != nil && !s.idle {
		s.take(n, &response{shown: 1})
	}
}

func (s *New) take(n *newcomer, one *response) {
	n.all.add(one)
	n.owed.add(one)
	n.judge()
	if n.spent(s.cfg.Budget) {
		s.drop(n)
	}
}

// spent tells whether an item is explored. Who takes an item that he was shown counts twice.
func (n *newcomer) spent(budget int) bool { return n.all.taken+n.all.shown >= float64(budget) }

// judge brings odds and aim up to date.
func (n *newcomer) judge() {
	n.odds = float32(math.Log((n.all.taken + newPrior) / (1 + n.all.shown/newPatience)))
	n.aim = nil
	if n.own == nil && n.all.taste == nil {
		return
	}
	aim := make([]float32, max(len(n.own), len(n.all.taste)))
	for i := range n.own {
		aim[i] = newOwn * n.own[i]
	}
	for i, v := range n.all.taste {
		aim[i] += float32(v)
	}
	n.aim = unit(aim)
}

// recall takes a taste into what is common to all: the mean over about the last newRecall.
func (s *New) recall(taste []float32) {
	if taste == nil {
		return
	}
	if len(s.common) != len(taste) {
		s.common, s.tastes = make([]float32, len(taste)), 0
	}
	s.tastes = min(s.tastes+1, newRecall)
	for i, v := range taste {
		s.common[i] += (v - s.common[i]) / float32(s.tastes)
	}
}

// apart is in which direction a taste differs from everybody's; nil = nobody knows.
func (s *New) apart(taste []float32) []float32 {
	if taste == nil || s.tastes < newCommon || len(taste) != len(s.common) {
		return nil
	}
	x := make([]float32, len(taste))
	for i := range x {
		x[i] = taste[i] - s.common[i]
	}
	return unit(x)
}

// tasteOf is the mean of the vectors of a history's last items, the later ones counting more; nil = none has a vector.
func tasteOf(index Index, window []freshet.Entry) []float32 {
	if voters := votersOf(index, window, contentLast); len(voters) > 0 {
		return appendQuery(nil, voters)
	}
	return nil
}

// unit scales a vector to length 1, in place; nil = it has none.
func unit(v []float32) []float32 {
	norm := length(v)
	if norm < 1e-6 {
		return nil
	}
	for i := range v {
		v[i] /= norm
	}
	return v
}

// refresh works out anew what the items' own vectors say, once others have come; those that have none yet are asked for again after a second.
func (s *New) refresh() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.cfg.Now()
	if !s.stale && !(s.waits && now.Sub(s.looked) >= time.Second) {
		return
	}
	s.stale, s.waits, s.looked = false, false, now
	var mean []float32
	known := 0
	for _, n := range s.order {
		v, kind := s.index.Vector(n.id)
		n.own = unit(slices.Clone(v))
		if n.known = kind != freshet.Unknown && n.own != nil; !n.known {
			n.own, s.waits = nil, true
			continue
		}
		n.number = s.index.Number(n.id)
		mean, known = append(mean, make([]float32, max(0, len(v)-len(mean)))...), known+1
		for i, x := range n.own {
			mean[i] += x
		}
	}
	for _, n := range s.order {
		if n.known && known > 1 {
			for i := range n.own {
				n.own[i] -= mean[i] / float32(known)
			}
			n.own = unit(n.own)
		}
		n.judge()
	}
}

// newMost is how many are proposed at most: places for new items are few, and every candidate is scored by every other source.
const newMost = 64

// Propose gives new items: half of n by their scores, and of the others those that were tried least, so that each is shown some day.
func (s *New) Propose(_ context.Context, subjects []freshet.Subject, n int) ([][]freshet.Candidate, error) {
	out := make([][]freshet.Candidate, len(subjects))
	s.refresh()
	s.mu.RLock()
	defer s.mu.RUnlock()
	current := s.current()
	if len(current) == 0 {
		return out, nil
	}
	n = min(n, newMost)
	best := (n + 1) / 2
	var untried []*newcomer
	if n < len(current) {
		untried = slices.Clone(current)
		slices.SortStableFunc(untried, func(a, b *newcomer) int { return a.tried() - b.tried() })
	}
	scores := make([]float32, len(current))
	for i := range subjects {
		x := s.apart(tasteOf(s.index, subjects[i].Profile.Window))
		for k, item := range current {
			scores[k] = item.score(x)
		}
		list := make([]freshet.Candidate, 0, min(n, len(current)))
		if n < len(current) {
			least := nth(slices.Clone(scores), best)
			taken := make(map[*newcomer]bool, n)
			for k, item := range current {
				if scores[k] > least && len(list) < best {
					list, taken[item] = append(list, freshet.Candidate{ItemID: item.id, Number: item.number, Score: scores[k]}), true
				}
			}
			for _, item := range untried {
				if len(list) < n && !taken[item] {
					list = append(list, freshet.Candidate{ItemID: item.id, Number: item.number, Score: item.score(x)})
				}
			}
		} else {
			for k, item := range current {
				list = append(list, freshet.Candidate{ItemID: item.id, Number: item.number, Score: scores[k]})
			}
		}
		sortCandidates(list)
		out[i] = list
	}
	return out, nil
}

// nth gives the value that n others are above, or as many as can be where some are equal (Hoare's quickselect); it moves the values.
func nth(v []float32, n int) float32 {
	from, to := 0, len(v)-1
	for from < to {
		pivot, i, j := v[(from+to)/2], from, to
		for i <= j {
			for v[i] > pivot {
				i++
			}
			for v[j] < pivot {
				j--
			}
			if i <= j {
				v[i], v[j] = v[j], v[i]
				i, j = i+1, j-1
			}
		}
		switch {
		case n <= j:
			to = j
		case n >= i:
			from = i
		default:
			return v[n]
		}
	}
	return v[n]
}

func (n *newcomer) tried() int { return int(n.all.taken + n.all.shown) }

func (n *newcomer) score(x []float32) float32 {
	if x == nil || len(n.aim) != len(x) {
		return n.odds
	}
	return n.odds + newFit*freshet.Dot(x, n.aim)
}

// current lists what is still new, newest first: items that have a vector, or that somebody took.
func (s *New) current() []*newcomer {
	oldest := s.cfg.Now().Add(-s.cfg.MaxAge)
	items := make([]*newcomer, 0, len(s.order))
	for _, n := range slices.Backward(s.order) {
		if n.since.After(oldest) && (n.known || n.all.taken > 0) {
			items = append(items, n)
		}
	}
	return items
}

// Score implements the engine's Source: nothing for what is not new.
func (s *New) Score(_ context.Context, who *freshet.Subject, items []freshet.Ref, out []float32) error {
	s.refresh()
	s.mu.RLock()
	defer s.mu.RUnlock()
	for i := range items {
		out[i] = -math.MaxFloat32
	}
	if len(s.items) == 0 { // most of the time nothing is new
		return nil
	}
	x := s.apart(tasteOf(s.index, who.Profile.Window))
	for i := range items {
		if n := s.items[items[i].ItemID]; n != nil {
			out[i] = n.score(x)
		}
	}
	return nil
}
