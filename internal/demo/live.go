package demo

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// Live redraws a terminal. Set-up lines stay in the scrollback; the screen itself lives in the terminal's alternate buffer, so
// that what was there before comes back at the end.
type Live struct {
	out    io.Writer
	size   func() (width, height int)
	colour bool
	inside bool // the alternate buffer is on
}

// NewLive makes a Live view; size is asked before every frame, so that it follows the window.
func NewLive(out io.Writer, size func() (width, height int), colour bool) *Live {
	return &Live{out: out, size: size, colour: colour}
}

const bar = 24 // columns of a progress bar

// Step redraws the step's line in place until it is finished.
func (l *Live) Step(s Step) {
	width, _ := l.size()
	text := stepText(s)
	if s.Total > 0 && !s.Finished {
		n := bar * min(s.Done, s.Total) / s.Total
		text = fit(text, width-bar-8) + " " + strings.Repeat("█", n) + strings.Repeat("░", bar-n)
	}
	mark := l.paint(" … ", dim)
	if s.Finished {
		mark = l.paint(" ✓ ", green)
	}
	line := "\r" + mark + strings.TrimRight(fit(text, width-4), " ") + "\x1b[K"
	if s.Finished {
		line += "\n"
	}
	l.write(line)
}

// Show draws one frame.
func (l *Live) Show(f Frame) {
	var b strings.Builder
	if !l.inside {
		l.inside = true
		b.WriteString("\x1b[?1049h\x1b[?25l") // alternate buffer, no cursor
	}
	b.WriteString("\x1b[H")
	width, height := l.size()
	for i, row := range render(f, width, height, l.colour) {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(row)
	}
	l.write(b.String())
}

// Finish leaves the screen and sums up.
func (l *Live) Finish(r Result) error {
	l.Close()
	_, err := io.WriteString(l.out, summary(r))
	return err
}

// Close leaves the alternate buffer and shows the cursor.
func (l *Live) Close() {
	if l.inside {
		l.inside = false
		l.write("\x1b[?25h\x1b[?1049l")
	}
}

func (l *Live) paint(s string, c style) string {
	if !l.colour {
		return s
	}
	return string(c) + s + string(reset)
}

// write sends one whole piece, so that a terminal never shows half a frame. A terminal that is gone shows nothing: no reason to
// stop serving.
func (l *Live) write(s string) { _, _ = io.WriteString(l.out, s) }

func stepText(s Step) string {
	text := s.Name
	if s.Total > 0 {
		text += fmt.Sprintf("  %s of %s", thousands(int64(s.Done)), thousands(int64(s.Total)))
	}
	if s.Detail != "" {
		text += "  " + s.Detail
	}
	if s.Finished && s.Took > 0 {
		step := time.Millisecond
		if s.Took >= time.Second {
			step = 10 * time.Millisecond
		}
		text += fmt.Sprintf("  (%s)", s.Took.Round(step))
	}
	return text
}

func summary(r Result) string {
	return fmt.Sprintf("%s events applied, %s lists written for %s shoppers\nfreshness p50 %.2f ms, p99 %.2f ms\n%s bad records planted, %s in the dead letters\n",
		thousands(r.EventsApplied), thousands(r.ListsWritten), thousands(r.ActiveUsers), r.FreshnessP50Ms, r.FreshnessP99Ms, thousands(r.BadPlanted), thousands(r.DeadLetters))
}
