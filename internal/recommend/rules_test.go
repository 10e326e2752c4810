package recommend

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
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

// stated is an expression with the same thing said in Go.
type stated struct {
	where string
	holds func(*freshet.Item) bool
}

func region(i *freshet.Item, code string) bool {
	return string(i.Attributes) == fmt.Sprintf(`{"region":[%q]}`, code)
}

// statements are what filters, boosts and re-buy periods of the test are made of. An item without the attribute asked for does not hold.
var statements = []stated{
	{"item.price < 120", func(i *freshet.Item) bool { return i.Price < 120 }},
	{"item.price >= 20 and item.price < 150", func(i *freshet.Item) bool { return i.Price >= 20 && i.Price < 150 }},
	{`"DE" in item.attributes.region`, func(i *freshet.Item) bool { return region(i, "DE") }},
	{`item.price < 120 and "FR" in item.attributes.region`, func(i *freshet.Item) bool { return i.Price < 120 && region(i, "FR") }},
	{`item.brand != "b4" and item.domain == "shop"`, func(i *freshet.Item) bool { return i.Brand != "b4" && i.Domain == "shop" }},
	{`item.brand in ["b1", "b2", "b3"]`, func(i *freshet.Item) bool { return slices.Contains([]string{"b1", "b2", "b3"}, i.Brand) }},
	{`any(item.categories, # == "c3")`, func(i *freshet.Item) bool { return slices.Contains(i.Categories, "c3") }},
	{"item.attributes.warranty.years > 2", func(*freshet.Item) bool { return false }},
}

// ruled is a surface with what its expressions mean.
type ruled struct {
	Surface
	filter *stated
	rebuys []stated // of the surface's re-buy periods; nil where = every item
	boosts []stated
}

// randomSurface has any mix of rules.
func randomSurface(r *rand.Rand, name string) ruled {
	maybe := func() bool { return r.IntN(3) == 0 }
	any := func() stated { return statements[r.IntN(len(statements))] }
	s := ruled{Surface: Surface{Name: name, K: 1 + r.IntN(12), Weights: map[string]float64{"sequence": 1, "other": r.Float64() + 0.1}, Fill: "fill"}}
	for _, x := range []string{"seen", "purchased", "dismissed"} {
		if r.IntN(2) == 0 {
			s.Exclude = append(s.Exclude, x)
		}
	}
	if maybe() {
		s.Fusion = Reciprocal
	}
	if maybe() {
		s.Domain = []string{"shop", "video"}[r.IntN(2)]
	}
	if maybe() {
		s.Categories = []string{fmt.Sprintf("c%d", r.IntN(5)), fmt.Sprintf("c%d", r.IntN(5))}
	}
	if maybe() {
		x := any()
		s.filter, s.Filter = &x, x.where
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
	for maybe() {
		x := any()
		s.boosts, s.Boosts = append(s.boosts, x), append(s.Boosts, Boost{Where: x.where, Factor: 0.1 + 5*r.Float64()})
	}
	for maybe() && len(s.Pins) < s.K {
		s.Pins = append(s.Pins, fmt.Sprintf("i%d", r.IntN(61)))
	}
	if maybe() {
		s.Explore = r.IntN(s.K + 1)
	}
	for maybe() {
		x := any()
		if r.IntN(3) == 0 {
			x = stated{"", func(*freshet.Item) bool { return true }}
		}
		s.rebuys, s.Rebuys = append(s.rebuys, x), append(s.Rebuys, Rebuy{Where: x.where, After: time.Duration(r.IntN(100)) * time.Second})
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

// sight is what a subject's sources said before the surfaces chose.
type sight struct {
	items  []string
	scores [][]float32
}

// No list of 10,000 generated users breaks one of 50 random sets of rules on three surfaces each; where a list is to be varied, it is the
// one that maximal marginal relevance gives, worked out here in plain words; and an item that was withdrawn is in no list computed after.
func TestNoListBreaksARule(t *testing.T) {
	types, err := freshet.NewEventTypes(freshet.DefaultEventTypes())
	if err != nil {
		t.Fatal(err)
	}
	const items, sets, users = 61, 50, 200
	placed, varied, gone := 0, 0, 0
	for set := range uint64(sets) {
		r := rand.New(rand.NewPCG(set, 77))
		now := time.UnixMilli(1_700_000_500_000)
		shop := newWarehouse(r, items, now)
		surfaces := []ruled{randomSurface(r, "home"), randomSurface(r, "second"), randomSurface(r, "third")}
		barred := func(user, item string) bool { return maphash.String(barredSeed, user+item)%17 == 0 } // his own exclude list
		sights := map[string]sight{}
		version := uint64(set) % 2 // 0: every verdict looks at the item
		cfg := Config{CV: 1, ItemsVersion: func() uint64 { return version }, Types: types, MaxHistory: 8, Now: func() time.Time { return now }, Excluded: barred,
			Item:      func(id string) (*freshet.Item, bool) { i, ok := shop[id]; return i, ok },
			Available: func(id string) bool { i, ok := shop[id]; return ok && i.Recommendable(now) },
			Inspect: func(who *freshet.Subject, items []freshet.Ref, scores [][]float32) {
				x := sight{}
				for _, item := range items {
					x.items = append(x.items, item.ItemID)
				}
				for _, s := range scores {
					x.scores = append(x.scores, slices.Clone(s))
				}
				sights[who.Profile.UserID] = x
			}}
		for _, s := range surfaces {
			cfg.Surfaces = append(cfg.Surfaces, s.Surface)
		}
		store, model := newFaultyStore(), &hashModel{}
		sources := []Source{rotation{items}, named{rotation{items}, "other", 7}, named{rotation{items}, "fill", 11}, named{rotation{9}, "new", 5}}
		e, err := New(cfg, store, model, circle{}, sources, &counts{}, zap.NewNop())
		if err != nil {
			t.Fatal(err)
		}
		next := 0
		behave := func(user int) freshet.Event {
			ev := event(fmt.Sprintf("u%d", user), int64(next), fmt.Sprintf("i%d", r.IntN(items)))
			ev.Type = []string{"view", "view", "purchase", "dislike"}[r.IntN(4)]
			ev.Time = 1_700_000_000_000 + int64(next)*100
			next++
			return ev
		}
		check := func(events []freshet.Event) {
			lists, err := e.Handle(context.Background(), events)
			if err != nil {
				t.Fatal(err)
			}
			if len(lists) != users*len(surfaces) {
				t.Fatalf("%d lists", len(lists))
			}
			for _, l := range lists {
				rec := decode(t, l.Record)
				p, err := freshet.DecodeProfile(l.UserID, store.profiles[l.UserID])
				if err != nil {
					t.Fatal(err)
				}
				s := &surfaces[slices.IndexFunc(surfaces, func(s ruled) bool { return s.Name == l.Surface })]
				if why := s.broken(shop, p, &rec, now, barred); why != "" {
					t.Fatalf("set %d, user %s, surface %+v: %s in %+v", set, l.UserID, s.Surface, why, rec.Items)
				}
				placed += len(rec.Items)
				if s.Diversity > 0 && s.Explore == 0 && len(s.Pins) == 0 && s.Fusion != Reciprocal {
					want := s.variedList(shop, p, sights[l.UserID], now, rec.Event.Timestamp, barred)
					if got := idsOf(rec.Items); !slices.Equal(got[:min(len(got), len(want))], want) {
						t.Fatalf("set %d, user %s, surface %+v: %v, the varied list is %v", set, l.UserID, s.Surface, got, want)
					}
					varied++
				}
			}
		}
		var events []freshet.Event
		for u := range users {
			for range 1 + r.IntN(5) {
				events = append(events, behave(u))
			}
		}
		check(events)
		for range 12 { // withdrawn in either way, or gone altogether
			id := fmt.Sprintf("i%d", r.IntN(items))
			before, ok := shop[id]
			if !ok {
				continue
			}
			left, no, past := *before, false, now
			switch gone++; gone % 3 {
			case 0:
				left.Available = &no
				shop[id] = &left
			case 1:
				left.ExpiresAt = &past
				shop[id] = &left
			default:
				delete(shop, id)
			}
		}
		for range 60 { // and some became quite another item
			id, like := fmt.Sprintf("i%d", r.IntN(items)), fmt.Sprintf("i%d", r.IntN(items))
			if other, ok := shop[like]; ok && shop[id] != nil {
				now := *other
				now.ItemID = id
				shop[id] = &now
			}
		}
		version += 2 * (set % 2)
		events = events[:0]
		for u := range users {
			events = append(events, behave(u))
		}
		check(events)
	}
	if placed < 50_000 || varied < 1000 || gone < 500 {
		t.Fatalf("only %d places, %d varied lists and %d withdrawn items: the rules leave nothing to look at", placed, varied, gone)
	}
}

var barredSeed = maphash.MakeSeed()

// forbidden says, by the plain words of the rules, why an item may not stand in a list; "" = it may.
func (s *ruled) forbidden(shop warehouse, p *freshet.Profile, id string, now time.Time, asked int64, barred func(user, item string) bool) string {
	item := shop[id]
	has := func(rule string) bool { return slices.Contains(s.Exclude, rule) }
	bought := slices.IndexFunc(p.Owned, func(d freshet.Dated) bool { return d.ItemID == id })
	switch {
	case item == nil || !item.Recommendable(now):
		return id + " is not available"
	case barred(p.UserID, id):
		return id + " is on the user's exclude list"
	case has("seen") && slices.ContainsFunc(p.Window, func(e freshet.Entry) bool { return e.ItemID == id }):
		return id + " was seen"
	case has("dismissed") && slices.ContainsFunc(p.Dismissed, func(d freshet.Dated) bool { return d.ItemID == id }):
		return id + " was dismissed"
	case s.Domain != "" && item.Domain != s.Domain:
		return id + " is of another domain"
	case len(s.Categories) > 0 && !overlap(s.Categories, item.Categories):
		return id + " is of another category"
	case s.filter != nil && !s.filter.holds(item):
		return id + " does not pass the filter"
	case has("purchased") && bought >= 0:
		first := slices.IndexFunc(s.rebuys, func(x stated) bool { return x.holds(item) })
		if first < 0 || asked-p.Owned[bought].Time < s.Rebuys[first].After.Milliseconds() {
			return id + " was bought"
		}
	}
	return ""
}

// broken checks one list against its surface.
func (s *ruled) broken(shop warehouse, p *freshet.Profile, rec *freshet.Recommendation, now time.Time, barred func(user, item string) bool) string {
	brands, categories, there := map[string]int{}, map[string]int{}, map[string]bool{}
	if len(rec.Items) > s.K {
		return "too long"
	}
	asked, _ := time.Parse(time.RFC3339, rec.Event.Timestamp)
	for _, it := range rec.Items {
		share := 0.0
		for _, r := range it.Reasons {
			share += r.Share
		}
		switch why := s.forbidden(shop, p, it.ItemID, now, asked.UnixMilli(), barred); {
		case there[it.ItemID]:
			return it.ItemID + " twice"
		case why != "":
			return why
		case share < 0.995 || share > 1.005:
			return fmt.Sprintf("%s has shares that sum to %v", it.ItemID, share)
		}
		there[it.ItemID] = true
		if why := s.full(shop[it.ItemID], brands, categories); why != "" {
			return why
		}
	}
	return ""
}

// full counts an item towards the caps and says which one it breaks.
func (s *ruled) full(item *freshet.Item, brands, categories map[string]int) string {
	if brands[item.Brand]++; s.PerBrand > 0 && brands[item.Brand] > s.PerBrand {
		return "too many of brand " + item.Brand
	}
	for _, c := range slices.Compact(slices.Sorted(slices.Values(item.Categories))) {
		if categories[c]++; s.PerCategory > 0 && categories[c] > s.PerCategory {
			return "too many of category " + c
		}
	}
	return ""
}

// variedList is the list that the dial asks for: of the 3 K best that are allowed, always the one with the most (1 - dial) x relevance - dial x likeness
// with what stands there.
func (s *ruled) variedList(shop warehouse, p *freshet.Profile, seen sight, now time.Time, timestamp string, barred func(user, item string) bool) (list []string) {
	asked, _ := time.Parse(time.RFC3339, timestamp)
	score := map[string]float64{}
	var among []string
	for i, id := range seen.items {
		if s.forbidden(shop, p, id, now, asked.UnixMilli(), barred) != "" {
			continue
		}
		score[id] = s.Weights["sequence"]*float64(seen.scores[0][i]) + s.Weights["other"]*float64(seen.scores[1][i])
		for n, b := range s.boosts {
			if b.holds(shop[id]) {
				score[id] += math.Log(s.Boosts[n].Factor)
			}
		}
		among = append(among, id)
	}
	slices.SortStableFunc(among, func(a, b string) int { return cmp.Compare(score[b], score[a]) })
	among = among[:min(len(among), 3*s.K)]
	if len(among) == 0 {
		return nil
	}
	top, bottom := score[among[0]], score[among[len(among)-1]]
	for len(list) < s.K {
		best, most := "", math.Inf(-1)
		for _, id := range among {
			brands, categories, capped := map[string]int{}, map[string]int{}, false
			for _, x := range append(slices.Clone(list), id) {
				capped = s.full(shop[x], brands, categories) != "" || capped
			}
			if capped || slices.Contains(list, id) {
				continue
			}
			likeness, relevance := 0.0, 1.0
			for _, x := range list {
				a, _ := circle{}.Vector(id)
				b, _ := circle{}.Vector(x)
				likeness = max(likeness, float64(freshet.Dot(a, b)))
			}
			if top > bottom {
				relevance = (score[id] - bottom) / (top - bottom)
			}
			if v := (1-s.Diversity)*relevance - s.Diversity*likeness; v > most {
				best, most = id, v
			}
		}
		if best == "" {
			return list
		}
		list = append(list, best)
	}
	return list
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
				sum += float64(freshet.Dot(a, b))
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

func (circle) Number(id string) int32 { return everySecond(id) }

func (c circle) VectorOf(item freshet.Ref) ([]float32, float32) {
	v, kind := c.Vector(item.ItemID)
	return known(v, kind)
}

// known is the answer of VectorOf.
func known(v []float32, kind freshet.VectorKind) ([]float32, float32) {
	if kind == freshet.Unknown {
		return nil, 0
	}
	return v, float32(math.Sqrt(float64(freshet.Dot(v, v))))
}

func (circle) Vector(id string) ([]float32, freshet.VectorKind) {
	var n int
	if _, err := fmt.Sscanf(id, "i%d", &n); err != nil {
		return []float32{0, 0, 0, 0, 0, 0, 0, 0}, freshet.Unknown
	}
	v := make([]float32, 8)
	v[n/5%8] = 1
	return v, freshet.Trained
}

func TestVerdictsThatDoNotLookAtTheClockAreKept(t *testing.T) {
	for source, want := range map[string]bool{
		`item.price < 500`:                               false,
		`"c1" in item.categories`:                        false,
		`item.attributes.consumable == true`:             false,
		`item.age_days > 365`:                            true,
		`item.published_at > now - duration("24h")`:      true,
		`item.price > 5 and not (item.age_days < 7)`:     true,
		`item["age_days"] < 3`:                           true,
		`item.title == "x" ? item.price > 3 : now > now`: true,
	} {
		p, err := compile("home", "filter", source)
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		if got := clockwise(p); got != want {
			t.Errorf("%s: looks at the clock: %v, want %v", source, got, want)
		}
	}
}

// Exploration places are drawn by the score of the source "new", whatever other sources say of an item; a tenth of the draws are blind and
// reach every new item; a record says with which probability its item was drawn.
func TestExplorationDrawsByWhatFirstUsersDid(t *testing.T) {
	const items, lists = 36, 6000
	var ids []string
	for i := range items {
		ids = append(ids, fmt.Sprintf("i%d", 100+i))
	}
	f := newFixture(t, func(c *Config) { c.Surfaces[0].Explore, c.Surfaces[0].Depth = 1, 100 }, halved{chart{"new", ids}})
	drawn, chances := map[string]int{}, map[string]float64{}
	for i := range lists {
		for _, p := range f.handle(t, event(fmt.Sprintf("u%d", i), int64(i+1), "i1")) {
			var r freshet.Recommendation
			if err := json.Unmarshal(p.Record, &r); err != nil {
				t.Fatal(err)
			}
			last := r.Items[len(r.Items)-1]
			if last.Reasons[0].Source != newSource || last.Propensity == 0 {
				t.Fatalf("the last place has %+v", last)
			}
			drawn[last.ItemID]++
			if p, ok := chances[last.ItemID]; ok && math.Abs(p-last.Propensity) > 1e-9 {
				t.Fatalf("%s was drawn with %v and with %v", last.ItemID, p, last.Propensity)
			}
			chances[last.ItemID] = last.Propensity
		}
	}
	sum := 0.0
	for _, id := range ids {
		p := chances[id]
		sum += p
		if spread := math.Sqrt(lists * p * (1 - p)); math.Abs(float64(drawn[id])-lists*p) > 5*spread+1 {
			t.Errorf("%s was drawn %d times of %d with a probability of %.4f", id, drawn[id], lists, p)
		}
	}
	if math.Abs(sum-1) > 1e-3 || len(drawn) != items || drawn["i100"] < lists/2 {
		t.Errorf("%d of %d new items were drawn, the first %d times; the probabilities sum to %v", len(drawn), items, drawn["i100"], sum)
	}
}

// halved has half the scores of a chart.
type halved struct{ chart }

func (h halved) Propose(ctx context.Context, subjects []freshet.Subject, n int) ([][]freshet.Candidate, error) {
	out, err := h.chart.Propose(ctx, subjects, n)
	for _, list := range out {
		for k := range list {
			list[k].Score /= 2
		}
	}
	return out, err
}
