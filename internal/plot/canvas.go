package plot

import "unicode/utf8"

// canvas is what a figure is drawn on; coordinates in pixels, y downwards.
type canvas interface {
	line(points []point, c Colour, width float64)
	area(points []point, c Colour, opacity float64) // a filled polygon
	dot(at point, radius float64, c Colour)
	text(at point, s string, size float64, where anchor, c Colour)
}

type point struct{ x, y float64 }

// Colour is red, green and blue.
type Colour struct{ R, G, B uint8 }

type anchor int

const (
	left anchor = iota
	middle
	right
)

var (
	ink   = Colour{40, 44, 52}
	soft  = Colour{110, 116, 128}
	grid  = Colour{226, 229, 234}
	paper = Colour{255, 255, 255}
	// palette of Okabe and Ito, which people with colour-blindness can tell apart
	palette = []Colour{{0, 114, 178}, {213, 94, 0}, {0, 158, 115}, {204, 121, 167}, {86, 180, 233}, {230, 159, 0}, {120, 120, 120}}
)

// Pick gives the i-th of a few colours that people with colour-blindness can tell apart.
func Pick(i int) Colour { return palette[i%len(palette)] }

var (
	Muted  = Colour{176, 183, 193} // for what only stands beside the result
	Shaded = palette[2]            // of a panel's shade
)

// wide is about how many pixels a text takes. The font of an SVG is the reader's, so no measure is exact.
func wide(s string, size float64) float64 { return .555 * size * float64(utf8.RuneCountInString(s)) }

// fitted is the size, up to the one wanted, at which a text is no wider than it may be.
func fitted(s string, size, most float64) float64 {
	if w := wide(s, size); w > most {
		return size * most / w
	}
	return size
}

func rectangle(x0, y0, x1, y1 float64) []point {
	return []point{{x0, y0}, {x1, y0}, {x1, y1}, {x0, y1}}
}
