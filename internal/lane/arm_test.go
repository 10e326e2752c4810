package lane

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"freshet"
)

func TestStudent(t *testing.T) {
	for freedom, want := range map[int]float64{4: 2.776, 9: 2.262, 39: 2.023, 1000: 1.962} { // Abramowitz and Stegun, table 26.10
		if got := student(freedom); math.Abs(got-want) > .01*want {
			t.Errorf("%d degrees of freedom: %.3f, want %.3f", freedom, got, want)
		}
	}
}

// Users differ, and what one does is no independent draw: the interval must hold the truth all the same, about 95 times in 100.
func TestTheIntervalHoldsTheTruth(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 9))
	const runs, truth = 400, .2
	held, width := 0, 0.0
	for run := range runs {
		var tally Tally
		for u := range 300 {
			user := fmt.Sprintf("%d-%d", run, u)
			his := truth * 2 * r.Float64() // uniform around the truth
			for range 1 + r.IntN(30) {
				rank := 0
				if r.Float64() < his {
					rank = 1 + r.IntN(HitsAt)
				}
				tally.Judge(user, rank)
			}
		}
		a := tally.Accuracy().HitRatio
		if a.Low <= truth && truth <= a.High {
			held++
		}
		width += (a.High - a.Low) / runs
	}
	if share := float64(held) / runs; share < .91 || share > .985 || width > .05 {
		t.Errorf("held %.3f of the time, %.4f wide on average", share, width)
	}
}

func TestATallyOfNothingSaysNothing(t *testing.T) {
	var none, few Tally
	if a := none.Accuracy().HitRatio; a.Of != 0 || a.Low != 0 || a.High != 1 || a.Apart(a) {
		t.Errorf("%+v", a)
	}
	few.Judge("a", 1)
	if a := few.Accuracy().HitRatio; a.Value != 1 || a.Low != 0 || a.High != 1 || a.Of != 1 {
		t.Errorf("%+v", a)
	}
	few.Add("a", Shown, 10)
	few.Add("b", Clicked, 1)
	if a := few.Accuracy().ClickRatio; a.Value != .1 || a.Of != 10 {
		t.Errorf("%+v", a)
	}
	if !(Ratio{Low: .1, High: .2, Of: 1}).Apart(Ratio{Low: .3, High: .4, Of: 1}) || (Ratio{Low: .1, High: .3, Of: 1}).Apart(Ratio{Low: .3, High: .4, Of: 1}) {
		t.Error("intervals that do not touch are apart, others are not")
	}
}

func TestAPeriodBeginsWhenUsersChangeLanes(t *testing.T) {
	tab := table()
	before := Period(tab)
	add(t, tab, "b")
	if Period(tab) != before {
		t.Errorf("adding a lane moves nobody, yet period %d follows %d", Period(tab), before)
	}
	change(t, tab, func(t *freshet.LaneTable) error { return SetShare(t, "b", .2, false) })
	if Period(tab) != tab.Version {
		t.Errorf("period %d, users moved at %d", Period(tab), tab.Version)
	}
}
