package evaluate

import (
	"math"
	"testing"
)

func TestMetricsOfKnownRanks(t *testing.T) {
	m := Measure([]Outcome{{0, 1}, {1, 3}, {2, 10}, {3, 11}, {4, 50}, {5, 51}, {6, 0}}, DefaultBootstrap())
	if !close4(m.HR10, 3.0/7) || !close4(m.HR50, 5.0/7) {
		t.Errorf("HR@10 %v, HR@50 %v", m.HR10, m.HR50)
	}
	if want := (1 + 0.5 + 1/math.Log2(11)) / 7; !close4(m.NDCG10, want) {
		t.Errorf("NDCG@10 %v, want %v", m.NDCG10, want)
	}
	if want := (1 + 1.0/3 + .1 + 1.0/11 + 1.0/50 + 1.0/51) / 7; !close4(m.MRR, want) {
		t.Errorf("MRR %v, want %v", m.MRR, want)
	}
	if (Measure(nil, DefaultBootstrap()) != Metrics{}) {
		t.Error("figures out of nothing")
	}
}

// A mean over 400 users with hit rate 1/4 has a standard error of about sqrt(.25*.75/400) = .0217.
func TestBootstrapOverUsers(t *testing.T) {
	var single, twice []Outcome
	for u := range int32(400) {
		rank := int32(100)
		if u%4 == 0 {
			rank = 1
		}
		single = append(single, Outcome{u, rank})
		twice = append(twice, Outcome{u, rank}, Outcome{u, rank})
	}
	a, b := Measure(single, DefaultBootstrap()), Measure(twice, DefaultBootstrap())
	width := a.HR10CI[1] - a.HR10CI[0]
	if width < 3.4*.0217 || width > 4.4*.0217 || a.HR10CI[0] > .25 || a.HR10CI[1] < .25 {
		t.Errorf("interval %v", a.HR10CI)
	}
	if a.HR10CI != b.HR10CI {
		t.Errorf("saying everything twice narrowed the interval: %v, %v", a.HR10CI, b.HR10CI)
	}
	if again := Measure(single, DefaultBootstrap()); again != a {
		t.Error("the same seed gave another interval")
	}
	if other := Measure(single, Bootstrap{Samples: 1000, Seed: 2}); other.HR10CI == a.HR10CI {
		t.Error("another seed gave the same interval")
	}
}

// Two rows that differ on the same few events of every user: the paired interval is far from zero although the rows' own overlap.
func TestCompareIsPaired(t *testing.T) {
	var a, b []Outcome
	for u := range int32(200) {
		for n := range int32(10) {
			hit := (u+n)%10 < u%7 // users differ much
			rank := map[bool]int32{true: 1, false: 99}[hit]
			a = append(a, Outcome{u, rank})
			if n == 0 && u%4 == 0 {
				rank = 99
			}
			b = append(b, Outcome{u, rank})
		}
	}
	d := Compare(a, b, DefaultBootstrap())
	own, other := Measure(a, DefaultBootstrap()), Measure(b, DefaultBootstrap())
	if own.HR10CI[0] > other.HR10CI[1] {
		t.Fatal("the rows are apart by themselves; the test shows nothing")
	}
	if !close4(d.HR10, own.HR10-other.HR10) || d.HR10CI[0] <= 0 {
		t.Errorf("difference %v %v", d.HR10, d.HR10CI)
	}
}
