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
	users []string
	ranks []int
}

func (j *judged) Judged(user string, rank int) {
	j.users, j.ranks = append(j.users, user), append(j.ranks, rank)
}

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

// A lane is judged by what its own users do: those of another lane see that one's lists.
func TestOnlyTheOwnersListIsJudged(t *testing.T) {
	table := &freshet.LaneTable{Version: 2, Live: "live", Lanes: map[string]freshet.Lane{"live": {}, "b": {}},
		Owners: []freshet.LaneOwner{{Slots: freshet.LaneSlots, Lane: "b", CV: 2}}}
	f := newFixture(t, func(c *Config) { c.Table = func() *freshet.LaneTable { return table } })
	seen := &judged{}
	f.Engine.obs, f.Engine.judge = seen, seen
	f.handle(t, event("u", 0, "x"))
	f.handle(t, event("u", 1, "y"))
	if len(seen.ranks) > 0 {
		t.Fatalf("a user of lane b was judged by live's list: %v", seen.ranks)
	}
	table.Owners[0].Lane = "live"
	f.handle(t, event("u", 2, "z"))
	if len(seen.ranks) != 1 || seen.users[0] != "u" {
		t.Errorf("%v of %v", seen.ranks, seen.users)
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
