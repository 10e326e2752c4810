package recommend

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"go.uber.org/zap"

	"freshet"
)

// chart is a source that needs no user: always the same list.
type chart struct {
	name  string
	items []string
}

func (c chart) Name() string { return c.name }

func (c chart) Propose(_ context.Context, subjects []freshet.Subject, n int) ([][]freshet.Candidate, error) {
	out := make([][]freshet.Candidate, len(subjects))
	for i := range out {
		for k, id := range c.items[:min(n, len(c.items))] {
			out[i] = append(out[i], freshet.Candidate{ItemID: id, Score: -float32(k)})
		}
	}
	return out, nil
}

func (c chart) Score(_ context.Context, _ *freshet.Subject, items []freshet.Ref, out []float32) error {
	for i := range items {
		if out[i] = -100; slices.Contains(c.items, items[i].ItemID) {
			out[i] = -float32(slices.Index(c.items, items[i].ItemID))
		}
	}
	return nil
}

// Users without a list are served what is popular, trending and new, as the surface says, and no rule is broken.
func TestDefaultListsKeepTheRules(t *testing.T) {
	types, err := freshet.NewEventTypes(freshet.DefaultEventTypes())
	if err != nil {
		t.Fatal(err)
	}
	now := time.UnixMilli(1_800_000_000_000)
	shop, no := warehouse{}, false
	for i := range 40 {
		id := fmt.Sprintf("i%d", i)
		shop[id] = &freshet.Item{ItemID: id, Domain: []string{"shop", "video"}[i%2], Brand: fmt.Sprintf("b%d", i/8), Price: float64(i)}
	}
	shop["i2"].Available = &no
	weights := map[string]float64{"sequence": 1}
	cfg := Config{CV: 4, Types: types, Now: func() time.Time { return now },
		Item:      func(id string) (*freshet.Item, bool) { i, ok := shop[id]; return i, ok },
		Available: func(id string) bool { i, ok := shop[id]; return ok && i.Recommendable(now) },
		Surfaces: []Surface{
			{Name: "home", K: 6, Weights: weights, Exclude: []string{"seen"}, Explore: 2},
			{Name: "video", K: 4, Weights: weights, Domain: "video", Filter: "item.price > 2", PerBrand: 1},
			{Name: "trends", K: 3, Weights: map[string]float64{"trending": 1, "sequence": 3}},
			{Name: "fresh", K: 2, Weights: weights, Cold: map[string]float64{"new": 1}},
			{Name: "none", K: 2, Weights: weights, Domain: "music"}}}
	var popular []string
	for i := range 30 {
		popular = append(popular, fmt.Sprintf("i%d", i))
	}
	sources := []Source{rotation{40}, chart{"popular", popular}, chart{"trending", []string{"i9", "i8"}}, chart{"new", []string{"i39", "i38", "i37"}}}
	seen := &counts{}
	e, err := New(cfg, newFaultyStore(), &hashModel{}, circle{}, sources, seen, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	lists, err := e.Defaults(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][]string{}
	for _, d := range lists {
		var r freshet.Recommendation
		if err := json.Unmarshal(d.Record, &r); err != nil {
			t.Fatal(err)
		}
		if r.UserID != "" || r.CV != 4 || r.Rev != 0 || r.RecID != "default-"+d.Surface || len(r.Items) == 0 {
			t.Errorf("%s", d.Record)
		}
		for _, it := range r.Items {
			got[d.Surface] = append(got[d.Surface], it.ItemID)
			share := 0.0
			for _, reason := range it.Reasons {
				share += reason.Share
			}
			if share < 0.995 || share > 1.005 {
				t.Errorf("%s: shares of %s sum to %v", d.Surface, it.ItemID, share)
			}
		}
	}
	if home := got["home"]; len(home) != 6 || !slices.Contains(home, "i0") || home[0] != "i8" || slices.Contains(home, "i2") || !slices.Contains(home, "i39") || !slices.Contains(home, "i38") {
		t.Errorf("home: %v", home)
	}
	if want := []string{"i9", "i3", "i17", "i25"}; !slices.Equal(got["video"], want) {
		t.Errorf("video: %v, want %v: one a brand, only of the domain, dearer than 2; i9 trends", got["video"], want)
	}
	if want := []string{"i9", "i8"}; !slices.Equal(got["trends"], want) {
		t.Errorf("trends: %v, want %v", got["trends"], want)
	}
	if want := []string{"i39", "i38"}; !slices.Equal(got["fresh"], want) {
		t.Errorf("fresh: %v, want %v", got["fresh"], want)
	}
	if _, ok := got["none"]; ok {
		t.Errorf("there is nothing of domain music: %v", got["none"])
	}
	if _, err := New(Config{Types: types, Surfaces: []Surface{{Name: "home", K: 1, Weights: weights, Cold: map[string]float64{"sequence": 1}}}},
		newFaultyStore(), &hashModel{}, circle{}, sources, seen, zap.NewNop()); err == nil || err.Error() != "surfaces.home.cold.sequence: 1, only popular, trending, new can serve a user of whom nothing is known, with weights above 0" {
		t.Errorf("%v", err)
	}
}
