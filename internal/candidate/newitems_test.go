package candidate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"freshet"
)

// fans have two tastes: those of a0.. and those of b0..; n0, n1, n2 are new, and their own vectors say nothing.
var fans = flatIndex{"a0": {1, 0}, "a1": {.9, .1}, "b0": {0, 1}, "b1": {.1, .9}, "n0": {.5, .5}, "n1": {.5, .5}, "n2": {.5, .5}}

type newSource struct {
	*New
	t *testing.T
}

func newItems(t *testing.T, budget int, ids ...string) newSource {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := newSource{NewNew(fans, NewConfig{MaxAge: 24 * time.Hour, Budget: budget, Basis: "b1", Now: func() time.Time { return now }}), t}
	for i, id := range ids {
		s.Arrive(id, now.Add(-time.Duration(len(ids)-i)*time.Minute))
	}
	return s
}

func (s newSource) took(item string, before ...string) {
	who := subject(nil, before...)
	for i := range who.Profile.Window {
		who.Profile.Window[i].Vector = freshet.Trained
	}
	s.Learn([]freshet.Lesson{{Event: &freshet.Event{Type: "click", Items: []freshet.EventItem{{ItemID: item}}}, Type: freshet.EventType{Effect: freshet.Extend, Weight: 1}, Before: who.Profile.Window}})
}

func (s newSource) proposed(n int, window ...string) string {
	s.t.Helper()
	who := subject(nil, window...)
	for i := range who.Profile.Window {
		who.Profile.Window[i].Vector = freshet.Trained
	}
	lists, err := s.Propose(context.Background(), []freshet.Subject{who}, n)
	if err != nil {
		s.t.Fatal(err)
	}
	var ids []string
	for _, c := range lists[0] {
		ids = append(ids, c.ItemID)
	}
	return strings.Join(ids, " ")
}

// settled lets as many of both tastes pass by as it takes to know what is common to them.
func (s newSource) settled() newSource {
	for range newCommon {
		s.took("a0", "a0", "a1")
		s.took("b0", "b0", "b1")
	}
	return s
}

func TestNewItemsAreExploredWithinABudget(t *testing.T) {
	s := newItems(t, 2, "n0")
	s.Arrive("n1", s.cfg.Now().Add(-48*time.Hour))
	if got := s.proposed(5, "a0"); got != "n0" {
		t.Fatalf("%q: n1 is too old", got)
	}
	s.took("n0", "a0")
	s.Shown("n1")
	s.Shown("n0")
	if got := s.proposed(5, "a0"); got != "" {
		t.Fatalf("%q: its budget is spent", got)
	}
}

func TestNewItemsGoToUsersLikeThoseWhoTookThem(t *testing.T) {
	s := newItems(t, 100, "n0", "n1", "n2").settled()
	s.took("n0", "a0", "a1")
	s.took("n1", "b0", "b1")
	for window, want := range map[string]string{"a1 a0": "n0 n2 n1", "b1": "n1 n2 n0"} {
		if got := s.proposed(5, strings.Fields(window)...); got != want {
			t.Errorf("who had %s is proposed %s, want %s", window, got, want)
		}
	}
	who := subject(nil)
	scores := make([]float32, 3)
	if err := s.Score(t.Context(), &who, []freshet.Ref{{ItemID: "n1"}, {ItemID: "a0"}, {ItemID: "n2"}}, scores); err != nil {
		t.Fatal(err)
	}
	if !(scores[0] > scores[2]) || scores[1] != -math.MaxFloat32 {
		t.Errorf("of whom nothing is known: n1 %v (taken once), n2 %v (never), a0 %v (is not new)", scores[0], scores[2], scores[1])
	}
}

func TestEveryUserCountsOnceAndImpressionsCountAgainstAnItem(t *testing.T) {
	s := newItems(t, 1000, "n0", "n1")
	s.took("n0", "b0")
	for range 5 {
		s.took("n0", "b0", "n0") // again
	}
	s.took("n1", "b0")
	s.took("n1", "b1")
	if got := s.items["n0"].all.taken; got != 1 || s.items["n1"].all.taken != 2 {
		t.Errorf("%v users took n0, want 1", got)
	}
	if got := s.proposed(2); got != "n1 n0" {
		t.Fatalf("%s: n1 was taken by more", got)
	}
	for range 90 {
		s.Shown("n1")
	}
	if got := s.proposed(2); got != "n0 n1" {
		t.Errorf("%s: n1 was shown 90 times for its two", got)
	}
}

// Half of the places go by score, the others to what was tried least: no item waits for ever behind those that were lucky first.
func TestWhatWasTriedLeastIsProposedToo(t *testing.T) {
	index := flatIndex{}
	s := NewNew(index, NewConfig{Budget: 1000})
	for i := range 20 {
		id := fmt.Sprintf("n%02d", i)
		index[id] = []float32{float32(i), 1}
		s.Arrive(id, time.Now().Add(time.Duration(i-20)*time.Minute))
	}
	n := newSource{s, t}
	for i := range 17 {
		n.took(fmt.Sprintf("n%02d", i), "nobody-knows")
		n.took(fmt.Sprintf("n%02d", i), "nobody-knows")
	}
	if got := n.proposed(6); strings.Count(got, "n1") < 3 || !strings.Contains(got, "n17") || !strings.Contains(got, "n18") || !strings.Contains(got, "n19") {
		t.Errorf("proposed are %s: n17, n18 and n19 were never tried", got)
	}
}

// Vectors made of texts come some time after their items.
func TestANewItemIsProposedOnceItHasAVector(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	index := flatIndex{"n0": {1, 0}}
	n := newSource{NewNew(index, NewConfig{Now: func() time.Time { return now }}), t}
	n.Arrive("n0", now)
	n.Arrive("n1", now)
	if got := n.proposed(5); got != "n0" {
		t.Fatal(got)
	}
	index["n1"] = []float32{0, 1}
	now = now.Add(2 * time.Second)
	if got := n.proposed(5); got != "n1 n0" {
		t.Error(got)
	}
}

type responseStore struct {
	sums map[string]freshet.Response
	fail bool
}

func (m *responseStore) AddResponses(_ context.Context, basis string, add []freshet.Response) ([]freshet.Response, error) {
	out := make([]freshet.Response, len(add))
	for i, a := range add {
		if m.fail {
			return nil, errors.New("down")
		}
		sum := m.sums[a.ItemID]
		sum.ItemID = a.ItemID
		all := response{sum.Taken, sum.Shown, slices.Clone(sum.Taste)}
		all.add(&response{a.Taken, a.Shown, a.Taste})
		m.sums[a.ItemID] = all.of(a.ItemID)
		out[i] = (&response{all.taken, all.shown, slices.Clone(all.taste)}).of(a.ItemID)
	}
	return out, nil
}

func TestWorkersShareWhatTheFirstUsersOfNewItemsDid(t *testing.T) {
	store := &responseStore{sums: map[string]freshet.Response{}}
	one, two := newItems(t, 5, "n0", "n1").settled(), newItems(t, 5, "n0", "n1").settled()
	share := func(s newSource) {
		t.Helper()
		if err := s.Sync(t.Context(), store); err != nil {
			t.Fatal(err)
		}
	}
	one.took("n0", "a0", "a1")
	two.took("n1", "b0", "b1")
	store.fail = true
	if err := one.Sync(t.Context(), store); err == nil {
		t.Fatal("no error from a store that is down")
	}
	store.fail = false
	for range 3 { // in turn
		share(one)
		share(two)
	}
	for _, s := range []newSource{one, two} {
		if a, b := s.proposed(1, "a0"), s.proposed(1, "b1"); a != "n0" || b != "n1" {
			t.Errorf("a0's user is proposed %s, b1's %s", a, b)
		}
		if s.items["n0"].all.taken != 1 || s.items["n1"].all.taken != 1 {
			t.Errorf("taken %v and %v times, want 1 and 1", s.items["n0"].all.taken, s.items["n1"].all.taken)
		}
	}
	// What one worker has explored is new for none.
	for range 4 {
		one.Shown("n0")
	}
	share(one)
	for range turnSyncs {
		share(two)
	}
	late := newItems(t, 5, "n0", "n1")
	share(late)
	for _, s := range []newSource{one, two, late} {
		if got := s.proposed(5, "a0"); got != "n1" {
			t.Errorf("proposed are %q: n0's budget is spent", got)
		}
	}
}

// A new item follows others in the counts from its first event on.
func TestCountsKnowANewItemAfterItsFirstEvent(t *testing.T) {
	c := NewCovisit(CovisitConfig{})
	who := subject(nil, "i0")
	lesson := freshet.Lesson{Event: &freshet.Event{Items: []freshet.EventItem{{ItemID: "fresh"}}, Time: 1}, Type: freshet.EventType{Effect: freshet.Extend, Weight: 1}, Before: who.Profile.Window}
	c.Learn([]freshet.Lesson{lesson})
	opinion := c.Ask(&who)
	defer opinion.Close()
	if got := opinion.Propose(5); len(got) != 1 || got[0].ItemID != "fresh" {
		t.Errorf("after i0 counts propose %v", got)
	}
}

func BenchmarkNewLearn(b *testing.B) {
	index := flatIndex{}
	s := NewNew(index, NewConfig{Budget: 1 << 30})
	vector := func(seed int) []float32 {
		v := make([]float32, 64)
		for i := range v {
			v[i] = float32((seed*31+i*17)%101) / 100
		}
		return v
	}
	var before []freshet.Entry
	for i := range 32 {
		id := fmt.Sprintf("i%d", i)
		index[id] = vector(i)
		before = append(before, freshet.Entry{ItemID: id, Vector: freshet.Trained})
	}
	for i := range maxNew {
		id := fmt.Sprintf("n%d", i)
		index[id] = vector(1000 + i)
		s.Arrive(id, time.Now())
	}
	lesson := func(item string) []freshet.Lesson {
		return []freshet.Lesson{{Event: &freshet.Event{Items: []freshet.EventItem{{ItemID: item}}}, Type: freshet.EventType{Effect: freshet.Extend, Weight: 1}, Before: before}}
	}
	for item, name := range map[string]string{"i1": "known", "n1": "new"} {
		b.Run(name, func(b *testing.B) {
			one := lesson(item)
			for b.Loop() {
				s.Learn(one)
			}
		})
	}
	who := freshet.Subject{Profile: &freshet.Profile{Window: before}}
	b.Run("propose of 1000", func(b *testing.B) {
		for b.Loop() {
			if _, err := s.Propose(context.Background(), []freshet.Subject{who}, 200); err != nil {
				b.Fatal(err)
			}
		}
	})
}
