package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"freshet"
)

// Every preset is tried on a stream of its own types: all of them are taken, every user gets every list, and no list breaks its rules.
func TestPresetsServeAStream(t *testing.T) {
	files, err := filepath.Glob("../../deployments/presets/*.yaml")
	if err != nil || len(files) != 5 {
		t.Fatalf("%v: %v", files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			preset, err := loadConfig(file, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			s := serveEmbedded(t, func(c *Config) {
				c.Events, c.Surfaces, c.Profile, c.Feedback, c.Redis.TTL, c.Model.State = preset.Events, preset.Surfaces, preset.Profile, preset.Feedback, preset.Redis.TTL, preset.Model.State
			}, "o0", "b12")
			random := rand.New(rand.NewPCG(1, 1))
			var behaviours []string
			done := map[string][]string{} // user -> "type item"
			for i := range 120 {
				user := fmt.Sprintf("u%d", i%4)
				kinds := slices.DeleteFunc(slices.Clone(preset.Events.Types), func(b TypeBlock) bool { return b.Effect == "erase" || b.Effect == "login" })
				kind, item := kinds[i/4%len(kinds)].Name, s.items[random.IntN(60)].ItemID
				behaviours = append(behaviours, user+" "+kind+" "+item)
				done[user] = append(done[user], kind+" "+item)
			}
			s.happen(t, behaviours...)
			for user := range done {
				checkLists(t, s, &preset, user)
			}
			for _, p := range s.first().consumer.Status() {
				if p.Applied != int64(len(behaviours)) {
					t.Errorf("%d of %d events were worked off", p.Applied, len(behaviours))
				}
			}
			if last := s.lastOnTopic(t); len(last) != len(done)*len(preset.Surfaces) {
				t.Errorf("%d lists on the topic, want %d", len(last), len(done)*len(preset.Surfaces))
			}
		})
	}
}

func checkLists(t *testing.T, s *served, preset *Config, user string) {
	t.Helper()
	stored, err := s.first().store.Load(t.Context(), []string{user})
	if err != nil {
		t.Fatal(err)
	}
	p, err := freshet.DecodeProfile(user, stored[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, surface := range preset.Surfaces {
		records, err := s.first().store.Records(t.Context(), []freshet.RecordKey{{UserID: user, Surface: surface.Name}})
		if err != nil {
			t.Fatal(err)
		}
		var r freshet.Recommendation
		if err := json.Unmarshal(records[0], &r); err != nil {
			t.Fatalf("surface %s: %v: %s", surface.Name, err, records[0])
		}
		if len(r.Items) != surface.K {
			t.Errorf("surface %s has %d items, want %d", surface.Name, len(r.Items), surface.K)
		}
		hidden := map[string]bool{}
		if slices.Contains(surface.Exclude, "dismissed") {
			for _, d := range p.Dismissed {
				hidden[d.ItemID] = true
			}
		}
		if slices.Contains(surface.Exclude, "purchased") {
			for _, d := range p.Owned {
				hidden[d.ItemID] = true
			}
		}
		if slices.Contains(surface.Exclude, "seen") {
			for _, e := range p.Window {
				hidden[e.ItemID] = true
			}
		}
		if len(p.Dismissed) == 0 {
			t.Errorf("user %s dismissed nothing: the stream tests too little", user)
		}
		for _, i := range r.Items {
			if hidden[i.ItemID] {
				t.Errorf("surface %s: %s is shown although %v are excluded", surface.Name, i.ItemID, surface.Exclude)
			}
		}
	}
}

// What `bench pipeline` is told to measure is the shop preset: its types, its lists and their rules. Only the weights of the home list differ,
// since a fusion needs two sources, and the number of partitions.
func TestBenchConfigIsTheShopPreset(t *testing.T) {
	shop, err := loadConfig("../../deployments/presets/shop.yaml", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for file, surfaces := range map[string]int{"config.yaml": 1, "basket.yaml": 2} {
		c, err := loadConfig("../../deployments/bench/"+file, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(c.Surfaces) != surfaces || len(c.Surfaces[0].Weights) < 2 {
			t.Fatalf("%s: %d surfaces, the first of %d sources", file, len(c.Surfaces), len(c.Surfaces[0].Weights))
		}
		want := shop
		want.Surfaces = slices.Clone(shop.Surfaces[:surfaces])
		want.Surfaces[0].Weights, want.Kafka.Partitions = c.Surfaces[0].Weights, c.Kafka.Partitions
		if !reflect.DeepEqual(c, want) {
			t.Errorf("%s:\n%+v\nwant\n%+v", file, c, want)
		}
	}
}
