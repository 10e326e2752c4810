package main

import (
	"bufio"
	"cmp"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"

	"freshet/internal/plot"
)

// drawPlot saves a figure of this machine; "" = nothing is drawn.
func drawPlot(name string, f *plot.Figure) error {
	if name == "" {
		return nil
	}
	f.Footer = thisMachine()
	return f.Save(name)
}

// thisMachine names the processor, where the system tells it, and how many cores the process sees.
func thisMachine() string {
	name := runtime.GOOS + "/" + runtime.GOARCH
	if f, err := os.Open("/proc/cpuinfo"); err == nil {
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if key, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(key) == "model name" {
				name = strings.TrimSpace(value)
				break
			}
		}
	}
	return fmt.Sprintf("%s, %d cores", name, runtime.NumCPU())
}

// figure draws how fast each part is, and how fresh lists are at each rate.
func (b *pipelineBench) figure() *plot.Figure {
	f := &plot.Figure{Title: fmt.Sprintf("bench pipeline: %s, %s items, %s users, history %d", b.model, count(b.items), count(b.o.users), b.cfg.Profile.MaxHistory)}
	note := fmt.Sprintf("%.3g %% of the events late; %d partitions; %.3f lists an event", 100*b.o.late, b.cfg.Kafka.Partitions, b.full.Lists)
	if publish, ok := b.floors["publish"]; ok && publish.PerSecond > 0 {
		note += fmt.Sprintf("; everything / floor with publishing = %.2f", b.full.PerSecond/publish.PerSecond)
	}
	f.Notes = []string{note}
	speed := plot.Panel{Title: "events/s, and own CPU an event", Share: 4}
	add := func(name string, c benchCost, colour plot.Colour) {
		speed.Places = append(speed.Places, name)
		speed.Bars = append(speed.Bars, rateBar(c.PerSecond, c.Own, colour, name == "floor:\nconsume"))
	}
	for _, name := range []string{"consume", "save", "publish"} {
		if c, ok := b.floors[name]; ok {
			add("floor:\n"+floorNames[name], c, plot.Muted)
		}
	}
	add("everything", b.full, plot.Pick(0))
	f.Panels = append(f.Panels, speed)
	if len(b.rungs) > 0 {
		f.Panels = append(f.Panels, freshnessPanel(b.rungs))
	}
	return f
}

// floorNames say what a floor has more than the one before.
var floorNames = map[string]string{"consume": "consume", "save": "+ save", "publish": "+ publish"}

// freshnessPanel draws quantiles against the rate.
func freshnessPanel(rungs []*rung) plot.Panel {
	p := plot.Panel{Title: "from due until in Redis, ms", Share: 5, X: plot.Axis{Name: "events/s", Log: true}, Y: plot.Axis{Log: true}}
	for _, r := range rungs {
		p.X.Marks = append(p.X.Marks, float64(r.Rate))
	}
	for i, q := range []struct {
		name string
		of   func(*rung) float64
	}{{"p50", func(r *rung) float64 { return r.P50 }}, {"p90", func(r *rung) float64 { return r.P90 }},
		{"p99", func(r *rung) float64 { return r.P99 }}, {"p99.9", func(r *rung) float64 { return r.P999 }}} {
		s := plot.Series{Colour: plot.Pick(i)}
		for _, r := range rungs {
			s.Points = append(s.Points, plot.Point{X: float64(r.Rate), Y: q.of(r), Label: plot.Figures(q.of(r), 2)})
		}
		slices.SortFunc(s.Points, func(a, b plot.Point) int { return cmp.Compare(a.X, b.X) })
		p.Series, p.Keys = append(p.Series, s), append(p.Keys, plot.Key{Name: q.name, Colour: s.Colour})
	}
	slices.Sort(p.X.Marks)
	return p
}

// rateBar is a bar of events a second with microseconds of CPU above it.
func rateBar(perSecond, us float64, c plot.Colour, breaks bool) plot.Bar {
	return plot.Bar{Value: perSecond, Lines: []string{plot.Number(perSecond, 0), plot.Figures(us, 3) + " us"}, Colour: c, Breaks: breaks}
}

func count(n int) string { return plot.Number(float64(n), 0) }

// stepFigure draws the ratios to a window that is just full, and what is stored, of one or several histories. What the model takes alone does
// not depend on the history; it is that of the first run.
func stepFigure(users int, runs []stepResult) *plot.Figure {
	first := runs[0]
	histories := make([]string, len(runs))
	ratio := plot.Panel{Title: fmt.Sprintf("CPU an event, ratio to history %s: median, 95 %% interval", count(first.BaseHistory)), Share: 3,
		Keys: []plot.Key{{Name: "0.95 to 1.05", Colour: plot.Shaded}}, X: plot.Axis{Name: "history; CPU of an event / at " + count(first.BaseHistory)}, Y: plot.Axis{Covers: []float64{.9, 1.1}}, Shade: &[2]float64{.95, 1.05}}
	size := plot.Panel{Title: "bytes of a stored profile", Share: 2, X: plot.Axis{Name: "history"}, Places: []string{count(first.BaseHistory)},
		Bars: []plot.Bar{{Value: first.BaseBytes, Lines: []string{plot.Number(first.BaseBytes, 0)}, Colour: plot.Muted}}}
	points := plot.Series{Colour: plot.Pick(0), Lone: true}
	for i, r := range runs {
		histories[i] = count(r.History)
		ratio.Places = append(ratio.Places, fmt.Sprintf("%s\n[%.3f, %.3f]\n%.1f / %.1f us", histories[i], r.Interval[0], r.Interval[1], r.Cost, r.BaseCost))
		points.Points = append(points.Points, plot.Point{X: float64(i), Y: r.Ratio, Interval: r.Interval[:], Label: fmt.Sprintf("%.3f", r.Ratio)})
		size.Places = append(size.Places, histories[i])
		size.Bars = append(size.Bars, plot.Bar{Value: r.ProfileBytes, Lines: []string{plot.Number(r.ProfileBytes, 0)}, Colour: plot.Pick(0)})
	}
	ratio.Series = []plot.Series{points}
	return &plot.Figure{Title: fmt.Sprintf("bench step: %s, %s items, %s users, history %s", first.model, count(first.items), count(users), strings.Join(histories, ", ")),
		Notes: []string{fmt.Sprintf("%s pairs; %.3g %% late, %.3g %% of one user; the model alone %.1f us an event, encoding the last %d anew %s us: %.0f times as much",
			count(first.Pairs), 100*first.Late, 100*first.Hot, first.Step, first.Window, plot.Number(first.Reencode, 0), first.Times)},
		Panels: []plot.Panel{ratio, size}}
}

// indexFigure draws how fast the two searches are, and what the one in cells misses.
func indexFigure(r indexResult) *plot.Figure {
	f := &plot.Figure{Title: fmt.Sprintf("bench index: vectors of the width of %s, %s made-up items", r.model, count(r.Items)),
		Notes: []string{fmt.Sprintf("the 100 best in batches of %d; %s of %s cells looked into, recall@100 %.4f; built in %.1f s", r.Batch, count(r.Probes), count(r.Cells), r.Recall, r.Build)}}
	second := "in cells"
	if r.Cells == 0 {
		second = "as served"
		f.Notes = []string{fmt.Sprintf("the 100 best in batches of %d; so few items are not divided into cells: both searches score everything, recall@100 %.4f", r.Batch, r.Recall)}
	}
	f.Panels = append(f.Panels, plot.Panel{Title: "events/s (one query each), and CPU an event", Share: 2, Places: []string{"exact", second},
		Bars: []plot.Bar{rateBar(r.Exact, r.ExactOwn, plot.Muted, false), rateBar(r.PerSecond, r.Own, plot.Pick(0), false)}})
	if len(r.ByProbes) == 0 {
		return f
	}
	line := plot.Series{Colour: plot.Pick(0)}
	for _, at := range r.ByProbes {
		line.Points = append(line.Points, plot.Point{X: float64(at.Probes), Y: at.Recall})
	}
	chosen := plot.Series{Colour: plot.Pick(1), Points: []plot.Point{{X: float64(r.Probes), Y: r.Recall, Label: fmt.Sprintf("%s: %.4f", count(r.Probes), r.Recall)}}}
	f.Panels = append(f.Panels, plot.Panel{Title: "recall@100", Share: 3, X: plot.Axis{Name: fmt.Sprintf("cells looked into, of %s", count(r.Cells)), Log: true}, Y: plot.Axis{Covers: []float64{1}},
		Series: []plot.Series{line, chosen}, Keys: []plot.Key{{Name: "chosen by the index", Colour: chosen.Colour}}})
	return f
}
