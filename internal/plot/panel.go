package plot

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"
)

// Panel is one diagram. Its x axis has numbers, or places (Places) that are named and as far apart as each other; place i is x = i, and bar
// i stands on it.
type Panel struct {
	Title  string
	Share  float64 // of the figure's width, against the other panels; 0 = 1
	Keys   []Key   // beside the title
	Places []string
	X, Y   Axis
	Shade  *[2]float64 // a band of y that is shaded
	Series []Series
	Bars   []Bar
}

// Series is points of one kind.
type Series struct {
	Colour Colour
	Points []Point
	Lone   bool // points are not joined, their intervals are whiskers instead of a band, and labels stand on the right instead of above or below
}

// Point is a value. One that is not a number is left out.
type Point struct {
	X, Y     float64
	Interval []float64 // the lower and the upper end; nil = none
	Label    string
}

// Bar is a value from 0 on.
type Bar struct {
	Value  float64
	Lines  []string // above it
	Colour Colour
	Breaks bool // where it is more than twice as long as all that do not break, it is drawn broken
}

type box struct{ left, top, right, bottom float64 }

func (p *Panel) share() float64 {
	if p.Share > 0 {
		return p.Share
	}
	return 1
}

// drawing is a panel with the scales of its box.
type drawing struct {
	*Panel
	canvas
	in   box
	x, y scale
}

func (p *Panel) draw(c canvas, in box) {
	c.text(point{in.left, in.top - 8}, p.Title, fitted(p.Title, noteSize, in.right-in.left), left, soft)
	drawKeys(c, p.Keys, point{in.left + wide(p.Title, noteSize) + 24, in.top - 8})
	if len(p.Series)+len(p.Bars) == 0 {
		return
	}
	d := &drawing{Panel: p, canvas: c, in: in}
	d.scales()
	d.axes()
	d.bars()
	d.bands()
	d.lines()
	d.labels()
	d.dots() // last, so that no label hides one
}

// scales fits the axes to what is shown.
func (d *drawing) scales() {
	var xs, ys []float64
	for _, s := range d.Series {
		for _, pt := range s.Points {
			xs, ys = append(xs, pt.X), append(append(ys, pt.Y), pt.Interval...)
		}
	}
	longest := 0.0
	for _, b := range d.Bars {
		if !b.Breaks && finite(b.Value) {
			longest = math.Max(longest, b.Value)
		}
	}
	above := 0.0 // room for what stands above points and bars
	for _, s := range d.Series {
		for _, pt := range s.Points {
			if pt.Label != "" && !s.Lone {
				above = 18
			}
		}
	}
	for _, b := range d.Bars {
		above = math.Max(above, 16*float64(len(b.Lines)))
		if !b.Breaks || longest == 0 || b.Value <= 2*longest {
			ys = append(ys, b.Value)
		}
	}
	d.y = newScale(d.Y, ys, d.in.bottom, d.in.top+above)
	const inset = 18 // the outermost points do not stand on the box
	if d.Places == nil {
		d.x = newScale(d.X, xs, d.in.left+inset, d.in.right-inset)
		return
	}
	n := float64(max(len(d.Places), 1))
	d.x = scale{low: -.5, high: n - .5, from: d.in.left, to: d.in.right}
}

// axes draws the grid, the numbers and the names.
func (d *drawing) axes() {
	if d.Shade != nil {
		d.area(rectangle(d.in.left, d.y.at(d.Shade[1]), d.in.right, d.y.at(d.Shade[0])), Shaded, bandOpacity)
	}
	for _, v := range d.y.ticks {
		y := d.y.at(v)
		d.line([]point{{d.in.left, y}, {d.in.right, y}}, grid, 1)
		d.text(point{d.in.left - 7, y + 4}, d.y.label(v), 12, right, soft)
	}
	lines := 1
	if d.Places != nil {
		lines = d.places()
	} else {
		d.numbers()
	}
	d.text(point{(d.in.left + d.in.right) / 2, d.in.bottom + 22 + 17*float64(lines)}, d.X.Name, 12, middle, soft)
}

// numbers writes those of the x axis, but for what would lie on one another.
func (d *drawing) numbers() {
	end := math.Inf(-1)
	for _, v := range d.x.ticks {
		x, label := d.x.at(v), d.x.label(v)
		d.line([]point{{x, d.in.bottom}, {x, d.in.bottom + 4}}, soft, 1)
		if half := wide(label, labelSize) / 2; x-half > end+8 {
			d.text(point{x, d.in.bottom + 20}, label, labelSize, middle, soft)
			end = x + half
		}
	}
}

// places writes the names under the x axis, and says how many lines they take. Where there is no room for all, each second, third, ...
func (d *drawing) places() (lines int) {
	widest, lines := 0.0, 1
	for _, name := range d.Places {
		parts := strings.Split(name, "\n")
		lines = max(lines, len(parts))
		for _, part := range parts {
			widest = math.Max(widest, wide(part, labelSize))
		}
	}
	every := 1 + int((widest+4)/((d.in.right-d.in.left)/float64(len(d.Places))))
	for i := 0; i < len(d.Places); i += every {
		for j, part := range strings.Split(d.Places[i], "\n") {
			d.text(point{d.x.at(float64(i)), d.in.bottom + 20 + 15*float64(j)}, part, labelSize, middle, soft)
		}
	}
	return lines
}

// bars draws them with what stands above them.
func (d *drawing) bars() {
	half := math.Min(35, .32*(d.in.right-d.in.left)/float64(max(len(d.Places), 1)))
	for i, b := range d.Bars {
		if !finite(b.Value) {
			continue
		}
		x, y := d.x.at(float64(i)), d.y.at(b.Value)
		d.area(rectangle(x-half, y, x+half, d.in.bottom), b.Colour, 1)
		if b.Value > d.y.high { // a white stroke through the bar
			at := y + .18*(d.in.bottom-y)
			d.area([]point{{x - half - 4, at + 5}, {x + half + 4, at - 7}, {x + half + 4, at - 1}, {x - half - 4, at + 11}}, paper, 1)
		}
		for j, line := range b.Lines {
			size, shade := 12.5, ink
			if j > 0 {
				size, shade = labelSize, soft
			}
			d.over(point{x, y - 6 - 15*float64(len(b.Lines)-1-j)}, line, size, middle, shade)
		}
	}
}

// over writes a text so that it can be read where lines pass.
func (d *drawing) over(at point, s string, size float64, where anchor, c Colour) {
	w := wide(s, size)
	x := at.x - w*[...]float64{0, .5, 1}[where]
	d.area(rectangle(x-1, at.y-.8*size, x+w+1, at.y+.2*size), paper, .75)
	d.text(at, s, size, where, c)
}

// bandOpacity is how strongly intervals are filled.
const bandOpacity = .13

// shown are the points of a series that are numbers.
func (s *Series) shown() []Point {
	return slices.DeleteFunc(slices.Clone(s.Points), func(p Point) bool { return !finite(p.X) || !finite(p.Y) })
}

func (p *Point) spans() bool {
	return len(p.Interval) == 2 && finite(p.Interval[0]) && finite(p.Interval[1])
}

// bands fills the intervals of joined series.
func (d *drawing) bands() {
	for _, s := range d.Series {
		var upper, lower []point
		for _, pt := range s.shown() {
			if pt.spans() && !s.Lone {
				x := d.x.at(pt.X)
				upper, lower = append(upper, point{x, d.y.at(pt.Interval[1])}), append(lower, point{x, d.y.at(pt.Interval[0])})
			}
		}
		if len(upper) > 0 {
			slices.Reverse(lower)
			d.area(append(upper, lower...), s.Colour, bandOpacity)
		}
	}
}

// lines draws what joins points, and the whiskers.
func (d *drawing) lines() {
	for _, s := range d.Series {
		var line []point
		for _, pt := range s.shown() {
			at := point{d.x.at(pt.X), d.y.at(pt.Y)}
			line = append(line, at)
			if pt.spans() && s.Lone {
				low, high := d.y.at(pt.Interval[0]), d.y.at(pt.Interval[1])
				d.line([]point{{at.x, low}, {at.x, high}}, s.Colour, 2)
				for _, y := range []float64{low, high} {
					d.line([]point{{at.x - 7, y}, {at.x + 7, y}}, s.Colour, 2)
				}
			}
		}
		if len(line) > 1 && !s.Lone {
			d.line(line, s.Colour, 2)
		}
	}
}

func (d *drawing) dots() {
	for _, s := range d.Series {
		shown, radius := s.shown(), 3.0
		if s.Lone || len(shown) == 1 {
			radius = 5
		}
		for _, pt := range shown {
			d.dot(point{d.x.at(pt.X), d.y.at(pt.Y)}, radius, s.Colour)
		}
	}
}

// label is what stands at a point.
type label struct {
	dot, at point
	text    string
	colour  Colour
}

// labels writes those of points: of lone ones on their right, of others above, or below where the next point above is close.
func (d *drawing) labels() {
	columns := map[float64][]label{}
	for _, s := range d.Series {
		for _, pt := range s.shown() {
			dot := point{d.x.at(pt.X), d.y.at(pt.Y)}
			if s.Lone {
				d.text(point{dot.x + 10, dot.y + 4}, pt.Label, labelSize, left, s.Colour)
			} else if pt.Label != "" {
				columns[dot.x] = append(columns[dot.x], label{dot: dot, text: pt.Label, colour: s.Colour})
			}
		}
	}
	for _, x := range slices.Sorted(maps.Keys(columns)) {
		placeColumn(columns[x])
		for _, l := range columns[x] {
			d.over(l.at, l.text, labelSize, middle, l.colour)
		}
	}
}

// placeColumn says where the labels of points of one x stand, so that none lies on another or on the next point.
func placeColumn(column []label) {
	const above, below, apart = 8, 17, 13
	slices.SortStableFunc(column, func(a, b label) int { return cmp.Compare(a.dot.y, b.dot.y) })
	last := math.Inf(-1)
	for i := range column { // downwards
		l := &column[i]
		l.at = point{l.dot.x, l.dot.y - above}
		if i > 0 && l.dot.y-column[i-1].dot.y < above+apart || l.at.y < last+apart {
			l.at.y = math.Max(l.dot.y+below, last+apart)
		}
		last = l.at.y
	}
}
