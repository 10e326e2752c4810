package plot

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Figure is one picture.
type Figure struct {
	Title  string
	Notes  []string // lines under the title
	Keys   []Key    // under the title, for all panels
	Panels []Panel  // side by side
	Footer string   // small, at the bottom
}

// Key says what a colour stands for.
type Key struct {
	Name   string
	Colour Colour
}

// Measures of a figure in pixels.
const (
	width, height                           = 1120, 490
	marginLeft, marginRight, gap            = 60, 25, 70
	titleSize, noteSize, keySize, labelSize = 17, 13, 13, 11.5
	top, bottom                             = 86, 400 // of the panels' boxes, with no more than one line under the title
	lineHeight                              = 19
)

// Check says what is wrong with the name of a file to draw to, before anything is measured for it: its ending is neither .png nor .svg,
// or its folder is not there.
func Check(name string) error {
	if _, err := isSVG(name); err != nil {
		return err
	}
	folder := filepath.Dir(name)
	switch info, err := os.Stat(folder); {
	case err != nil:
		return fmt.Errorf("plot %s: %w", name, err)
	case !info.IsDir():
		return fmt.Errorf("plot %s: %s is no folder", name, folder)
	}
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		return fmt.Errorf("plot %s: that is a folder", name)
	}
	return nil
}

func isSVG(name string) (bool, error) {
	switch ending := strings.ToLower(filepath.Ext(name)); ending {
	case ".svg", ".png":
		return ending == ".svg", nil
	default:
		return false, fmt.Errorf("plot %s: the ending %q is neither .png nor .svg", name, ending)
	}
}

// Save draws the figure to a file, as PNG or SVG as the ending of name says.
func (f *Figure) Save(name string) error {
	if err := Check(name); err != nil {
		return err
	}
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Write(file, name), file.Close())
}

// Write draws the figure to w, as PNG or SVG as the ending of name says.
func (f *Figure) Write(w io.Writer, name string) error {
	high := height + f.lower()
	vector, err := isSVG(name)
	if err != nil {
		return err
	}
	if vector {
		c := newSVG(width, high)
		f.draw(c)
		return c.write(w)
	}
	c, err := newPNG(width, high)
	if err != nil {
		return fmt.Errorf("load the plot's font: %w", err)
	}
	f.draw(c)
	return c.write(w)
}

// lower is by how much the panels move down for what stands above them, in pixels.
func (f *Figure) lower() int {
	lines := len(f.Notes)
	if len(f.Keys) > 0 {
		lines++
	}
	return lineHeight * max(0, lines-1)
}

func (f *Figure) draw(c canvas) {
	most := float64(width - marginLeft - marginRight)
	c.text(point{marginLeft, 30}, f.Title, fitted(f.Title, titleSize, most), left, ink)
	y := 55.0
	for _, note := range f.Notes {
		c.text(point{marginLeft, y}, note, fitted(note, noteSize, most), left, soft)
		y += lineHeight
	}
	drawKeys(c, f.Keys, point{marginLeft, y})
	down, shares := float64(f.lower()), 0.0
	for i := range f.Panels {
		shares += f.Panels[i].share()
	}
	x, room := float64(marginLeft), most-gap*float64(len(f.Panels)-1)
	for i := range f.Panels {
		p := &f.Panels[i]
		wide := room * p.share() / shares
		p.draw(c, box{x, top + down, x + wide, bottom + down})
		x += wide + gap
	}
	c.text(point{width - marginRight, height + down - 12}, f.Footer, 10.5, right, soft)
}

// drawKeys writes keys one after the other; at is where the text of the first one would begin without its mark.
func drawKeys(c canvas, keys []Key, at point) {
	for _, k := range keys {
		c.line([]point{{at.x, at.y - 4}, {at.x + 22, at.y - 4}}, k.Colour, 3)
		c.text(point{at.x + 28, at.y}, k.Name, keySize, left, ink)
		at.x += 52 + wide(k.Name, keySize)
	}
}
