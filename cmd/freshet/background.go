package main

import (
	"context"
	"os"
	"runtime"
	"sync"
)

// background is where lanes that catch up do their work, without being noticed by live traffic. Two things make a worker slow to answer
// beside a goroutine that computes all the time: Go has no priorities, so whoever becomes runnable waits for a time slice at each of his
// trips to the store and the brokers; and neither has the system as long as all threads are alike, so the brokers and the store on the
// same machine wait, too. Hence batches of the background run on threads of their own with a lower priority, and while there are any the
// runtime has that many processors more than there are, so that such a thread, when it is put aside, keeps no processor from the rest.
type background struct {
	slots chan struct{} // as many as processors: a batch waits for the store a good part of its time

	mu    sync.Mutex
	lanes int // that catch up
	usual int // GOMAXPROCS without them
}

func newBackground() *background {
	return &background{slots: make(chan struct{}, runtime.GOMAXPROCS(0))}
}

// begin makes room for a lane that catches up; end takes it back.
func (b *background) begin() (end func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.lanes++; b.lanes == 1 {
		b.usual = runtime.GOMAXPROCS(0)
		runtime.GOMAXPROCS(b.usual + cap(b.slots))
	}
	return sync.OnceFunc(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.lanes--; b.lanes > 0 {
			return
		}
		if os.Getenv("GOMAXPROCS") != "" {
			runtime.GOMAXPROCS(b.usual)
		} else {
			runtime.SetDefaultGOMAXPROCS() // follows the container's limit again
		}
	})
}

// do runs f on a thread that the system lets run last, when there is a slot for it. A panic of f is the caller's.
func (b *background) do(ctx context.Context, f func()) error {
	select {
	case b.slots <- struct{}{}:
		defer func() { <-b.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	var panicked any
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good: a thread whose priority was lowered ends with its goroutine
		runLast()
		defer func() { panicked = recover() }()
		f()
	}()
	if <-done; panicked != nil {
		panic(panicked)
	}
	return nil
}
