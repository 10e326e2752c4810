package stream

import (
	"context"
	"math/rand/v2"
	"time"
)

// Bounds of the wait between two attempts. The longest one is what recovery after a server's return may take.
const (
	backoffMin = 25 * time.Millisecond
	backoffMax = time.Second
)

// backoff grows from backoffMin to backoffMax; each wait is drawn from the upper half, so that many loops do not return at once.
type backoff struct{ next time.Duration }

func (b *backoff) reset() { b.next = 0 }

// wait sleeps once. It returns false as soon as ctx ends.
func (b *backoff) wait(ctx context.Context) bool {
	if b.next = min(max(2*b.next, backoffMin), backoffMax); ctx.Err() != nil {
		return false
	}
	t := time.NewTimer(b.next/2 + rand.N(b.next/2))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
