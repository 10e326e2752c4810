package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// progress shows how far a long job is: one line that is redrawn on a terminal, a line every few seconds elsewhere.
type progress struct {
	out   io.Writer
	what  string
	tty   bool
	began time.Time
	shown time.Time
}

func newProgress(out *os.File, what string) *progress {
	return &progress{out: out, what: what, tty: term.IsTerminal(int(out.Fd())), began: time.Now()}
}

// show reports done units of a job that is at that fraction (0 = unknown).
func (p *progress) show(done int, fraction float64) {
	every := 100 * time.Millisecond
	if !p.tty {
		every = 5 * time.Second
	}
	if now := time.Now(); now.Sub(p.shown) >= every {
		p.shown = now
		p.line(done, fraction, "")
	}
}

// finish shows the final figure and ends the line.
func (p *progress) finish(done int) { p.line(done, 1, "\n") }

func (p *progress) line(done int, fraction float64, end string) {
	took := time.Since(p.began).Seconds()
	text := fmt.Sprintf("%s %d (%.0f/s)", p.what, done, float64(done)/max(took, 1e-3))
	if fraction > 0 && fraction < 1 {
		text += fmt.Sprintf(" %3.0f %%, %s left", fraction*100, time.Duration(took*(1/fraction-1)*float64(time.Second)).Round(time.Second))
	}
	switch {
	case !p.tty:
		fmt.Fprintln(p.out, text)
	case fraction > 0:
		const width = 30
		full := int(fraction * width)
		fmt.Fprintf(p.out, "\r\x1b[K[%s%s] %s%s", strings.Repeat("=", full), strings.Repeat(" ", width-full), text, end)
	default:
		fmt.Fprintf(p.out, "\r\x1b[K%s%s", text, end)
	}
}
