package evaluate

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"freshet"
)

func events(list ...freshet.Event) iter.Seq2[freshet.Event, error] {
	return func(yield func(freshet.Event, error) bool) {
		for _, e := range list {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// sequences makes a log of "user: item item ..." lines, all at one time.
func sequences(t testing.TB, lines ...string) *Log {
	t.Helper()
	var all []freshet.Event
	for _, line := range lines {
		user, items, _ := strings.Cut(line, ": ")
		for _, item := range strings.Fields(items) {
			all = append(all, event(user, item, 0))
		}
	}
	return readLog(t, events(all...))
}

func close4(a, b float64) bool { return math.Abs(a-b) < 1e-9 }

func TestRankCountsTiesAgainstAndLeavesOutSeen(t *testing.T) {
	r := newRanker(6)
	scores := []float32{5, 3, 3, 1, 9, 0}
	for _, c := range []struct {
		target  int32
		exclude []int32
		want    int32
	}{{4, nil, 1}, {0, nil, 2}, {1, nil, 4}, {2, nil, 4}, {1, []int32{4}, 3}, {1, []int32{4, 4, 0, 2, 5}, 1}, {5, nil, 6}, {1, []int32{1}, 4}} {
		if got := r.rank(scores, c.target, c.exclude); got != c.want {
			t.Errorf("target %d without %v: rank %d, want %d", c.target, c.exclude, got, c.want)
		}
	}
	if got := r.rank([]float32{1, 1, 1, 1, 1, 1}, 2, nil); got != 6 {
		t.Errorf("all alike: rank %d", got)
	}
	if got := r.rank([]float32{1, float32(math.NaN()), 1, 1, 1, 1}, 1, nil); got != 6 {
		t.Errorf("no number: rank %d", got)
	}
}

// C by hand: a b c gives (a,b) 1, (b,c) 1, (a,c) 1/2; a b gives (a,b) 1. n = a 2, b 2, c 1.
func TestCountsByHand(t *testing.T) {
	c := NewCounts(4, DefaultCountsConfig())
	c.LearnAll([][]int32{{0, 1, 2}, {0, 1}})
	out := [][]float32{make([]float32, 4)}
	score := func(history ...int32) []float32 {
		if err := c.Score(context.Background(), []Question{{History: history}}, out); err != nil {
			t.Fatal(err)
		}
		return out[0]
	}
	damp := func(n float64) float64 { return math.Pow(n+1, -.3) }
	vote := math.Pow(2, -.7)
	for name, got := range map[string][2]float64{
		"b after a":       {float64(score(0)[1]), damp(2) * 2 / 3},
		"c after a":       {float64(score(0)[2]), damp(1) * .5 / 3},
		"a after a":       {float64(score(0)[0]), 0},
		"c after a, b":    {float64(score(0, 1)[2]), damp(1) * (1.0/3 + vote*.5/3)},
		"b after nothing": {float64(score()[1]), 2e-9},
	} {
		if math.Abs(got[0]-got[1]) > 1e-6 {
			t.Errorf("%s: %v, want %v", name, got[0], got[1])
		}
	}
}

func TestCountsReachAndLast(t *testing.T) {
	c := NewCounts(3, CountsConfig{Reach: 2, Last: 1, Decay: .7, Damp: 0})
	c.LearnAll([][]int32{{0, 2, 2, 1}})
	out := [][]float32{make([]float32, 3)}
	if err := c.Score(context.Background(), []Question{{History: []int32{2, 0}}}, out); err != nil {
		t.Fatal(err)
	}
	if out[0][1] != 0 || out[0][2] == 0 {
		t.Errorf("scores %v: 1 is three events after 0, and only the last item votes", out[0])
	}
}

// The sparse and the plain form of a row hold the same counts.
func TestCountRowsAgainstAMap(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 7))
	for _, items := range []int{5, 300, 100_000} {
		var r countRow
		want := map[int32]float32{}
		for range 2000 {
			item, v := random.Int32N(int32(items)), float32(1+random.IntN(4))/4
			r.add(item, v, items)
			want[item] += v
		}
		out := make([]float32, items)
		r.addTo(out, 1)
		for j, v := range out {
			if v != want[int32(j)] {
				t.Fatalf("%d items: item %d has %v, want %v", items, j, v, want[int32(j)])
			}
		}
		if wantDense := items < 5000; r.dense != wantDense {
			t.Errorf("%d items: dense %v", items, r.dense)
		}
	}
}

func TestTextKNN(t *testing.T) {
	knn, err := NewTextKNN([][]float32{{2, 0}, {1, 1}, {0, 3}, nil, {-1, 0}})
	if err != nil {
		t.Fatal(err)
	}
	out := [][]float32{make([]float32, 5)}
	if err := knn.Score(context.Background(), []Question{{History: []int32{0, 3}}}, out); err != nil {
		t.Fatal(err)
	}
	order := []int32{0, 1, 2, 3, 4}
	slices.SortFunc(order, func(a, b int32) int { return int(math.Copysign(1, float64(out[0][b]-out[0][a]))) })
	if !slices.Equal(order, []int32{0, 1, 2, 4, 3}) {
		t.Errorf("order %v by %v", order, out[0])
	}
	if _, err := NewTextKNN([][]float32{{1}, {1, 2}}); err == nil {
		t.Error("vectors of two lengths were taken")
	}
}

func TestReadLogKeepsBehaviourOnly(t *testing.T) {
	low := 1.0
	buy := event("u", "x", 5)
	buy.Items = append(buy.Items, freshet.EventItem{ItemID: "y"})
	l := readLog(t, events(event("u", "a", 1), freshet.Event{ID: "i", Type: "impression", UserID: "u", Items: []freshet.EventItem{{ItemID: "z"}}},
		freshet.Event{ID: "l", Type: "login", UserID: "v", MergeInto: "u"},
		freshet.Event{ID: "r", Type: "rating", UserID: "u", Value: &low, Items: []freshet.EventItem{{ItemID: "b"}}, Time: 2}, buy))
	if len(l.Events) != 3 || l.Users.Len() != 1 || l.Items.Len() != 4 {
		t.Fatalf("%d events, %d users, %d items", len(l.Events), l.Users.Len(), l.Items.Len())
	}
	if l.Events[1].Effect != freshet.Reject {
		t.Errorf("a rating of 1 has effect %v", l.Events[1].Effect)
	}
	got := l.Freshet(1)
	if got.UserID != "u" || got.Type != "rating" || *got.Value != 1 || got.Time != 2 || got.Position.Offset != 1 {
		t.Errorf("event back: %+v", got)
	}
	if buy := l.Freshet(2); len(buy.Items) != 2 || buy.Items[1].ItemID != "y" {
		t.Errorf("items back: %+v", buy.Items)
	}
	types, err := freshet.NewEventTypes(freshet.DefaultEventTypes())
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	if _, err := ReadLog(func(yield func(freshet.Event, error) bool) { yield(freshet.Event{}, broken) }, types, ""); !errors.Is(err, broken) {
		t.Errorf("a failing reader: %v", err)
	}
	if _, err := ReadLog(events(), types, ""); err == nil {
		t.Error("a log of nothing")
	}
}

func TestLeaveOneOut(t *testing.T) {
	l := sequences(t, "u: a b c d", "short: a b", "v: c a b")
	for _, c := range []struct {
		hide     HoldOut
		targets  []string
		histries [][]string
	}{
		{Test, []string{"d", "b"}, [][]string{{"a", "b", "c"}, {"a", "b"}, {"c", "a"}}},
		{Validation, []string{"c", "a"}, [][]string{{"a", "b"}, {"a", "b"}, {"c"}}},
	} {
		s := l.LeaveOneOut(c.hide)
		var targets []string
		for _, n := range s.Targets {
			targets = append(targets, l.Items.ID(n))
		}
		var histories [][]string
		for _, h := range s.Histories {
			var ids []string
			for _, n := range h {
				ids = append(ids, l.Items.ID(n))
			}
			histories = append(histories, ids)
		}
		if !slices.Equal(targets, c.targets) || !reflect.DeepEqual(histories, c.histries) {
			t.Errorf("hiding %d: targets %v, histories %v", c.hide, targets, histories)
		}
		if !s.Seen.Excluded("u", "a") || s.Seen.Excluded("u", "d") || s.Seen.Excluded("nobody", "a") {
			t.Errorf("hiding %d: exclusion is wrong", c.hide)
		}
	}
}

// lastItems is a toy engine: the list of a user is the items that others had right after the user's last item, newest first,
// then all items in order of their number. It refuses a batch that breaks a user's order.
type lastItems struct {
	t       *testing.T
	items   []string
	seen    *Seen
	last    map[string]string
	offset  map[string]int64
	batches int
	most    int
	perUser bool // in this run, no batch may hold two events of a user
}

func newLastItems(t *testing.T, l *Log, seen *Seen) *lastItems {
	return &lastItems{t: t, items: l.Items.ids, seen: seen, last: map[string]string{}, offset: map[string]int64{}}
}

func (h *lastItems) Handle(_ context.Context, batch []freshet.Event) ([]freshet.Publication, error) {
	h.batches++
	h.most = max(h.most, len(batch))
	var users []string
	for _, e := range batch {
		if at, ok := h.offset[e.UserID]; ok && at >= e.Position.Offset {
			h.t.Errorf("user %s: offset %d after %d", e.UserID, e.Position.Offset, at)
		}
		if h.perUser && slices.Contains(users, e.UserID) {
			h.t.Errorf("two events of %s in one batch", e.UserID)
		}
		h.offset[e.UserID] = e.Position.Offset
		h.last[e.UserID] = e.Items[len(e.Items)-1].ItemID
		if !slices.Contains(users, e.UserID) {
			users = append(users, e.UserID)
		}
	}
	var out []freshet.Publication
	for _, u := range users {
		r := freshet.Recommendation{V: 1, UserID: u, Surface: freshet.HomeSurface}
		for _, item := range toyList(h.items, h.last[u]) {
			if !h.seen.Excluded(u, item) {
				r.Items = append(r.Items, freshet.RecommendedItem{ItemID: item})
			}
		}
		out = append(out, freshet.Publication{UserID: u, Surface: freshet.HomeSurface, Record: r.AppendJSON(nil)})
		out = append(out, freshet.Publication{UserID: u, Surface: "video", Record: []byte("not for us")})
	}
	return out, nil
}

// toyList is the items in the order of their distance from the last one.
func toyList(items []string, last string) []string {
	at := slices.Index(items, last)
	return slices.Concat(items[at+1:], items[:at])
}

func TestRankHandlerEqualsByHand(t *testing.T) {
	l := sequences(t, "u: a b c d", "v: c a b e", "w: e d a")
	s := l.LeaveOneOut(Test)
	h := newLastItems(t, l, s.Seen)
	done := 0
	outcomes, err := s.RankHandler(context.Background(), h, func(n, total int) { done = n })
	if err != nil {
		t.Fatal(err)
	}
	// items in order of mention: a b c d e. u ends at c: d first. v ends at b, has a b c: d, e. w ends at d, has e d: a first.
	if want := []Outcome{{0, 1}, {1, 2}, {2, 1}}; !slices.Equal(outcomes, want) || done != 3 {
		t.Errorf("outcomes %v, done %d", outcomes, done)
	}
}

func TestScorerRanksEqualHandlerRanks(t *testing.T) {
	l := sequences(t, "u: a b c d", "v: c a b e", "w: e d a", "x: a c e")
	s := l.LeaveOneOut(Test)
	c := NewCounts(l.Items.Len(), DefaultCountsConfig())
	s.Teach(c)
	outcomes, err := s.Rank(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	scores := make([]float32, l.Items.Len())
	for i, q := range s.Questions { // the rank by sorting
		c.score(q.History, scores)
		rank := int32(1)
		for item := range scores {
			if int32(item) != s.Targets[i] && !slices.Contains(q.History, int32(item)) && scores[item] >= scores[s.Targets[i]] {
				rank++
			}
		}
		if outcomes[i].Rank != rank {
			t.Errorf("question %d: rank %d, want %d", i, outcomes[i].Rank, rank)
		}
	}
}

// random makes a log of many users over three days, with ties, repeats and a multi-item purchase now and then.
func randomLog(t testing.TB, n int) *Log {
	random := rand.New(rand.NewPCG(3, 4))
	at := time.Date(2026, 1, 1, 20, 0, 0, 0, time.UTC).UnixMilli()
	var all []freshet.Event
	for i := range n {
		if random.IntN(3) > 0 {
			at += random.Int64N(2 * 3 * 24 * 3600 * 1000 / int64(n))
		}
		users := 5 + i/20 // new users keep coming
		e := event(fmt.Sprintf("u%d", random.IntN(users)), fmt.Sprintf("i%d", random.IntN(60)), at)
		if random.IntN(10) == 0 {
			e.Type = "purchase"
			e.Items = append(e.Items, freshet.EventItem{ItemID: fmt.Sprintf("i%d", 60+random.IntN(5))})
		}
		if random.IntN(12) == 0 {
			e.Type = "dislike"
		}
		all = append(all, e)
	}
	return readLog(t, events(all...))
}

// The whole run against a serial oracle that handles one event at a time and keeps every list by itself.
func TestPrequentialEqualsSerialOracle(t *testing.T) {
	l := randomLog(t, 1500)
	seen := NewSeen(l, false)
	h := newLastItems(t, l, seen)
	live := NewLive("live", l, seen, h, 16)
	rows := []Row{live, live.Refreshed("daily", 24*time.Hour), live.Refreshed("10 minutes", 10*time.Minute),
		NewScorerRow(l, seen, NewCounts(l.Items.Len(), DefaultCountsConfig())), NewScorerRow(l, seen, NewPopularity(l.Items.Len()))}
	var told int
	ranked, err := (&Prequential{Log: l, Seen: seen, Train: .5, Progress: func(done, total int) { told = done }}).Run(context.Background(), rows)
	if err != nil {
		t.Fatal(err)
	}
	want := oracle(l, .5)
	if len(ranked.Scored) != len(want) || len(want) < 300 || told != len(l.Events) {
		t.Fatalf("%d scored, want %d; told %d", len(ranked.Scored), len(want), told)
	}
	for i, w := range want {
		s := ranked.Scored[i]
		if s.User != w.user || s.Item != w.item || s.Warm != w.warm || s.History != w.history {
			t.Fatalf("scored %d: %+v, want %+v", i, s, w)
		}
		for n := range w.ranks {
			if w.ranks[n] < 0 {
				continue // the oracle computes counts for some only, they are slow from nothing
			}
			if got := ranked.Rows[n].Ranks[i]; got != w.ranks[n] || n < 3 && ranked.Rows[n].Personal[i] != w.personal[n] {
				t.Fatalf("scored %d, row %s: rank %d (personal %v), want %d (%v)", i, ranked.Rows[n].Name, got, ranked.Rows[n].Personal[i], w.ranks[n], w.personal[n])
			}
		}
	}
	if h.batches >= len(l.Events)/2 {
		t.Errorf("%d batches for %d events: nothing was batched", h.batches, len(l.Events))
	}
}

type oracleRow struct {
	user, item, history int32
	warm                bool
	ranks               [5]int32
	personal            [3]bool
}

// oracle replays a log in the plainest way.
func oracle(l *Log, train float64) []oracleRow {
	cut := int(float64(len(l.Events)) * train)
	had, history := map[int32][]int32{}, map[int32][]int32{}
	warm := map[int32]bool{}
	last := map[int32]int32{} // live: the user's last item
	standing := [2]map[int32][]string{{}, {}}
	popularAt := [2][]float64{}
	period := [2]int64{-1, -1}
	every := [2]int64{24 * 3600 * 1000, 600 * 1000}
	popular := make([]float64, l.Items.Len())
	lists := map[int32][]string{}
	var out []oracleRow
	for i := range l.Events {
		e := &l.Events[i]
		for n := range every {
			if p := e.Time / every[n]; p != period[n] {
				period[n] = p
				standing[n] = map[int32][]string{}
				for u, list := range lists {
					standing[n][u] = list
				}
				popularAt[n] = slices.Clone(popular)
			}
		}
		for _, item := range l.ItemsOf(e) {
			if i < cut || e.Effect != freshet.Extend || slices.Contains(had[e.User], item) {
				continue
			}
			w := oracleRow{user: e.User, item: item, history: int32(len(history[e.User])), warm: warm[e.User]}
			byList := func(list []string, ok bool, popular []float64) (int32, bool) {
				if !ok {
					return fullRank(popular, item, had[e.User]), false
				}
				place := int32(0)
				for _, id := range list {
					n, _ := l.Items.Lookup(id)
					if slices.Contains(had[e.User], n) {
						continue
					}
					place++
					if n == item {
						return place, true
					}
				}
				return 0, true
			}
			_, lives := last[e.User]
			w.ranks[0], w.personal[0] = byList(lists[e.User], lives, popular)
			for n := range every {
				list, ok := standing[n][e.User]
				w.ranks[1+n], w.personal[1+n] = byList(list, ok, popularAt[n])
			}
			c := NewCounts(l.Items.Len(), DefaultCountsConfig())
			if len(out)%37 == 0 { // counts from nothing, in the order of the log
				past := map[int32][]int32{}
				for k := range i {
					if o := &l.Events[k]; o.Effect == freshet.Extend {
						for _, it := range l.ItemsOf(o) {
							c.Learn(past[o.User], it)
							past[o.User] = append(past[o.User], it)
						}
					}
				}
			}
			scores := make([]float32, l.Items.Len())
			c.score(history[e.User], scores)
			wide := make([]float64, len(scores))
			for n, s := range scores {
				wide[n] = float64(s)
			}
			w.ranks[3] = fullRank(wide, item, had[e.User])
			if len(out)%37 != 0 {
				w.ranks[3] = -1
			}
			w.ranks[4] = fullRank(popular, item, had[e.User])
			out = append(out, w)
		}
		for _, item := range l.ItemsOf(e) {
			had[e.User] = append(had[e.User], item)
			if e.Effect == freshet.Extend {
				history[e.User] = append(history[e.User], item)
				popular[item]++
			}
			last[e.User] = item
		}
		warm[e.User] = warm[e.User] || i < cut
		var list []string
		for _, id := range toyList(l.Items.ids, l.Items.ID(last[e.User])) {
			if n, _ := l.Items.Lookup(id); !slices.Contains(had[e.User], n) {
				list = append(list, id)
			}
		}
		lists[e.User] = list
	}
	return out
}

func fullRank(scores []float64, target int32, had []int32) int32 {
	rank := int32(1)
	for item, s := range scores {
		if int32(item) != target && s >= scores[target] && !slices.Contains(had, int32(item)) {
			rank++
		}
	}
	return rank
}

func TestPrequentialWarmsUpInLargeBatchesAndScoresOneEventAUser(t *testing.T) {
	l := randomLog(t, 600)
	seen := NewSeen(l, false)
	h := newLastItems(t, l, seen)
	live := NewLive("live", l, seen, h, 8)
	watch := rowFunc(func(i int, scoring bool) {
		if scoring && !h.perUser {
			if h.batches > 1 {
				t.Errorf("%d batches in the warm-up of 480 events", h.batches)
			}
			if err := live.flush(context.Background()); err != nil {
				t.Error(err)
			}
			h.perUser, h.most = true, 0
		}
	})
	if _, err := (&Prequential{Log: l, Seen: seen, Train: .8}).Run(context.Background(), []Row{watch, live}); err != nil {
		t.Fatal(err)
	}
	if h.most > 8 || h.most < 2 {
		t.Errorf("up to %d events a batch while scoring, configured 8", h.most)
	}
}

// rowFunc is a row that only watches what is revealed.
type rowFunc func(i int, scoring bool)

func (f rowFunc) Name() string                         { return "watch" }
func (f rowFunc) Begin(int64)                          {}
func (f rowFunc) Advance(context.Context, int64) error { return nil }
func (f rowFunc) Rank(context.Context, Question, int32) (int32, bool, error) {
	return 0, false, nil
}
func (f rowFunc) Reveal(_ context.Context, i int, scoring bool) error { f(i, scoring); return nil }

func TestPrequentialRefusesAndPassesOn(t *testing.T) {
	l := readLog(t, events(event("u", "a", 5), event("u", "b", 4), event("u", "c", 6)))
	run := func(share float64, rows ...Row) error {
		_, err := (&Prequential{Log: l, Seen: NewSeen(l, false), Train: share}).Run(context.Background(), rows)
		return err
	}
	if err := run(.5); err == nil || !strings.Contains(err.Error(), "sort the log") {
		t.Errorf("out of order: %v", err)
	}
	l.SortByTime("time")
	if err := run(1); err == nil {
		t.Error("nothing left to score was taken")
	}
	broken := errors.New("device is gone")
	live := NewLive("live", l, NewSeen(l, false), handlerFunc(func([]freshet.Event) ([]freshet.Publication, error) { return nil, broken }), 1)
	if err := run(0, live); !errors.Is(err, broken) || !strings.Contains(err.Error(), "live") {
		t.Errorf("a failing engine: %v", err)
	}
	garbage := NewLive("live", l, NewSeen(l, false), handlerFunc(func(batch []freshet.Event) ([]freshet.Publication, error) {
		return []freshet.Publication{{UserID: "u", Surface: freshet.HomeSurface, Record: []byte("{")}}, nil
	}), 1)
	if err := run(0, garbage); err == nil || !strings.Contains(err.Error(), "published list of user u") {
		t.Errorf("a broken record: %v", err)
	}
	stopped, stop := context.WithCancel(context.Background())
	stop()
	if _, err := (&Prequential{Log: l, Seen: NewSeen(l, false)}).Run(stopped, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: %v", err)
	}
}

type handlerFunc func([]freshet.Event) ([]freshet.Publication, error)

func (f handlerFunc) Handle(_ context.Context, batch []freshet.Event) ([]freshet.Publication, error) {
	return f(batch)
}

func TestRepeatsAreRankedWhenWanted(t *testing.T) {
	l := readLog(t, events(event("u", "a", 1), event("u", "b", 2), event("u", "a", 3), event("u", "a", 4)))
	for _, c := range []struct {
		repeats         bool
		scored, skipped int
	}{{false, 2, 2}, {true, 4, 0}} {
		seen := NewSeen(l, c.repeats)
		ranked, err := (&Prequential{Log: l, Seen: seen}).Run(context.Background(), []Row{NewScorerRow(l, seen, NewPopularity(l.Items.Len()))})
		if err != nil || len(ranked.Scored) != c.scored || ranked.Repeats != c.skipped {
			t.Errorf("repeats %v: %d scored, %d skipped, %v", c.repeats, len(ranked.Scored), ranked.Repeats, err)
		}
	}
}

// An item that a user has had is no candidate for him: asking for it would be a question that only baselines could answer.
func TestLeaveOneOutDoesNotAskForRepeats(t *testing.T) {
	s := sequences(t, "u: a b a", "v: a b c").LeaveOneOut(Test)
	if len(s.Questions) != 1 || s.Log.Users.ID(s.Questions[0].User) != "v" || s.Repeats != 1 {
		t.Errorf("%d questions, %d repeats", len(s.Questions), s.Repeats)
	}
	if r := s.Report("m", nil, DefaultBootstrap()); r.Repeats != 1 || r.Scored != 1 {
		t.Errorf("report: %d repeats, %d ranked", r.Repeats, r.Scored)
	}
}
