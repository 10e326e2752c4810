package featurestore_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/alicebob/miniredis/v2"

	"freshet"
	"freshet/featurestore"
)

func TestEachItemHandsOverTheWholeCatalogueAndNothingElse(t *testing.T) {
	addr := miniredis.RunT(t).Addr()
	r := open(t, featurestore.Config{Addrs: []string{addr}, Prefix: "a.b"})
	other := open(t, featurestore.Config{Addrs: []string{addr}, Prefix: "axb"}) // a dot in a pattern must mean a dot
	var want []string
	for n := range 3000 {
		want = append(want, fmt.Sprintf("{i} %04d", n))
	}
	put := make([]freshet.Item, len(want))
	for i, id := range want {
		put[i] = freshet.Item{ItemID: id, Title: "Tea"}
	}
	if err := r.PutItems(t.Context(), put); err != nil {
		t.Fatal(err)
	}
	if err := other.PutItems(t.Context(), []freshet.Item{{ItemID: "other's"}}); err != nil {
		t.Fatal(err)
	}
	if err := r.PutVectors(t.Context(), []featurestore.ItemVector{{ItemID: "v", Vector: []float32{1}}}); err != nil {
		t.Fatal(err)
	}
	var got []string
	err := r.EachItem(t.Context(), func(items []*freshet.Item) error {
		for _, item := range items {
			got = append(got, item.ItemID)
		}
		return nil
	})
	if slices.Sort(got); err != nil || !slices.Equal(slices.Compact(got), want) {
		t.Fatalf("%v: %d items, want %d", err, len(got), len(want))
	}
}
