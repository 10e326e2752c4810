package main

import (
	"errors"
	"fmt"
	"time"

	"freshet/internal/evaluate"
	"freshet/internal/plot"
)

// evalFigure draws HR@10 of every row over time and by history length.
func evalFigure(r *evaluate.Report) (*plot.Figure, error) {
	f := &plot.Figure{Title: fmt.Sprintf("%s of %s: %d of %d events ranked over %d items", r.Protocol, r.Model, r.Scored, r.Events, r.Items)}
	overTime := plot.Panel{Title: "HR@10 over time", Share: 3}
	history := plot.Panel{Title: "HR@10 by number of items the user had before", Share: 2}
	for i, row := range r.Rows {
		f.Keys = append(f.Keys, plot.Key{Name: fmt.Sprintf("%s %.3f", row.Name, row.HR10), Colour: plot.Pick(i)})
		addPoints(&overTime, row.OverTime, plot.Pick(i), dated(row.OverTime))
		addPoints(&history, row.ByHistory, plot.Pick(i), func(p evaluate.Point) string { return p.Name })
	}
	for _, p := range []plot.Panel{overTime, history} { // leave-one-out has no time
		if len(p.Series) > 0 {
			f.Panels = append(f.Panels, p)
		}
	}
	if len(f.Panels) == 0 {
		return nil, errors.New("the report has nothing to plot")
	}
	return f, nil
}

// addPoints puts a row's points on the panel. All rows of a report have the same parts, so point i stands at place i.
func addPoints(p *plot.Panel, points []evaluate.Point, c plot.Colour, name func(evaluate.Point) string) {
	if len(points) == 0 {
		return
	}
	s := plot.Series{Colour: c}
	p.Places = nil
	for i, pt := range points {
		p.Places = append(p.Places, name(pt))
		s.Points = append(s.Points, plot.Point{X: float64(i), Y: pt.HR10, Interval: pt.HR10CI[:]})
	}
	p.Series = append(p.Series, s)
}

// dated names parts of a run: by the day, or by the hour when the whole run is short.
func dated(points []evaluate.Point) func(evaluate.Point) string {
	layout := time.DateOnly
	if len(points) > 0 && points[len(points)-1].From.Sub(points[0].From) < 5*24*time.Hour {
		layout = "01-02 15:04"
	}
	return func(p evaluate.Point) string { return p.From.Format(layout) }
}
