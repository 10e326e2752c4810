package main

import (
	"fmt"
	"math/rand/v2"
	"sort"
	"strconv"
	"strings"
	"time"
)

const (
	partitions      = 12
	morePartitions  = 16 // after some were added
	session         = 6 * time.Second
	lossWindow      = 3 * time.Second
	bouncesPerBurst = 6
)

// plan is what one run does, all of it from the seed.
type plan struct {
	seed          uint64
	events, users int
	counts        map[string]int
	steps         []step
	soak          time.Duration // 0 = a run of faults as close as they come
	rnd           *rand.Rand    // of the faults; the stream has its own
}

// step is one fault, or one burst of bounces.
type step struct {
	class string
	times int           // bounces of a burst
	age   time.Duration // of a rollback's snapshot
}

// forms are the two sizes of the suite. Rollbacks are 1, 10 and 60 s old, in this order, and again.
var forms = map[string]plan{
	"short": {events: 20_000, users: 300, counts: map[string]int{"bounce": 12, "kill": 3, "stop": 1, "stop-save": 1, "stop-publish": 1, "kill-publish": 1,
		"broker": 1, "redis-kill": 1, "rollback": 2, "flushall": 1, "script-flush": 1, "oom": 1, "latency": 1, "partitions": 1}},
	"long": {events: 120_000, users: 1000, counts: map[string]int{"bounce": 60, "kill": 20, "stop": 4, "stop-save": 4, "stop-publish": 4, "kill-publish": 4,
		"broker": 3, "redis-kill": 3, "rollback": 3, "flushall": 1, "script-flush": 3, "oom": 2, "latency": 2, "partitions": 1}},
}

var ages = []time.Duration{10 * time.Second, time.Second, 60 * time.Second}

func newPlan(o options) (*plan, error) {
	form, ok := forms[o.form]
	if !ok {
		return nil, fmt.Errorf("form %q is neither short nor long", o.form)
	}
	p := &plan{seed: o.seed, events: form.events, users: form.users, counts: form.counts, rnd: rand.New(rand.NewPCG(o.seed, 2))}
	if o.events > 0 {
		p.events = o.events
	}
	if o.users > 0 {
		p.users = o.users
	}
	if o.faults != "" {
		p.counts = map[string]int{}
		for _, f := range strings.Split(o.faults, ",") {
			class, number, _ := strings.Cut(f, "=")
			n, err := strconv.Atoi(number)
			if err != nil || classes[class].run == nil && class != "none" {
				return nil, fmt.Errorf("faults: %q is not CLASS=N with a class of %s", f, strings.Join(classNames(), ", "))
			}
			p.counts[class] = n
		}
	}
	if o.soak > 0 {
		p.arrangeSoak(o.soak, o.rate)
		return p, nil
	}
	p.arrange()
	return p, nil
}

// arrange puts the faults into an order. Partitions are added when the store has lost data for the last time: a user who moves has
// events in two partitions, and reading both again side by side may apply them in another order than at first.
func (p *plan) arrange() {
	var before, after []step
	for _, class := range sortedKeys(p.counts) {
		n := p.counts[class]
		for i := 0; i < n; {
			s := step{class: class, times: 1}
			if class == "bounce" {
				s.times = min(bouncesPerBurst, n-i)
			}
			if class == "rollback" {
				s.age = ages[i%len(ages)]
			}
			i += s.times
			switch {
			case class == "partitions":
				continue
			case p.counts["partitions"] > 0 && !classes[class].forgets && n > s.times && i >= n:
				after = append(after, s)
			default:
				before = append(before, s)
			}
		}
	}
	p.rnd.Shuffle(len(before), func(a, b int) { before[a], before[b] = before[b], before[a] })
	p.rnd.Shuffle(len(after), func(a, b int) { after[a], after[b] = after[b], after[a] })
	for range p.counts["partitions"] {
		before = append(before, step{class: "partitions", times: 1})
	}
	p.steps = append(before, after...)
}

// lasts estimates how long the faults take, to pace the stream.
func (p *plan) lasts() time.Duration {
	if p.soak > 0 {
		return p.soak
	}
	sum := 5 * time.Second
	for _, s := range p.steps {
		sum += pause + time.Duration(s.times)*classes[s.class].lasts + s.age
	}
	return sum
}

func (p *plan) String() string {
	var out []string
	for _, class := range sortedKeys(p.counts) {
		out = append(out, fmt.Sprintf("%s x %d", class, p.counts[class]))
	}
	return "faults: " + strings.Join(out, ", ")
}

func sortedKeys[T any](m map[string]T) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
