package featurestore_test

import (
	"slices"
	"testing"

	"github.com/alicebob/miniredis/v2"

	"freshet/featurestore"
)

func TestCountsOfALaneAddUpAndTheOldestPeriodIsForgotten(t *testing.T) {
	const kept = 8
	r := open(t, featurestore.Config{Addrs: []string{miniredis.RunT(t).Addr()}})
	for period := range uint64(kept + 1) {
		for range 2 {
			err := r.AddArm(t.Context(), "b", []featurestore.ArmCount{{Period: period, Group: 3, Measure: "hits", Value: .5}, {Period: period, Group: 4, Measure: "hits", Value: 1}})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	got, err := r.Arm(t.Context(), "b")
	if err != nil || len(got) != 2*(kept+1) || !slices.Contains(got, featurestore.ArmCount{Period: 7, Group: 3, Measure: "hits", Value: 1}) {
		t.Fatalf("%v, %v", got, err)
	}
	if err := r.ForgetArm(t.Context(), "b", got); err != nil {
		t.Fatal(err)
	}
	if got, err = r.Arm(t.Context(), "b"); err != nil || len(got) != 2*kept || slices.ContainsFunc(got, func(c featurestore.ArmCount) bool { return c.Period == 0 }) {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := r.Arm(t.Context(), "other"); err != nil || len(got) != 0 {
		t.Errorf("%v, %v", got, err)
	}
}
