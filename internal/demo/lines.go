package demo

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// Lines is for pipes and log files: no redrawing, no escape sequences. It writes a line of numbers every five seconds and a few
// lines for every new list of the followed shopper.
type Lines struct {
	out   io.Writer
	next  time.Duration // elapsed time of the next line of numbers
	lists int           // lists of the followed shopper told so far
	step  Step          // last step told
}

// NewLines makes a Lines view.
func NewLines(out io.Writer) *Lines { return &Lines{out: out} }

const (
	everyLine = 5 * time.Second
	toldTop   = 3 // places told of a list
)

// Step tells of a step when it begins, at every quarter and when it is finished.
func (l *Lines) Step(s Step) {
	same := s.Name == l.step.Name
	if same && !s.Finished && (s.Total == 0 || 4*s.Done/s.Total == 4*l.step.Done/s.Total) {
		return
	}
	l.step = s
	mark := "..."
	if s.Finished {
		mark, l.step = "ok ", Step{}
	}
	l.write(fmt.Sprintf("%s %s\n", mark, clean(stepText(s))))
}

// Show tells what is new.
func (l *Lines) Show(f Frame) {
	if f.Elapsed >= l.next {
		l.next = f.Elapsed - f.Elapsed%everyLine + everyLine
		l.write(fmt.Sprintf("[%s] %s events/s, freshness p50 %s p99 %s, %s events applied, %s lists written, %s shoppers, %s dead letters, %s on %s\n",
			clock(f.Elapsed), thousands(int64(f.EventsPerSecond+0.5)), ms(f.FreshnessP50), ms(f.FreshnessP99), thousands(f.EventsApplied),
			thousands(f.ListsWritten), thousands(f.ActiveUsers), thousands(f.DeadLetters), f.Model, f.Device))
	}
	if f.Follow.Lists != l.lists && len(f.Follow.After) > 0 {
		l.lists = f.Follow.Lists
		l.tell(f)
	}
}

func (l *Lines) tell(f Frame) {
	var b strings.Builder
	fmt.Fprintf(&b, "[%s] %s %s; %s later:\n", clock(f.Elapsed), f.Follow.UserID, clean(f.Follow.Answers.what()), ms(f.Follow.Freshness))
	for i, p := range f.Follow.After[:min(toldTop, len(f.Follow.After))] {
		fmt.Fprintf(&b, "        %d %s %s %s, %s\n", i+1, fit(moveOf(f.Follow.Before, p.ItemID, i).mark, 3), clean(p.Title), money(p.Product), clean(p.Why))
	}
	l.write(b.String())
}

// Finish sums up.
func (l *Lines) Finish(r Result) error {
	_, err := io.WriteString(l.out, summary(r))
	return err
}

// Close does nothing.
func (*Lines) Close() {}

func (l *Lines) write(s string) { _, _ = io.WriteString(l.out, s) }
