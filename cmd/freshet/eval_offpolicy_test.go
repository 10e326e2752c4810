package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"freshet/internal/dataset"
)

// Lists of two arms and places that explore, exported in every format: what each arm and another way of exploring would have earned is found.
func TestOffPolicyReadsWhatExportWrites(t *testing.T) {
	for _, name := range []string{"x.parquet", "x.jsonl", "x.jsonl.zst"} {
		path, policy := filepath.Join(t.TempDir(), name), filepath.Join(t.TempDir(), "p-"+name)
		rows, err := dataset.CreateRows[dataset.ExampleRow](path)
		if err != nil {
			t.Fatal(err)
		}
		targets, err := dataset.CreateRows[targetRow](policy)
		if err != nil {
			t.Fatal(err)
		}
		r := rand.New(rand.NewPCG(3, 3))
		for i := range 4000 {
			x := dataset.ExampleRow{ExampleID: fmt.Sprintf("x%d", i), UserID: fmt.Sprintf("u%d", i%200), Surface: "home", Arm: "adapted", ArmP: 0.9}
			likely := 0.3
			if r.Float64() < 0.1 {
				x.Arm, x.ArmP, likely = "control", 0.1, 0.2
			}
			first := x
			first.ItemID = "known"
			if r.Float64() < likely {
				first.Outcome = "view"
			}
			second := x // item a is drawn nine times in ten and liked by one user in ten, b by every second
			second.ItemID, second.Drawn, likely = "a", 0.9, 0.1
			if r.Float64() < 0.1 {
				second.ItemID, second.Drawn, likely = "b", 0.1, 0.5
			}
			if r.Float64() < likely {
				second.Outcome = "purchase"
			}
			target := targetRow{ExampleID: x.ExampleID, ItemID: second.ItemID, Probability: 1} // always b
			if second.ItemID == "a" {
				target.Probability = 0
			}
			for _, row := range []dataset.ExampleRow{first, second} {
				if err := rows.Write(&row); err != nil {
					t.Fatal(err)
				}
			}
			if err := targets.Write(&target); err != nil {
				t.Fatal(err)
			}
		}
		other := dataset.ExampleRow{ExampleID: "fixed", UserID: "u1", Surface: "video", ItemID: "known"}
		if err := rows.Write(&other); err != nil {
			t.Fatal(err)
		}
		if err := rows.Close(); err != nil {
			t.Fatal(err)
		}
		if err := targets.Close(); err != nil {
			t.Fatal(err)
		}
		got, err := offPolicy(DefaultConfig(), &offPolicyOptions{examples: path, policy: policy, rewards: []string{"view=1", "purchase=0.5"}})
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Surfaces) != 1 || got.Surfaces[0].Surface != "home" || got.Surfaces[0].Decisions != 4000 || got.NotKnown != 1 || got.Drawn == nil || got.Drawn.Decisions != 4000 {
			t.Fatalf("%s: %+v", name, got)
		}
		drawn := 0.5 * (0.9*0.1 + 0.1*0.5) // what the second place earns
		for k, want := range []float64{0.2 + drawn, 0.3 + drawn} {
			v := got.Surfaces[0].Policies[k]
			if v.SNIPSCI[0] > want || v.SNIPSCI[1] < want || v.SNIPSCI[1]-v.SNIPSCI[0] > 0.15 {
				t.Errorf("%s: %s earns %.3f %v, in truth %.3f", name, v.Policy, v.SNIPS, v.SNIPSCI, want)
			}
		}
		if v := got.Drawn.Policies[0]; math.Abs(v.SNIPS-0.25) > 0.05 || math.Abs(v.MeanWeight-1) > 0.2 {
			t.Errorf("%s: always b earns %.3f with mean weight %.2f, in truth 0.25", name, v.SNIPS, v.MeanWeight)
		}
	}
}
