package evaluate

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// A log of a policy that chooses the better of two arms one time in twenty: what always choosing either would earn is found, and the
// intervals hold it about as often as they say.
func TestOffPolicyFindsWhatAnotherPolicyWouldEarn(t *testing.T) {
	truth := []float64{0.10, 0.16}
	const runs = 100
	inside, wide := [2]int{}, 0.0
	for run := range uint64(runs) {
		r := rand.New(rand.NewPCG(run, 1))
		var log []Decision
		for i := range 6000 {
			arm, p := 0, 0.95
			if r.Float64() < 0.05 {
				arm, p = 1, 0.05
			}
			d := Decision{User: fmt.Sprint(i % 600), Logged: p, Targets: []float64{0, 0}}
			d.Targets[arm] = 1
			if r.Float64() < truth[arm] {
				d.Reward = 1
			}
			log = append(log, d)
		}
		got, err := OffPolicy(log, []string{"control", "adapted"}, Bootstrap{Samples: 200, Seed: 1})
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range got.Policies {
			if v.SNIPSCI[0] <= truth[k] && truth[k] <= v.SNIPSCI[1] {
				inside[k]++
			}
			if math.Abs(v.MeanWeight-1) > 0.25 {
				t.Errorf("mean weight of %s is %v", v.Policy, v.MeanWeight)
			}
		}
		wide += got.Policies[1].SNIPSCI[1] - got.Policies[1].SNIPSCI[0]
		if n := got.Policies[1].Effective; n < 200 || n > 400 {
			t.Errorf("%v decisions speak for the rare arm", n)
		}
	}
	if inside[0] < 85 || inside[1] < 85 {
		t.Errorf("of %d intervals %v hold the truth", runs, inside)
	}
	t.Logf("of %d intervals of 95 %% %v hold the truth; the rare arm's are %.3f wide", runs, inside, wide/runs)
}

func TestOffPolicyIsItsFormula(t *testing.T) {
	log := []Decision{
		{User: "a", Reward: 1, Logged: .5, Targets: []float64{1, .25}},
		{User: "a", Reward: 0, Logged: .25, Targets: []float64{0, .5}},
		{User: "b", Reward: 2, Logged: 1, Targets: []float64{1, .75}},
	}
	got, err := OffPolicy(log, []string{"first", "second"}, DefaultBootstrap())
	if err != nil {
		t.Fatal(err)
	}
	for k, want := range [][]float64{{4. / 3, 4. / 3, 1}, {2. / 3, 2 / 3.25, 3.25 / 3}} { // weights 2, 0, 1 and .5, 2, .75
		v := got.Policies[k]
		if math.Abs(v.IPS-want[0])+math.Abs(v.SNIPS-want[1])+math.Abs(v.MeanWeight-want[2]) > 1e-9 {
			t.Errorf("%s: IPS %v, SNIPS %v, mean weight %v, want %v", v.Policy, v.IPS, v.SNIPS, v.MeanWeight, want)
		}
	}
	if got.Earned != 1 || got.Users != 2 || got.Policies[0].Heaviest != 2 || math.Abs(got.Policies[1].Effective-3.25*3.25/(.25+4+.5625)) > 1e-9 {
		t.Errorf("%+v", got)
	}
	for _, bad := range []Decision{{User: "a", Logged: 0, Targets: []float64{1, 1}}, {User: "a", Logged: 1, Targets: []float64{2, 1}}, {User: "a", Logged: 1}} {
		if _, err := OffPolicy([]Decision{bad}, []string{"first", "second"}, DefaultBootstrap()); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}
