package main

import (
	"syscall"
	"testing"
)

// Only the thread that runs the batch is put last, not the process.
func TestTheBackgroundRunsLast(t *testing.T) {
	nice := func() int {
		p, err := syscall.Getpriority(syscall.PRIO_PROCESS, syscall.Gettid())
		if err != nil {
			t.Fatal(err)
		}
		return 20 - p
	}
	b, before, inside := newBackground(), nice(), 0
	if err := b.do(t.Context(), func() { inside = nice() }); err != nil {
		t.Fatal(err)
	}
	if want := min(before+lowPriority, 19); inside != want {
		t.Errorf("nice %d in the background, want %d", inside, want)
	}
	if got := nice(); got != before {
		t.Errorf("nice %d afterwards, want %d", got, before)
	}
}
