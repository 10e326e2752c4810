package recommend

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"testing"

	"freshet"
)

// fewItems answers with items i0..i<n>, the better the nearer their number is to the query modulo n.
type fewItems int

func (f fewItems) Len() int { return int(f) }

func (f fewItems) Search(_ context.Context, queries []float32, n int) (freshet.Hits, error) {
	h := freshet.Hits{N: n}
	first := int(queries[0]) % int(f)
	for k := range n {
		if k < int(f) {
			h.Items, h.Scores = append(h.Items, fmt.Sprintf("i%d", (first+k)%int(f))), append(h.Scores, -float32(k)/2)
		} else {
			h.Items, h.Scores = append(h.Items, ""), append(h.Scores, float32(math.Inf(-1)))
		}
	}
	return h, nil
}

func TestAForecastGoesOnFromTheStoredStateAndLeavesIt(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.HotFor = 0 })
	for n := range int64(9) { // past the window of 5: the checkpoint is part of the state
		f.handle(t, event("u", n, fmt.Sprintf("i%d", n)))
	}
	stored := bytes.Clone(f.store.profiles["u"])
	p, err := freshet.DecodeProfile("u", stored)
	if err != nil {
		t.Fatal(err)
	}
	got, err := f.Forecast(context.Background(), "u", fewItems(20), ForecastConfig{Steps: 3, Alternatives: 2})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(stored, f.store.profiles["u"]) {
		t.Fatal("the forecast changed the stored profile")
	}
	if got.Rev != 9 || got.GapSeconds != 1 || len(got.Sequences) != 1 || len(got.Sequences[0].Steps) != 3 {
		t.Fatalf("%+v", got)
	}
	// The hash model's query is its state: the first item is the stored state's, the second that of the state one step on.
	product, state := 1.0, p.State[0]
	for n, b := range got.Sequences[0].Steps {
		want := fmt.Sprintf("i%d", int(state)%20)
		taken := func(id string) bool {
			for _, before := range got.Sequences[0].Steps[:n] {
				if before.ItemID == id {
					return true
				}
			}
			return false
		}
		for k := 1; taken(want); k++ {
			want = fmt.Sprintf("i%d", (int(state)+k)%20)
		}
		if b.ItemID != want || b.Type != "view" || b.TypeProbability != 1 || len(b.Alternatives) != 2 {
			t.Fatalf("step %d: %+v, want item %s", n, b, want)
		}
		product *= b.Probability
		run := freshet.Steps{Items: []float32{numberOf(t, b.ItemID)}, Types: []int64{4}, Gaps: []float32{1}, States: []float32{state}, Queries: [][]float32{{0}}}
		if err := f.model.Advance(context.Background(), &run); err != nil {
			t.Fatal(err)
		}
		state = run.States[0]
	}
	if math.Abs(product-got.Sequences[0].Probability) > 1e-12 {
		t.Fatalf("probability %v, the steps' product is %v", got.Sequences[0].Probability, product)
	}
}

func numberOf(t *testing.T, id string) float32 {
	t.Helper()
	var n int
	if _, err := fmt.Sscanf(id, "i%d", &n); err != nil {
		t.Fatal(err)
	}
	return float32(n)
}

func TestForecastsOfEveryMethodAreProbabilities(t *testing.T) {
	f := newFixture(t, nil)
	kinds := []string{"view", "cart", "cart", "purchase", "view"} // no two futures are equally likely
	for n, kind := range kinds {
		e := event("u", int64(n), fmt.Sprintf("i%d", n))
		e.Type = kind
		f.handle(t, e)
	}
	greedy, err := f.Forecast(context.Background(), "u", fewItems(20), ForecastConfig{Steps: 4})
	if err != nil {
		t.Fatal(err)
	}
	beam, err := f.Forecast(context.Background(), "u", fewItems(20), ForecastConfig{Steps: 4, Beam: 8})
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for i, s := range beam.Sequences {
		sum += s.Probability
		if i > 0 && s.Probability > beam.Sequences[i-1].Probability {
			t.Fatal("sequences are not ordered")
		}
	}
	if len(beam.Sequences) != 8 || sum > 1 || beam.Sequences[0].Probability < greedy.Sequences[0].Probability {
		t.Fatalf("%d sequences, together %v; the best %v against %v of the greedy one", len(beam.Sequences), sum, beam.Sequences[0].Probability, greedy.Sequences[0].Probability)
	}
	cold, err := f.Forecast(context.Background(), "u", fewItems(20), ForecastConfig{Steps: 4, Samples: 5, Temperature: 0.01})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range cold.Sequences { // next to no temperature: the likeliest every time
		if s.Probability != greedy.Sequences[0].Probability {
			t.Fatalf("%v, greedy %v", s, greedy.Sequences[0])
		}
	}
	if _, err := f.Forecast(context.Background(), "nobody", fewItems(20), ForecastConfig{}); !errors.Is(err, ErrNoProfile) {
		t.Fatal(err)
	}
}

func TestTypesFollowTheUsersHabits(t *testing.T) {
	types, err := freshet.NewEventTypes(freshet.DefaultEventTypes())
	if err != nil {
		t.Fatal(err)
	}
	var window []freshet.Entry
	for range 10 {
		window = append(window, freshet.Entry{Type: "view"}, freshet.Entry{Type: "cart"})
	}
	h := habitsOf(window, types)
	sum := 0.0
	for _, x := range h.after("view") {
		sum += x.probability
		if x.name == "cart" && x.probability < 0.9 {
			t.Errorf("a cart always followed a view, but has probability %v", x.probability)
		}
	}
	if math.Abs(sum-1) > 1e-12 {
		t.Errorf("the probabilities sum to %v", sum)
	}
}
