package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"freshet/internal/chaos/topic"
)

// report collects what a run did and what came of it.
type report struct {
	plan   *plan
	gauge  *gauge  // of a soak
	probes *probes // of a soak

	mu      sync.Mutex
	done    map[string]int
	worked  map[string][]time.Duration // from a server's return until something was saved again: median and longest are shown
	slowest map[string]time.Duration   // until everything sent before the fault's end was committed
	late    map[string]int             // faults after which that took longer than recovery
	slowly  []string                   // workers that did not leave when they were told to
	watches sync.WaitGroup

	events, users, applied    int
	wrong                     map[string]string
	mismatches                []string
	erased                    int
	resurrected               []string
	planted                   int
	letters, letterDuplicates int
	lettersWrong              []string
	crashes                   int
}

// recovery is how long the workers may take to commit what was sent before a fault ended. Faults follow each other, so the next
// ones are in it.
const recovery = 2 * time.Minute

func newReport(p *plan) *report {
	return &report{plan: p, done: map[string]int{}, worked: map[string][]time.Duration{}, slowest: map[string]time.Duration{}, late: map[string]int{}}
}

func (r *report) did(s step) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done[s.class] += s.times
}

// observe runs what a soak watches, until the returned function is called; that may be called twice.
func (r *report) observe(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	if r.gauge != nil {
		all.Go(func() { r.gauge.run(ctx) })
		all.Go(func() { r.probes.run(ctx) })
	}
	return func() { cancel(); all.Wait() }
}

// worksAgain notes how long after a server's return something was saved.
func (r *report) worksAgain(class string, after time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.worked[class] = append(r.worked[class], after)
}

func (r *report) slow(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.slowly = append(r.slowly, err.Error())
}

// watch notes how long it takes until what stands in the log now is committed.
func (r *report) watch(ctx context.Context, servers *servers, s step) {
	ends, err := topic.Ends(ctx, servers.admin, eventsTopic)
	if err != nil {
		return // a broker that is away; the final wait covers it
	}
	start := time.Now()
	r.watches.Go(func() {
		for time.Since(start) < recovery && ctx.Err() == nil {
			if behind, err := servers.behind(ctx, ends); err == nil && behind == 0 {
				r.mu.Lock()
				r.slowest[s.class] = max(r.slowest[s.class], time.Since(start))
				r.mu.Unlock()
				return
			}
			if sleep(ctx, 500*time.Millisecond) != nil {
				return
			}
		}
		r.mu.Lock()
		r.late[s.class]++
		r.mu.Unlock()
	})
}

// last is the last line of a run.
type last struct {
	Events      int    `json:"events"`
	Users       int    `json:"users"`
	Wrong       int    `json:"users_wrong"`
	Bounces     int    `json:"bounces"`
	Kills       int    `json:"kills"`
	Rollbacks   int    `json:"rollbacks"`
	Poison      int    `json:"poison_planted"`
	Letters     int    `json:"dead_letters"`
	Duplicates  int    `json:"dead_letter_duplicates"`
	Mismatches  int    `json:"output_mismatches"`
	Erased      int    `json:"erased_users"`
	Resurrected int    `json:"resurrected_users"`
	Seed        uint64 `json:"seed"`
}

// print shows the table and the last line, and tells whether the run showed what it should.
func (r *report) print(o options) bool {
	r.watches.Wait()
	fmt.Printf("\n%-13s %5s  %-12s %-12s %s\n", "fault", "times", "works again", "caught up", "what")
	for _, class := range sortedKeys(r.done) {
		state := fmt.Sprintf("in %.1f s", r.slowest[class].Seconds())
		if n := r.late[class]; n > 0 {
			state = fmt.Sprintf("%d NOT", n)
		}
		again := "" // of faults that take a server away
		if list := r.worked[class]; len(list) > 0 {
			again = fmt.Sprintf("%.1f, %.1f s", median(list).Seconds(), slices.Max(list).Seconds())
		}
		fmt.Printf("%-13s %5d  %-12s %-12s %s\n", class, r.done[class], again, state, classes[class].what)
	}
	fmt.Printf("\n%d records, %d of them applied to %d users; %d worker processes ended unasked and were started again\n", r.events, r.applied, r.users, r.crashes)
	for _, line := range r.slowly {
		fmt.Printf("SLOW %s; it was killed\n", line)
	}
	for _, user := range firstKeys(r.wrong, 10) {
		fmt.Printf("WRONG user %s: %s\n", user, r.wrong[user])
	}
	for _, group := range []struct {
		name string
		list []string
	}{{"output", r.mismatches}, {"resurrected", r.resurrected}, {"dead letters", r.lettersWrong}} {
		for _, line := range group.list[:min(10, len(group.list))] {
			fmt.Printf("WRONG %s: %s\n", group.name, line)
		}
	}
	l := last{r.events, r.users, len(r.wrong), r.done["bounce"], r.done["kill"] + r.done["kill-publish"], r.done["rollback"], r.planted, r.letters,
		r.letterDuplicates, len(r.mismatches), r.erased, len(r.resurrected), r.plan.seed}
	whole := l.Wrong == 0 && l.Mismatches == 0 && l.Resurrected == 0 && len(r.lettersWrong) == 0
	ok := whole
	if r.gauge != nil {
		text, flat := r.gauge.verdict()
		fmt.Println(text)
		text, fresh := r.probes.verdict()
		fmt.Println(text)
		ok = ok && flat && fresh && len(r.late) == 0
	}
	if o.unfenced {
		ok = l.Wrong > 0
		fmt.Printf("control without the fence: %d of %d users wrong, as it must be more than 0\n", l.Wrong, l.Users)
	}
	if err := json.NewEncoder(os.Stdout).Encode(l); err != nil {
		return false
	}
	return ok
}

func median(list []time.Duration) time.Duration {
	return slices.Sorted(slices.Values(list))[len(list)/2]
}

func firstKeys(m map[string]string, n int) []string {
	keys := sortedKeys(m)
	return slices.Clone(keys[:min(n, len(keys))])
}
