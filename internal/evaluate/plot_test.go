package evaluate

import (
	"bytes"
	"encoding/xml"
	"image/png"
	"io"
	"os"
	"strings"
	"testing"
)

func TestPlot(t *testing.T) {
	r := smallReport(t)
	var s, p bytes.Buffer
	if err := r.Plot(&s, "x.SVG"); err != nil {
		t.Fatal(err)
	}
	d := xml.NewDecoder(bytes.NewReader(s.Bytes()))
	lines := 0
	for {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("no well-formed XML: %v", err)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "polygon" {
			lines++
		}
	}
	if lines != 2*len(r.Rows) {
		t.Errorf("%d bands for %d rows in two panels", lines, len(r.Rows))
	}
	for _, want := range []string{"HR@10 over time", "counts 0.", "01-02 "} {
		if !strings.Contains(s.String(), want) {
			t.Errorf("no %q in the plot", want)
		}
	}
	if err := r.Plot(&p, "x.png"); err != nil {
		t.Fatal(err)
	}
	img, err := png.Decode(bytes.NewReader(p.Bytes()))
	if err != nil || img.Bounds().Dx() != 2240 {
		t.Errorf("PNG: %v", err)
	}
	if name := os.Getenv("FRESHET_TEST_PLOT"); name != "" { // to look at it
		f, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := r.Plot(f, name); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Plot(io.Discard, "x.jpg"); err == nil || !strings.Contains(err.Error(), ".jpg") {
		t.Errorf("an unknown ending: %v", err)
	}
	if err := (&Report{}).Plot(io.Discard, "x.svg"); err == nil {
		t.Error("nothing was plotted")
	}
}

func TestTicks(t *testing.T) {
	for highest, want := range map[float64]float64{0.27: .05, 0.07: .02, 1: .2, 0.6: .1, 0: .1} {
		if got := tick(highest); got-want > 1e-12 || want-got > 1e-12 {
			t.Errorf("tick(%v) = %v, want %v", highest, got, want)
		}
	}
}
