package freshet

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"sort"
	"testing"
)

// chainStep is a model whose state is a hash of everything it has seen: two states are equal only if the same steps were taken
// in the same order with the same gaps. Values stay below 2^24, so that a float32 holds them exactly.
func chainStep(state []float32, e Entry, gap float32) {
	h := fnv.New64a()
	fmt.Fprint(h, state[0], "|", e.ItemID, "|", e.Type, "|", gap, "|", e.Vector)
	state[0] = float32(h.Sum64() % (1 << 24))
}

// settleChain carries out a profile's plan as the engine would.
func settleChain(p *Profile, late LatePolicy) {
	if p.Tombstone() {
		p.Folded()
		return
	}
	plan := p.Plan()
	switch {
	case p.State == nil || plan.FromCheckpoint:
		p.State = make([]float32, 1)
		copy(p.State, p.Checkpoint)
	case plan.From != nil:
		copy(p.State, plan.From)
	}
	for i, e := range plan.Steps {
		chainStep(p.State, e, plan.Gaps[i])
		if at := plan.At + i + 1; late == Reorder && at > 0 {
			p.Pass(at, p.State)
		}
	}
	if late == Reorder && len(plan.Leaving) > 0 {
		if p.Checkpoint == nil {
			p.Checkpoint = make([]float32, 1)
		}
		for i, e := range plan.Leaving {
			chainStep(p.Checkpoint, e, plan.LeavingGaps[i])
		}
	}
	p.Folded()
}

func testRules(t testing.TB, history int) *Rules {
	t.Helper()
	types, err := NewEventTypes(DefaultEventTypes())
	if err != nil {
		t.Fatal(err)
	}
	return &Rules{Types: types, MaxHistory: history}
}

func viewAt(n int64, item string, offset int64) *Event {
	return &Event{ID: fmt.Sprintf("e%d", offset), Type: "view", UserID: "u", Time: 1_700_000_000_000 + n,
		Items: []EventItem{{ItemID: item}}, Position: Position{Source: Source{Topic: "events"}, Offset: offset}}
}

// randomEvents makes a user's log: mostly views in order, with late ones, duplicates, retractions, multi-item purchases, rejects.
func randomEvents(r *rand.Rand, n int) []*Event {
	var out []*Event
	at := int64(0)
	for i := range n {
		at += r.Int64N(5000)
		e := viewAt(at, fmt.Sprintf("item-%04d", r.IntN(60)), int64(i))
		switch r.IntN(20) {
		case 0:
			e.Time -= r.Int64N(60_000) // late, perhaps too late
		case 1:
			if i > 0 {
				e.ID = out[r.IntN(i)].ID // a producer's duplicate
			}
		case 2:
			e.Type = "remove"
		case 3:
			e.Type = "purchase"
			for range r.IntN(30) {
				e.Items = append(e.Items, EventItem{ItemID: fmt.Sprintf("item-%04d", r.IntN(60))})
			}
		case 4:
			e.Type = "dislike"
		case 5:
			e.Type = "impression"
		case 6:
			e.Type, e.TargetEventID, e.Items = "remove", fmt.Sprintf("e%d", r.IntN(i+1)), nil
		case 7:
			e.Position.Partition = 1
		case 8:
			e.Type = "cart"
		}
		out = append(out, e)
	}
	return out
}

// A batch of events folds to the same profile as the same events one by one, whatever the batches are.
func TestBatchesDoNotMatter(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		rules := testRules(t, 1+r.IntN(12))
		rules.Late = LatePolicy(seed % 3)
		events := randomEvents(r, 120)
		serial, batched := &Profile{UserID: "u"}, &Profile{UserID: "u"}
		for _, e := range events {
			serial.Apply(e, rules)
			settleChain(serial, rules.Late)
		}
		for i := 0; i < len(events); {
			end := min(len(events), i+1+r.IntN(9))
			for ; i < end; i++ {
				batched.Apply(events[i], rules)
			}
			settleChain(batched, rules.Late)
		}
		a, b := mustEncode(t, serial), mustEncode(t, batched)
		if rules.Late != Reorder && string(a) != string(b) {
			// Without a checkpoint a refold starts from what the window still holds, so only the sequence must agree.
			serial.State, batched.State = nil, nil
			serial.CheckpointTime, batched.CheckpointTime = 0, 0
			a, b = mustEncode(t, serial), mustEncode(t, batched)
		}
		if string(a) != string(b) {
			t.Fatalf("seed %d: batches changed the profile:\n%+v\n%+v", seed, serial, batched)
		}
	}
}

// The invariant, checked against an oracle that sorts: checkpoint = fold of all that ever left the window in order of leaving,
// state = fold of that and the window, and the window is the latest entries in event order.
func TestStateIsFoldOfCheckpointAndWindow(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 2))
		rules := testRules(t, 1+r.IntN(12))
		p := &Profile{UserID: "u"}
		for _, e := range randomEvents(r, 150) {
			p.Apply(e, rules)
			settleChain(p, Reorder)
			state := make([]float32, 1)
			copy(state, p.Checkpoint)
			before := p.CheckpointTime
			for _, entry := range p.Window {
				gap := float32(0)
				if before != 0 && entry.Time > before {
					gap = float32(entry.Time-before) / 1000
				}
				chainStep(state, entry, gap)
				before = entry.Time
			}
			if len(p.Window) > 0 && p.State[0] != state[0] {
				t.Fatalf("seed %d, offset %d: state %v is not fold(checkpoint, window) = %v", seed, e.Position.Offset, p.State, state)
			}
			if len(p.Window) > rules.MaxHistory {
				t.Fatalf("seed %d: window of %d entries", seed, len(p.Window))
			}
			if !sort.SliceIsSorted(p.Window, func(i, j int) bool { return p.Window[i].compare(&p.Window[j]) < 0 }) {
				t.Fatalf("seed %d: window out of order: %+v", seed, p.Window)
			}
		}
	}
}

// Late events that arrive while their place is still in the window leave the same profile as the log in order.
func TestLateEventsLandWhereTheyBelong(t *testing.T) {
	rules := testRules(t, 10)
	inOrder, late := &Profile{UserID: "u"}, &Profile{UserID: "u"}
	order := []int64{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}
	for _, i := range order {
		inOrder.Apply(viewAt(i*1000, fmt.Sprintf("i%d", i), i), rules)
		settleChain(inOrder, Reorder)
	}
	for _, i := range []int64{0, 1, 2, 5, 3, 4, 6, 9, 8, 7, 10, 11} {
		// The offset follows the time here, so positions in the window agree; the last position applied does too.
		late.Apply(&Event{ID: fmt.Sprintf("e%d", i), Type: "view", UserID: "u", Time: 1_700_000_000_000 + i*1000,
			Items: []EventItem{{ItemID: fmt.Sprintf("i%d", i)}}, Position: Position{Source: Source{Topic: fmt.Sprint("t", i)}, Offset: i}}, rules)
		settleChain(late, Reorder)
	}
	if inOrder.State[0] != late.State[0] || inOrder.Checkpoint[0] != late.Checkpoint[0] {
		t.Fatalf("state %v / %v, checkpoint %v / %v", inOrder.State, late.State, inOrder.Checkpoint, late.Checkpoint)
	}
}

func TestOutcomes(t *testing.T) {
	rules := testRules(t, 2)
	p := &Profile{UserID: "u"}
	apply := func(e *Event, want Outcome) {
		t.Helper()
		rev := p.Rev
		if got := p.Apply(e, rules); got != want {
			t.Fatalf("event %s at %d: %s, want %s", e.ID, e.Position.Offset, got, want)
		}
		if changed := p.Rev != rev; changed != (want == Applied) {
			t.Fatalf("event %s: rev went from %d to %d on %s", e.ID, rev, p.Rev, want)
		}
		settleChain(p, Reorder)
	}
	first := viewAt(0, "a", 10)
	apply(first, Applied)
	apply(first, Covered)
	again := viewAt(0, "a", 11)
	again.ID = first.ID
	apply(again, Duplicate)
	apply(viewAt(1000, "b", 12), Applied)
	apply(viewAt(-1000, "c", 13), TooLate)
	apply(viewAt(0, "c", 14), Applied) // equal timestamps are never late
	impression := viewAt(3000, "d", 15)
	impression.Type = "impression"
	apply(impression, Observed)
	dislike := viewAt(3000, "d", 16)
	dislike.Type = "dislike"
	apply(dislike, Applied)
	repeated := viewAt(3000, "d", 17)
	repeated.Type, repeated.ID = "dislike", dislike.ID
	apply(repeated, Duplicate)
	if !slices.Contains(p.Dismissed, Dated{ItemID: "d", Time: dislike.Time}) {
		t.Fatalf("dismissed: %v", p.Dismissed)
	}
	erase := &Event{ID: "x", Type: "erase", UserID: "u", Time: first.Time + 10_000, Position: Position{Source: first.Position.Source, Offset: 18}}
	apply(erase, Applied)
	if !p.Tombstone() || p.Dismissed != nil {
		t.Fatalf("after erasure: %+v", p)
	}
	apply(viewAt(9_999, "a", 19), Forgotten)
	apply(viewAt(10_001, "a", 20), Applied)
	if p.Tombstone() || len(p.Window) != 1 || p.ErasedAt != erase.Time {
		t.Fatalf("after coming back: %+v", p)
	}
}

// A state folded anew from a waypoint is the one folded anew from the checkpoint, and takes fewer steps.
func TestWaypointsLeadToTheSameState(t *testing.T) {
	from, steps := 0, 0
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 50))
		rules := testRules(t, 50)
		p := &Profile{UserID: "u"}
		for _, e := range randomEvents(r, 300) {
			p.Apply(e, rules)
			if r.IntN(3) == 0 { // several events at once, too
				continue
			}
			if len(p.Window) > 0 && !p.Owes() {
				p.Again() // the queries are asked for once more
			}
			if plan := p.Plan(); plan.From != nil {
				from++
				steps += len(plan.Steps)
			}
			settleChain(p, Reorder)
			fresh := *p
			fresh.way = nil
			fresh.State = slices.Clone(p.State)
			fresh.Repair()
			settleChain(&fresh, Reorder)
			if !slices.Equal(p.State, fresh.State) {
				t.Fatalf("seed %d, rev %d: state %v, from the checkpoint %v", seed, p.Rev, p.State, fresh.State)
			}
		}
	}
	if from < 100 || steps > 20*from {
		t.Fatalf("%d refolds from a waypoint, %d steps: too few, or too long", from, steps)
	}
}

func TestErasureThatComesAgainErasesNothing(t *testing.T) {
	rules := testRules(t, 10)
	p := &Profile{UserID: "u"}
	erase := &Event{ID: "x", Type: "erase", UserID: "u", Time: viewAt(5000, "a", 0).Time, Position: viewAt(0, "a", 0).Position}
	p.Apply(erase, rules)
	p.Apply(viewAt(6000, "a", 1), rules)
	again := *erase
	again.Position.Offset = 2
	if got := p.Apply(&again, rules); got != Forgotten || len(p.Window) != 1 || p.Rev != 2 {
		t.Fatalf("the same erasure again: %v, rev %d, window %v; want forgotten, 2 and what the user did since", got, p.Rev, p.Window)
	}
}

func TestRetractionLooksForTheCartFirst(t *testing.T) {
	rules := testRules(t, 10)
	p := &Profile{UserID: "u"}
	for i, typ := range []string{"view", "cart", "view"} {
		e := viewAt(int64(i)*1000, "a", int64(i))
		e.Type = typ
		p.Apply(e, rules)
	}
	settleChain(p, Reorder)
	remove := viewAt(5000, "a", 3)
	remove.Type = "remove"
	p.Apply(remove, rules)
	if !p.Plan().FromCheckpoint {
		t.Fatal("a retraction inside the folded part must refold from the checkpoint")
	}
	settleChain(p, Reorder)
	if got := []string{p.Window[0].Type, p.Window[1].Type}; len(p.Window) != 2 || got[0] != "view" || got[1] != "view" {
		t.Fatalf("window after the retraction: %+v", p.Window)
	}
}

func TestPositionsOfFourSourcesAreKept(t *testing.T) {
	rules := testRules(t, 5)
	p := &Profile{UserID: "u"}
	for i := range int32(6) {
		e := viewAt(int64(i), "a", int64(i))
		e.Position.Partition = i
		p.Apply(e, rules)
	}
	if len(p.Positions) != MaxPositions || p.Positions[0].Partition != 2 || p.Positions[3].Partition != 5 {
		t.Fatalf("positions: %v", p.Positions)
	}
}

// A multi-item event is one update; of many items only the last max_history fold.
func TestMultiItemEventIsOneUpdate(t *testing.T) {
	rules := testRules(t, 3)
	e := viewAt(0, "i0", 0)
	e.Type = "purchase"
	for i := 1; i < 7; i++ {
		e.Items = append(e.Items, EventItem{ItemID: fmt.Sprintf("i%d", i)})
	}
	p := &Profile{UserID: "u"}
	p.Apply(e, rules)
	settleChain(p, Reorder)
	if p.Rev != 1 || len(p.Window) != 3 || p.Window[0].ItemID != "i4" || p.Window[2].ItemID != "i6" || p.Checkpoint != nil {
		t.Fatalf("%+v", p)
	}
	back, err := DecodeProfile("u", mustEncode(t, p))
	if err != nil {
		t.Fatal(err)
	}
	if back.Window[2] != p.Window[2] {
		t.Fatalf("%+v became %+v", p.Window, back.Window)
	}
}

func mustEncode(t testing.TB, p *Profile) []byte {
	t.Helper()
	b, err := p.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
