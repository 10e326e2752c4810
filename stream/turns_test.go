package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"freshet"
)

// What gathers while a call is under way goes into the next one, as far as it fits, and everybody gets his turn once.
func TestTurnsJoinWhatGathers(t *testing.T) {
	begun, let := make(chan []int), make(chan struct{})
	x := &turns[int]{slots: 1, full: func(w []int) bool { return len(w) >= 100 }, hold: func(int) {},
		fits: func(team []int, _ int) bool { return len(team) < 3 },
		work: func(team []int) { begun <- team; <-let }}
	var callers sync.WaitGroup
	callers.Go(func() { x.do(0) })
	if team := <-begun; !slices.Equal(team, []int{0}) {
		t.Fatalf("the first call was for %v", team)
	}
	for i := 1; i <= 4; i++ {
		callers.Go(func() { x.do(i) })
	}
	waiting := func() int { x.mu.Lock(); defer x.mu.Unlock(); return len(x.queue) }
	eventually(t, "four wait", func() bool { return waiting() == 4 })
	let <- struct{}{}
	first := <-begun
	let <- struct{}{}
	second := <-begun
	let <- struct{}{}
	callers.Wait()
	all := append(first, second...)
	slices.Sort(all)
	if len(first) != 3 || len(second) != 1 || !slices.Equal(all, []int{1, 2, 3, 4}) || x.busy != 0 || waiting() != 0 {
		t.Fatalf("calls for %v and %v, %d busy, %d waiting", first, second, x.busy, waiting())
	}
}

// Who fills a call does not wait for the one under way.
func TestAFullTurnWaitsForNobody(t *testing.T) {
	begun, let := make(chan struct{}), make(chan struct{})
	x := &turns[int]{slots: 1, full: func(w []int) bool { return slices.Max(w) >= 10 }, hold: func(int) {},
		fits: func([]int, int) bool { return true }, work: func([]int) { begun <- struct{}{}; <-let }}
	var callers sync.WaitGroup
	callers.Go(func() { x.do(1) })
	<-begun
	callers.Go(func() { x.do(10) })
	<-begun // beside the first
	close(let)
	callers.Wait()
}

// joinedHandler folds what it is given and fails where it is told to.
type joinedHandler struct {
	fails func(events []freshet.Event) error
	mu    sync.Mutex
	calls [][]string
}

func (h *joinedHandler) Handle(_ context.Context, events []freshet.Event) (lists []freshet.Publication, err error) {
	var users []string
	for i := range events {
		users = append(users, events[i].UserID)
		lists = append(lists, freshet.Publication{UserID: events[i].UserID, From: events[i].Position})
	}
	h.mu.Lock()
	h.calls = append(h.calls, users)
	h.mu.Unlock()
	if err := h.fails(events); err != nil {
		return nil, err
	}
	return lists, nil
}

func (h *joinedHandler) Release(freshet.Source) {}

// team gives two partitions' parts to one call.
func joinedTeam(t *testing.T, fails func([]freshet.Event) error) (h *joinedHandler, a, b *part) {
	t.Helper()
	h = &joinedHandler{fails: fails}
	x := newBatcher(h, &ConsumerConfig{BatchEvents: 128, Joined: true}, Unobserved{})
	of := func(partition int32, users ...string) *part {
		p := &part{ctx: t.Context()}
		for i, u := range users {
			p.events = append(p.events, freshet.Event{UserID: u, Position: freshet.Position{Source: freshet.Source{Partition: partition}, Offset: int64(i)}})
		}
		return p
	}
	a, b = of(0, "u1", "u2"), of(1, "u3")
	x.work([]*part{a, b})
	return h, a, b
}

func usersOf(lists []freshet.Publication) (users []string) {
	for _, l := range lists {
		users = append(users, l.UserID)
	}
	return users
}

func TestJoinedPartitionsEachGetTheirOwnLists(t *testing.T) {
	h, a, b := joinedTeam(t, func([]freshet.Event) error { return nil })
	if len(h.calls) != 1 || a.err != nil || b.err != nil {
		t.Fatalf("calls %v, errors %v and %v", h.calls, a.err, b.err)
	}
	if got := fmt.Sprint(usersOf(a.lists), usersOf(b.lists)); got != "[u1 u2] [u3]" {
		t.Fatalf("lists of %s", got)
	}
}

// An event that cannot be handled, and a panic, are held against its own partition only.
func TestOnePartitionsFaultIsNotAnothers(t *testing.T) {
	bad := errors.New("u3 cannot be handled")
	for name, fail := range map[string]func() error{"an error": func() error { return bad }, "a panic": func() error { panic(bad) }, "a loss": func() error { return freshet.ErrLost }} {
		t.Run(name, func(t *testing.T) {
			_, a, b := joinedTeam(t, func(events []freshet.Event) error {
				if slices.ContainsFunc(events, func(e freshet.Event) bool { return e.UserID == "u3" }) {
					return fail()
				}
				return nil
			})
			if got := fmt.Sprint(usersOf(a.lists), usersOf(b.lists)); a.err != nil || b.err == nil || got != "[u1 u2] []" {
				t.Fatalf("lists of %s, errors %v and %v", got, a.err, b.err)
			}
		})
	}
}

// A store that is away is away for all: nobody asks again at once.
func TestAStoreThatIsAwayIsAskedOnce(t *testing.T) {
	h, a, b := joinedTeam(t, func([]freshet.Event) error { return freshet.ErrUnavailable })
	if len(h.calls) != 1 || !errors.Is(a.err, freshet.ErrUnavailable) || !errors.Is(b.err, freshet.ErrUnavailable) {
		t.Fatalf("%d calls, errors %v and %v", len(h.calls), a.err, b.err)
	}
}
