package main

import (
	"strings"
	"testing"
	"time"

	"freshet/internal/evaluate"
)

func TestEvalFigure(t *testing.T) {
	at := time.Date(2024, 5, 1, 8, 0, 0, 0, time.UTC)
	points := func(hr ...float64) (out []evaluate.Point) {
		for i, v := range hr {
			out = append(out, evaluate.Point{Name: []string{"0", "1-2", "3-5"}[i%3], From: at.Add(time.Duration(i) * 12 * time.Hour),
				Metrics: evaluate.Metrics{HR10: v, HR10CI: evaluate.Interval{v - .02, v + .02}}})
		}
		return out
	}
	r := &evaluate.Report{Protocol: "prequential", Model: "toy", Scored: 450, Events: 900, Items: 40, Rows: []evaluate.RowReport{
		{Name: "sequence", Metrics: evaluate.Metrics{HR10: .21}, OverTime: points(.2, .22, .25, .21, .2), ByHistory: points(.1, .2, .24)},
		{Name: "counts", Metrics: evaluate.Metrics{HR10: .15}, OverTime: points(.14, .15, .17, .13, .16), ByHistory: points(.08, .14, .2)}}}
	f, err := evalFigure(r)
	if err != nil {
		t.Fatal(err)
	}
	svg := drawn(t, "eval", f)
	if n := strings.Count(svg, "<polygon"); n != 2*len(r.Rows) {
		t.Errorf("%d bands for %d rows in two panels", n, len(r.Rows))
	}
	wantInPlot(t, svg, "prequential of toy: 450 of 900 events ranked over 40 items", "HR@10 over time", "sequence 0.210", "05-01 08:00", "3-5")
	for i := range r.Rows {
		r.Rows[i].OverTime = nil // leave-one-out
	}
	if f, err = evalFigure(r); err != nil || len(f.Panels) != 1 {
		t.Errorf("without time: %v", err)
	}
	if _, err := evalFigure(&evaluate.Report{}); err == nil {
		t.Error("nothing was plotted")
	}
}
