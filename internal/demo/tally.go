package demo

import (
	"math"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Freshness collects the times from a record's timestamp to its list being visible, from 1 us to 10 minutes with three digits.
// HdrHistogram keeps the tail exactly that precise in constant memory, which an average or a sample would not. It is safe for
// concurrent use.
type Freshness struct {
	mu sync.Mutex
	h  *hdrhistogram.Histogram
}

const longest = 10 * time.Minute

// NewFreshness makes an empty collection.
func NewFreshness() *Freshness {
	return &Freshness{h: hdrhistogram.New(1, longest.Microseconds(), 3)}
}

// Record takes one time in. Times outside the range count at its ends: a clock that runs behind must not lose a record.
func (f *Freshness) Record(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	_ = f.h.RecordValue(min(max(d, time.Microsecond), longest).Microseconds()) // in range, so it cannot fail
}

// Quantile gives the q-th quantile, q in [0, 1]; 0 when nothing was recorded.
func (f *Freshness) Quantile(q float64) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Duration(f.h.ValueAtQuantile(100*q)) * time.Microsecond
}

// Tally counts what the demo does. It is safe for concurrent use.
type Tally struct {
	now       func() time.Time
	freshness *Freshness

	mu      sync.Mutex
	start   time.Time
	frame   Frame
	active  map[string]struct{}
	samples []sample // the last two seconds
}

type sample struct {
	at      time.Duration
	applied int64
}

// NewTally starts counting now.
func NewTally(now func() time.Time) *Tally {
	return &Tally{now: now, start: now(), freshness: NewFreshness(), active: map[string]struct{}{}}
}

// Begin starts the clock anew, when set-up is over and the stream begins.
func (t *Tally) Begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.start, t.samples = t.now(), nil
}

// Runs says what serves: device and model as the screen shows them.
func (t *Tally) Runs(device, model string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.frame.Device, t.frame.Model = device, model
}

// Applied counts events that changed a profile.
func (t *Tally) Applied(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.frame.EventsApplied += int64(n)
}

// Listed counts a list that became visible, and how long after its record's timestamp.
func (t *Tally) Listed(userID string, freshness time.Duration) {
	t.freshness.Record(freshness)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.frame.ListsWritten++
	t.active[userID] = struct{}{}
}

// Dead counts distinct records that went to the dead letters.
func (t *Tally) Dead(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.frame.DeadLetters += int64(n)
}

// Frame gives the state for the screen; story may be nil.
func (t *Tally) Frame(story *Story) Frame {
	t.mu.Lock()
	f := t.frame
	f.Elapsed, f.ActiveUsers = t.now().Sub(t.start), int64(len(t.active))
	f.EventsPerSecond = t.rate(f.Elapsed, f.EventsApplied)
	t.mu.Unlock()
	f.FreshnessP50, f.FreshnessP99 = t.freshness.Quantile(0.5), t.freshness.Quantile(0.99)
	if story != nil {
		f.Follow = story.Follow()
	}
	return f
}

// rate is the slope over the samples of the last two seconds, this one included.
func (t *Tally) rate(at time.Duration, applied int64) float64 {
	t.samples = append(t.samples, sample{at, applied})
	for len(t.samples) > 2 && at-t.samples[0].at > 2*time.Second {
		t.samples = t.samples[1:]
	}
	first := t.samples[0]
	if at == first.at {
		return 0
	}
	return float64(applied-first.applied) / (at - first.at).Seconds()
}

// Result gives the numbers of the run; badPlanted is known only to whoever planted.
func (t *Tally) Result(badPlanted int64) Result {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Result{
		EventsApplied: t.frame.EventsApplied, ListsWritten: t.frame.ListsWritten, ActiveUsers: int64(len(t.active)),
		FreshnessP50Ms: milliseconds(t.freshness.Quantile(0.5)), FreshnessP99Ms: milliseconds(t.freshness.Quantile(0.99)),
		BadPlanted: badPlanted, DeadLetters: t.frame.DeadLetters,
	}
}

func milliseconds(d time.Duration) float64 {
	return math.Round(float64(d)/float64(time.Millisecond)*1000) / 1000
}
