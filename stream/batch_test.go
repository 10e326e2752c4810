package stream

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"

	"freshet"
)

// sizes notes how many events came at once.
type sizes struct {
	mu   sync.Mutex
	seen []int
}

func (s *sizes) Handle(_ context.Context, events []freshet.Event) ([]freshet.Publication, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, len(events))
	return nil, nil
}

func (*sizes) Release(freshet.Source) {}

func (s *sizes) sum() (events, largest int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.seen {
		events, largest = events+n, max(largest, n)
	}
	return events, largest
}

func TestTheBatchMayChangeWhileItRuns(t *testing.T) {
	onBrokers(t, func(t *testing.T, b *broker) {
		r := newRig(t, b, 1)
		var most atomic.Int64
		most.Store(300)
		cfg := r.config()
		cfg.BatchNow = func() int { return int(most.Load()) }
		r.send(0, 1000, 20)
		h := &sizes{}
		r.run(cfg, h, nil)
		eventually(t, "the first thousand", func() bool { n, _ := h.sum(); return n == 1000 })
		if _, largest := h.sum(); largest <= cfg.BatchEvents || largest > 300 {
			t.Errorf("up to %d events at once, want more than %d and at most 300", largest, cfg.BatchEvents)
		}
		most.Store(7)
		h.mu.Lock()
		h.seen = nil
		h.mu.Unlock()
		r.send(1000, 100, 20)
		eventually(t, "the next hundred", func() bool { n, _ := h.sum(); return n == 100 })
		if _, largest := h.sum(); largest > 7 {
			t.Errorf("%d events at once, want at most 7", largest)
		}
	})
}
