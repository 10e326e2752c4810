package demo

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"
)

// View shows the demo to somebody. Its methods are called from one goroutine.
type View interface {
	// Step reports set-up work: again and again with growing Done, at last with Finished.
	Step(Step)
	// Show draws the state of the running demo; a few times a second is enough.
	Show(Frame)
	// Finish ends the demo with its numbers.
	Finish(Result) error
	// Close gives the terminal back as it was. It may be called at any time, and again.
	Close()
}

// Step is one piece of set-up work.
type Step struct {
	Name     string        // what is being done: "encode titles and descriptions"
	Done     int           // of Total
	Total    int           // 0 = nothing to count
	Detail   string        // what came out of it: "127.0.0.1:40123"
	Took     time.Duration // shown when Finished
	Finished bool
}

// Frame is the state of the running demo.
type Frame struct {
	Elapsed         time.Duration // since the stream began
	EventsPerSecond float64       // over the last two seconds
	EventsApplied   int64
	ListsWritten    int64
	DeadLetters     int64
	ActiveUsers     int64
	FreshnessP50    time.Duration // record's timestamp -> list visible, over the whole run
	FreshnessP99    time.Duration
	Device          string // "cpu", "cuda:0"
	Model           string // name@fingerprint
	Follow          Follow
}

// Result is what a run amounts to; its JSON is the last line of `freshet demo --json`.
type Result struct {
	EventsApplied  int64   `json:"events_applied"`
	ListsWritten   int64   `json:"lists_written"`
	ActiveUsers    int64   `json:"active_users"`
	FreshnessP50Ms float64 `json:"freshness_p50_ms"`
	FreshnessP99Ms float64 `json:"freshness_p99_ms"`
	BadPlanted     int64   `json:"bad_planted"`
	DeadLetters    int64   `json:"dead_letters"` // distinct records
}

// Open picks the view that fits: JSON only, a live screen when out is a terminal, plain lines otherwise.
// Colours are used on a terminal unless NO_COLOR is set or TERM is "dumb".
func Open(out *os.File, asJSON bool) View {
	fd := int(out.Fd())
	switch dumb := os.Getenv("TERM") == "dumb"; {
	case asJSON:
		return NewSilent(out)
	case !term.IsTerminal(fd) || dumb:
		return NewLines(out)
	}
	size := func() (int, int) {
		w, h, err := term.GetSize(fd)
		if err != nil || w < 1 || h < 1 {
			return 80, 24
		}
		return w, h
	}
	return NewLive(out, size, os.Getenv("NO_COLOR") == "")
}

// Silent shows nothing but the result, as one JSON object on one line.
type Silent struct{ out io.Writer }

// NewSilent makes a Silent view.
func NewSilent(out io.Writer) *Silent { return &Silent{out: out} }

// Step shows nothing.
func (*Silent) Step(Step) {}

// Show shows nothing.
func (*Silent) Show(Frame) {}

// Close does nothing.
func (*Silent) Close() {}

// Finish writes the result.
func (s *Silent) Finish(r Result) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode the demo's result: %w", err)
	}
	if _, err := s.out.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("write the demo's result: %w", err)
	}
	return nil
}
