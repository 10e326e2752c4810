package candidate

import (
	"context"
	"fmt"

	"freshet"
)

// Responses is where workers share what the first users of new items did; featurestore.Redis is one.
type Responses interface {
	// AddResponses adds to the sums of each item and gives what came out, in the same order; adding nothing reads. Tastes are sums in the
	// space that basis names. After an error some may have been added.
	AddResponses(ctx context.Context, basis string, add []freshet.Response) ([]freshet.Response, error)
}

// maxResponses bounds how many items one Sync gives and reads: an item costs the store a tenth of a millisecond.
const maxResponses = 200

// Sync gives the store what was learnt here and reads what others learnt; its owner calls it about once a second, from one goroutine.
// Items that came since the last call are read first, the others in turn.
func (s *New) Sync(ctx context.Context, store Responses) error {
	add := s.owing()
	if len(add) == 0 {
		return nil
	}
	sums, err := store.AddResponses(ctx, s.cfg.Basis, add)
	if err != nil {
		s.oweAgain(add)
		return fmt.Errorf("share responses to %d new items: %w", len(add), err)
	}
	s.install(sums)
	return nil
}

// owing takes what the next call gives: items that are new no more, items with something owed, items that were never read, and a
// thirtieth of all.
func (s *New) owing() []freshet.Response {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.idle {
		return nil
	}
	add := s.gone[:min(len(s.gone), maxResponses)]
	s.gone = s.gone[len(add):]
	turn := (len(s.order) + turnSyncs - 1) / turnSyncs
	for i := range s.order {
		if len(add) == maxResponses {
			return add
		}
		n := s.order[(s.rotate+i)%len(s.order)]
		if i < turn || !n.read || n.owed.taken > 0 || n.owed.shown > 0 {
			add = append(add, n.owed.of(n.id))
			n.owed = response{}
		}
	}
	if len(s.order) > 0 {
		s.rotate = (s.rotate + turn) % len(s.order)
	}
	return add
}

func (r *response) of(id string) freshet.Response {
	return freshet.Response{ItemID: id, Taken: r.taken, Shown: r.shown, Taste: r.taste}
}

// oweAgain owes what the store did not take. Some of it may have arrived: sums are not exact after a failure.
func (s *New) oweAgain(add []freshet.Response) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range add {
		a := &add[i]
		if n := s.items[a.ItemID]; n != nil {
			n.owed.add(&response{a.Taken, a.Shown, a.Taste})
		} else if (a.Taken > 0 || a.Shown > 0) && len(s.gone) < maxNew {
			s.gone = append(s.gone, *a)
		}
	}
}

// install takes the store's sums in, and what is owed beyond them.
func (s *New) install(sums []freshet.Response) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range sums {
		n := s.items[sums[i].ItemID]
		if n == nil {
			continue
		}
		n.all, n.read = response{sums[i].Taken, sums[i].Shown, sums[i].Taste}, true
		n.all.add(&n.owed)
		n.judge()
		if n.spent(s.cfg.Budget) {
			s.drop(n)
		}
	}
}
