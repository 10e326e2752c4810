package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"freshet/internal/plot"
)

// drawn gives a figure as SVG, and refuses one with places that are no numbers. With FRESHET_TEST_PLOT=FOLDER it is left there, to look at it.
func drawn(t *testing.T, name string, f *plot.Figure) string {
	t.Helper()
	if folder := os.Getenv("FRESHET_TEST_PLOT"); folder != "" {
		if err := f.Save(filepath.Join(folder, name+".png")); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	if err := f.Write(&b, "x.svg"); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), "NaN") || strings.Contains(b.String(), "Inf") {
		t.Errorf("%s: places that are no numbers", name)
	}
	return b.String()
}

func wantInPlot(t *testing.T, svg string, labels ...string) {
	t.Helper()
	for _, want := range labels {
		if !strings.Contains(svg, ">"+want) {
			t.Errorf("no label that begins with %q", want)
		}
	}
}

// A file that cannot be drawn to is refused before anything is opened: the bundle that is named is not there, and nobody notices.
func TestPlotIsRefusedBeforeAnythingIsMeasured(t *testing.T) {
	away := filepath.Join(t.TempDir(), "away", "x.svg")
	for _, verb := range []string{"bench pipeline", "bench step", "bench index", "eval loo --data x"} {
		for file, want := range map[string]string{"x.jpg": "neither .png nor .svg", away: "no such file"} {
			root := newRoot()
			root.SetArgs(append(strings.Fields(verb), "--plot", file, "--set", "model.bundle=not-there"))
			root.SetOut(&bytes.Buffer{})
			if err := root.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "not-there") {
				t.Errorf("%s --plot %s: %v, want %q", verb, file, err, want)
			}
		}
	}
}
