package lane

import (
	"math"

	"freshet"
)

// Groups is among how many groups the users of an arm are spread. What one user does next resembles what he did before, so behaviours
// are no independent draws, but groups of users are nearly so: how far they differ tells how far the whole can be trusted.
const Groups = 40

// Group is the group of a user; no relation to the slot that says whose he is.
func Group(user string) int { return freshet.LaneSlot(user+"\x00arm") % Groups }

// Measure names something that is counted of an arm.
type Measure uint8

// The measures.
const (
	Judged  Measure = iota // behaviours that were looked up in the list that stood
	Hits                   // of them, those among the first 10
	Gain                   // sum of 1/log2(rank+1) of those
	Shown                  // items that came before a user's eyes
	Clicked                // of them, those that he then did something with
	measures
)

// Measures are all of them with their names in the store.
var Measures = [measures]string{"judged", "hits", "gain", "shown", "clicked"}

// HitsAt is how deep a list is looked into.
const HitsAt = 10

// Tally adds up what the users of one arm did, group by group. The zero value is empty.
type Tally [Groups][measures]float64

// Judge adds the rank of an item that a user took next in the list that stood; 0 = it was not there.
func (t *Tally) Judge(user string, rank int) {
	g := &t[Group(user)]
	g[Judged]++
	if rank > 0 && rank <= HitsAt {
		g[Hits]++
		g[Gain] += 1 / math.Log2(float64(rank)+1)
	}
}

// Add counts something of a user.
func (t *Tally) Add(user string, m Measure, n float64) { t[Group(user)][m] += n }

// Sum is a measure over all groups.
func (t *Tally) Sum(m Measure) (sum float64) {
	for g := range t {
		sum += t[g][m]
	}
	return sum
}

// Ratio is an estimate with its 95 % confidence interval.
type Ratio struct {
	Value float64 `json:"value"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
	Of    float64 `json:"of"` // how many it is a ratio of; 0 = nothing was seen
}

// Apart tells whether two intervals do not overlap.
func (r Ratio) Apart(o Ratio) bool { return r.Of > 0 && o.Of > 0 && (r.Low > o.High || o.Low > r.High) }

// leastGroups is among how many groups something must have been seen before an interval says anything.
const leastGroups = 5

// Ratio estimates what share of one measure another is. The interval is that of the jackknife that leaves out one group after the
// other (Efron and Stein, Annals of Statistics 9, 1981), with Student's t; of less than five groups it is all there is: 0 to 1.
func (t *Tally) Ratio(of, by Measure) Ratio {
	a, b := t.Sum(of), t.Sum(by)
	if b == 0 {
		return Ratio{High: 1}
	}
	var without []float64
	for g := range t {
		if t[g][by] > 0 && b > t[g][by] {
			without = append(without, (a-t[g][of])/(b-t[g][by]))
		}
	}
	r := Ratio{Value: a / b, High: 1, Of: b}
	n := float64(len(without))
	if n < leastGroups {
		return r
	}
	mean, square := 0.0, 0.0
	for _, v := range without {
		mean += v / n
	}
	for _, v := range without {
		square += (v - mean) * (v - mean)
	}
	half := student(len(without)-1) * math.Sqrt(square*(n-1)/n)
	r.Low, r.High = math.Max(0, r.Value-half), math.Min(1, r.Value+half)
	return r
}

// student is the 97.5 % point of Student's t, by the Cornish-Fisher expansion (Abramowitz and Stegun 26.7.5); within 1 % from 4 degrees of
// freedom on.
func student(freedom int) float64 {
	const z = 1.959964
	n := float64(freedom)
	z3, z5, z7 := z*z*z, math.Pow(z, 5), math.Pow(z, 7)
	return z + (z3+z)/(4*n) + (5*z5+16*z3+3*z)/(96*n*n) + (3*z7+19*z5+17*z3-15*z)/(384*n*n*n)
}

// Accuracy is how well an arm did in one period.
type Accuracy struct {
	HitRatio   Ratio `json:"hit_ratio_10"`
	NDCG       Ratio `json:"ndcg_10"`
	ClickRatio Ratio `json:"click_through"`
}

// Accuracy sums a tally up.
func (t *Tally) Accuracy() Accuracy {
	return Accuracy{HitRatio: t.Ratio(Hits, Judged), NDCG: t.Ratio(Gain, Judged), ClickRatio: t.Ratio(Clicked, Shown)}
}

// Period names the time since users last changed lanes. Arms are compared within one: then they saw the same days, and each user had one
// lane. It is the highest version at which a run of slots came to its owner.
func Period(t *freshet.LaneTable) (version uint64) {
	for _, o := range t.Owners {
		version = max(version, o.CV)
	}
	return max(version, t.Lanes[t.Live].CV, 1)
}
