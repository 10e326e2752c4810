package plot

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
)

// svg is a canvas that writes itself as SVG.
type svg struct{ b strings.Builder }

func newSVG(width, height int) *svg {
	s := &svg{}
	fmt.Fprintf(&s.b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif">`+"\n", width, height, width, height)
	fmt.Fprintf(&s.b, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", width, height)
	return s
}

func (c Colour) hex() string { return fmt.Sprintf("#%02x%02x%02x", c.R, c.G, c.B) }

func path(points []point) string {
	var b strings.Builder
	for i, p := range points {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%.1f,%.1f", p.x, p.y)
	}
	return b.String()
}

func (s *svg) line(points []point, c Colour, width float64) {
	fmt.Fprintf(&s.b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="%g" stroke-linejoin="round"/>`+"\n", path(points), c.hex(), width)
}

func (s *svg) area(points []point, c Colour, opacity float64) {
	fmt.Fprintf(&s.b, `<polygon points="%s" fill="%s" fill-opacity="%g"/>`+"\n", path(points), c.hex(), opacity)
}

func (s *svg) dot(at point, radius float64, c Colour) {
	fmt.Fprintf(&s.b, `<circle cx="%.1f" cy="%.1f" r="%g" fill="%s"/>`+"\n", at.x, at.y, radius, c.hex())
}

func (s *svg) text(at point, text string, size float64, where anchor, c Colour) {
	fmt.Fprintf(&s.b, `<text x="%.1f" y="%.1f" font-size="%g" text-anchor="%s" fill="%s">`, at.x, at.y, size, [...]string{"start", "middle", "end"}[where], c.hex())
	xml.EscapeText(&s.b, []byte(text))
	s.b.WriteString("</text>\n")
}

func (s *svg) write(w io.Writer) error {
	_, err := io.WriteString(w, s.b.String()+"</svg>\n")
	return err
}
