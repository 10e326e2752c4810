package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"freshet"
	rules "freshet/internal/lane"
)

// withLane adds a lane to a worker whose users have done something, and waits until it has caught up.
func (s *served) withLane(t *testing.T, name string, users int) {
	t.Helper()
	var behaviours []string
	for i := range 4 * users {
		behaviours = append(behaviours, fmt.Sprintf("u%d view o%04d", i%users, 1+i*7%400))
	}
	s.happen(t, behaviours...)
	o, _ := s.operator()
	if err := o.add(t.Context(), newLane{name: name}); err != nil {
		t.Fatal(err)
	}
	s.await(t, "the new lane has caught up", func() bool { return s.table(t).Lanes[name].Caught })
}

// What the bench reports of a promotion is what happened. How long anything took is not looked at here: the machine is busy with tests.
func TestAPromotionUnderLoadIsNotNoticed(t *testing.T) {
	s := serveEmbedded(t, nil)
	s.withLane(t, "v2", 20)
	o, out := s.operator()
	b := promoteBench{lane: "v2", reads: 400, rate: 50, rest: promoteWindowLength}
	err := b.run(t.Context(), o)
	var r promoteResult
	if bad := json.Unmarshal(out.Bytes(), &r); bad != nil {
		t.Fatalf("%v, %v: %s", err, bad, out)
	}
	if r.Users != 20 || r.Idle != 10 || r.Missing != 0 || r.Most != [2]int{1, 1} || r.Changed != [2]int{20, 20} || r.Back != 0 || r.IdleBehind != [2]int{} {
		t.Errorf("%+v", r)
	}
	if err != nil {
		for _, broken := range r.Broken {
			if !strings.HasPrefix(broken, "p99 of reading") && !strings.HasPrefix(broken, "the load was not held") {
				t.Error(err)
			}
		}
	}
	if live := s.table(t).Live; live != freshet.LiveLane {
		t.Errorf("after the roll-back lane %s is live", live)
	}
}

func TestWhatABenchOfAPromotionSees(t *testing.T) {
	list := func(lane string, cv uint64, items ...freshet.RecommendedItem) []byte {
		r := freshet.Recommendation{V: 1, CV: cv, Lane: lane, Items: items}
		return r.AppendJSON(nil)
	}
	item := freshet.RecommendedItem{ItemID: "a"}
	var s promoteSeen
	for i, read := range []struct {
		record []byte
		phase  int
		whole  bool
	}{{list("live", 1, item), phaseBefore, true}, {nil, phasePromote, false}, {list("v2", 2), phasePromote, false}, {list("v2", 2, item)[:40], phasePromote, false},
		{list("v2", 2, item), phasePromote, true}, {list("live", 1, item), phaseBetween, true}, {list("v2", 2, item), phaseBetween, true},
		{list("live", 3, item), phaseRollBack, true}, {list("live", 3, item), phaseAfter, true}} {
		if got := s.take(read.record, read.phase); got != read.whole {
			t.Errorf("read %d: whole %v, want %v", i, got, read.whole)
		}
	}
	if s.changes != [2]int{3, 1} || s.back != 1 {
		t.Errorf("%+v", s)
	}
}

// Users who look at their lists: impressions are joined after a promotion, too, and every lane is judged by its own users.
func TestVisitsJudgeEachLaneByItsOwnUsers(t *testing.T) {
	s := serveEmbedded(t, func(c *Config) { c.Feedback.Window, c.Feedback.Grace = Duration(time.Minute), Duration(time.Second) })
	s.withLane(t, "v2", 30)
	o, _ := s.operator()
	for _, step := range []func(tab *freshet.LaneTable) error{
		func(tab *freshet.LaneTable) error { return rules.Promote(tab, "v2", false) },
		func(tab *freshet.LaneTable) error { return rules.SetShare(tab, "live", .4, false) },
	} {
		if err := o.handOver(t.Context(), "v2", step); err != nil {
			t.Fatal(err)
		}
	}
	var lines []string
	for i := range 120 {
		at := time.Date(2026, 1, 2, 0, 0, i, 0, time.UTC).Format(time.RFC3339)
		lines = append(lines, fmt.Sprintf(`{"event_id":"v%d","type":"view","user_id":"u%d","item_id":"o%04d","timestamp":%q}`, i, i%30, 1+i*11%400, at))
	}
	file := filepath.Join(t.TempDir(), "visits.jsonl")
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	v := visits{rate: 200, look: 5}
	if err := v.run(t.Context(), o, file); err != nil {
		t.Fatal(err)
	}
	if v.shown != 120 {
		t.Errorf("%d of 120 visits had a list", v.shown)
	}
	owned := map[string]float64{}
	table := s.table(t)
	for i := range 120 {
		owned[table.OwnerOf(fmt.Sprintf("u%d", i%30)).Lane]++
	}
	if owned["live"] == 0 || owned["v2"] == 0 {
		t.Fatalf("%v", owned)
	}
	var d *armDiff
	t.Cleanup(func() {
		if t.Failed() && d != nil {
			t.Logf("owned %v, judged %+v", owned, d)
		}
	})
	s.await(t, "both lanes are judged by what their own users did and were shown", func() bool {
		var err error
		if d, err = o.accuracy(t.Context(), "live", "v2"); err != nil {
			t.Fatal(err)
		}
		// What a user does first in a lane that took his profile over may find no list at hand to be judged by.
		all := func(r rules.Ratio, lane string) bool {
			return r.Of <= owned[lane] && r.Of >= owned[lane]-30 && r.Of > 0
		}
		return d != nil && all(d.A.HitRatio, "live") && all(d.B.HitRatio, "v2") && d.A.ClickRatio.Of > 0 && d.B.ClickRatio.Of > 0
	})
	if d.Period != rules.Period(&table) {
		t.Errorf("since %d, the users have had their lanes since %d", d.Period, rules.Period(&table))
	}
}
