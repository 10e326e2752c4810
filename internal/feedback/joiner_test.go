package feedback_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"go.uber.org/zap"

	"freshet"
	"freshet/featurestore"
	"freshet/internal/feedback"
)

var source = freshet.Source{Topic: "events", Partition: 3}

func types(t testing.TB) *freshet.EventTypes {
	t.Helper()
	s, err := freshet.NewEventTypes(freshet.DefaultEventTypes())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func openStore(t testing.TB) *featurestore.Redis {
	t.Helper()
	r, err := featurestore.Open(t.Context(), featurestore.Config{Addrs: []string{miniredis.RunT(t).Addr()}, Owner: true, CV: 1}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// counted is an Observer that adds up.
type counted struct{ shown, clicked, examples int }

func (c *counted) Shown(string, string, string, string, string) { c.shown++ }
func (c *counted) Clicked(string, string, string, string)       { c.clicked++ }
func (c *counted) Examples(n int)                               { c.examples += n }

// start is the log's first moment.
const start = 1_700_000_000_000

// stream makes a log of impressions and behaviours: late events, repeats, behaviours with and without a rec_id, erasures.
func stream(random *rand.Rand, n int) []freshet.Event {
	log := make([]freshet.Event, 0, n)
	now := int64(start)
	for i := range n {
		now += random.Int64N(60_000)
		e := freshet.Event{ID: fmt.Sprintf("e%d", i), UserID: fmt.Sprintf("u%d", random.IntN(6)), Time: now - random.Int64N(40)*60_000*random.Int64N(2),
			RecordTime: now, Position: freshet.Position{Source: source, Offset: int64(i)}}
		list := fmt.Sprintf("r-%s-%d", e.UserID, now/900_000)
		item := func() freshet.EventItem { return freshet.EventItem{ItemID: fmt.Sprintf("i%d", random.IntN(12))} }
		switch random.IntN(12) {
		case 0:
			e.Type, e.Items = "dislike", []freshet.EventItem{item()}
		case 1, 2, 3:
			e.Type, e.RecID, e.Surface = "impression", list, "home"
			for range 1 + random.IntN(4) {
				e.Items = append(e.Items, item())
			}
		case 4:
			e.Type, e.Items = "impression", []freshet.EventItem{item()}
		case 5:
			e.Type = "erase"
			if random.IntN(8) > 0 {
				e.Type, e.Items = "purchase", []freshet.EventItem{item(), item()}
			}
		case 6:
			if len(log) > 0 { // the same event again, in another record
				at := e.Position
				e = log[random.IntN(len(log))]
				e.Position, e.RecordTime = at, now
				break
			}
			fallthrough
		default:
			e.Type, e.Items = "click", []freshet.EventItem{item()}
			if random.IntN(2) == 0 {
				e.RecID = list
			}
		}
		log = append(log, e)
	}
	return log
}

// serial is the join of a log by somebody who reads it once, in order, and never fails.
func serial(t testing.TB, log []freshet.Event) map[string]feedback.Example {
	t.Helper()
	known := types(t)
	const window, grace = 30 * 60_000, 60_000
	type exposure struct {
		feedback.Example
		deadline int64
	}
	all := map[string]feedback.Example{}
	open, erased := map[string][]*exposure{}, map[string]int64{}
	for _, e := range log {
		typ, _ := known.Lookup(e.Type)
		if at := erased[e.UserID]; at > 0 && e.Time <= at && e.Type != "erase" {
			continue
		}
		var still []*exposure
		for _, x := range open[e.UserID] {
			if x.deadline < e.RecordTime {
				if _, again := all[x.ID]; !again { // an impression that was sent again after it had been closed: the first example stands
					all[x.ID] = x.Example
				}
			} else {
				still = append(still, x)
			}
		}
		switch typ.Effect {
		case freshet.Erase:
			still, erased[e.UserID] = nil, max(erased[e.UserID], e.Time)
		case freshet.Observe:
			id := e.ID
			if e.RecID != "" {
				id = e.RecID + "/" + e.ID
			}
			var x *exposure
			for _, o := range still {
				if x == nil && (o.ID == id || e.RecID != "" && o.RecID == e.RecID && o.Surface == e.Surface) {
					x = o
				}
			}
			if x == nil {
				x = &exposure{Example: feedback.Example{V: 1, ID: id, UserID: e.UserID, RecID: e.RecID, Surface: e.Surface, ShownAt: e.Time}}
				still = append(still, x)
			}
			x.deadline = max(x.deadline, e.RecordTime+window+grace)
			for _, i := range e.Items {
				if !slices.ContainsFunc(x.Items, func(s feedback.Shown) bool { return s.ItemID == i.ItemID }) {
					x.Items = append(x.Items, feedback.Shown{ItemID: i.ItemID, ShownAt: e.Time})
				}
			}
		case freshet.Extend, freshet.Reject:
			for _, i := range e.Items {
				o := feedback.Outcome{EventID: e.ID, Type: e.Type, Time: e.Time}
				var best *feedback.Shown
				var seen *exposure
				named := false
				for _, x := range still {
					for k := range x.Items {
						s := &x.Items[k]
						if s.ShownAt > e.Time || e.Time-s.ShownAt > window {
							continue
						}
						if seen == nil || s.ShownAt >= lastShown(seen.Items, e.Time, window) {
							seen = x
						}
						if s.ItemID != i.ItemID || named {
							continue
						}
						if e.RecID != "" && x.RecID == e.RecID {
							best, named = s, true
						} else if best == nil || s.ShownAt >= best.ShownAt {
							best = s
						}
					}
				}
				switch {
				case best != nil:
					if !slices.ContainsFunc(best.Outcomes, func(b feedback.Outcome) bool { return b.EventID == e.ID }) && len(best.Outcomes) < 8 {
						best.Outcomes = append(best.Outcomes, o)
					}
				case seen != nil:
					o.ItemID = i.ItemID
					if !slices.ContainsFunc(seen.Elsewhere, func(b feedback.Outcome) bool { return b.EventID == e.ID && b.ItemID == i.ItemID }) && len(seen.Elsewhere) < 16 {
						seen.Elsewhere = append(seen.Elsewhere, o)
					}
				}
			}
		}
		open[e.UserID] = still
	}
	for _, list := range open {
		for _, x := range list {
			if _, again := all[x.ID]; !again {
				all[x.ID] = x.Example
			}
		}
	}
	for id, x := range all {
		if x.ShownAt <= erased[x.UserID] {
			delete(all, id)
		}
	}
	return all
}

// lastShown is when any of the items that are within the window was shown last.
func lastShown(items []feedback.Shown, at, window int64) int64 {
	last := int64(-1)
	for _, s := range items {
		if s.ShownAt <= at && at-s.ShownAt <= window {
			last = max(last, s.ShownAt)
		}
	}
	return last
}

// flaky fails some calls: before they did anything, or after.
type flaky struct {
	*featurestore.Redis
	random *rand.Rand
	rate   float64
}

var errCrash = errors.New("crash")

func (f *flaky) fails() bool { return f.random.Float64() < f.rate }

func (f *flaky) SaveJoins(ctx context.Context, u []freshet.JoinUpdate) ([]freshet.SaveResult, error) {
	if f.fails() {
		return nil, errCrash
	}
	r, err := f.Redis.SaveJoins(ctx, u)
	if f.fails() {
		return nil, errCrash
	}
	return r, err
}

func (f *flaky) PutOpenJoins(ctx context.Context, s freshet.Source, due []freshet.JoinDue) error {
	if f.fails() {
		return errCrash
	}
	return f.Redis.PutOpenJoins(ctx, s, due)
}

func TestJoinedExamplesEqualASerialJoinWhateverCrashes(t *testing.T) {
	for seed := range uint64(12) {
		random := rand.New(rand.NewPCG(seed, 1))
		log := stream(random, 500)
		store := &flaky{Redis: openStore(t), random: random, rate: 0.05}
		var got feedback.Collect
		publish := func(_ context.Context, records []feedback.Record) error {
			if store.fails() {
				return errCrash
			}
			for _, r := range records {
				if err := got.Add(r.Value); err != nil {
					t.Fatal(err)
				}
			}
			return nil
		}
		begin := func() *feedback.Joiner {
			j, err := feedback.NewJoiner(feedback.Rules{Types: types(t)}, store, publish, &counted{}, zap.NewNop())
			if err != nil {
				t.Fatal(err)
			}
			return j
		}
		j, crashes := begin(), 0
		for at := 0; at < len(log); {
			n := min(1+random.IntN(20), len(log)-at)
			if _, err := j.Handle(t.Context(), log[at:at+n]); err != nil {
				if !errors.Is(err, errCrash) {
					t.Fatal(err)
				}
				j, crashes = begin(), crashes+1 // another worker, from an older commit
				at = max(0, at-random.IntN(10))
				continue
			}
			at += n
			if random.IntN(10) == 0 { // the partition is read to its end: what is over is closed by the clock
				if err := j.Sweep(t.Context(), source, log[at-1].RecordTime); err != nil && !errors.Is(err, errCrash) {
					t.Fatal(err)
				}
			}
		}
		store.rate = 0
		if err := begin().Sweep(t.Context(), source, log[len(log)-1].RecordTime+24*3600_000); err != nil {
			t.Fatal(err)
		}
		want, result := serial(t, log), got.Result()
		if len(result.Examples) != len(want) || crashes == 0 {
			t.Fatalf("seed %d: %d examples after %d crashes, a serial join has %d", seed, len(result.Examples), crashes, len(want))
		}
		for _, x := range result.Examples {
			if a, b := asJSON(t, x), asJSON(t, want[x.ID]); a != b {
				t.Fatalf("seed %d: joined %s\nserial %s", seed, a, b)
			}
		}
		if left, err := store.OpenJoins(t.Context(), source, 1<<62, 0); err != nil || len(left) > 0 {
			t.Fatalf("%v: %v is left open", err, left)
		}
	}
}

func asJSON(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestAnImpressionIsDescribedByTheListThatStands(t *testing.T) {
	store := openStore(t)
	list := freshet.Recommendation{V: 1, CV: 1, Rev: 1, RecID: "events-3-0", UserID: "u", Surface: "home", Lane: "live", Model: "m", Items: []freshet.RecommendedItem{
		{ItemID: "a", Score: 1, Reasons: []freshet.Reason{{Source: "sequence", Share: 1}}}, {ItemID: "b", Score: .5, Reasons: []freshet.Reason{{Source: "popular", Share: 1}}}}}
	profile := []byte{1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}
	_, err := store.Save(t.Context(), []freshet.Update{{UserID: "u", Profile: profile, Records: []freshet.Record{{Surface: "home", Value: list.AppendJSON(nil)}}}})
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	seen := &counted{}
	j, err := feedback.NewJoiner(feedback.Rules{Types: types(t)}, store, func(_ context.Context, r []feedback.Record) error {
		for _, x := range r {
			out = append(out, string(x.Value))
		}
		return nil
	}, seen, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	at := func(offset int64) freshet.Position { return freshet.Position{Source: source, Offset: offset} }
	events := []freshet.Event{
		{ID: "i1", Type: "impression", UserID: "u", RecID: "events-3-0", Items: []freshet.EventItem{{ItemID: "b"}, {ItemID: "a"}}, Time: start, RecordTime: start, Position: at(1)},
		{ID: "c1", Type: "click", UserID: "u", Items: []freshet.EventItem{{ItemID: "b"}}, Time: start + 1000, RecordTime: start + 1000, Position: at(2)},
		{ID: "i2", Type: "impression", UserID: "u", RecID: "events-3-gone", Items: []freshet.EventItem{{ItemID: "a"}}, Time: start + 2000, RecordTime: start + 2000, Position: at(3)},
	}
	if _, err := j.Handle(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	if _, err := j.Handle(t.Context(), events); err != nil { // a redelivery
		t.Fatal(err)
	}
	if want := (counted{shown: 3, clicked: 1}); *seen != want {
		t.Errorf("counted %+v, want %+v", *seen, want)
	}
	if err := j.Sweep(t.Context(), source, start+time.Hour.Milliseconds()); err != nil {
		t.Fatal(err)
	}
	want := []string{
		`{"v":1,"id":"events-3-0/i1","user_id":"u","rec_id":"events-3-0","lane":"live","model":"m","shown_at":1700000000000,"items":[` +
			`{"item_id":"b","shown_at":1700000000000,"place":2,"score":0.5,"source":"popular","outcomes":[{"event_id":"c1","type":"click","timestamp":1700000001000}]},` +
			`{"item_id":"a","shown_at":1700000000000,"place":1,"score":1,"source":"sequence"}]}`,
		`{"v":1,"id":"events-3-gone/i2","user_id":"u","rec_id":"events-3-gone","shown_at":1700000002000,"items":[{"item_id":"a","shown_at":1700000002000}]}`,
	}
	if !reflect.DeepEqual(out, want) {
		t.Errorf("published\n%s\nwant\n%s", strings.Join(out, "\n"), strings.Join(want, "\n"))
	}
}

// Most users are shown nothing that freshet hears of: their events must cost the store nothing.
func TestUsersWhoAreShownNothingCostNothing(t *testing.T) {
	j, err := feedback.NewJoiner(feedback.Rules{Types: types(t)}, &silent{t: t}, nil, &counted{}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	for n := range int64(3) {
		e := freshet.Event{ID: fmt.Sprint(n), Type: "click", UserID: "u", Items: []freshet.EventItem{{ItemID: "a"}}, Time: start, RecordTime: start,
			Position: freshet.Position{Source: source, Offset: n}}
		if _, err := j.Handle(t.Context(), []freshet.Event{e}); err != nil {
			t.Fatal(err)
		}
	}
}

// silent is a store that may be asked for open exposures once, and for nothing else.
type silent struct {
	feedback.Store
	t     *testing.T
	asked int
}

func (s *silent) OpenJoins(context.Context, freshet.Source, int64, int) ([]freshet.JoinDue, error) {
	if s.asked++; s.asked > 1 {
		s.t.Error("the store was asked again")
	}
	return nil, nil
}
