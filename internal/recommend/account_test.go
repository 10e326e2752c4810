package recommend

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"freshet"
)

// tally is a source whose scores are plain sums over the history, so that leaving an item out has a known price. It explains by estimate
// when it is told to.
type tally struct {
	name  string
	worth func(history, item string) float64
}

func (s tally) Name() string { return s.name }

func (s tally) score(who *freshet.Subject, item string) (sum float32) {
	for i := range who.Profile.Window {
		sum += float32(s.worth(who.Profile.Window[i].ItemID, item))
	}
	return sum
}

func (s tally) Propose(_ context.Context, subjects []freshet.Subject, n int) ([][]freshet.Candidate, error) {
	out := make([][]freshet.Candidate, len(subjects))
	for i := range subjects {
		for k := range min(n, 30) {
			id := fmt.Sprintf("i%d", 100+k)
			out[i] = append(out[i], freshet.Candidate{ItemID: id, Score: s.score(&subjects[i], id)})
		}
	}
	return out, nil
}

func (s tally) Score(_ context.Context, who *freshet.Subject, items []freshet.Ref, out []float32) error {
	for i := range items {
		out[i] = s.score(who, items[i].ItemID)
	}
	return nil
}

// The account names the item whose absence costs most, worked out here by hand from what the sources are; it touches nothing; and it says
// which rule kept what out.
func TestTheAccountNamesWhatARecommendationStandsFor(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 9))
	price := map[string]float64{}
	worth := func(source string) func(history, item string) float64 {
		return func(history, item string) float64 {
			key := source + history + item
			if _, ok := price[key]; !ok {
				price[key] = r.Float64()
			}
			return price[key]
		}
	}
	a, b := tally{"a", worth("a")}, tally{"b", worth("b")}
	f := newFixture(t, func(c *Config) {
		c.Surfaces = []Surface{{Name: "home", K: 5, Weights: map[string]float64{"a": 1, "b": 0.5}, Exclude: []string{"dismissed"}}}
		c.Temperatures = map[string]float64{"b": 2}
	}, a, b)
	first := decode(t, f.handle(t, event("u", 0, "i1"), event("u", 1, "i2"), event("u", 2, "i3"), event("u", 3, "i1"))[0].Record).Items[0].ItemID
	reject := event("u", 4, first)
	reject.Type = "dislike"
	f.handle(t, reject)
	stored := string(f.store.profiles["u"])
	got, err := f.Account(context.Background(), "u", nil)
	if err != nil {
		t.Fatal(err)
	}
	if string(f.store.profiles["u"]) != stored {
		t.Fatal("the stored profile was changed")
	}
	// By hand: log-likelihood among the 30 candidates of the sum of a and b/4, without each item in turn.
	likelihood := func(item, without string) float64 {
		sums := map[string]float64{}
		total := 0.0
		for k := range 30 {
			id := fmt.Sprintf("i%d", 100+k)
			for _, h := range []string{"i1", "i2", "i3", "i1"} {
				if h != without {
					sums[id] += price["a"+h+id] + price["b"+h+id]/4
				}
			}
			total += math.Exp(sums[id])
		}
		return math.Exp(sums[item]) / total
	}
	if len(got.Reasons) != 5 {
		t.Fatalf("%d reasons for 5 places", len(got.Reasons))
	}
	for _, g := range got.Reasons {
		best, by := "", 0.0
		for _, h := range []string{"i1", "i2", "i3"} {
			if lost := 1 - likelihood(g.ItemID, h)/likelihood(g.ItemID, ""); lost > by+1e-9 {
				best, by = h, lost
			}
		}
		if g.Because != best || math.Abs(g.LowersBy-by) > 1e-4 {
			t.Errorf("%s: because %q, %.5f less likely; by hand %q, %.5f", g.ItemID, g.Because, g.LowersBy, best, by)
		}
		share := 0.0
		for _, s := range g.Sources {
			share += s.Share
		}
		if math.Abs(share-1) > 1e-9 {
			t.Errorf("%s: shares sum to %v", g.ItemID, share)
		}
	}
	if len(got.Removed) != 1 || got.Removed[0] != (Removal{Surface: "home", ItemID: first, Rule: "dismissed"}) {
		t.Errorf("removed: %+v", got.Removed)
	}
}

// The state is folded anew without an item: what the model makes of the rest is what it would have made of a user who never met it.
func TestLeavingAnItemOutIsNeverHavingMetIt(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.MaxHistory = 4 })
	ids := []string{"i1", "i2", "i3", "i2", "i5", "i6"} // i1 and i2 have left the window: the checkpoint keeps them
	for n, id := range ids {
		f.handle(t, event("u", int64(n), id))
		if n != 2 { // v never met i3
			f.handle(t, event("v", int64(n), id))
		}
	}
	load := func(user string) *task {
		k := &task{user: user, last: new(freshet.Event)}
		if err := f.load(context.Background(), []*task{k}); err != nil {
			t.Fatal(err)
		}
		return k
	}
	u, v := load("u"), load("v")
	left, without := leaveOut(u)
	if err := f.fold(context.Background(), new(scratch), without); err != nil {
		t.Fatal(err)
	}
	if left[0] != "i3" || without[0].profile.State[0] != v.profile.State[0] {
		t.Fatalf("without %s the state is %v, of a user who never met it %v", left[0], without[0].profile.State, v.profile.State)
	}
	if u.profile.State[0] == v.profile.State[0] || len(u.profile.Window) != 4 {
		t.Fatal("the user himself was changed")
	}
}

func TestReasonsInWords(t *testing.T) {
	texts, err := NewTexts(DefaultTexts(), DefaultVerbs())
	if err != nil {
		t.Fatal(err)
	}
	item := &freshet.Item{Domain: "shoes", Brand: "Acme", Categories: []string{"boots"}}
	for _, c := range []struct{ source, because, did, want string }{
		{"sequence", "Trail Boot", "view", "because you viewed Trail Boot"},
		{"sequence-purchase", "Trail Boot", "purchase", "because you bought Trail Boot"},
		{"sequence", "Trail Boot", "wave", "because you met Trail Boot"},
		{"sequence", "", "", "from what you did lately"},
		{"popular", "", "", "popular in shoes"},
		{"nobody", "", "", ""},
	} {
		if got := texts.Text(c.source, c.because, c.did, item); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
	if got := texts.Text("popular", "", "", nil); got != "popular now" {
		t.Errorf("without an item: %q", got)
	}
	for _, bad := range []string{"for {whom}", "an open {because"} {
		if _, err := NewTexts(map[string]string{"new": bad}, nil); err == nil || !strings.HasPrefix(err.Error(), "reasons.texts.new: ") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// Records carry the words when they are asked to.
func TestRecordsCarryTexts(t *testing.T) {
	texts, err := NewTexts(DefaultTexts(), DefaultVerbs())
	if err != nil {
		t.Fatal(err)
	}
	f := newFixture(t, func(c *Config) { c.Texts = texts })
	for _, it := range decode(t, f.handle(t, event("u", 0, "i1"))[0].Record).Items {
		if it.Text != "from what you did lately" {
			t.Fatalf("%+v", it)
		}
	}
}
