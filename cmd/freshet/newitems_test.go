package main

import (
	"encoding/json"
	"math"
	"slices"
	"testing"
	"time"

	"freshet"
	"freshet/internal/candidate"
	"freshet/internal/shop"
)

// A new item gets the last place of lists that explore; who took it is known to every worker of the lane, also to one that starts later.
func TestNewItemsGetTheirPlacesAndWorkersShareWhoTookThem(t *testing.T) {
	s := serveEmbedded(t, func(c *Config) { c.Surfaces[0].K, c.Surfaces[0].Explore = 5, 1 }, "o0")
	s.happen(t, "u1 view o0001")
	all := shop.New(7, shop.Config{Shoppers: 1, Start: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}).Items()
	at := slices.IndexFunc(all, func(i freshet.Item) bool {
		return !slices.ContainsFunc(s.items, func(x freshet.Item) bool { return x.ItemID == i.ItemID })
	})
	item, now := all[at], time.Now()
	item.PublishedAt, item.Available = &now, nil
	s.publishItems(t, item)
	s.happen(t, "u1 view o0025", "u2 view "+item.ItemID, "u2 view "+item.ItemID, "u3 view "+item.ItemID, "u4 view o0004")
	raw, list := s.listOf(t, "u4")
	var r freshet.Recommendation
	if err := json.Unmarshal(raw, &r); err != nil {
		t.Fatal(err)
	}
	if last := r.Items[len(r.Items)-1]; len(list) != 5 || last.ItemID != item.ItemID || last.Reasons[0].Source != "new" || last.Propensity != 1 {
		t.Errorf("the list is %s, want %s in its last place", raw, item.ItemID)
	}
	worth := func(source *candidate.New) float64 { // of the item to a user of whom nothing is known
		out := make([]float32, 1)
		if err := source.Score(t.Context(), &freshet.Subject{Profile: &freshet.Profile{}}, []freshet.Ref{{ItemID: item.ItemID}}, out); err != nil {
			t.Fatal(err)
		}
		return float64(out[0])
	}
	want := math.Log(2.3) // two users, and what is taken for granted
	l := s.first()
	if got := worth(l.sources.fresh); math.Abs(got-want) > 1e-3 {
		t.Errorf("the item is worth %v, want %v: two users took it", got, want)
	}
	other := newSources(s.cfg, l.bundle, l.index, time.Now)
	(&lane{cfg: l.cfg, w: l.w, sources: other}).meetNew()
	s.await(t, "another worker knows of both users", func() bool {
		if err := other.fresh.Sync(t.Context(), l.store); err != nil {
			t.Fatal(err)
		}
		return math.Abs(worth(other.fresh)-want) < 1e-3
	})
}
