package evaluate

import (
	"fmt"
	"io"
	"math"
	"path/filepath"
	"strings"
	"time"
)

// Plot draws HR@10 of every row over time and by history length, as PNG or SVG as the ending of name says, and writes it to w.
func (r *Report) Plot(w io.Writer, name string) error {
	const width, height = 1120, 460
	switch ending := strings.ToLower(filepath.Ext(name)); ending {
	case ".svg":
		c := newSVG(width, height)
		if err := r.draw(c); err != nil {
			return err
		}
		return c.write(w)
	case ".png":
		c, err := newPNG(width, height)
		if err != nil {
			return fmt.Errorf("load the plot's font: %w", err)
		}
		if err := r.draw(c); err != nil {
			return err
		}
		return c.write(w)
	default:
		return fmt.Errorf("plot %s: the ending %q is neither .png nor .svg", name, ending)
	}
}

// canvas is what a plot is drawn on; coordinates in pixels, y downwards.
type canvas interface {
	line(points []point, c colour, width float64)
	band(points []point, c colour) // a filled, see-through polygon
	dot(at point, radius float64, c colour)
	text(at point, s string, size float64, where anchor, c colour)
}

type point struct{ x, y float64 }

type colour struct{ r, g, b uint8 }

type anchor int

const (
	left anchor = iota
	middle
	right
)

var (
	ink  = colour{40, 44, 52}
	soft = colour{110, 116, 128}
	grid = colour{226, 229, 234}
	// palette of Okabe and Ito, which people with colour-blindness can tell apart
	palette = []colour{{0, 114, 178}, {213, 94, 0}, {0, 158, 115}, {204, 121, 167}, {86, 180, 233}, {230, 159, 0}, {120, 120, 120}}
)

// panel is one diagram: series over shared places on the x axis.
type panel struct {
	title   string
	box     [4]float64 // left, top, right, bottom
	labels  []string   // under each place
	series  []series
	highest float64
}

type series struct {
	colour colour
	points []Point
}

// draw lays out two panels and the legend.
func (r *Report) draw(c canvas) error {
	var overTime, history panel
	overTime.title, overTime.box = "HR@10 over time", [4]float64{60, 86, 640, 400}
	history.title, history.box = "HR@10 by number of items the user had before", [4]float64{710, 86, 1095, 400}
	for i, row := range r.Rows {
		overTime.add(row.OverTime, palette[i%len(palette)], dated(row.OverTime))
		history.add(row.ByHistory, palette[i%len(palette)], func(p Point) string { return p.Name })
	}
	if len(overTime.series)+len(history.series) == 0 {
		return fmt.Errorf("the report has nothing to plot")
	}
	c.text(point{60, 30}, fmt.Sprintf("%s of %s: %d of %d events ranked over %d items", r.Protocol, r.Model, r.Scored, r.Events, r.Items), 17, left, ink)
	x := 60.0
	for i, row := range r.Rows {
		c.line([]point{{x, 53}, {x + 22, 53}}, palette[i%len(palette)], 3)
		label := fmt.Sprintf("%s %.3f", row.Name, row.HR10)
		c.text(point{x + 28, 57}, label, 13, left, ink)
		x += 52 + 7.2*float64(len(label))
	}
	if len(overTime.series) == 0 { // leave-one-out has no time
		history.box[0] = overTime.box[0]
		history.draw(c)
		return nil
	}
	overTime.draw(c)
	history.draw(c)
	return nil
}

// add puts a row's points on the panel. All rows of a report have the same parts, so point i stands at place i.
func (p *panel) add(points []Point, c colour, label func(Point) string) {
	if len(points) == 0 {
		return
	}
	p.series = append(p.series, series{c, points})
	p.labels = p.labels[:0]
	for _, pt := range points {
		p.labels = append(p.labels, label(pt))
		p.highest = math.Max(p.highest, pt.HR10CI[1])
	}
}

// dated labels parts of a run: by the day, or by the hour when the whole run is short.
func dated(points []Point) func(Point) string {
	layout := time.DateOnly
	if len(points) > 0 && points[len(points)-1].From.Sub(points[0].From) < 5*24*time.Hour {
		layout = "01-02 15:04"
	}
	return func(p Point) string { return p.From.Format(layout) }
}

func (p *panel) draw(c canvas) {
	step := tick(p.highest)
	top := step * math.Ceil(math.Max(p.highest, 1e-9)/step)
	c.text(point{p.box[0], p.box[1] - 8}, p.title, 13, left, soft)
	for v := 0.0; v <= top+step/2; v += step {
		y := p.y(v, top)
		c.line([]point{{p.box[0], y}, {p.box[2], y}}, grid, 1)
		c.text(point{p.box[0] - 7, y + 4}, fmt.Sprintf("%.*f", decimals(step), v), 12, right, soft)
	}
	every := 1 + (len(p.labels)-1)*90/int(p.box[2]-p.box[0])
	if len(p.labels) > 0 && len(p.labels[0]) < 10 {
		every = 1
	}
	for i, label := range p.labels {
		if i%every == 0 {
			c.text(point{p.x(i), p.box[3] + 20}, label, 11.5, middle, soft)
		}
	}
	for _, s := range p.series {
		var band []point
		for i, pt := range s.points {
			band = append(band, point{p.x(i), p.y(pt.HR10CI[1], top)})
		}
		for i := len(s.points) - 1; i >= 0; i-- {
			band = append(band, point{p.x(i), p.y(s.points[i].HR10CI[0], top)})
		}
		c.band(band, s.colour)
	}
	for _, s := range p.series {
		var line []point
		for i, pt := range s.points {
			line = append(line, point{p.x(i), p.y(pt.HR10, top)})
		}
		c.line(line, s.colour, 2)
		for _, at := range line {
			c.dot(at, 3, s.colour)
		}
	}
}

func (p *panel) x(place int) float64 {
	inner := p.box[2] - p.box[0]
	return p.box[0] + inner*(float64(place)+.5)/float64(max(len(p.labels), 1))
}

func (p *panel) y(v, top float64) float64 { return p.box[3] - (p.box[3]-p.box[1])*v/top }

// tick gives a round step that cuts the range from 0 to highest into at most six parts.
func tick(highest float64) float64 {
	if highest <= 0 {
		return 0.1
	}
	step := math.Pow(10, math.Floor(math.Log10(highest)))
	for _, f := range []float64{.1, .2, .5, 1} {
		if highest/(f*step) <= 6 {
			return f * step
		}
	}
	return 2 * step
}

func decimals(step float64) int { return max(0, int(math.Ceil(-math.Log10(step)-1e-9))) }
