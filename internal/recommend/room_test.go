package recommend

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"freshet"
)

// What a room hands out in one batch is nobody else's, whatever the sizes, and comes back clean in the next.
func TestARoomHandsOutNothingTwice(t *testing.T) {
	r, random := new(room), rand.New(rand.NewPCG(9, 9))
	for batch := range 50 {
		type list struct {
			items   []freshet.RecommendedItem
			reasons []freshet.Reason
			id      string
		}
		var lists []list
		for i := range 1 + random.IntN(60) {
			l := list{id: fmt.Sprint(batch, " ", i)}
			l.items, l.reasons = r.list(random.IntN(40))
			for n := range l.items {
				if l.items[n].ItemID != "" || l.items[n].Reasons != nil {
					t.Fatalf("batch %d: an item of an earlier one: %+v", batch, l.items[n])
				}
				l.items[n].ItemID = l.id
				l.reasons = append(l.reasons, freshet.Reason{Source: l.id})
			}
			l.reasons = append(l.reasons, l.reasons...) // two an item
			lists = append(lists, l)
		}
		for _, l := range lists {
			for _, x := range l.items {
				if x.ItemID != l.id {
					t.Fatalf("list %s holds an item of list %s", l.id, x.ItemID)
				}
			}
			for _, x := range l.reasons {
				if x.Source != l.id {
					t.Fatalf("list %s holds a reason of list %s", l.id, x.Source)
				}
			}
		}
		r.empty()
	}
}
