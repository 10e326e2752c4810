package candidate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"freshet"
)

// visit lets a user meet an item after what he met before.
func visit(c *Covisit, before []string, item string, at int64) {
	var w []freshet.Entry
	for _, id := range before {
		w = append(w, freshet.Entry{ItemID: id, Time: at})
	}
	c.Learn([]freshet.Lesson{{Event: &freshet.Event{Items: []freshet.EventItem{{ItemID: item}}, Time: at},
		Type: freshet.EventType{Effect: freshet.Extend, Weight: 1}, Before: w}})
}

// The score is the formula, computed here once more from all pairs.
func TestCovisitIsItsFormula(t *testing.T) {
	const users, items, day = 30, 40, int64(86_400_000)
	cfg := CovisitConfig{HalfLife: 10 * 24 * time.Hour, Keep: 1000, Numbers: numbered{}}
	c := NewCovisit(cfg)
	type pair struct{ i, j string }
	pairs, counts := map[pair]float64{}, map[string]float64{}
	r := rand.New(rand.NewPCG(1, 2))
	histories := make([][]string, users)
	const events = 600
	last := 1_700_000_000_000 + int64(events-1)*day/20
	for n := range int64(events) {
		u, item, at := r.IntN(users), fmt.Sprintf("i%d", r.IntN(items)), 1_700_000_000_000+n*day/20
		h := histories[u]
		now := math.Exp2(-float64(last-at) / (10 * float64(day)))
		for k := 1; k <= min(20, len(h)); k++ {
			before := h[len(h)-k]
			pairs[pair{before, item}] += now / float64(k)
			if k <= backReach && before != item {
				pairs[pair{item, before}] += now / float64(k) / 2
			}
		}
		counts[item] += now
		visit(c, h[max(0, len(h)-freshet.MaxBefore):], item, at)
		histories[u] = append(h, item)
	}
	for i := range int32(len(c.rows)) { // damps of rarely met items may be a few events old
		c.redamp(i)
	}
	who := subject(nil, histories[0]...)
	o := c.Ask(&who)
	defer o.Close()
	ids, got := make([]string, items), make([]float32, items)
	for i := range ids {
		ids[i] = fmt.Sprintf("i%d", i)
	}
	o.Score(refs(c.cfg.Numbers, ids...), got)
	for i, id := range ids {
		sum, most, because := 0.0, 0.0, ""
		for k := 1; k <= min(30, len(histories[0])); k++ {
			h := histories[0][len(histories[0])-k]
			v := math.Pow(float64(k), -0.7) * pairs[pair{h, id}] / (counts[h] + 1)
			if sum += v; v > most {
				most, because = v, h
			}
		}
		want := math.Log(sum*math.Pow(counts[id]+1, -0.2) + covisitFloor)
		if math.Abs(float64(got[i])-want) > 1e-3 {
			t.Fatalf("%s scores %v, the formula gives %v", id, got[i], want)
		}
		if got := o.Because(refs(c.cfg.Numbers, id)[0]); got != because {
			t.Fatalf("%s because of %q, the strongest vote is that of %q", id, got, because)
		}
	}
	list := o.Propose(10)
	for i := 1; i < len(list); i++ {
		if list[i].Score > list[i-1].Score {
			t.Fatalf("%v is not sorted", list)
		}
	}
}

// sharedCounts is a store in memory without decay, which can fail.
type sharedCounts struct {
	mu   sync.Mutex
	rows map[string]map[string]float64
	fail bool
}

func (s *sharedCounts) AddTransitions(_ context.Context, deltas []freshet.Transition) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail {
		return errors.New("no answer")
	}
	for _, d := range deltas {
		if s.rows[d.From] == nil {
			s.rows[d.From] = map[string]float64{}
		}
		s.rows[d.From][d.To] += d.Weight
	}
	return nil
}

func (s *sharedCounts) Transitions(_ context.Context, items []string, _ int, _ time.Time) ([][]freshet.Scored, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([][]freshet.Scored, len(items))
	for i, id := range items {
		for to, w := range s.rows[id] {
			out[i] = append(out[i], freshet.Scored{ItemID: to, Score: w})
		}
	}
	return out, nil
}

// Workers that share a store end with the same counts, and a store that was away for a while costs nothing.
func TestWorkersShareTheirCounts(t *testing.T) {
	cfg := CovisitConfig{HalfLife: 1e6 * time.Hour, Numbers: numbered{}}
	a, b, alone := NewCovisit(cfg), NewCovisit(cfg), NewCovisit(cfg)
	store := &sharedCounts{rows: map[string]map[string]float64{}}
	for n := range int64(60) {
		who := a
		if n%2 == 0 {
			who = b
		}
		item, before := fmt.Sprintf("i%d", n%7), []string{fmt.Sprintf("i%d", n%5), fmt.Sprintf("i%d", n%3)}
		visit(who, before, item, 1000+n)
		visit(alone, before, item, 1000+n)
		store.fail = n > 20 && n < 40
		if err := who.Sync(t.Context(), store); (err != nil) != store.fail {
			t.Fatalf("%v", err)
		}
	}
	for range turnSyncs {
		for _, c := range []*Covisit{a, b} {
			if err := c.Sync(t.Context(), store); err != nil {
				t.Fatal(err)
			}
		}
	}
	who, ids := subject(nil, "i1", "i2", "i0"), []string{"i0", "i1", "i2", "i3", "i4", "i5", "i6"}
	want, got := make([]float32, len(ids)), make([]float32, len(ids))
	if err := alone.Score(t.Context(), &who, refs(unnumbered{}, ids...), want); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*Covisit{a, b} {
		if err := c.Score(t.Context(), &who, refs(c.cfg.Numbers, ids...), got); err != nil {
			t.Fatal(err)
		}
		for i := range ids {
			if math.Abs(float64(got[i]-want[i])) > 1e-3 {
				t.Fatalf("%v, one worker alone has %v", got, want)
			}
		}
	}
}

// A worker that dies leaves what it had not given yet (less than a second) and reads again what it had not committed (three seconds). So the
// shared counts are too high by what was given and comes again, whatever they were before, and no event is missing.
func TestCountsAfterACrashAreOffByWhatIsReadAgain(t *testing.T) {
	const (
		rate            = 200      // events a second
		committedBehind = 3 * rate // events that come again
	)
	cfg := CovisitConfig{HalfLife: 1e6 * time.Hour, Keep: 1000}
	r := rand.New(rand.NewPCG(11, 0))
	for _, crash := range []int{20*rate + 10, 60*rate + rate/2, 60*rate + rate - 1} {
		store := &sharedCounts{rows: map[string]map[string]float64{}}
		events := make([][2]string, crash+5*rate)
		for n := range events {
			events[n] = [2]string{fmt.Sprint("i", r.IntN(50)), fmt.Sprint("i", r.IntN(50))}
		}
		from := 0
		for _, to := range []int{crash, len(events)} {
			worker := NewCovisit(cfg) // after a crash: a new one, which begins where the last one had committed
			for n := from; n < to; n++ {
				visit(worker, events[n][:1], events[n][1], 1000+int64(n))
				if n%rate == rate-1 || n == len(events)-1 {
					if err := worker.Sync(t.Context(), store); err != nil {
						t.Fatal(err)
					}
				}
			}
			from = to - committedBehind
		}
		counted := 0.0
		for _, row := range store.rows {
			counted += row[""]
		}
		twice := counted - float64(len(events))
		t.Logf("killed after %d events, %d of them since the last flush: %.0f of %d events are counted twice, %.1f %%", crash, crash%rate, twice, len(events), 100*twice/float64(len(events)))
		if want := float64(committedBehind - crash%rate); math.Abs(twice-want) > 1 {
			t.Errorf("%.0f events are counted twice, want %.0f: those that were given and came again", twice, want)
		}
	}
}

// Memory is bounded: rows by Keep, items by MaxItems, and what is met often survives.
func TestCovisitIsBounded(t *testing.T) {
	c := NewCovisit(CovisitConfig{Keep: 8, MaxItems: 100})
	store := &sharedCounts{rows: map[string]map[string]float64{}}
	for n := range int64(3000) {
		visit(c, []string{"hub"}, fmt.Sprintf("x%d", n%500), 1000+n)
		visit(c, []string{"hub"}, "often", 1000+n)
		if n%100 == 0 {
			if err := c.Sync(t.Context(), store); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(c.rows) > 100 {
		t.Fatalf("%d items", len(c.rows))
	}
	for i := range c.rows {
		if len(c.rows[i].next) > 9 || len(c.rows[i].owed) > 8 {
			t.Fatalf("%d successors of %s", len(c.rows[i].next), c.items[i].ItemID)
		}
	}
	who := subject(nil, "hub")
	list, err := c.Propose(t.Context(), []freshet.Subject{who}, 1)
	if err != nil || len(list[0]) == 0 || list[0][0].ItemID != "often" {
		t.Fatalf("%v, %v", list, err)
	}
}

func TestContentNamesWhatIsMostAlike(t *testing.T) {
	c := NewContent(axes)
	who := subject(nil, "i0", "nobody-knows", "i1")
	lists, err := c.Propose(t.Context(), []freshet.Subject{who, subject(nil)}, 3)
	if err != nil || len(lists[0]) != 3 || lists[0][0].ItemID != "i2" || lists[1] != nil {
		t.Fatalf("%v, %v: i2 lies between what the user met", lists, err)
	}
	if got := c.Because(&who, refs(axes, "i2")); got[0] != "i1" {
		t.Fatalf("%v: i1 was met last and weighs more", got)
	}
	out := make([]float32, 2)
	if err := c.Score(t.Context(), &who, refs(axes, "i2", "unheard-of"), out); err != nil || out[0] != lists[0][0].Score || out[1] > -1e30 {
		t.Fatalf("%v, %v", out, err)
	}
}

func TestTrendsAreWhatGrew(t *testing.T) {
	s := NewTrending(6*time.Hour, 7*24*time.Hour, nil)
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	meet := func(item string, n int) {
		for range n {
			s.Learn([]freshet.Lesson{{Event: &freshet.Event{Items: []freshet.EventItem{{ItemID: item}}, Time: at.UnixMilli()},
				Type: freshet.EventType{Effect: freshet.Extend, Weight: 1}}})
		}
	}
	for range 24 * 14 {
		meet("evergreen", 20)
		at = at.Add(time.Hour)
	}
	meet("rocket", 40)
	meet("evergreen", 20)
	s.Refresh()
	if top := s.Top(1); len(top) != 1 || top[0].ItemID != "rocket" {
		t.Fatalf("%v: evergreen is met as often as ever", top)
	}
}

// What counting one event costs, with rows that are full.
func BenchmarkCovisitLearn(b *testing.B) {
	for name, back := range map[string]float64{"forwards": -1, "both": 0} {
		b.Run("pairs="+name, func(b *testing.B) {
			const items = 4000
			c := NewCovisit(CovisitConfig{Back: back})
			r := rand.New(rand.NewPCG(1, 2))
			item := func() string { return fmt.Sprintf("i%d", int(items*math.Pow(r.Float64(), 2))) }
			lesson := func(n int) []freshet.Lesson {
				l := freshet.Lesson{Event: &freshet.Event{Items: []freshet.EventItem{{ItemID: item()}}, Time: 1_700_000_000_000 + int64(n)}, Type: freshet.EventType{Effect: freshet.Extend, Weight: 1}}
				for range freshet.MaxBefore {
					l.Before = append(l.Before, freshet.Entry{ItemID: item(), Time: l.Event.Time})
				}
				return []freshet.Lesson{l}
			}
			lessons := make([][]freshet.Lesson, 20_000)
			for n := range lessons {
				lessons[n] = lesson(n)
				c.Learn(lessons[n])
			}
			for n := 0; b.Loop(); n++ {
				c.Learn(lessons[n%len(lessons)])
			}
		})
	}
}
