package recommend

import (
	"context"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"testing"

	"freshet"
)

// choosers are users who choose among random candidates by a conditional logit with some weights: what an adapter assumes.
type choosers struct {
	random *rand.Rand
	weight []float64
}

func (c *choosers) choice(candidates int) (*slate, string) {
	sl := &slate{items: make([]uint64, candidates), scores: make([][]float32, len(c.weight))}
	ids := make([]string, candidates)
	for i := range ids {
		ids[i] = fmt.Sprint("i", i)
		sl.items[i] = hashOf(ids[i])
	}
	for k := range sl.scores {
		sl.scores[k] = make([]float32, candidates)
		for i := range sl.scores[k] {
			sl.scores[k][i] = float32(c.random.NormFloat64())
		}
	}
	at, left := 0, c.random.Float64()
	for i, p := range softmaxOf(sl.scores, c.weight) {
		if at = i; left < p {
			break
		}
		left -= p
	}
	return sl, ids[at]
}

func adapterOf(t testing.TB, a Adapt, base ...float64) *adapter {
	t.Helper()
	s := &Surface{Name: "home", K: 10, Weights: map[string]float64{"a": 1}, Adapt: a}
	if err := s.validate(); err != nil {
		t.Fatal(err)
	}
	s.mask = 1<<len(base) - 1
	return newAdapter(s, base)
}

// shares of weights: a common factor changes no list.
func proportions(w []float64) []float64 {
	sum := 0.0
	for _, v := range w {
		sum += v
	}
	out := make([]float64, len(w))
	for i := range w {
		out[i] = w[i] / sum
	}
	return out
}

func distance(a, b []float64) float64 {
	a, b = proportions(a), proportions(b)
	sum := 0.0
	for i := range a {
		sum += math.Abs(a[i] - b[i])
	}
	return sum
}

func TestWeightsFollowUsersWhoChange(t *testing.T) {
	base := []float64{1.2, 0.5, 0.3}
	a := adapterOf(t, Adapt{Mode: AdaptOn, HalfLife: 1000}, base...)
	users := &choosers{rand.New(rand.NewPCG(7, 0)), []float64{2.4, 1, 0.6}} // twice the configured weights: the same lists
	for range 5000 {
		a.learn(users.choice(40))
	}
	if d := distance(*a.mix.Load(), base); d > 0.05 {
		t.Errorf("users chose as configured, and the weights went %.3f away: %v", d, *a.mix.Load())
	}
	users.weight = []float64{0.6, 1.5, 0.3}
	for range 4000 {
		a.learn(users.choice(40))
	}
	if d := distance(*a.mix.Load(), users.weight); d > 0.1 {
		t.Errorf("after 4,000 choices by %v the weights are %v, %.3f away", users.weight, *a.mix.Load(), d)
	}
}

func TestWeightsStayWithinTheirBound(t *testing.T) {
	a := adapterOf(t, Adapt{Mode: AdaptOn, Bound: 1.5, HalfLife: 500}, 1, 1)
	users := &choosers{rand.New(rand.NewPCG(3, 0)), []float64{0.01, 3}}
	for range 3000 {
		a.learn(users.choice(30))
	}
	if got := *a.mix.Load(); got[0] < 1/1.5-1e-9 || got[1] > 1.5+1e-9 || got[0] > 0.7 || got[1] < 1.4 {
		t.Errorf("weights are %v, want both at their bounds 0.667 and 1.5", got)
	}
}

// evidenceMemory is the store as weights.lua keeps it.
type evidenceMemory struct {
	sums map[string]float64
	fail bool
}

func (m *evidenceMemory) AddEvidence(_ context.Context, _ string, decay float64, add map[string]float64) (map[string]float64, error) {
	if m.fail {
		return nil, freshet.ErrUnavailable
	}
	for k := range m.sums {
		m.sums[k] *= decay
	}
	for k, v := range add {
		m.sums[k] += v
	}
	return maps.Clone(m.sums), nil
}

func TestWorkersLearnWeightsTogether(t *testing.T) {
	name := func(k int) string { return string(rune('a' + k)) }
	store := &evidenceMemory{sums: map[string]float64{}}
	on := Adapt{Mode: AdaptOn, HalfLife: 2000}
	one, two := adapterOf(t, on, 1, 1), adapterOf(t, on, 1, 1)
	frozen := adapterOf(t, Adapt{Mode: AdaptFrozen}, 1, 1)
	frozen.pause = true
	users := &choosers{rand.New(rand.NewPCG(5, 0)), []float64{2, 0.5}}
	for i := range 3000 {
		a := one
		if i%2 == 1 {
			a = two
		}
		a.learn(users.choice(30))
		frozen.learn(users.choice(30))
		store.fail = i > 1000 && i < 1500 // what was owed meanwhile is kept
		if i%100 == 99 {
			for _, a := range []*adapter{one, two, frozen} {
				if err := a.sync(t.Context(), store, name); (err != nil) != store.fail {
					t.Fatal(err)
				}
			}
		}
	}
	want := 0.0 // choices, each decayed by those after it
	for i := range 3000 {
		want += math.Pow(one.decay, float64(i))
	}
	if n := store.sums["n"]; math.Abs(n-want)/want > 0.03 {
		t.Errorf("the store counts %.0f choices, want about %.0f", n, want)
	}
	if err := one.sync(t.Context(), store, name); err != nil {
		t.Fatal(err)
	}
	for who, a := range map[string]*adapter{"one": one, "two": two, "frozen": frozen} {
		if d := distance(*a.mix.Load(), users.weight); d > 0.12 {
			t.Errorf("%s has %v, users have %v", who, *a.mix.Load(), users.weight)
		}
	}
}

func TestArmsAreDrawnAsOftenAsTheySay(t *testing.T) {
	a := adapterOf(t, Adapt{Mode: AdaptOn, Control: 0.2}, 1, 1)
	e := &Engine{adapters: []*adapter{a}}
	control := 0
	for i := range 20000 {
		who := &freshet.Subject{Profile: &freshet.Profile{UserID: fmt.Sprint("u", i%50), Rev: uint64(i)}}
		arm, p, _ := e.arm(a.s, who)
		again, _, _ := e.arm(a.s, who)
		if arm != again {
			t.Fatal("the same user and event drew two arms")
		}
		if arm == ArmControl {
			control++
			if p != 0.2 {
				t.Fatalf("control has the propensity %v", p)
			}
		}
	}
	if got := float64(control) / 20000; math.Abs(got-0.2) > 0.015 {
		t.Errorf("control was drawn for %.3f of the lists, want 0.2", got)
	}
}

func BenchmarkLearnWeights(b *testing.B) {
	a := adapterOf(b, Adapt{Mode: AdaptOn}, 1, 1, 1, 1, 1)
	users := &choosers{rand.New(rand.NewPCG(1, 0)), []float64{1, 1, 1, 1, 1}}
	sl, item := users.choice(80)
	for b.Loop() {
		a.learn(sl, item)
	}
}
