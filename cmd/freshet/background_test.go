package main

import (
	"context"
	"errors"
	"runtime"
	"testing"
)

// One batch more than there are slots waits.
func TestTheBackgroundHasSoManySlots(t *testing.T) {
	b := newBackground()
	inside, leave, left := make(chan struct{}), make(chan struct{}), make(chan error)
	for range cap(b.slots) {
		go func() { left <- b.do(t.Context(), func() { inside <- struct{}{}; <-leave }) }()
		<-inside
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.do(ended, func() { t.Error("one more than there are slots was let in") }); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want the context's end", err)
	}
	close(leave)
	for range cap(b.slots) {
		if err := <-left; err != nil {
			t.Error(err)
		}
	}
	ran := false
	if err := b.do(t.Context(), func() { ran = true }); err != nil || !ran {
		t.Errorf("a free slot was not given: %v", err)
	}
}

// What the handler's caller makes of a panic, it makes of one in the background.
func TestAPanicInTheBackgroundIsTheCallers(t *testing.T) {
	b := newBackground()
	defer func() {
		if r := recover(); r != "broken" {
			t.Errorf("recovered %v", r)
		}
		if len(b.slots) != 0 {
			t.Error("the slot was not given back")
		}
	}()
	_ = b.do(t.Context(), func() { panic("broken") })
}

// The processors that lanes which catch up bring with them go with the last of them.
func TestProcessorsComeAndGoWithLanesThatCatchUp(t *testing.T) {
	usual := runtime.GOMAXPROCS(0)
	b := newBackground()
	first := b.begin()
	second := b.begin()
	if got := runtime.GOMAXPROCS(0); got != usual+cap(b.slots) {
		t.Errorf("%d processors, want %d", got, usual+cap(b.slots))
	}
	first()
	first() // a second time changes nothing
	if got := runtime.GOMAXPROCS(0); got != usual+cap(b.slots) {
		t.Errorf("one lane still catches up: %d processors, want %d", got, usual+cap(b.slots))
	}
	second()
	if got := runtime.GOMAXPROCS(0); got != usual {
		t.Errorf("%d processors, want %d", got, usual)
	}
}
