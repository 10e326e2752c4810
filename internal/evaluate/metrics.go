package evaluate

import (
	"math"
	"math/rand/v2"
	"slices"
)

// Outcome is the rank of one true item, with the user it belongs to.
type Outcome struct {
	User int32
	Rank int32 // 1 = first; 0 = not in the list
}

// Interval is the 95 % confidence interval of a figure, [low, high].
type Interval [2]float64

// Metrics are means over outcomes, with their intervals. With one relevant item, HR@k is the share of ranks <= k and NDCG@k the
// mean of 1/log2(rank+1) over ranks <= k; MRR is the mean of 1/rank. Ranks below the end of a list add nothing.
type Metrics struct {
	HR10     float64  `json:"hr10"`
	HR10CI   Interval `json:"hr10_ci"`
	NDCG10   float64  `json:"ndcg10"`
	NDCG10CI Interval `json:"ndcg10_ci"`
	MRR      float64  `json:"mrr"`
	MRRCI    Interval `json:"mrr_ci"`
	HR50     float64  `json:"hr50"`
	HR50CI   Interval `json:"hr50_ci"`
}

// Bootstrap says how intervals are made: users are drawn with replacement, since events of one user are not independent.
type Bootstrap struct {
	Samples int    // default 1000; 0 through Measure = no intervals
	Seed    uint64 // of the draws; default 1
}

// DefaultBootstrap draws 1,000 times.
func DefaultBootstrap() Bootstrap { return Bootstrap{Samples: 1000, Seed: 1} }

const figures = 4 // hr10, ndcg10, mrr, hr50

// tally is the sum of the figures over some outcomes.
type tally struct {
	n   float64
	sum [figures]float64
}

func (t *tally) add(rank int32) {
	t.n++
	if rank < 1 {
		return
	}
	if rank <= 10 {
		t.sum[0]++
		t.sum[1] += 1 / math.Log2(float64(rank)+1)
	}
	t.sum[2] += 1 / float64(rank)
	if rank <= 50 {
		t.sum[3]++
	}
}

func (t *tally) merge(o *tally) {
	t.n += o.n
	for f := range t.sum {
		t.sum[f] += o.sum[f]
	}
}

// byUser sums outcomes per user, users in the order of their first outcome.
func byUser(outcomes []Outcome) []tally {
	place := map[int32]int{}
	var users []tally
	for _, o := range outcomes {
		at, ok := place[o.User]
		if !ok {
			at = len(users)
			place[o.User] = at
			users = append(users, tally{})
		}
		users[at].add(o.Rank)
	}
	return users
}

// Measure computes the metrics of outcomes. No outcomes, all zero.
func Measure(outcomes []Outcome, b Bootstrap) Metrics {
	users := byUser(outcomes)
	var all tally
	for i := range users {
		all.merge(&users[i])
	}
	var m Metrics
	if all.n == 0 {
		return m
	}
	var draws [figures][]float64
	random := rand.New(rand.NewPCG(b.Seed, 0))
	for range b.Samples {
		var t tally
		for range users {
			t.merge(&users[random.IntN(len(users))])
		}
		for f := range draws {
			draws[f] = append(draws[f], t.sum[f]/t.n)
		}
	}
	for f, to := range m.fields() {
		*to.mean = all.sum[f] / all.n
		*to.ci = interval(draws[f], *to.mean)
	}
	return m
}

type field struct {
	mean *float64
	ci   *Interval
}

func (m *Metrics) fields() [figures]field {
	return [figures]field{{&m.HR10, &m.HR10CI}, {&m.NDCG10, &m.NDCG10CI}, {&m.MRR, &m.MRRCI}, {&m.HR50, &m.HR50CI}}
}

// interval cuts 2.5 % off either end of the draws.
func interval(draws []float64, mean float64) Interval {
	if len(draws) == 0 {
		return Interval{mean, mean}
	}
	slices.Sort(draws)
	last := float64(len(draws) - 1)
	return Interval{draws[int(math.Floor(0.025*last))], draws[int(math.Ceil(0.975*last))]}
}

// Difference is the mean of a minus the mean of b in HR@10 and NDCG@10 with paired intervals: outcome i of both is about the
// same event, so the draws share their users and what is hard for both cancels out.
type Difference struct {
	HR10     float64  `json:"hr10"`
	HR10CI   Interval `json:"hr10_ci"`
	NDCG10   float64  `json:"ndcg10"`
	NDCG10CI Interval `json:"ndcg10_ci"`
}

// Compare gives the paired difference of two rows over the same events.
func Compare(a, b []Outcome, boot Bootstrap) Difference {
	left, right := byUser(a), byUser(b)
	var l, r tally
	for i := range left {
		l.merge(&left[i])
		r.merge(&right[i])
	}
	if l.n == 0 {
		return Difference{}
	}
	var hr, ndcg []float64
	random := rand.New(rand.NewPCG(boot.Seed, 0))
	for range boot.Samples {
		var x, y tally
		for range left {
			i := random.IntN(len(left))
			x.merge(&left[i])
			y.merge(&right[i])
		}
		hr = append(hr, (x.sum[0]-y.sum[0])/x.n)
		ndcg = append(ndcg, (x.sum[1]-y.sum[1])/x.n)
	}
	d := Difference{HR10: (l.sum[0] - r.sum[0]) / l.n, NDCG10: (l.sum[1] - r.sum[1]) / l.n}
	d.HR10CI, d.NDCG10CI = interval(hr, d.HR10), interval(ndcg, d.NDCG10)
	return d
}
