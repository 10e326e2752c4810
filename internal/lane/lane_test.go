package lane

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"testing"

	"freshet"
)

func table() *freshet.LaneTable {
	return &freshet.LaneTable{Version: 1, Live: "live", Lanes: map[string]freshet.Lane{"live": {Name: "live", Share: 1, CV: 1, Since: 1, Caught: true}}}
}

// change does something to the next version of a table.
func change(t *testing.T, table *freshet.LaneTable, do func(*freshet.LaneTable) error) {
	t.Helper()
	table.Version++
	if err := do(table); err != nil {
		t.Fatal(err)
	}
}

func owners(table *freshet.LaneTable) map[string]freshet.LaneOwner {
	out := map[string]freshet.LaneOwner{}
	for i := range 3000 {
		u := fmt.Sprintf("user-%d", i)
		o := table.OwnerOf(u)
		o.Slots = 0
		out[u] = o
	}
	return out
}

func add(t *testing.T, tab *freshet.LaneTable, name string) {
	t.Helper()
	change(t, tab, func(tab *freshet.LaneTable) error { return Add(tab, freshet.Lane{Name: name}) })
	change(t, tab, func(tab *freshet.LaneTable) error { return CatchUp(tab, name) })
}

func TestAShareMovesTheFewestUsersAndIsSticky(t *testing.T) {
	tab := table()
	add(t, tab, "a")
	add(t, tab, "b")
	share := func(name string, s float64) (moved int) {
		before := owners(tab)
		change(t, tab, func(tab *freshet.LaneTable) error { return SetShare(tab, name, s, false) })
		for u, o := range owners(tab) {
			if o.Lane != before[u].Lane {
				if o.Lane != name && before[u].Lane != name {
					t.Fatalf("user %s moved from %s to %s when %s changed", u, before[u].Lane, o.Lane, name)
				}
				if o.CV != tab.Version || o.Was != before[u].Lane {
					t.Fatalf("a user who moved: %+v at version %d", o, tab.Version)
				}
				moved++
			} else if o != before[u] {
				t.Fatalf("a user who stayed: %+v, before %+v", o, before[u])
			}
		}
		return moved
	}
	for _, step := range []struct {
		name  string
		share float64
		moves float64
	}{{"a", .05, .05}, {"b", .2, .2}, {"a", .1, .05}, {"a", .04, .06}, {"b", .2, 0}, {"b", 0, .2}} {
		if moved := float64(share(step.name, step.share)) / 3000; math.Abs(moved-step.moves) > .03 || step.moves == 0 && moved > 0 {
			t.Errorf("%s to %v moved %.3f of the users, want %.3f", step.name, step.share, moved, step.moves)
		}
		if got := tab.Lanes[step.name].Share; got != step.share {
			t.Errorf("%s has %v, want %v", step.name, got, step.share)
		}
	}
}

// For one user the owner changes at most once in a promotion, and at most once on the way back.
func TestPromotionAndTheWayBack(t *testing.T) {
	tab := table()
	add(t, tab, "v2")
	add(t, tab, "x")
	change(t, tab, func(tab *freshet.LaneTable) error { return SetShare(tab, "v2", .05, false) })
	change(t, tab, func(tab *freshet.LaneTable) error { return SetShare(tab, "x", .1, false) })
	before := owners(tab)
	change(t, tab, func(tab *freshet.LaneTable) error { return Promote(tab, "v2", false) })
	for u, o := range owners(tab) {
		switch before[u].Lane {
		case "live":
			if o != (freshet.LaneOwner{Lane: "v2", CV: tab.Version, Was: "live"}) {
				t.Fatalf("user %s: %+v", u, o)
			}
		default:
			if o != before[u] {
				t.Fatalf("user %s of %s: %+v", u, before[u].Lane, o)
			}
		}
	}
	if tab.Live != "v2" || tab.Lanes["live"].Share != 0 || math.Abs(tab.Lanes["v2"].Share-.9) > 1e-9 {
		t.Errorf("%+v", tab.Lanes)
	}
	change(t, tab, func(tab *freshet.LaneTable) error { return Promote(tab, "live", false) })
	if share := tab.Lanes["live"].Share; math.Abs(share-.9) > 1e-9 || tab.Live != "live" {
		t.Errorf("after the way back live has %v", share)
	}
}

func TestWhatIsRefused(t *testing.T) {
	tab := table()
	change(t, tab, func(tab *freshet.LaneTable) error { return Add(tab, freshet.Lane{Name: "new", Seed: "live"}) })
	if err := Promote(tab.Clone(), "new", false); !errors.Is(err, ErrNotCaughtUp) {
		t.Errorf("promote before it caught up: %v", err)
	}
	if err := SetShare(tab.Clone(), "new", .1, false); !errors.Is(err, ErrNotCaughtUp) {
		t.Errorf("share before it caught up: %v", err)
	}
	if err := Promote(tab.Clone(), "new", true); err != nil {
		t.Errorf("forced: %v", err)
	}
	shared := tab.Clone()
	if err := SetShare(shared, "new", .1, true); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"the same name":        Add(tab.Clone(), freshet.Lane{Name: "new"}),
		"an unknown source":    Add(tab.Clone(), freshet.Lane{Name: "z", Seed: "none"}),
		"dropping live":        Drop(tab.Clone(), "live"),
		"dropping an owner":    Drop(shared, "new"),
		"dropping nobody":      Drop(tab.Clone(), "none"),
		"a share of live":      SetShare(tab.Clone(), "live", .5, false),
		"promoting live":       Promote(tab.Clone(), "live", true),
		"forgetting too early": Forget(tab.Clone(), "new"),
	} {
		if err == nil {
			t.Errorf("%s was taken", what)
		}
	}
}

// Whatever is done to a table, every slot has one owner that exists, and shares say what the slots say.
func TestATableStaysWhole(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 5))
	tab := table()
	for n := range 400 {
		next := tab.Clone()
		next.Version++
		name := []string{"live", "a", "b", "c"}[r.IntN(4)]
		var err error
		switch r.IntN(6) {
		case 0:
			err = Add(next, freshet.Lane{Name: name, Caught: true})
		case 1:
			err = Promote(next, name, r.IntN(2) == 0)
		case 2:
			if err = Drop(next, name); err == nil {
				err = Forget(next, name)
			}
		case 3:
			err, next.Sweep = nil, 0
		default:
			err = SetShare(next, name, float64(r.IntN(60))/100, true)
		}
		if err != nil {
			continue
		}
		tab = next
		total, counts := 0, map[string]int{}
		for _, o := range tab.Owners {
			if o.CV > tab.Version || o.Slots < 1 {
				t.Fatalf("step %d: %+v", n, o)
			}
			total, counts[o.Lane] = total+o.Slots, counts[o.Lane]+o.Slots
		}
		if total != freshet.LaneSlots && len(tab.Owners) > 0 {
			t.Fatalf("step %d: %d slots", n, total)
		}
		for lane := range maps.Keys(counts) {
			if l, ok := tab.Lanes[lane]; !ok || l.Share != float64(counts[lane])/freshet.LaneSlots {
				t.Fatalf("step %d: %s has %d slots, its row says %+v", n, lane, counts[lane], l)
			}
		}
	}
}

func TestShareIsRead(t *testing.T) {
	for text, want := range map[string]float64{"5%": .05, "0.05": .05, "100%": 1, "0": 0, "0.5%": .005, "1": 1} {
		if got, err := Share(text); err != nil || math.Abs(got-want) > 1e-12 {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "five", "101%", "-1%", "NaN", "5"} {
		if got, err := Share(text); err == nil {
			t.Errorf("%q was taken for %v", text, got)
		}
	}
}
