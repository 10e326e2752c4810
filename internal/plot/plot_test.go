package plot

import (
	"bytes"
	"encoding/xml"
	"image/png"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// everything is a figure with all that can be drawn, and with values that are no numbers among it.
func everything() *Figure {
	nan := math.NaN()
	return &Figure{Title: "a <title>", Notes: []string{"first note", "second note"}, Footer: "some machine, 2 cores", Keys: []Key{{"one", Pick(0)}},
		Panels: []Panel{
			{Title: "joined", Share: 2, X: Axis{Name: "rate", Log: true, Marks: []float64{500, 1000}}, Y: Axis{Log: true}, Shade: &[2]float64{.95, 1.05},
				Series: []Series{
					{Colour: Pick(0), Points: []Point{{X: 500, Y: 2, Interval: []float64{1, 3}, Label: "two"}, {X: 1000, Y: 20}, {X: 0, Y: nan}, {X: math.Inf(1), Y: 1}, {X: 700, Y: 0}}},
					{Colour: Pick(1), Lone: true, Points: []Point{{X: 500, Y: 2, Interval: []float64{nan, 3}, Label: "beside it"}, {X: 500, Y: 2.1, Interval: []float64{1, 5}}}},
				}},
			{Title: "bars", Places: []string{"long\none", "b", "c", "d"},
				Bars: []Bar{{Value: 1e6, Lines: []string{"1,000,000", "2 us"}, Breaks: true}, {Value: 20_000}, {Value: nan}, {Value: 0}}},
			{Title: "empty"},
		}}
}

// coordinates gives every number of an SVG's shapes, and its texts.
func coordinates(t *testing.T, svg []byte) (numbers []float64, texts []string) {
	t.Helper()
	add := func(list string) {
		for _, s := range strings.FieldsFunc(list, func(r rune) bool { return r == ' ' || r == ',' }) {
			v, err := strconv.ParseFloat(s, 64)
			if err != nil {
				t.Fatalf("coordinate %q: %v", s, err)
			}
			numbers = append(numbers, v)
		}
	}
	for d := xml.NewDecoder(bytes.NewReader(svg)); ; {
		token, err := d.Token()
		if err == io.EOF {
			return numbers, texts
		}
		if err != nil {
			t.Fatalf("no well-formed XML: %v", err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			for _, a := range token.Attr {
				if slices.Contains([]string{"points", "x", "y", "cx", "cy", "r", "width", "height", "font-size"}, a.Name.Local) {
					add(a.Value)
				}
			}
		case xml.CharData:
			if s := strings.TrimSpace(string(token)); s != "" {
				texts = append(texts, s)
			}
		}
	}
}

func TestFigureHasOnlyPlacesOnThePage(t *testing.T) {
	var b bytes.Buffer
	if err := everything().Write(&b, "x.SVG"); err != nil {
		t.Fatal(err)
	}
	numbers, texts := coordinates(t, b.Bytes())
	if len(numbers) < 100 {
		t.Errorf("%d coordinates only", len(numbers))
	}
	for _, v := range numbers {
		if !finite(v) || v < -10 || v > width {
			t.Errorf("coordinate %v", v)
		}
	}
	for _, want := range []string{"a <title>", "second note", "one", "joined", "500", "1,000", "rate", "two", "beside it", "1,000,000", "long", "empty", "some machine, 2 cores"} {
		if !slices.Contains(texts, want) {
			t.Errorf("no %q among %q", want, texts)
		}
	}
}

func TestPNGIsSharpOnDenseScreens(t *testing.T) {
	var b bytes.Buffer
	if err := everything().Write(&b, "x.png"); err != nil {
		t.Fatal(err)
	}
	img, err := png.Decode(&b)
	if err != nil || img.Bounds().Dx() != density*width {
		t.Errorf("PNG of %v: %v", img.Bounds(), err)
	}
	if name := os.Getenv("FRESHET_TEST_PLOT"); name != "" { // to look at it
		if err := everything().Save(name); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCheckRefusesWhatCannotBeDrawnTo(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(dir, "folder.svg")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"x.jpg": `".jpg" is neither`, "x": `"" is neither`, filepath.Join(dir, "away", "x.svg"): "no such file",
		filepath.Join(file, "x.png"): "is no folder", folder: "is a folder"} {
		if err := Check(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
		if err := everything().Save(name); err == nil {
			t.Errorf("%s was drawn to", name)
		}
	}
	for _, name := range []string{filepath.Join(dir, "x.svg"), filepath.Join(dir, "X.PNG")} {
		if err := Check(name); err != nil {
			t.Error(err)
		}
		if err := everything().Save(name); err != nil {
			t.Error(err)
		}
	}
	if err := everything().Write(io.Discard, "x.jpg"); err == nil {
		t.Error("a .jpg was written")
	}
}

func TestTicks(t *testing.T) {
	for span, want := range map[float64]float64{0.27: .05, 0.07: .02, 1: .2, 0.6: .1, 0: .1} {
		if got := tick(span); math.Abs(got-want) > 1e-12 {
			t.Errorf("tick(%v) = %v, want %v", span, got, want)
		}
	}
}

func TestScales(t *testing.T) {
	for _, c := range []struct {
		name      string
		axis      Axis
		values    []float64
		low, high float64
		labels    string
	}{
		{"linear, from 0", Axis{}, []float64{3, 13_267}, 0, 15_000, "0 5,000 10,000 15,000"},
		{"around 1", Axis{Covers: []float64{.9, 1.1}}, []float64{.97, 1.04}, .9, 1.1, "0.90 0.95 1.00 1.05 1.10"},
		{"around 1, wider", Axis{Covers: []float64{.9, 1.1}}, []float64{.74, 1.32}, .7, 1.4, "0.7 0.8 0.9 1.0 1.1 1.2 1.3 1.4"},
		{"log", Axis{Log: true}, []float64{2.2, 80}, 2, 100, "2 5 10 20 50 100"},
		{"log, below 1", Axis{Log: true}, []float64{.13, 4.9}, .1, 5, "0.1 0.2 0.5 1 2 5"},
		{"log, decades", Axis{Log: true}, []float64{1, 90_000}, 1, 100_000, "1 10 100 1,000 10,000 100,000"},
		{"log, one value", Axis{Log: true}, []float64{100}, 50, 200, "50 100 200"},
		{"log, marks", Axis{Log: true, Marks: []float64{500, 3400}}, []float64{500, 3400}, 500, 3400, "500 3,400"},
		{"log, one mark", Axis{Log: true, Marks: []float64{500}}, []float64{500}, 250, 1000, "500"},
		{"log, nothing above 0", Axis{Log: true}, []float64{0, -1, math.NaN()}, .5, 2, "0.5 1 2"},
		{"nothing", Axis{}, nil, 0, 1, "0.0 0.2 0.4 0.6 0.8 1.0"},
	} {
		s := newScale(c.axis, c.values, 0, 100)
		var labels []string
		for _, v := range s.ticks {
			labels = append(labels, s.label(v))
		}
		if math.Abs(s.low-c.low) > 1e-9 || math.Abs(s.high-c.high) > 1e-9 || strings.Join(labels, " ") != c.labels {
			t.Errorf("%s: %v to %v, %q", c.name, s.low, s.high, labels)
		}
		if a, z := s.at(s.low), s.at(s.high); math.Abs(a) > 1e-9 || math.Abs(z-100) > 1e-9 || s.at(-1) != a {
			t.Errorf("%s: ends at %v and %v", c.name, a, z)
		}
	}
}

func TestOnlyBarsThatMayBreakDo(t *testing.T) {
	for _, c := range []struct {
		bars []Bar
		high float64
	}{
		{[]Bar{{Value: 1000, Breaks: true}, {Value: 100}}, 100},
		{[]Bar{{Value: 150, Breaks: true}, {Value: 100}}, 150},
		{[]Bar{{Value: 1000}, {Value: 100}}, 1000},
		{[]Bar{{Value: 1000, Breaks: true}}, 1000},
	} {
		d := drawing{Panel: &Panel{Places: make([]string, len(c.bars)), Bars: c.bars}, in: box{0, 0, 100, 100}}
		if d.scales(); d.y.high != c.high {
			t.Errorf("%v: an axis up to %v, want %v", c.bars, d.y.high, c.high)
		}
	}
}

func TestLabelsOfCloseFiguresLieApart(t *testing.T) {
	for _, dots := range [][]float64{{100}, {100, 97}, {100, 97, 94, 20}, {50, 50, 50}, {100, 85, 70, 55}} {
		column := make([]label, len(dots))
		for i, y := range dots {
			column[i].dot.y = y
		}
		placeColumn(column)
		for i := range column {
			for j := range i {
				if math.Abs(column[i].at.y-column[j].at.y) < 13 {
					t.Errorf("points at %v: labels at %v and %v", dots, column[j].at.y, column[i].at.y)
				}
			}
		}
	}
}

func TestNumbers(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{Number(1234567.5, 1), "1,234,567.5"}, {Number(-1234, 0), "-1,234"}, {Number(999, 0), "999"}, {Number(-123, 0), "-123"},
		{Figures(86.1, 3), "86.1"}, {Figures(1162, 3), "1,162"}, {Figures(.0123, 2), "0.012"}, {Figures(2.2, 2), "2.2"}, {Figures(0, 2), "0"}, {Figures(572.4, 2), "572"},
	} {
		if c.got != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
}
