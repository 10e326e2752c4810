package recommend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"go.uber.org/zap"

	"freshet"
)

// warehouse is a catalogue of generated items: some withdrawn, some expired, of few brands and categories.
type warehouse map[string]*freshet.Item

func newWarehouse(r *rand.Rand, n int, now time.Time) warehouse {
	w := warehouse{}
	for i := range n {
		item := &freshet.Item{ItemID: fmt.Sprintf("i%d", i), Brand: fmt.Sprintf("b%d", r.IntN(6)), Price: float64(r.IntN(200)),
			Domain: []string{"shop", "video"}[r.IntN(2)], Categories: []string{fmt.Sprintf("c%d", r.IntN(5)), fmt.Sprintf("c%d", r.IntN(5))},
			Attributes: json.RawMessage(fmt.Sprintf(`{"region":[%q]}`, []string{"DE", "FR"}[r.IntN(2)]))}
		if r.IntN(10) == 0 {
			no := false
			item.Available = &no
		}
		if r.IntN(10) == 0 {
			past := now.Add(-time.Hour)
			item.ExpiresAt = &past
		}
		w[item.ItemID] = item
	}
	return w
}

// randomSurface has any mix of rules.
func randomSurface(r *rand.Rand, name string) Surface {
	maybe := func() bool { return r.IntN(3) == 0 }
	s := Surface{Name: name, K: 1 + r.IntN(12), Weights: map[string]float64{"sequence": 1, "other": r.Float64() + 0.1}, Fill: "fill"}
	for _, x := range []string{"seen", "purchased", "dismissed"} {
		if r.IntN(2) == 0 {
			s.Exclude = append(s.Exclude, x)
		}
	}
	if maybe() {
		s.Fusion = Reciprocal
	}
	if maybe() {
		s.Domain = "video"
	}
	if maybe() {
		s.Categories = []string{"c1", "c2"}
	}
	if maybe() {
		s.Filter = `item.price < 120 and "DE" in item.attributes.region`
	}
	if maybe() {
		s.PerBrand = 1 + r.IntN(3)
	}
	if maybe() {
		s.PerCategory = 1 + r.IntN(4)
	}
	if maybe() {
		s.Diversity = r.Float64()
	}
	if maybe() {
		s.Boosts = []Boost{{Where: `item.brand == "b1"`, Factor: 5}, {Where: "item.price > 100", Factor: 0.2}}
	}
	if maybe() {
		s.Pins = []string{"i3"}
	}
	if maybe() {
		s.Rebuys = []Rebuy{{Where: `item.brand == "b2"`, After: time.Duration(r.IntN(100)) * time.Second}}
	}
	return s
}

// named gives a rotation another name and another order.
type named struct {
	rotation
	name string
	by   int
}

func (n named) Name() string { return n.name }

func (n named) Propose(_ context.Context, subjects []freshet.Subject, most int) ([][]freshet.Candidate, error) {
	out := make([][]freshet.Candidate, len(subjects))
	for i := range subjects {
		for k := range min(most, n.items) {
			out[i] = append(out[i], freshet.Candidate{ItemID: fmt.Sprintf("i%d", (k*n.by+len(subjects[i].Profile.Window))%n.items), Score: -float32(k) / 3})
		}
	}
	return out, nil
}

// No list of 10,000 generated users breaks a rule of 25 random sets of them.
func TestNoListBreaksARule(t *testing.T) {
	types, err := freshet.NewEventTypes(freshet.DefaultEventTypes())
	if err != nil {
		t.Fatal(err)
	}
	const items = 61
	placed := 0
	for set := range uint64(25) {
		r := rand.New(rand.NewPCG(set, 77))
		now := time.UnixMilli(1_700_000_500_000)
		shop := newWarehouse(r, items, now)
		cfg := Config{CV: 1, Types: types, MaxHistory: 8, Now: func() time.Time { return now },
			Item:      func(id string) (*freshet.Item, bool) { i, ok := shop[id]; return i, ok },
			Available: func(id string) bool { i, ok := shop[id]; return ok && i.Recommendable(now) },
			Surfaces:  []Surface{randomSurface(r, "home"), randomSurface(r, "second"), randomSurface(r, "third")}}
		store, model := newFaultyStore(), &hashModel{}
		sources := []Source{rotation{items}, named{rotation{items}, "other", 7}, named{rotation{items}, "fill", 11}}
		e, err := New(cfg, store, model, model, sources, &counts{}, zap.NewNop())
		if err != nil {
			t.Fatal(err)
		}
		var events []freshet.Event
		for u := range 400 {
			for range 1 + r.IntN(5) {
				ev := event(fmt.Sprintf("u%d", u), int64(len(events)), fmt.Sprintf("i%d", r.IntN(items)))
				ev.Type = []string{"view", "view", "purchase", "dislike"}[r.IntN(4)]
				ev.Time = 1_700_000_000_000 + int64(len(events))*100
				events = append(events, ev)
			}
		}
		lists, err := e.Handle(context.Background(), events)
		if err != nil {
			t.Fatal(err)
		}
		withdrawn := shop["i7"]
		for _, l := range lists {
			rec := decode(t, l.Record)
			p, err := freshet.DecodeProfile(l.UserID, store.profiles[l.UserID])
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(cfg.Surfaces, func(s Surface) bool { return s.Name == l.Surface })
			if why := broken(&cfg.Surfaces[i], shop, p, &rec, now); why != "" {
				t.Fatalf("set %d, user %s, surface %+v: %s in %+v", set, l.UserID, cfg.Surfaces[i], why, rec.Items)
			}
			placed += len(rec.Items)
		}
		gone := *withdrawn
		no := false
		gone.Available = &no
		shop["i7"] = &gone
		again, err := e.Handle(context.Background(), []freshet.Event{event("u1", 1_000_000, "i5")})
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range again {
			if rec := decode(t, l.Record); slices.ContainsFunc(rec.Items, func(x freshet.RecommendedItem) bool { return x.ItemID == "i7" }) {
				t.Fatal("a withdrawn item stands in a list that was computed after")
			}
		}
	}
	if placed < 50_000 {
		t.Fatalf("only %d places were filled: the rules leave nothing to look at", placed)
	}
}

// broken checks one list against its surface, by the plain words of the rules.
func broken(s *Surface, shop warehouse, p *freshet.Profile, rec *freshet.Recommendation, now time.Time) string {
	brands, categories, there := map[string]int{}, map[string]int{}, map[string]bool{}
	if len(rec.Items) > s.K {
		return "too long"
	}
	asked, _ := time.Parse(time.RFC3339, rec.Event.Timestamp)
	for _, it := range rec.Items {
		item := shop[it.ItemID]
		share := 0.0
		for _, r := range it.Reasons {
			share += r.Share
		}
		has := func(rule string) bool { return slices.Contains(s.Exclude, rule) }
		seen := slices.ContainsFunc(p.Window, func(e freshet.Entry) bool { return e.ItemID == it.ItemID })
		out := slices.ContainsFunc(p.Dismissed, func(d freshet.Dated) bool { return d.ItemID == it.ItemID })
		bought := slices.IndexFunc(p.Owned, func(d freshet.Dated) bool { return d.ItemID == it.ItemID })
		switch {
		case there[it.ItemID]:
			return it.ItemID + " twice"
		case item == nil || !item.Recommendable(now):
			return it.ItemID + " is not available"
		case has("seen") && seen, has("dismissed") && out:
			return it.ItemID + " was seen or dismissed"
		case has("purchased") && bought >= 0 && (len(s.Rebuys) == 0 || item.Brand != "b2" || asked.UnixMilli()-p.Owned[bought].Time < s.Rebuys[0].After.Milliseconds()):
			return it.ItemID + " was bought"
		case s.Domain != "" && item.Domain != s.Domain:
			return it.ItemID + " is of another domain"
		case len(s.Categories) > 0 && !overlap(s.Categories, item.Categories):
			return it.ItemID + " is of another category"
		case s.Filter != "" && !(item.Price < 120 && string(item.Attributes) == `{"region":["DE"]}`):
			return it.ItemID + " does not pass the filter"
		case share < 0.995 || share > 1.005:
			return fmt.Sprintf("%s has shares that sum to %v", it.ItemID, share)
		}
		there[it.ItemID] = true
		if brands[item.Brand]++; s.PerBrand > 0 && brands[item.Brand] > s.PerBrand {
			return "too many of brand " + item.Brand
		}
		for _, c := range slices.Compact(slices.Sorted(slices.Values(item.Categories))) {
			if categories[c]++; s.PerCategory > 0 && categories[c] > s.PerCategory {
				return "too many of category " + c
			}
		}
	}
	return ""
}

func TestRulesThatCannotBeMeantAreNamed(t *testing.T) {
	for rule, s := range map[string]Surface{
		"filter":           {Filter: "item.prize < 3"},
		"boosts[0].where":  {Boosts: []Boost{{Where: "1 +", Factor: 2}}},
		"boosts[0].factor": {Boosts: []Boost{{Where: "item.price < 3", Factor: 0}}},
		"rebuy[0].where":   {Rebuys: []Rebuy{{Where: `item.title + 1`}}},
	} {
		s.Name, s.K, s.Weights = "home", 3, map[string]float64{"sequence": 1}
		var bad *RuleError
		if err := s.validate(); !errors.As(err, &bad) || bad.Rule != rule || bad.Surface != "home" {
			t.Errorf("%s: %v", rule, err)
		}
	}
}

// The dial changes lists gradually from the best to the most varied.
func TestDiversityIsADial(t *testing.T) {
	likeness := func(dial float64) float64 {
		f := newFixture(t, func(c *Config) { c.Surfaces[0].K, c.Surfaces[0].Diversity = 5, dial })
		f.vectors = circle{}
		list := decode(t, f.handle(t, event("a", 0, "i1"))[0].Record).Items
		sum := 0.0
		for i := range list {
			for j := range i {
				a, _ := circle{}.Vector(list[i].ItemID)
				b, _ := circle{}.Vector(list[j].ItemID)
				sum += float64(dot(a, b))
			}
		}
		return sum
	}
	if plain, varied := likeness(0), likeness(0.8); varied >= plain {
		t.Fatalf("likeness %v at 0, %v at 0.8", plain, varied)
	}
}

// circle gives neighbours in the rotation vectors that point alike, in groups of five.
type circle struct{}

func (circle) Vector(id string) ([]float32, freshet.VectorKind) {
	var n int
	if _, err := fmt.Sscanf(id, "i%d", &n); err != nil {
		return []float32{0, 0, 0, 0, 0, 0, 0, 0}, freshet.Unknown
	}
	v := make([]float32, 8)
	v[n/5%8] = 1
	return v, freshet.Trained
}
