package main

import (
	"encoding/json"
	"slices"
	"testing"

	"freshet"
)

// Users without a list are served one that keeps the surface's rules and that a withdrawn item leaves at the next refresh; nobody need do anything.
func TestTheDefaultListFollowsTheCatalogue(t *testing.T) {
	s := serveEmbedded(t, func(c *Config) {
		c.Surfaces = append(c.Surfaces, SurfaceBlock{Name: "books", K: 5, Weights: map[string]float64{"sequence": 1}, Filter: `item.id startsWith "b"`})
	})
	items := func(surface string) (ids []string) {
		b, err := s.first().store.Default(t.Context(), surface)
		if err != nil {
			t.Fatal(err)
		}
		var r freshet.Recommendation
		if b != nil && json.Unmarshal(b, &r) != nil {
			t.Fatalf("%s", b)
		}
		for _, it := range r.Items {
			ids = append(ids, it.ItemID)
		}
		return ids
	}
	s.happen(t, "u1 view o0001", "u2 view o0001", "u3 view o0001", "u1 view b1243", "u2 view b1243", "u1 view o0025", "u1 view b1238")
	s.await(t, "the default lists are made", func() bool { return len(items("home")) == 4 && len(items("books")) == 2 })
	if home, books := items("home"), items("books"); home[0] != "o0001" || books[0] != "b1243" || slices.ContainsFunc(books, func(id string) bool { return id[0] != 'b' }) {
		t.Fatalf("home %v, books %v", home, books)
	}
	no, gone := false, s.items[slices.IndexFunc(s.items, func(i freshet.Item) bool { return i.ItemID == "b1243" })]
	gone.Available = &no
	s.publishItems(t, gone)
	s.await(t, "the withdrawn item has left them", func() bool {
		return !slices.Contains(items("home"), "b1243") && !slices.Contains(items("books"), "b1243")
	})
	if home, books := items("home"), items("books"); len(home) != 3 || len(books) != 1 {
		t.Fatalf("home %v, books %v", home, books)
	}
}
