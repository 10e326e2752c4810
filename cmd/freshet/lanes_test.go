package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.uber.org/zap"

	"freshet"
	"freshet/featurestore"
	rules "freshet/internal/lane"
	"freshet/stream"
)

// operator gives what the verbs of lanes work with, on the servers of the test; their output goes to the buffer.
func (s *served) operator() (*operator, *bytes.Buffer) {
	out := &bytes.Buffer{}
	return &operator{cfg: s.cfg, log: zap.NewNop(), store: s.store, json: true, out: out, stores: map[string]*featurestore.Redis{}}, out
}

func (s *served) table(t *testing.T) freshet.LaneTable {
	t.Helper()
	table, err := s.store.Lanes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func (s *served) publicList(t *testing.T, user string) freshet.Recommendation {
	t.Helper()
	found, err := s.store.Records(t.Context(), []freshet.RecordKey{{UserID: user, Surface: freshet.HomeSurface, Place: freshet.PlacePublic}})
	if err != nil {
		t.Fatal(err)
	}
	var r freshet.Recommendation
	if found[0] == nil {
		t.Fatalf("user %s reads nothing", user)
	}
	if err := json.Unmarshal(found[0], &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func (s *served) compare(t *testing.T, a, b string) laneDiff {
	t.Helper()
	o, out := s.operator()
	d := &laneDiff{A: a, B: b, Surface: freshet.HomeSurface, K: 10, State: true}
	if err := o.diff(t.Context(), d, 3); err != nil {
		t.Fatal(err)
	}
	for _, store := range o.stores {
		_ = store.Close()
	}
	var got laneDiff
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return got
}

// A lane comes warm, is promoted, is rolled back and is dropped, and its users always read one whole list of one lane.
func TestALaneFromItsFirstDayToItsLast(t *testing.T) {
	s := serveEmbedded(t, nil)
	var behaviours []string
	for i := range 40 {
		behaviours = append(behaviours, fmt.Sprintf("u%d view o%04d", i%8, 1+i*7))
	}
	s.happen(t, behaviours...)
	o, _ := s.operator()
	if err := o.add(t.Context(), newLane{name: "v2"}); err != nil {
		t.Fatal(err)
	}
	s.await(t, "the new lane has caught up", func() bool { return s.table(t).Lanes["v2"].Caught })
	if d := s.compare(t, "live", "v2"); d.Users != 8 || d.Differs != 0 || d.WithLists != 8 || d.OverlapAt10 < .999 {
		t.Fatalf("after the warm start: %+v", d)
	}
	s.happen(t, "u1 view o0100", "u2 view o0200", "new view o0300") // somebody new, and somebody known, in both lanes
	s.await(t, "both lanes have the same", func() bool {
		d := s.compare(t, "live", "v2")
		return d.Users == 9 && d.Differs == 0 && d.WithLists == 9
	})

	promote := func(name string) {
		t.Helper()
		before := s.publicList(t, "u5")
		err := o.handOver(t.Context(), name, func(tab *freshet.LaneTable) error { return rules.Promote(tab, name, false) })
		if err != nil {
			t.Fatal(err)
		}
		cv := s.table(t).Lanes[name].CV
		for i := range 8 { // all of them did nothing
			r := s.publicList(t, fmt.Sprintf("u%d", i))
			if r.Lane != name || r.CV != cv || !strings.HasSuffix(r.RecID, fmt.Sprintf("-cv%d", cv)) {
				t.Fatalf("u%d reads lane %s, cv %d, %s after the promotion of %s at %d", i, r.Lane, r.CV, r.RecID, name, cv)
			}
		}
		if after := s.publicList(t, "u5"); after.CV <= before.CV || after.Rev != before.Rev || len(after.Items) != len(before.Items) {
			t.Errorf("before %+v, after %+v", before, after)
		}
		if table := s.table(t); table.Sweep != 0 || table.Live != name {
			t.Errorf("%+v", table)
		}
	}
	promote("v2")
	s.happen(t, "u3 view o0400")
	s.await(t, "the new owner writes u3's list", func() bool {
		r := s.publicList(t, "u3")
		return r.Lane == "v2" && r.Event.EventID == fmt.Sprintf("e%d", s.offsets)
	})
	s.await(t, "the former owner has gone on", func() bool { return s.compare(t, "live", "v2").Differs == 0 })
	promote("live")
	if err := o.drop(t.Context(), dropping{name: "v2", rate: 10_000}); err != nil {
		t.Fatal(err)
	}
	left, err := s.store.Namespaces(t.Context())
	if err != nil || left["v2"] != 0 || left["live"] == 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if table := s.table(t); len(table.Lanes) != 1 {
		t.Errorf("%+v", table.Lanes)
	}
	s.happen(t, "u4 view o0500")
	s.await(t, "life goes on", func() bool {
		r := s.publicList(t, "u4")
		return r.Lane == "live" && r.Event.EventID == fmt.Sprintf("e%d", s.offsets)
	})
}

// A lane that is rebuilt from the log comes to the same profiles and lists; a lane at work is not replayed into.
func TestARebuiltLaneIsTheSame(t *testing.T) {
	s := serveEmbedded(t, func(c *Config) { c.Surfaces[0].Fill = "" })
	var behaviours []string
	for i := range 60 {
		behaviours = append(behaviours, fmt.Sprintf("u%d view o%04d", i%6, 1+i*5))
	}
	s.happen(t, behaviours...)
	o, _ := s.operator()
	if err := o.replay(t.Context(), replayOptions{newLane: newLane{name: "again"}, from: "earliest", yes: true}); err != nil {
		t.Fatal(err)
	}
	if d := s.compare(t, "live", "again"); d.Users != 6 || d.Identical != 6 || d.ListsIdentical != 6 || d.OverlapAt10 < .999 {
		t.Fatalf("%+v", d)
	}
	for _, name := range []string{"again", "live"} {
		if err := o.replay(t.Context(), replayOptions{newLane: newLane{name: name}, from: "earliest", yes: true}); err == nil {
			t.Errorf("a replay into lane %s, which is at work, was taken", name)
		}
	}
	// Half the log: the lane begins where it was told to.
	if err := o.replay(t.Context(), replayOptions{newLane: newLane{name: "half"}, from: "offset=30", yes: true}); err != nil {
		t.Fatal(err)
	}
	d := s.compare(t, "live", "half")
	if d.Differs != 6 {
		t.Fatalf("%+v", d)
	}
	half, err := o.at(t.Context(), "half")
	if err != nil {
		t.Fatal(err)
	}
	defer half.Close()
	_, p, err := readProfile(t.Context(), half, "u0")
	if err != nil || p.Rev != 5 {
		t.Errorf("u0 in the half: %+v, %v", p, err)
	}
}

func TestADryRunDoesNothing(t *testing.T) {
	s := serveEmbedded(t, nil)
	s.happen(t, "u1 view o0001", "u2 view o0002")
	o, out := s.operator()
	if err := o.replay(t.Context(), replayOptions{newLane: newLane{name: "x"}, from: "offset=1"}); err != nil {
		t.Fatal(err)
	}
	var p plan
	if err := json.Unmarshal(out.Bytes(), &p); err != nil || !p.DryRun || p.Records != 1 || len(p.Partitions) != 1 || p.Partitions[0].From != 1 || !p.Stays {
		t.Errorf("%v: %s", err, out)
	}
	if table := s.table(t); len(table.Lanes) != 1 {
		t.Errorf("%+v", table.Lanes)
	}
	for _, bad := range []replayOptions{{from: "yesterday", newLane: newLane{name: "x"}}, {from: "earliest"}, {from: "earliest", newLane: newLane{name: "x"}, emit: true}} {
		if err := o.replay(t.Context(), bad); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}

// The lane that is promoted before it has caught up has to be asked for by force.
func TestPromotionWaitsForTheLane(t *testing.T) {
	s := serveEmbedded(t, nil)
	s.happen(t, "u1 view o0001")
	o, _ := s.operator()
	_, err := o.change(t.Context(), func(tab *freshet.LaneTable) error {
		return rules.Add(tab, freshet.Lane{Name: "slow", Seed: "live", Fingerprint: "0123", Bundle: "/nowhere"})
	})
	if err != nil {
		t.Fatal(err)
	}
	err = o.handOver(t.Context(), "slow", func(tab *freshet.LaneTable) error { return rules.Promote(tab, "slow", false) })
	if !errors.Is(err, rules.ErrNotCaughtUp) {
		t.Errorf("%v", err)
	}
	s.happen(t, "u1 view o0002") // a lane whose bundle cannot be opened does not stop the others
	if r := s.publicList(t, "u1"); r.Lane != "live" {
		t.Errorf("%+v", r)
	}
}

// A lane that is dropped in the background is cleared by the workers, keys, group and row.
func TestADroppedLaneIsClearedByTheWorkers(t *testing.T) {
	s := serveEmbedded(t, nil)
	s.withLane(t, "v2", 10)
	o, _ := s.operator()
	if err := o.drop(t.Context(), dropping{name: "none", rate: 1, background: true}); err == nil {
		t.Error("a lane that nobody knows was left to the workers")
	}
	if err := o.drop(t.Context(), dropping{name: "v2", rate: dropRate, background: true}); err != nil {
		t.Fatal(err)
	}
	s.await(t, "the workers have cleared it", func() bool { _, there := s.table(t).Lanes["v2"]; return !there })
	left, err := s.store.Namespaces(t.Context())
	if err != nil || left["v2"] != 0 || left["live"] == 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	conn, err := connection(s.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := stream.GroupMembers(t.Context(), conn, o.groupOf("v2")); err != nil || n != 0 {
		t.Errorf("%d members, %v", n, err)
	}
}
