package main

import (
	"bytes"
	"testing"

	"freshet/internal/chaos/expect"
)

const chain = "../testdata/chain"

func streamOf(t *testing.T, seed uint64, events int) *stream {
	t.Helper()
	p, err := newPlan(options{form: "short", seed: seed, events: events})
	if err != nil {
		t.Fatal(err)
	}
	s, err := newStream(p, chain)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestASeedRepeatsTheStreamAndTheFaults(t *testing.T) {
	a, b, other := streamOf(t, 1, 5000), streamOf(t, 1, 5000), streamOf(t, 2, 5000)
	different := 0
	for i := range 5000 {
		x, y, z := a.next(), b.next(), other.next()
		if !bytes.Equal(x.key, y.key) || !bytes.Equal(x.value, y.value) {
			t.Fatalf("message %d differs: %s, %s", i, x.value, y.value)
		}
		if !bytes.Equal(x.value, z.value) {
			different++
		}
	}
	if different < 4000 {
		t.Errorf("another seed gives the same stream: %d of 5000 messages differ", different)
	}
	p, _ := newPlan(options{form: "long", seed: 1})
	q, _ := newPlan(options{form: "long", seed: 1})
	for i := range p.steps {
		if p.steps[i] != q.steps[i] {
			t.Fatalf("fault %d differs: %v, %v", i, p.steps[i], q.steps[i])
		}
	}
}

// The stream is what the suite promises: the oracle, which reads it without knowing how it was made, finds as much.
func TestTheStreamIsAsBadAsPromised(t *testing.T) {
	const events = 40_000
	s := streamOf(t, 1, events)
	model, err := expect.OpenChain(chain)
	if err != nil {
		t.Fatal(err)
	}
	l := expect.NewLog(model)
	byUser := map[string]int{}
	for i := range events {
		m := s.next()
		byUser[string(m.key)]++
		l.Take(&expect.Record{Offset: int64(i), Time: beginning + 40*24*3600*1000, Key: m.key, Value: m.value})
	}
	x, err := l.Finish([]expect.Surface{{Name: "home", K: 10}})
	if err != nil {
		t.Fatal(err)
	}
	if len(x.Poison) != s.poison || s.poison < events/2000 {
		t.Errorf("the oracle found %d poison records, %d were planted", len(x.Poison), s.poison)
	}
	for _, share := range []struct {
		name     string
		got      int
		low, top float64
	}{
		{"duplicates", s.duplicates, 0.09, 0.11},
		{"late", s.late, 0.035, 0.06},
		{"the hot user", byUser["u0"], 0.28, 0.32},
		{"applied", x.Applied, 0.80, 0.92},
	} {
		if part := float64(share.got) / events; part < share.low || part > share.top {
			t.Errorf("%s: %.3f of the stream, want %.3f to %.3f", share.name, part, share.low, share.top)
		}
	}
	tombstones := 0
	for _, user := range s.erased {
		if x.Users[user].Tombstone {
			tombstones++
		}
	}
	if len(s.erased) < 4 || tombstones == 0 || tombstones == len(s.erased) {
		t.Errorf("%d users erased, %d of them stay away: want some of both kinds", len(s.erased), tombstones)
	}
}

// Users who move to an added partition must not lose data afterwards: see plan.arrange.
func TestNothingIsForgottenAfterPartitionsWereAdded(t *testing.T) {
	for seed := range uint64(20) {
		p, err := newPlan(options{form: "long", seed: seed})
		if err != nil {
			t.Fatal(err)
		}
		added, done := false, map[string]int{}
		for _, s := range p.steps {
			if added && classes[s.class].forgets {
				t.Fatalf("seed %d: %s after partitions were added", seed, s.class)
			}
			added = added || s.class == "partitions"
			done[s.class] += s.times
		}
		for class, n := range p.counts {
			if done[class] != n {
				t.Errorf("seed %d: %d times %s, want %d", seed, done[class], class, n)
			}
		}
	}
}
