package recommend

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"freshet"
)

// pupil is a source that writes down what it is taught.
type pupil struct {
	rotation
	lessons []string
}

func (*pupil) Name() string { return "pupil" }

func (p *pupil) Learn(lessons []freshet.Lesson) {
	for _, l := range lessons {
		s := l.Event.ID + ":"
		for _, b := range l.Before {
			s += fmt.Sprint(" ", b.ItemID, "/", b.Event, "/", b.Index)
		}
		p.lessons = append(p.lessons, s)
	}
}

// Lessons say what the user had done before, whether his events come one at a time or in one batch, in order, late, taken back or of
// many items.
func TestLessonsDoNotDependOnBatches(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 5))
		var events []freshet.Event
		for n := range int64(200) {
			e := event(fmt.Sprintf("u%d", r.IntN(3)), n, fmt.Sprintf("i%d", r.IntN(30)))
			switch r.IntN(12) {
			case 0:
				e.Time -= int64(r.IntN(8000)) // late, some too late
			case 1:
				e.Type = "dislike"
			case 2:
				e.Type = "remove"
			case 3, 4:
				e.Type = "purchase"
				for range r.IntN(7) {
					e.Items = append(e.Items, freshet.EventItem{ItemID: fmt.Sprintf("i%d", r.IntN(30))})
				}
			case 5:
				e.ID = fmt.Sprintf("e%d", r.Int64N(n+1)) // a duplicate, or a name that comes again later
			case 6:
				if r.IntN(4) == 0 {
					e.Type = "erase"
				}
			}
			events = append(events, e)
		}
		history := 2 + r.IntN(45)
		taught := func(batch func() int) []string {
			p := &pupil{rotation: rotation{40}}
			f := newFixture(t, func(c *Config) {
				c.MaxHistory = history
				c.Surfaces[0].Weights["pupil"] = 1
			}, p)
			for left := events; len(left) > 0; {
				n := min(batch(), len(left))
				if _, err := f.Handle(context.Background(), left[:n]); err != nil {
					t.Fatal(err)
				}
				left = left[n:]
			}
			slices.Sort(p.lessons) // users of a batch are taught one after the other
			return p.lessons
		}
		one, many := taught(func() int { return 1 }), taught(func() int { return 1 + r.IntN(60) })
		if len(one) < 100 || !slices.Equal(one, many) {
			t.Fatalf("seed %d, windows of %d: %d lessons one at a time, %d in batches, not the same", seed, history, len(one), len(many))
		}
	}
}

// A lane that catches up saves records without items, and is taught all the same. Renew makes the lists that it would have made.
func TestListsThatAreOwedAreMadeByRenew(t *testing.T) {
	elsewhere := &freshet.LaneTable{Version: 3, Live: "other", Owners: []freshet.LaneOwner{{Slots: freshet.LaneSlots, Lane: "other", CV: 3}}}
	owes := true
	laneThat := func(mayOwe bool) (*fixture, *pupil) {
		p := &pupil{rotation: rotation{40}}
		return newFixture(t, func(c *Config) {
			c.Lane, c.Table = "mine", func() *freshet.LaneTable { return elsewhere }
			c.Owes = func() bool { return mayOwe && owes }
			c.Surfaces[0].Weights["pupil"] = 1
		}, p), p
	}
	now, taught := laneThat(false)
	later, alike := laneThat(true)
	events := []freshet.Event{event("a", 0, "i1"), event("b", 1, "i2"), event("a", 2, "i3"), event("a", 3, "i9")}
	now.handle(t, events...)
	later.handle(t, events...)
	if len(taught.lessons) != 4 || !slices.Equal(taught.lessons, alike.lessons) {
		t.Errorf("taught %v, and %v where lists are owed", taught.lessons, alike.lessons)
	}
	last := map[string]int{"a": 3, "b": 1}
	owed := map[string]freshet.Recommendation{}
	for user := range last {
		owed[user] = decode(t, later.store.records[freshet.RecordKey{UserID: user, Surface: "home"}])
	}
	owes = false // the lane has come close to the topic's end
	for user, last := range last {
		key := freshet.RecordKey{UserID: user, Surface: "home"}
		owed, made := owed[user], decode(t, now.store.records[key])
		if len(owed.Items) != 0 || owed.Rev != made.Rev || owed.Event != made.Event {
			t.Fatalf("owed %+v, made %+v", owed, made)
		}
		if _, err := later.Renew(t.Context(), []Renewal{{UserID: user, Event: events[last]}}); err != nil {
			t.Fatal(err)
		}
		if got := decode(t, later.store.records[key]); fmt.Sprint(got.Items) != fmt.Sprint(made.Items) || got.RecID != made.RecID || len(got.Items) == 0 {
			t.Errorf("renewed %+v, want %+v", got, made)
		}
		if string(later.store.profiles[user]) != string(now.store.profiles[user]) {
			t.Errorf("%s has another profile", user)
		}
	}
}
