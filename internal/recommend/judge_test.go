package recommend

import (
	"fmt"
	"slices"
	"testing"

	"freshet"
)

// judged is an Observer that keeps the ranks.
type judged struct {
	counts
	ranks []int
}

func (j *judged) Judged(rank int) { j.ranks = append(j.ranks, rank) }

// What the user does next is judged by the list that stood, whether his profile was held here or read again, and only once.
func TestBehavioursAreJudgedByTheListThatStood(t *testing.T) {
	for _, hot := range []bool{true, false} {
		f := newFixture(t, func(c *Config) {
			if !hot {
				c.HotFor = 0
			}
		})
		seen := &judged{}
		f.Engine.obs, f.Engine.judge = seen, seen
		list := func(lists []freshet.Publication) []freshet.RecommendedItem { return decode(t, lists[0].Record).Items }
		first := list(f.handle(t, event("u", 0, "x")))
		if len(seen.ranks) > 0 {
			t.Fatalf("judged %v without a list", seen.ranks)
		}
		next := event("u", 1, first[1].ItemID)
		second := list(f.handle(t, next))
		f.handle(t, next) // a redelivery
		dislike := event("u", 2, second[0].ItemID)
		dislike.Type = "dislike"
		third := list(f.handle(t, dislike))
		f.handle(t, event("u", 3, "nowhere"), event("u", 4, third[2].ItemID))
		if want := []int{2, 0, 3}; !slices.Equal(seen.ranks, want) {
			t.Errorf("hot %v: ranks %v, want %v", hot, seen.ranks, want)
		}
	}
}

func TestARecordsItemsAreReadBack(t *testing.T) {
	r := freshet.Recommendation{UserID: `{"item_id":"no`}
	var want []string
	for i, id := range []string{"plain", `quo"te`, `back\slash`, "snow\u2603", "{\"item_id\":\"x", "\x01"} {
		r.Items = append(r.Items, freshet.RecommendedItem{ItemID: id, Score: 1 / float64(i+1), Reasons: []freshet.Reason{{Source: "s", Share: 1, Because: fmt.Sprintf("{%q:1", id)}}})
		want = append(want, id)
	}
	if got := listedIn(r.AppendJSON(nil)); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := listedIn(nil); got != nil {
		t.Errorf("got %q of nothing", got)
	}
}
