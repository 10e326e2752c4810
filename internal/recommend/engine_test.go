package recommend

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"freshet"
)

// hashModel is a model whose state is a hash of all its steps: two states are equal only if the steps were. Its query is the
// state, its batch order does not matter.
type hashModel struct {
	mu   sync.Mutex
	runs int
	rows int
	fail error
}

func (m *hashModel) ID() string                  { return "hash@00000001" }
func (m *hashModel) Fingerprint() uint64         { return 1 }
func (m *hashModel) Dim() int                    { return 1 }
func (m *hashModel) StateSize() int              { return 1 }
func (m *hashModel) Tasks() []string             { return []string{"click"} }
func (m *hashModel) TypeIndex(name string) int64 { return int64(len(name)) }

func (m *hashModel) Advance(_ context.Context, s *freshet.Steps) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	m.runs++
	m.rows += s.Len()
	for i := range s.Len() {
		h := fnv.New64a()
		fmt.Fprint(h, s.States[i], "|", s.Items[i], "|", s.Types[i], "|", s.Gaps[i])
		s.States[i] = float32(h.Sum64() % (1 << 24))
		s.Queries[0][i] = s.States[i]
	}
	return nil
}

// Number gives every second item one, so that lists are made of items with and without.
func (m *hashModel) Number(id string) int32 { return everySecond(id) }

func everySecond(id string) int32 {
	if n, err := strconv.Atoi(strings.TrimLeft(id, "abcdefghijklmnopqrstuvwxyz")); err == nil && n%2 == 0 {
		return int32(n) + 1
	}
	return 0
}

func (m *hashModel) VectorOf(item freshet.Ref) ([]float32, float32) {
	return known(m.Vector(item.ItemID))
}

// Vector gives item "i<n>" the vector n; other items are unknown.
func (m *hashModel) Vector(id string) ([]float32, freshet.VectorKind) {
	var n int
	if _, err := fmt.Sscanf(id, "i%d", &n); err != nil {
		return []float32{-1}, freshet.Unknown
	}
	return []float32{float32(n)}, freshet.Trained
}

// rotation proposes items in an order that depends on the user's state alone.
type rotation struct{ items int }

func (rotation) Name() string { return "sequence" }

func (r rotation) Propose(_ context.Context, subjects []freshet.Subject, n int) ([][]freshet.Candidate, error) {
	out := make([][]freshet.Candidate, len(subjects))
	for i, s := range subjects {
		if s.Queries == nil {
			continue
		}
		first := int(s.Queries[0][0])
		for k := range min(n, r.items) {
			out[i] = append(out[i], freshet.Candidate{ItemID: fmt.Sprintf("i%d", (first+k)%r.items), Score: -float32(k)})
		}
	}
	return out, nil
}

func (r rotation) Score(_ context.Context, _ *freshet.Subject, _ []freshet.Ref, out []float32) error {
	clear(out)
	return nil
}

// faultyStore is a store in memory with compare-and-set, and with faults on demand.
type faultyStore struct {
	mu       sync.Mutex
	profiles map[string][]byte
	records  map[freshet.RecordKey][]byte
	loads    int
	fault    func(user string) freshet.SaveResult // what a save shall say; 0 = do it
	after    bool                                 // the fault strikes after the write
}

func newFaultyStore() *faultyStore {
	return &faultyStore{profiles: map[string][]byte{}, records: map[freshet.RecordKey][]byte{}}
}

func (s *faultyStore) Load(_ context.Context, users []string) ([][]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loads += len(users)
	out := make([][]byte, len(users))
	for i, u := range users {
		out[i] = slices.Clone(s.profiles[u])
	}
	return out, nil
}

func (s *faultyStore) Save(_ context.Context, updates []freshet.Update) ([]freshet.SaveResult, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]freshet.SaveResult, len(updates))
	var err error
	for i, u := range updates {
		var fault freshet.SaveResult
		if s.fault != nil {
			fault = s.fault(u.UserID)
		}
		if fault != 0 && !s.after {
			out[i] = fault
		} else if out[i] = s.save(u); fault != 0 {
			out[i] = fault
		}
		if out[i] == freshet.Retry {
			err = fmt.Errorf("no answer: %w", freshet.ErrUnavailable)
		}
	}
	return out, err
}

func (s *faultyStore) save(u freshet.Update) freshet.SaveResult {
	now := freshet.VersionOf(s.profiles[u.UserID])
	switch {
	case now != u.Base && now.Rev() < u.Base.Rev():
		return freshet.Lost
	case now != u.Base:
		return freshet.Newer
	}
	s.profiles[u.UserID] = slices.Clone(u.Profile)
	for _, r := range u.Records {
		s.records[freshet.RecordKey{UserID: u.UserID, Surface: r.Surface}] = slices.Clone(r.Value)
	}
	return freshet.Saved
}

func (s *faultyStore) Records(_ context.Context, keys []freshet.RecordKey) ([][]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([][]byte, len(keys))
	for i, k := range keys {
		out[i] = slices.Clone(s.records[k])
	}
	return out, nil
}

// counts is an Observer that adds up.
type counts struct {
	mu     sync.Mutex
	events map[string]int
	refold map[string]int
}

func (c *counts) Event(_ string, o freshet.Outcome) { c.add(&c.events, o.String()) }
func (c *counts) Refold(reason string)              { c.add(&c.refold, reason) }
func (c *counts) Stage(string, time.Duration)       {}
func (c *counts) Fenced(string)                     {}
func (c *counts) Visible(time.Time)                 {}
func (c *counts) Shares(string, float64)            {}

func (c *counts) add(to *map[string]int, key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if *to == nil {
		*to = map[string]int{}
	}
	(*to)[key]++
}

type fixture struct {
	*Engine
	store *faultyStore
	model *hashModel
	seen  *counts
	now   time.Time
}

func newFixture(t *testing.T, change func(*Config), more ...Source) *fixture {
	t.Helper()
	types, err := freshet.NewEventTypes(freshet.DefaultEventTypes())
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{store: newFaultyStore(), model: &hashModel{}, seen: &counts{}, now: time.UnixMilli(1_800_000_000_000)}
	cfg := Config{CV: 1, Types: types, MaxHistory: 5, HotFor: time.Minute, Now: func() time.Time { return f.now },
		Surfaces: []Surface{{Name: "home", K: 3, Weights: map[string]float64{"sequence": 1}, Exclude: []string{"seen", "purchased", "dismissed"}}}}
	if change != nil {
		change(&cfg)
	}
	if f.Engine, err = New(cfg, f.store, f.model, f.model, append([]Source{rotation{40}}, more...), f.seen, zap.NewNop()); err != nil {
		t.Fatal(err)
	}
	return f
}

func event(user string, offset int64, item string) freshet.Event {
	return freshet.Event{ID: fmt.Sprintf("e%d", offset), Type: "view", UserID: user, Items: []freshet.EventItem{{ItemID: item}},
		Time: 1_700_000_000_000 + 1000*offset, RecordTime: 1_700_000_000_000 + 1000*offset,
		Position: freshet.Position{Source: freshet.Source{Topic: "events"}, Offset: offset}}
}

func (f *fixture) handle(t *testing.T, events ...freshet.Event) []freshet.Publication {
	t.Helper()
	lists, err := f.Handle(context.Background(), events)
	if err != nil {
		t.Fatal(err)
	}
	return lists
}

func decode(t *testing.T, b []byte) freshet.Recommendation {
	t.Helper()
	var r freshet.Recommendation
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	return r
}

func TestABatchGivesOneListPerUser(t *testing.T) {
	f := newFixture(t, nil)
	lists := f.handle(t, event("a", 0, "i1"), event("b", 1, "i2"), event("a", 2, "i3"))
	if len(lists) != 2 || lists[0].UserID != "a" || lists[1].UserID != "b" {
		t.Fatalf("%+v", lists)
	}
	r := decode(t, lists[0].Record)
	if r.RecID != "events-0-2" || r.Rev != 2 || r.Event.EventID != "e2" || len(r.Items) != 3 || r.Model != "hash@00000001" || r.CV != 1 {
		t.Fatalf("%+v", r)
	}
	if got := f.store.records[freshet.RecordKey{UserID: "a", Surface: "home"}]; string(got) != string(lists[0].Record) {
		t.Fatal("the published record is not the stored one")
	}
	if f.model.runs != 2 || f.model.rows != 3 {
		t.Fatalf("%d runs of the model over %d rows: rounds hold every user's i-th event", f.model.runs, f.model.rows)
	}
}

// Redelivery changes nothing and gives back the stored list, marked as such.
func TestRedeliveryGivesBackTheStoredList(t *testing.T) {
	f := newFixture(t, nil)
	first := f.handle(t, event("a", 0, "i1"), event("a", 1, "i2"))
	before := slices.Clone(f.store.profiles["a"])
	f.now = f.now.Add(time.Hour)
	f.Release(freshet.Source{Topic: "events"})
	again := f.handle(t, event("a", 0, "i1"), event("a", 1, "i2"))
	if len(again) != 1 || !again[0].Stored || string(again[0].Record) != string(first[0].Record) || again[0].From.Offset != 1 {
		t.Fatalf("%+v", again)
	}
	if string(before) != string(f.store.profiles["a"]) {
		t.Fatal("redelivery changed the profile")
	}
}

// Whatever the batches, the crashes and the store's answers, profiles end as the serial log says.
func TestFaultsDoNotChangeTheOutcome(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 9))
		var log []freshet.Event
		for i := range int64(300) {
			e := event(fmt.Sprintf("u%d", r.IntN(12)), i, fmt.Sprintf("i%d", r.IntN(40)))
			if r.IntN(10) == 0 {
				e.Time -= r.Int64N(40_000)
			}
			log = append(log, e)
		}
		serial, faulty := newFixture(t, nil), newFixture(t, nil)
		for _, e := range log {
			serial.handle(t, e)
		}
		faulty.store.fault = func(string) freshet.SaveResult {
			faulty.store.after = r.IntN(2) == 0 // the write may have happened although no answer came
			if r.IntN(6) == 0 {
				return freshet.Retry
			}
			return 0
		}
		published := map[string][]byte{}
		for at := 0; at < len(log); {
			end := min(len(log), at+1+r.IntN(40))
			lists, err := faulty.Handle(context.Background(), log[at:end])
			if errors.Is(err, freshet.ErrUnavailable) {
				if r.IntN(3) == 0 { // a crash: local copies are gone, reading starts again further back
					faulty.Release(log[0].Position.Source)
					at = max(0, at-r.IntN(50))
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range lists {
				published[p.UserID] = p.Record
			}
			at = end
		}
		for user, want := range serial.store.profiles {
			if string(faulty.store.profiles[user]) != string(want) {
				t.Fatalf("seed %d: profile of %s differs from the serial one", seed, user)
			}
			if got := faulty.store.records[freshet.RecordKey{UserID: user, Surface: "home"}]; string(published[user]) != string(got) {
				t.Fatalf("seed %d: the last published record of %s is not the stored one", seed, user)
			}
		}
	}
}

func TestAnotherWorkersSaveIsTakenIn(t *testing.T) {
	f := newFixture(t, nil)
	f.handle(t, event("a", 0, "i1")) // now held locally
	other := newFixture(t, nil)
	other.store.profiles = f.store.profiles
	other.handle(t, event("a", 1, "i2"))
	lists := f.handle(t, event("a", 1, "i2"), event("a", 2, "i3"))
	if r := decode(t, lists[0].Record); r.Rev != 3 {
		t.Fatalf("rev %d: the other worker's event was lost or applied twice", r.Rev)
	}
}

func TestALostProfileIsReported(t *testing.T) {
	f := newFixture(t, nil)
	f.handle(t, event("a", 0, "i1"))
	clear(f.store.profiles)
	if _, err := f.Handle(context.Background(), []freshet.Event{event("a", 1, "i2")}); !errors.Is(err, freshet.ErrLost) {
		t.Fatalf("%v, want ErrLost", err)
	}
}

func TestHotProfilesSpareTheStore(t *testing.T) {
	f := newFixture(t, nil)
	for i := range int64(5) {
		f.handle(t, event("a", i, "i1"))
	}
	if f.store.loads != 1 {
		t.Fatalf("%d loads for a user held locally", f.store.loads)
	}
	f.now = f.now.Add(2 * time.Minute)
	f.handle(t, event("a", 6, "i1"))
	if f.store.loads != 2 {
		t.Fatal("a local copy outlived its time")
	}
}

func TestListsHonourTheirRules(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Surfaces[0].K = 30 })
	dislike := event("a", 3, "i7")
	dislike.Type = "dislike"
	buy := event("a", 2, "i9")
	buy.Type = "purchase"
	lists := f.handle(t, event("a", 0, "i1"), event("a", 1, "i2"), buy, dislike)
	for _, it := range decode(t, lists[0].Record).Items {
		if slices.Contains([]string{"i1", "i2", "i9", "i7"}, it.ItemID) {
			t.Fatalf("%s was seen, bought or dismissed", it.ItemID)
		}
	}
	f.handle(t, event("a", 4, "i10"), event("a", 5, "i11"), event("a", 6, "i12"), event("a", 7, "i13"), event("a", 8, "i14"))
	if r := decode(t, f.store.records[freshet.RecordKey{UserID: "a", Surface: "home"}]); len(r.Items) != 30 ||
		slices.ContainsFunc(r.Items, func(i freshet.RecommendedItem) bool { return i.ItemID == "i9" || i.ItemID == "i7" }) {
		t.Fatalf("a purchase or dismissal was forgotten when it left the window: %+v", r.Items)
	}
}

// A dismissal changes the list although it owes no step.
func TestARejectGivesAFreshList(t *testing.T) {
	f := newFixture(t, nil)
	before := decode(t, f.handle(t, event("a", 0, "i1"))[0].Record)
	dislike := event("a", 1, before.Items[0].ItemID)
	dislike.Type = "dislike"
	after := decode(t, f.handle(t, dislike)[0].Record)
	if after.Items[0].ItemID != before.Items[1].ItemID {
		t.Fatalf("%+v became %+v", before.Items, after.Items)
	}
}

func TestErasureDeletesAndPublishesNull(t *testing.T) {
	f := newFixture(t, nil)
	f.handle(t, event("a", 0, "i1"))
	erase := event("a", 1, "")
	erase.Type, erase.Items = "erase", nil
	lists := f.handle(t, erase)
	if len(lists) != 1 || lists[0].Record != nil {
		t.Fatalf("%+v", lists)
	}
	again := f.handle(t, erase)
	if len(again) != 1 || !again[0].Stored || again[0].Record != nil || again[0].From.Offset != 1 {
		t.Fatalf("%+v", again)
	}
}

func TestADamagedProfileIsNeverServed(t *testing.T) {
	f := newFixture(t, nil)
	f.handle(t, event("a", 0, "i1"), event("a", 1, "i2"))
	f.Release(freshet.Source{Topic: "events"})
	f.store.profiles["a"][40] ^= 1
	r := decode(t, f.handle(t, event("a", 2, "i3"))[0].Record)
	if r.Rev != 3 || f.seen.refold["corrupt"] != 1 {
		t.Fatalf("rev %d, %v", r.Rev, f.seen.refold)
	}
}

func TestCountsMoveOnlyWhenSaved(t *testing.T) {
	f := newFixture(t, nil)
	f.store.fault = func(string) freshet.SaveResult { return freshet.Retry }
	if _, err := f.Handle(context.Background(), []freshet.Event{event("a", 0, "i1")}); !errors.Is(err, freshet.ErrUnavailable) {
		t.Fatalf("%v", err)
	}
	if f.seen.events["applied"] != 0 {
		t.Fatal("an event counted as applied although its save was refused")
	}
	f.store.fault = nil
	f.handle(t, event("a", 0, "i1"))
	if f.seen.events["applied"] != 1 {
		t.Fatalf("%v", f.seen.events)
	}
}

// While the model fails, readers keep the list of before, the events wait, and the engine says that it is degraded.
func TestAFailingModelLeavesTheLastList(t *testing.T) {
	f := newFixture(t, nil)
	home := []freshet.RecordKey{{UserID: "a", Surface: "home"}}
	before := f.handle(t, event("a", 0, "i1"))[0].Record
	f.model.fail = errors.New("device on fire")
	for range 3 {
		if _, err := f.Handle(context.Background(), []freshet.Event{event("a", 1, "i2"), event("b", 2, "i3")}); !errors.Is(err, freshet.ErrUnavailable) {
			t.Fatalf("%v: events must wait for the model, not be blamed", err)
		}
	}
	if err := f.Degraded(); err == nil || !strings.Contains(err.Error(), "device on fire") {
		t.Errorf("degraded: %v", err)
	}
	if list, err := f.store.Records(context.Background(), home); err != nil || !bytes.Equal(list[0], before) || len(f.store.profiles) != 1 {
		t.Errorf("the last list is %s, it was %s; %d profiles", list[0], before, len(f.store.profiles))
	}
	f.model.fail = nil
	lists := f.handle(t, event("a", 1, "i2"), event("b", 2, "i3"))
	if r := decode(t, lists[0].Record); r.Rev != 2 || len(lists) != 2 || f.seen.events["applied"] != 3 {
		t.Errorf("rev %d, %d lists, %v", r.Rev, len(lists), f.seen.events)
	}
	if err := f.Degraded(); err != nil {
		t.Errorf("degraded although all is well: %v", err)
	}
}

// movedModel is a model that has changed its device.
type movedModel struct {
	*hashModel
	moved bool
}

func (m *movedModel) Mixed() bool { return m.moved }

func TestAProfileSteppedOnTwoDevicesSaysSo(t *testing.T) {
	f := newFixture(t, nil)
	m := &movedModel{hashModel: f.model}
	f.Engine.model = m
	stored := func() *freshet.Profile {
		p, err := freshet.DecodeProfile("a", f.store.profiles["a"])
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	f.handle(t, event("a", 0, "i1"))
	if stored().Mixed {
		t.Error("mixed on one device")
	}
	for _, moved := range []bool{true, false} { // once mixed, always mixed
		m.moved = moved
		f.handle(t, event("a", 1+int64(len(stored().Window)), "i2"))
		if !stored().Mixed {
			t.Errorf("moved %v: not mixed", moved)
		}
	}
}

// A user with 100,000 events, and one with nearly all of the traffic, cost what everybody costs: bytes, steps and memory of an event
// do not depend on what came before.
func TestAUserOfAHundredThousandEventsCostsWhatOthersCost(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.MaxHistory = 50 })
	const events, batch = 100_000, 100
	send := func(from int) {
		list := make([]freshet.Event, batch)
		for i := range list {
			n := from + i
			list[i] = event("hot", int64(n), fmt.Sprintf("i%d", n%40))
			list[i].Type = []string{"view", "cart", "purchase", "dislike", "impression"}[n%5]
		}
		f.handle(t, list...)
	}
	var early, late float64
	var steps [2]int
	var size [2]int
	for from := 0; from < events; from += batch {
		switch from {
		case 10 * batch:
			rows := f.model.rows
			early = testing.AllocsPerRun(5, func() { send(from); from += batch })
			steps[0], size[0] = f.model.rows-rows, len(f.store.profiles["hot"])
		case events - 10*batch:
			rows := f.model.rows
			late = testing.AllocsPerRun(5, func() { send(from); from += batch })
			steps[1], size[1] = f.model.rows-rows, len(f.store.profiles["hot"])
		default:
			send(from)
		}
	}
	if late > early*1.05 || steps[1] != steps[0] || size[1] > size[0]*21/20 {
		t.Errorf("allocations of a batch %.0f, then %.0f; steps %v; bytes of the profile %v", early, late, steps, size)
	}
}

// A source that has no score for an item leaves it to the others: no infinity reaches the fusion.
func TestAnItemUnknownToOneSourceIsJudgedByTheOthers(t *testing.T) {
	lowest := -float32(math.MaxFloat32)
	scores := []float32{2, lowest, float32(math.Inf(-1)), float32(math.NaN()), -1}
	level(scores)
	if want := []float32{2, -1, -1, -1, -1}; !slices.Equal(scores, want) {
		t.Fatalf("%v, want %v", scores, want)
	}
	nothing := []float32{lowest, lowest}
	if level(nothing); nothing[0] != 0 || nothing[1] != 0 {
		t.Fatalf("%v: a source that knows none of the items must not matter", nothing)
	}
}

func TestSharesSumToOne(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 1000 {
		parts := make([]float64, 1+r.IntN(5))
		for i := range parts {
			parts[i] = r.ExpFloat64()
		}
		sum := 0.0
		for _, v := range shares(parts, make([]float64, len(parts))) {
			sum += v
		}
		if sum < 0.9999 || sum > 1.0001 {
			t.Fatalf("%v has shares that sum to %v", parts, sum)
		}
	}
	if got := shares([]float64{0, 0}, make([]float64, 2)); got[0] != 1 {
		t.Fatalf("nothing to share: %v", got)
	}
}
