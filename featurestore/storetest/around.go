package storetest

import (
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"freshet"
	"freshet/featurestore"
)

func items(t *testing.T, s Subject) {
	no := false
	published := time.Date(2026, 1, 2, 3, 4, 5, 6_000_000, time.UTC)
	full := freshet.Item{ItemID: "{i} 9", Title: "Tea", Description: "Green\nand dry", Categories: []string{"food", "drink, hot"}, Domain: "shop",
		Brand: "B", Price: 3.99, Currency: "EUR", Available: &no, PublishedAt: &published, ExpiresAt: &published,
		Attributes: []byte(`{"url":"https://shop.example/tea"}`), Vectors: map[string][]float32{"image": {0.25, -1}}}
	bare := freshet.Item{ItemID: "bare"}
	put := func(items ...freshet.Item) {
		t.Helper()
		if err := s.Store.PutItems(t.Context(), items); err != nil {
			t.Fatal(err)
		}
	}
	get := func(id string) *freshet.Item {
		t.Helper()
		item, err := s.Store.Item(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return item
	}
	put(full, bare)
	if got := get(full.ItemID); !reflect.DeepEqual(*got, full) {
		t.Errorf("got %+v, want %+v", *got, full)
	}
	if got := get("bare"); !reflect.DeepEqual(*got, bare) {
		t.Errorf("got %+v, want %+v", *got, bare)
	}
	less := freshet.Item{ItemID: full.ItemID, Brand: "C"}
	put(less)
	found, err := s.Store.Items(t.Context(), []string{"nobody's", full.ItemID})
	if err != nil {
		t.Fatal(err)
	}
	if found[0] != nil || !reflect.DeepEqual(*found[1], less) {
		t.Errorf("after a replacement: %v, %+v", found[0], found[1])
	}
	if err := s.Store.DeleteItems(t.Context(), []string{full.ItemID, "nobody's"}); err != nil {
		t.Fatal(err)
	}
	if get(full.ItemID) != nil || get("bare") == nil {
		t.Error("a deletion took the wrong item")
	}
}

func vectors(t *testing.T, s Subject) {
	tiny := math.Float32frombits(1)
	want := featurestore.ItemVector{ItemID: "i", Text: math.MaxUint64, Encoder: 1, Vector: []float32{0, -1.5, tiny, 3e38}}
	empty := featurestore.ItemVector{ItemID: "e", Text: 3, Encoder: 4, Vector: []float32{}}
	if err := s.Store.PutVectors(t.Context(), []featurestore.ItemVector{want, empty}); err != nil {
		t.Fatal(err)
	}
	got, err := s.Store.Vectors(t.Context(), []string{"none", "i", "e"})
	if err != nil {
		t.Fatal(err)
	}
	if got[0].Vector != nil || !reflect.DeepEqual(got[1], want) || !reflect.DeepEqual(got[2], empty) {
		t.Errorf("got %+v", got)
	}
	if err := s.Store.DeleteItems(t.Context(), []string{"i"}); err != nil {
		t.Fatal(err)
	}
	if got, err = s.Store.Vectors(t.Context(), []string{"i"}); err != nil || got[0].Vector != nil {
		t.Errorf("after the item was deleted: %+v, %v", got, err)
	}
}

func rankedLists(t *testing.T, s Subject) {
	ctx := t.Context()
	a, b := []featurestore.Scored{{ItemID: "x", Score: 2}, {ItemID: "y", Score: 1.5}}, []featurestore.Scored{{ItemID: "z", Score: -1}}
	for _, list := range []struct {
		name string
		set  func([]featurestore.Scored) error
		get  func(n int) ([]featurestore.Scored, error)
	}{
		{"popular", func(l []featurestore.Scored) error { return s.Store.SetPopular(ctx, "", l) },
			func(n int) ([]featurestore.Scored, error) { return s.Store.Popular(ctx, "", n) }},
		{"popular by domain", func(l []featurestore.Scored) error { return s.Store.SetPopular(ctx, "vi{deo", l) },
			func(n int) ([]featurestore.Scored, error) { return s.Store.Popular(ctx, "vi{deo", n) }},
		{"trending", func(l []featurestore.Scored) error { return s.Store.SetTrending(ctx, l) },
			func(n int) ([]featurestore.Scored, error) { return s.Store.Trending(ctx, n) }},
		{"similar", func(l []featurestore.Scored) error { return s.Store.SetSimilar(ctx, "i9", l) },
			func(n int) ([]featurestore.Scored, error) { return s.Store.Similar(ctx, "i9", n) }},
	} {
		expect := func(n int, want []featurestore.Scored) {
			t.Helper()
			if got, err := list.get(n); err != nil || !slices.Equal(got, want) {
				t.Errorf("%s: got %v, %v, want %v", list.name, got, err, want)
			}
		}
		put := func(items []featurestore.Scored) {
			t.Helper()
			if err := list.set(items); err != nil {
				t.Errorf("%s: %v", list.name, err)
			}
		}
		expect(5, nil)
		put(a)
		expect(5, a)
		expect(1, a[:1])
		put(b)
		expect(5, b)
		if err := list.set([]featurestore.Scored{{ItemID: "n", Score: math.NaN()}}); err == nil {
			t.Errorf("%s: a score that is no number was taken", list.name)
		}
		expect(5, b)
		put(nil)
		expect(5, nil)
	}
	for _, surface := range []string{freshet.HomeSurface, "video"} {
		if got, err := s.Store.Default(ctx, surface); err != nil || got != nil {
			t.Errorf("default of %s before there is one: %q, %v", surface, got, err)
		}
		if err := s.Store.SetDefault(ctx, surface, []byte("list for "+surface)); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := s.Store.Default(ctx, "video"); err != nil || string(got) != "list for video" {
		t.Errorf("default of video: %q, %v", got, err)
	}
}

func transitions(t *testing.T, s Subject) {
	at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	step := func(from, to string, weight float64, age time.Duration) featurestore.Transition {
		return featurestore.Transition{From: from, To: to, Weight: weight, Time: at.Add(-age).UnixMilli()}
	}
	add := func(list ...featurestore.Transition) {
		t.Helper()
		if err := s.Store.AddTransitions(t.Context(), list); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(item string, now time.Time, want ...featurestore.Scored) {
		t.Helper()
		got, err := s.Store.Transitions(t.Context(), []string{"nothing leads on", item}, 10, now)
		if err != nil || len(got[0]) != 0 || len(got[1]) != len(want) {
			t.Fatalf("got %v, %v, want %v", got, err, want)
		}
		for i, w := range want {
			if g := got[1][i]; g.ItemID != w.ItemID || math.Abs(g.Score-w.Score) > 1e-6*w.Score {
				t.Errorf("successor %d of %s: %v, want %v", i, item, g, w)
			}
		}
	}
	// The half-life is an hour. The late step comes last and counts for what it is worth.
	add(step("a", "x", 1, 0), step("a", "y", 3, 0), step("a", "x", 1, 0))
	add(step("a", "x", 8, 2*time.Hour))
	expect("a", at, featurestore.Scored{ItemID: "x", Score: 4}, featurestore.Scored{ItemID: "y", Score: 3})
	expect("a", at.Add(time.Hour), featurestore.Scored{ItemID: "x", Score: 2}, featurestore.Scored{ItemID: "y", Score: 1.5})
	// The same in another order.
	add(step("b", "x", 8, 2*time.Hour), step("b", "y", 3, 0))
	add(step("b", "x", 2, 0))
	expect("b", at, featurestore.Scored{ItemID: "x", Score: 4}, featurestore.Scored{ItemID: "y", Score: 3})
	// Four are kept, the strongest.
	for i, name := range strings.Split("pqrstu", "") {
		add(step("c", name, float64(i+1), 0))
	}
	expect("c", at, featurestore.Scored{ItemID: "u", Score: 6}, featurestore.Scored{ItemID: "t", Score: 5},
		featurestore.Scored{ItemID: "s", Score: 4}, featurestore.Scored{ItemID: "r", Score: 3})
	for _, bad := range []float64{0, -1, math.NaN(), math.Inf(1)} {
		if err := s.Store.AddTransitions(t.Context(), []featurestore.Transition{step("d", "x", bad, 0)}); err == nil {
			t.Errorf("a weight of %v was taken", bad)
		}
	}
}

func evidence(t *testing.T, s Subject) {
	add := func(surface string, decay float64, more map[string]float64, want map[string]float64) {
		t.Helper()
		got, err := s.Store.AddEvidence(t.Context(), surface, decay, more)
		if err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(got, want) {
			t.Fatalf("surface %s has %v, want %v", surface, got, want)
		}
	}
	add("home", 1, nil, map[string]float64{})
	add("home", 0.5, map[string]float64{"n": 3, "b sequence": -1.5e-7}, map[string]float64{"n": 3, "b sequence": -1.5e-7})
	add("home", 0.5, map[string]float64{"n": 1, "p covisit sequence": 1.0 / 3}, map[string]float64{"n": 2.5, "b sequence": -0.75e-7, "p covisit sequence": 1.0 / 3})
	add("video", 1, nil, map[string]float64{})
	add("home", 1, nil, map[string]float64{"n": 2.5, "b sequence": -0.75e-7, "p covisit sequence": 1.0 / 3})
}

func responses(t *testing.T, s Subject) {
	add := func(store Store, basis string, more, want []freshet.Response) {
		t.Helper()
		got, err := store.AddResponses(t.Context(), basis, more)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("on %s: %v, want %v", basis, got, want)
		}
	}
	none := []freshet.Response{{ItemID: "a b"}, {ItemID: "c"}}
	add(s.Store, "v1", none, none)
	add(s.Store, "v1", []freshet.Response{{ItemID: "a b", Taken: 1, Taste: []float64{0.5, -1.0 / 3}}, {ItemID: "c", Shown: 2}},
		[]freshet.Response{{ItemID: "a b", Taken: 1, Taste: []float64{0.5, -1.0 / 3}}, {ItemID: "c", Shown: 2}})
	add(s.Store, "v1", []freshet.Response{{ItemID: "c", Taken: 1, Shown: 1}, {ItemID: "a b", Taken: 2, Taste: []float64{0.25, 0}}},
		[]freshet.Response{{ItemID: "c", Taken: 1, Shown: 3}, {ItemID: "a b", Taken: 3, Taste: []float64{0.75, -1.0 / 3}}})
	// Another bundle's vectors are another space; who took and who saw an item is the same in both.
	add(s.Store, "v2", []freshet.Response{{ItemID: "a b", Taken: 1, Taste: []float64{1, 2, 3}}}, []freshet.Response{{ItemID: "a b", Taken: 4, Taste: []float64{1, 2, 3}}})
	add(s.Store, "v1", none, []freshet.Response{{ItemID: "a b", Taken: 4, Taste: []float64{0.75, -1.0 / 3}}, {ItemID: "c", Taken: 1, Shown: 3}})
	add(s.Lane(t, "other", 0), "v1", none, none)
}
