package evaluate

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Report is the result of one evaluation, as --json prints it. The figures at the top are those of the model that was asked
// about; Rows holds everything that ran beside it.
type Report struct {
	Protocol string `json:"protocol"` // "leave-one-out" or "prequential"
	Model    string `json:"model"`
	Data     string `json:"data,omitempty"`
	Order    string `json:"order"` // of the events; ties in time make it part of the benchmark
	Users    int    `json:"users"`
	Items    int    `json:"items"` // candidates
	Events   int    `json:"events"`
	Scored   int    `json:"scored"`                  // items that were ranked
	Trained  int    `json:"trained,omitempty"`       // events revealed before scoring began
	Repeats  int    `json:"repeats,omitempty"`       // not ranked: the user had had the item and repeats are out
	Held     int    `json:"items_held,omitempty"`    // kept out of the training, to see what a new item gets
	Hidden   int    `json:"events_hidden,omitempty"` // of the training part, left out with them
	Metrics
	*WarmCold
	FusionWeight *float64     `json:"fusion_weight,omitempty"` // chosen on validation
	FusionTrials []Trial      `json:"fusion_trials,omitempty"`
	Rows         []RowReport  `json:"rows,omitempty"`
	Differences  []Comparison `json:"differences,omitempty"`
	Weights      []Weights    `json:"weights,omitempty"` // of the sources, where they adapt
	Seconds      float64      `json:"seconds,omitempty"` // wall time of the evaluation

	ranks *Ranks
}

// Ranks gives those of the first row.
func (r *Report) Ranks() *Ranks { return r.ranks }

// WarmCold are the figures of users of the training part and of all others apart.
type WarmCold struct {
	WarmEvents   int      `json:"events_warm"`
	HR10Warm     float64  `json:"hr10_warm"`
	HR10WarmCI   Interval `json:"hr10_warm_ci"`
	NDCG10Warm   float64  `json:"ndcg10_warm"`
	NDCG10WarmCI Interval `json:"ndcg10_warm_ci"`
	ColdEvents   int      `json:"events_cold"`
	HR10Cold     float64  `json:"hr10_cold"`
	HR10ColdCI   Interval `json:"hr10_cold_ci"`
	NDCG10Cold   float64  `json:"ndcg10_cold"`
	NDCG10ColdCI Interval `json:"ndcg10_cold_ci"`
}

// Weights are the weights of a fusion at one moment.
type Weights struct {
	When    string             `json:"when"`
	Sources map[string]float64 `json:"sources"`
}

// RowReport are the figures of one row.
type RowReport struct {
	Name     string  `json:"name"`
	Events   int     `json:"events"`
	Personal float64 `json:"personal"` // share of the events for which a list made for the user stood
	Metrics
	*WarmCold
	Segments  []Point `json:"segments,omitempty"`
	ByHistory []Point `json:"by_history,omitempty"`
	OverTime  []Point `json:"over_time,omitempty"`
}

// Point is a part of the events and what a row made of it.
type Point struct {
	Name   string    `json:"name"`
	From   time.Time `json:"from,omitzero"` // over time: of the first event of the part
	Events int       `json:"events"`
	Users  int       `json:"users"`
	Metrics
}

// Comparison is the paired difference between the first row and another one, over all events or over a segment.
type Comparison struct {
	Row     string `json:"row"`
	Against string `json:"against"`
	Segment string `json:"segment"` // "all", or a segment's name
	Difference
}

// Segment is a part of the scored events that deserves its own figures.
type Segment struct {
	Name    string
	Compare bool // the first row is compared with the others on it
	Holds   func(s *Scored) bool
}

// ReportConfig shapes a prequential report.
type ReportConfig struct {
	Bootstrap Bootstrap
	Buckets   int       // parts of equal size that the scored events are cut into, over time; default 20
	Segments  []Segment // beside the built-in ones
}

// historyBounds are the ends of the classes of history length.
var historyBounds = []struct {
	name string
	most int32
}{{"0", 0}, {"1-2", 2}, {"3-5", 5}, {"6-10", 10}, {"11-20", 20}, {"21-50", 50}, {"51-200", 200}, {"over 200", 1<<31 - 1}}

// Report computes the figures of a run. The first row is the model's.
func (r *Ranked) Report(model string, cfg ReportConfig) *Report {
	if cfg.Buckets <= 0 {
		cfg.Buckets = 20
	}
	out := &Report{Protocol: "prequential", Model: model, Order: r.Log.Order, Users: r.Log.Users.Len(), Items: r.Log.Items.Len(),
		Events: len(r.Log.Events), Scored: len(r.Scored), Trained: r.Trained, Repeats: r.Repeats,
		Held: r.Held, Hidden: r.Hidden}
	if r.Held > 0 {
		cfg.Segments = append(coldSegments(), cfg.Segments...)
	}
	segments := r.segments(cfg.Segments)
	for i := range r.Rows {
		out.Rows = append(out.Rows, r.row(i, segments, cfg))
	}
	if len(out.Rows) > 0 {
		out.Metrics, out.WarmCold = out.Rows[0].Metrics, out.Rows[0].WarmCold
		out.ranks = &Ranks{Ranks: r.Rows[0].Ranks}
		for i := range r.Scored {
			out.ranks.Users, out.ranks.Items = append(out.ranks.Users, r.Scored[i].User), append(out.ranks.Items, r.Scored[i].Item)
		}
	}
	for i := 1; i < len(r.Rows); i++ {
		for _, s := range append([]part{{name: "all", compare: true, holds: func(int) bool { return true }}}, segments...) {
			if !s.compare && s.name != personalSegment(r.Rows[i].Name) {
				continue
			}
			out.Differences = append(out.Differences, Comparison{Row: r.Rows[0].Name, Against: r.Rows[i].Name, Segment: s.name,
				Difference: Compare(r.pick(0, s.holds), r.pick(i, s.holds), cfg.Bootstrap)})
		}
	}
	return out
}

// part is a segment over places in Scored.
type part struct {
	name    string
	compare bool
	holds   func(i int) bool
}

func personalSegment(row string) string { return "list stood in " + row }

// segments are the built-in ones and those asked for.
func (r *Ranked) segments(more []Segment) []part {
	all := []Segment{{Name: "new items", Holds: func(s *Scored) bool { return s.New }}}
	for _, n := range []int32{1, 3, 5} {
		all = append(all, Segment{Name: fmt.Sprintf("cold users after %d", n), Holds: func(s *Scored) bool { return !s.Warm && s.History == n }})
	}
	var parts []part
	for _, s := range append(all, more...) {
		parts = append(parts, part{s.Name, s.Compare, func(i int) bool { return s.Holds(&r.Scored[i]) }})
	}
	for i := 1; i < len(r.Rows); i++ { // where a row that lags behind the live one has a list at all
		lags, any := false, false
		for n, personal := range r.Rows[i].Personal {
			lags, any = lags || !personal && r.Rows[0].Personal[n], any || personal
		}
		if lags && any {
			parts = append(parts, part{personalSegment(r.Rows[i].Name), false, func(n int) bool { return r.Rows[i].Personal[n] }})
		}
	}
	return parts
}

// pick gives a row's outcomes on a part of the events.
func (r *Ranked) pick(row int, holds func(i int) bool) []Outcome {
	var out []Outcome
	for i := range r.Scored {
		if holds(i) {
			out = append(out, Outcome{r.Scored[i].User, r.Rows[row].Ranks[i]})
		}
	}
	return out
}

func (r *Ranked) row(row int, segments []part, cfg ReportConfig) RowReport {
	out := RowReport{Name: r.Rows[row].Name, Events: len(r.Scored), WarmCold: &WarmCold{}}
	for _, p := range r.Rows[row].Personal {
		if p {
			out.Personal += 1 / float64(len(r.Scored))
		}
	}
	out.Metrics = Measure(r.pick(row, func(int) bool { return true }), cfg.Bootstrap)
	warm := r.pick(row, func(i int) bool { return r.Scored[i].Warm })
	cold := r.pick(row, func(i int) bool { return !r.Scored[i].Warm })
	w, c := Measure(warm, cfg.Bootstrap), Measure(cold, cfg.Bootstrap)
	*out.WarmCold = WarmCold{WarmEvents: len(warm), HR10Warm: w.HR10, HR10WarmCI: w.HR10CI, NDCG10Warm: w.NDCG10, NDCG10WarmCI: w.NDCG10CI,
		ColdEvents: len(cold), HR10Cold: c.HR10, HR10ColdCI: c.HR10CI, NDCG10Cold: c.NDCG10, NDCG10ColdCI: c.NDCG10CI}
	for _, s := range segments {
		if p := r.point(row, s, cfg.Bootstrap); p.Events > 0 {
			out.Segments = append(out.Segments, p)
		}
	}
	least := int32(0)
	for _, b := range historyBounds {
		from := least
		p := r.point(row, part{b.name, false, func(i int) bool { h := r.Scored[i].History; return from <= h && h <= b.most }}, cfg.Bootstrap)
		if p.Events > 0 {
			out.ByHistory = append(out.ByHistory, p)
		}
		least = b.most + 1
	}
	for n := range cfg.Buckets {
		from, to := n*len(r.Scored)/cfg.Buckets, (n+1)*len(r.Scored)/cfg.Buckets
		if from < to {
			p := r.point(row, part{fmt.Sprint(n + 1), false, func(i int) bool { return from <= i && i < to }}, cfg.Bootstrap)
			p.From = time.UnixMilli(r.Scored[from].Time).UTC()
			out.OverTime = append(out.OverTime, p)
		}
	}
	return out
}

func (r *Ranked) point(row int, s part, b Bootstrap) Point {
	outcomes := r.pick(row, s.holds)
	return Point{Name: s.name, Events: len(outcomes), Users: len(byUser(outcomes)), Metrics: Measure(outcomes, b)}
}

// NamedOutcomes are the ranks of one row of a leave-one-out table.
type NamedOutcomes struct {
	Name     string
	Outcomes []Outcome
}

// Report computes the figures of a leave-one-out run. The first row is the model's.
func (s *Split) Report(model string, rows []NamedOutcomes, b Bootstrap) *Report {
	out := &Report{Protocol: "leave-one-out", Model: model, Order: s.Log.Order, Users: s.Log.Users.Len(), Items: s.Log.Items.Len(),
		Events: len(s.Log.Events), Scored: len(s.Questions), Repeats: s.Repeats}
	for i, row := range rows {
		personal := 0.0
		if len(row.Outcomes) > 0 {
			personal = 1
		}
		report := RowReport{Name: row.Name, Events: len(row.Outcomes), Personal: personal, Metrics: Measure(row.Outcomes, b)}
		report.ByHistory = s.byHistory(row.Outcomes, b)
		out.Rows = append(out.Rows, report)
		if i > 0 && len(row.Outcomes) == len(rows[0].Outcomes) {
			out.Differences = append(out.Differences, Comparison{Row: rows[0].Name, Against: row.Name, Segment: "all", Difference: Compare(rows[0].Outcomes, row.Outcomes, b)})
		}
	}
	if len(out.Rows) > 0 {
		out.Metrics = out.Rows[0].Metrics
		out.ranks = &Ranks{}
		for i, o := range rows[0].Outcomes {
			out.ranks.Users, out.ranks.Ranks = append(out.ranks.Users, o.User), append(out.ranks.Ranks, o.Rank)
			out.ranks.Items = append(out.ranks.Items, s.Targets[i])
		}
	}
	return out
}

func (s *Split) byHistory(outcomes []Outcome, b Bootstrap) []Point {
	var points []Point
	least := 0
	for _, class := range historyBounds {
		var own []Outcome
		for _, o := range outcomes {
			if n := len(s.Histories[o.User]); least <= n && n <= int(class.most) {
				own = append(own, o)
			}
		}
		if len(own) > 0 {
			points = append(points, Point{Name: class.name, Events: len(own), Users: len(byUser(own)), Metrics: Measure(own, b)})
		}
		least = int(class.most) + 1
	}
	return points
}

// Table prints the report for a terminal.
func (r *Report) Table(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s of %s", r.Protocol, r.Model)
	if r.Data != "" {
		fmt.Fprintf(&b, " on %s", r.Data)
	}
	fmt.Fprintf(&b, "\n%d users, %d items, %d events, order: %s; ranked: %d, full catalogue", r.Users, r.Items, r.Events, r.Order, r.Scored)
	if r.Trained > 0 {
		fmt.Fprintf(&b, "; the first %d events warm up", r.Trained)
	}
	if r.Repeats > 0 {
		fmt.Fprintf(&b, "; %d repeats not ranked", r.Repeats)
	}
	if r.Held > 0 {
		fmt.Fprintf(&b, "; %d items were kept out of the training, and %d events of theirs left out of the warm-up", r.Held, r.Hidden)
	}
	b.WriteString("\n\n")
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	header := "\tHR@10\t[95 %]\tNDCG@10\t[95 %]\tMRR\tHR@50\t"
	if r.WarmCold != nil {
		header += "warm HR@10\tcold HR@10\tpersonal\t"
	}
	fmt.Fprintln(t, header)
	for _, row := range r.Rows {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t", row.Name, share(row.HR10), row.HR10CI, share(row.NDCG10), row.NDCG10CI, share(row.MRR), share(row.HR50))
		if row.WarmCold != nil {
			fmt.Fprintf(t, "%s\t%s\t%.0f %%\t", share(row.HR10Warm), share(row.HR10Cold), 100*row.Personal)
		}
		fmt.Fprintln(t)
	}
	t.Flush()
	r.segmentTable(&b)
	r.differenceTable(&b)
	for _, w := range r.Weights {
		fmt.Fprintf(&b, "\nweights %s:", w.When)
		for _, name := range slices.Sorted(maps.Keys(w.Sources)) {
			fmt.Fprintf(&b, " %s %.3f", name, w.Sources[name])
		}
	}
	if len(r.Weights) > 0 {
		b.WriteByte('\n')
	}
	if r.FusionWeight != nil {
		fmt.Fprintf(&b, "\nfusion weight %g, chosen on validation\n", *r.FusionWeight)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// segmentTable prints HR@10 of every row on every segment that the model's row has.
func (r *Report) segmentTable(b *strings.Builder) {
	if len(r.Rows) == 0 || len(r.Rows[0].Segments) == 0 {
		return
	}
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "\nHR@10 on\tevents\t")
	for _, row := range r.Rows {
		fmt.Fprintf(t, "%s\t", row.Name)
	}
	for i, s := range r.Rows[0].Segments {
		fmt.Fprintf(t, "\n%s\t%d\t", s.Name, s.Events)
		for _, row := range r.Rows {
			fmt.Fprintf(t, "%s\t", share(row.Segments[i].HR10))
		}
	}
	fmt.Fprintln(t)
	t.Flush()
}

// differenceTable prints how the first row compares with the others, pair by pair.
func (r *Report) differenceTable(b *strings.Builder) {
	if len(r.Differences) == 0 {
		return
	}
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "\npaired difference\ton\tHR@10\t[95 %]\tNDCG@10\t[95 %]\t\n")
	for _, d := range r.Differences {
		fmt.Fprintf(t, "%s - %s\t%s\t%+.4f\t%s\t%+.4f\t%s\t\n", d.Row, d.Against, d.Segment, d.HR10, d.HR10CI, d.NDCG10, d.NDCG10CI)
	}
	t.Flush()
}

func share(v float64) string { return fmt.Sprintf("%.4f", v) }

func (i Interval) String() string { return fmt.Sprintf("[%.4f %.4f]", i[0], i[1]) }
