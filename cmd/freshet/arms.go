package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"freshet"
	"freshet/featurestore"
	rules "freshet/internal/lane"
	"freshet/internal/telemetry"
)

// arms count how well each lane's lists did with the users that it owns. What is counted goes to the store once a second, where the
// counts of all workers come together by lane and period; what a worker counted and had not stored when it was killed is lost.
type arms struct {
	mu   sync.Mutex
	owed map[string]*rules.Tally // by lane
}

func newArms() *arms { return &arms{owed: map[string]*rules.Tally{}} }

func (a *arms) of(lane string) *rules.Tally {
	t := a.owed[lane]
	if t == nil {
		t = &rules.Tally{}
		a.owed[lane] = t
	}
	return t
}

func (a *arms) judge(lane, user string, rank int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.of(lane).Judge(user, rank)
}

// add counts one thing of a user. What a lane that is not known did is nobody's.
func (a *arms) add(lane, user string, m rules.Measure) {
	if lane == "" {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.of(lane).Add(user, m, 1)
}

// take gives what is owed to the store.
func (a *arms) take() map[string]*rules.Tally {
	a.mu.Lock()
	defer a.mu.Unlock()
	taken := a.owed
	a.owed = map[string]*rules.Tally{}
	return taken
}

// judging tells the engine's verdicts to the metrics and to the arms.
type judging struct {
	*telemetry.Metrics
	l *lane
}

// Judged implements recommend.Judge.
func (j judging) Judged(user string, rank int) {
	j.Metrics.Judged(user, rank)
	j.l.w.arms.judge(j.l.name, user, rank)
}

// shareArms stores once a second what was counted, and reports what the lanes that run here have come to, all workers together.
func (w *worker) shareArms(ctx context.Context) {
	freshet.Repeat(ctx, time.Second, nil, w.shareArmsOnce, func(err error) {
		if err != nil {
			w.log.Warn("how well lanes do cannot be stored; what is counted meanwhile is lost", zap.Error(err))
		} else {
			w.log.Info("how well lanes do is stored again")
		}
	})
}

func (w *worker) shareArmsOnce(ctx context.Context) error {
	table := w.table.Load()
	period := rules.Period(table)
	for lane, t := range w.arms.take() {
		if row, known := table.Lanes[lane]; !known || row.Dropping { // or of another deployment: its keys must not come back
			continue
		}
		if err := w.store.AddArm(ctx, lane, countsOf(t, period)); err != nil {
			return err
		}
	}
	for _, l := range w.running() {
		counts, err := w.store.Arm(ctx, l.name)
		if err != nil {
			return err
		}
		if err := w.store.ForgetArm(ctx, l.name, counts); err != nil {
			return err
		}
		w.report(l.name, tallyOf(counts, period).Accuracy())
	}
	return nil
}

func (w *worker) report(lane string, a rules.Accuracy) {
	for measure, r := range map[string]rules.Ratio{"hit_ratio_10": a.HitRatio, "ndcg_10": a.NDCG, "click_through": a.ClickRatio} {
		if r.Of == 0 {
			w.metrics.ArmGone(lane, measure)
			continue
		}
		w.metrics.Arm(lane, measure, r.Value, r.Low, r.High)
	}
}

func countsOf(t *rules.Tally, period uint64) (out []featurestore.ArmCount) {
	for g := range t {
		for m, name := range rules.Measures {
			if v := t[g][m]; v != 0 {
				out = append(out, featurestore.ArmCount{Period: period, Group: g, Measure: name, Value: v})
			}
		}
	}
	return out
}

// tallyOf is the other half of countsOf, for one period.
func tallyOf(counts []featurestore.ArmCount, period uint64) *rules.Tally {
	t := &rules.Tally{}
	for i := range counts {
		c := &counts[i]
		if m := slices.Index(rules.Measures[:], c.Measure); m >= 0 && c.Period == period && c.Group >= 0 && c.Group < rules.Groups {
			t[c.Group][m] = c.Value
		}
	}
	return t
}

// armDiff is how well two lanes did in the same period, each with its own users.
type armDiff struct {
	Period uint64         `json:"since_version"` // of the table: users have not changed lanes since
	A      rules.Accuracy `json:"a"`
	B      rules.Accuracy `json:"b"`
	Apart  []string       `json:"apart"` // measures whose intervals do not overlap
}

// accuracy reads what two lanes have come to: in the present period or, where one of them owns nobody now, in the last in which
// both did; nil = there is none.
func (o *operator) accuracy(ctx context.Context, a, b string) (*armDiff, error) {
	of := map[string][]featurestore.ArmCount{}
	periods := map[string]map[uint64]bool{}
	for _, lane := range []string{a, b} {
		counts, err := o.store.Arm(ctx, lane)
		if err != nil {
			return nil, err
		}
		of[lane], periods[lane] = counts, map[uint64]bool{}
		for i := range counts {
			periods[lane][counts[i].Period] = true
		}
	}
	d := &armDiff{Apart: []string{}}
	for p := range periods[a] {
		if periods[b][p] {
			d.Period = max(d.Period, p)
		}
	}
	if d.Period == 0 {
		return nil, nil
	}
	d.A, d.B = tallyOf(of[a], d.Period).Accuracy(), tallyOf(of[b], d.Period).Accuracy()
	for _, m := range d.measures() {
		if m.a.Apart(m.b) {
			d.Apart = append(d.Apart, m.name)
		}
	}
	return d, nil
}

type armMeasure struct {
	name string
	a, b rules.Ratio
}

func (d *armDiff) measures() []armMeasure {
	return []armMeasure{{"hit_ratio_10", d.A.HitRatio, d.B.HitRatio}, {"ndcg_10", d.A.NDCG, d.B.NDCG}, {"click_through", d.A.ClickRatio, d.B.ClickRatio}}
}

func (d *armDiff) print(o *operator, a, b string) {
	fmt.Fprintf(o.out, "with their own users, since the table's version %d (95 %% intervals):\n", d.Period)
	for _, m := range d.measures() {
		if m.a.Of == 0 && m.b.Of == 0 {
			continue
		}
		verdict := "the intervals overlap"
		if m.a.Apart(m.b) {
			verdict = "the intervals are apart"
		}
		fmt.Fprintf(o.out, "  %-14s %s %s   %s %s   %s\n", m.name, a, shownRatio(m.a), b, shownRatio(m.b), verdict)
	}
}

func shownRatio(r rules.Ratio) string {
	if r.Of == 0 {
		return "nothing seen"
	}
	return fmt.Sprintf("%.4f [%.4f, %.4f] of %.0f", r.Value, r.Low, r.High, r.Of)
}
