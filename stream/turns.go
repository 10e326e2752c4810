package stream

import "sync"

// turns lets callers share calls: while one is under way, what others ask for gathers, and the next call does it for all of them. Who
// finds nobody at work goes at once, so a lone caller waits for nothing; the busier it is, the more one call does. It has no goroutine
// of its own: the first of those that wait makes the call, for himself and for others.
type turns[P any] struct {
	slots int                         // calls under way that have others wait, at least 1
	full  func(waiting []P) bool      // whether those that wait fill a call of their own, which then waits for nobody
	fits  func(team []P, next P) bool // whether one more goes into a call
	hold  func(first P)               // called before it is settled who is in the call
	work  func(team []P)              // makes the call and leaves its results in the parts

	mu    sync.Mutex
	busy  int         // calls under way
	queue []P         // those that wait, and
	wake  []chan bool // how to tell each: true = make the next call, false = it was made for you
}

// do returns when a call has been made that part was in.
func (t *turns[P]) do(part P) {
	t.mu.Lock()
	if t.busy >= t.slots && !t.full(append(t.queue, part)) {
		lead := make(chan bool, 1)
		t.queue, t.wake = append(t.queue, part), append(t.wake, lead)
		t.mu.Unlock()
		if !<-lead {
			return
		}
		t.mu.Lock()
	} else {
		t.busy++
	}
	t.mu.Unlock()
	t.hold(part)
	t.mu.Lock()
	team, told := t.join(part)
	t.mu.Unlock()
	t.work(team)
	t.mu.Lock()
	if t.busy--; len(t.queue) > 0 && t.busy < t.slots {
		t.busy++
		t.wake[0] <- true
		t.queue, t.wake = t.queue[1:], t.wake[1:]
	}
	t.mu.Unlock()
	for _, other := range told {
		other <- false
	}
}

// join takes those that fit into a call with part out of the queue.
func (t *turns[P]) join(part P) (team []P, told []chan bool) {
	team = append(team, part)
	var queue []P
	var wake []chan bool
	for i, next := range t.queue {
		if t.fits(team, next) {
			team, told = append(team, next), append(told, t.wake[i])
		} else {
			queue, wake = append(queue, next), append(wake, t.wake[i])
		}
	}
	t.queue, t.wake = queue, wake
	return team, told
}
