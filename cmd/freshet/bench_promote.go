package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"freshet"
	"freshet/featurestore"
	"freshet/internal/demo"
	rules "freshet/internal/lane"
	"freshet/stream"
)

func newBenchPromoteCommand(g *globals, asJSON *bool) *cobra.Command {
	b := promoteBench{reads: 2000, rate: 1000, rest: 15 * time.Second}
	cmd := &cobra.Command{Use: "promote NAME", Short: "Promote a lane and roll back under load, and watch what readers get",
		Long: "Reads users' lists at a fixed rate, as frontends do, while every second user has events at another; then promotes the lane, waits, and\n" +
			"promotes the former one. Nobody may read nothing or half a list; for one user the lane that he reads may change once each time; users\n" +
			"without events must have the new lane's list when the command is over; and reading must take no longer meanwhile than in the windows\n" +
			"of two seconds before, between and after. It ends with an error where one of these does not hold.", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withOperator(cmd, g, *asJSON, func(ctx context.Context, o *operator) error {
				b.lane = args[0]
				return b.run(ctx, o)
			})
		}}
	cmd.Flags().IntVar(&b.reads, "reads", b.reads, "lists read per second")
	cmd.Flags().IntVar(&b.rate, "rate", b.rate, "events per second, for every second user")
	cmd.Flags().DurationVar(&b.rest, "rest", b.rest, "how long the load runs before, between and after the two promotions")
	return cmd
}

// The phases of the run; those with an odd number are hand-overs.
const (
	phaseBefore = iota
	phasePromote
	phaseBetween
	phaseRollBack
	phaseAfter
	phases
)

var phaseNames = [phases]string{"before", "promote", "between", "roll_back", "after"}

// promoteBench is one run.
type promoteBench struct {
	lane        string
	reads, rate int
	rest        time.Duration

	users []string // those with an even number have no events
	phase atomic.Int32
	began time.Time

	mu      sync.Mutex
	windows map[promoteWindow]*demo.Freshness
	all     [phases]*demo.Freshness
	count   int64
	missing int64
}

// promoteWindow is two seconds of one phase.
type promoteWindow struct{ phase, n int }

const promoteWindowLength = 2 * time.Second

// promoteReaders is how many connections read. Each has users of its own, so that one user's reads come one after another.
const promoteReaders = 16

// promoteSeen is what one user's reads told.
type promoteSeen struct {
	lane    string
	cv      uint64
	changes [2]int // in the promotion and in the roll-back
	back    int    // times that an older list came after a newer one
}

func (b *promoteBench) run(ctx context.Context, o *operator) error {
	if b.reads < promoteReaders || b.rate < 1 || b.rest < promoteWindowLength {
		return fmt.Errorf("--reads: at least %d; --rate: at least 1; --rest: at least %s", promoteReaders, promoteWindowLength)
	}
	table, err := o.store.Lanes(ctx)
	if err != nil {
		return err
	}
	former := table.Live
	if err := rules.Promote(table.Clone(), b.lane, false); err != nil {
		return err
	}
	conn, err := connection(o.cfg)
	if err != nil {
		return err
	}
	load := &freshnessBench{due: map[string]time.Time{}, times: demo.NewFreshness()}
	if err := load.prepare(ctx, o.cfg, conn); err != nil {
		return err
	}
	b.users = slices.Clone(load.users)
	load.users = slices.DeleteFunc(load.users, func(u string) bool { i, _ := slices.BinarySearch(b.users, u); return i%2 == 0 })
	if len(load.users) == 0 {
		return errors.New("there are too few users with lists: run a worker over some events first")
	}
	b.windows = map[promoteWindow]*demo.Freshness{}
	for i := range b.all {
		b.all[i] = demo.NewFreshness()
	}
	p, err := stream.NewProducer(stream.ProducerConfig{Connection: conn, Events: o.cfg.Kafka.Topics.Events}, o.log)
	if err != nil {
		return err
	}
	defer p.Close()
	loaded, stop := context.WithCancel(ctx)
	defer stop()
	g, loaded := errgroup.WithContext(loaded)
	ready := make(chan struct{})
	g.Go(func() error {
		return ignoreEnded(loaded, stream.Tail(loaded, conn, o.cfg.Kafka.Topics.Recommendations, ready, load.heard))
	})
	sent := 0
	g.Go(func() (err error) {
		select {
		case <-loaded.Done():
			return nil
		case <-ready:
		}
		sent, err = load.send(loaded, p, b.rate, 24*time.Hour, 1)
		return ignoreEnded(loaded, err)
	})
	b.began = time.Now()
	seen := make([]promoteSeen, len(b.users))
	for r := range promoteReaders {
		g.Go(func() error { return ignoreEnded(loaded, b.read(loaded, o, r, seen)) })
	}
	var out promoteResult
	g.Go(func() error {
		defer stop()
		out, err = b.story(loaded, o, former)
		return err
	})
	if err := g.Wait(); err != nil {
		return err
	}
	took := time.Since(b.began).Seconds()
	b.sum(&out, seen)
	out.EventsPerSecond, out.ReadsPerSecond = round(float64(sent)/took, 1), round(float64(b.count)/took, 1)
	out.FreshnessP50, out.FreshnessP99 = ms(load.times, .5), ms(load.times, .99)
	return b.print(o, &out)
}

// story is what is done while the load runs.
func (b *promoteBench) story(ctx context.Context, o *operator, former string) (out promoteResult, err error) {
	if err := sleep(ctx, b.rest); err != nil {
		return out, err
	}
	for i, name := range []string{b.lane, former} {
		b.phase.Add(1)
		began := time.Now()
		quiet := *o
		quiet.json, quiet.out = true, io.Discard
		err := quiet.handOver(ctx, name, func(t *freshet.LaneTable) error { return rules.Promote(t, name, false) })
		if err != nil {
			return out, fmt.Errorf("promote %s: %w", name, err)
		}
		out.Seconds[i] = round(time.Since(began).Seconds(), 2)
		if out.IdleBehind[i], err = b.idleBehind(ctx, o, name); err != nil {
			return out, err
		}
		b.phase.Add(1)
		if err := sleep(ctx, b.rest); err != nil {
			return out, err
		}
	}
	return out, nil
}

// read asks for the lists of one reader's users in turn. The loop is open: a read is due whether or not the one before it was quick.
func (b *promoteBench) read(ctx context.Context, o *operator, reader int, seen []promoteSeen) error {
	store, err := featurestore.Open(ctx, storeConfig(o.cfg), zap.NewNop())
	if err != nil {
		return err
	}
	defer store.Close()
	each := time.Duration(float64(promoteReaders) / float64(b.reads) * float64(time.Second))
	due := b.began.Add(time.Duration(reader) * each / promoteReaders)
	for n := reader; ; n += promoteReaders {
		if n >= len(b.users) {
			n = reader
		}
		if err := sleep(ctx, time.Until(due)); err != nil {
			return err
		}
		due = due.Add(each)
		phase, began := int(b.phase.Load()), time.Now()
		found, err := store.Records(ctx, []freshet.RecordKey{{UserID: b.users[n], Surface: freshet.HomeSurface, Place: freshet.PlacePublic}})
		took := time.Since(began)
		if err != nil {
			return err
		}
		b.note(phase, began, took, seen[n].take(found[0], phase))
	}
}

// take notes what a user read; false = nothing, or no whole list.
func (s *promoteSeen) take(record []byte, phase int) bool {
	var r freshet.Recommendation
	if json.Unmarshal(record, &r) != nil || len(r.Items) == 0 {
		return false
	}
	if s.lane != "" && r.Lane != s.lane {
		s.changes[phase/phaseRollBack]++
	}
	if r.CV < s.cv {
		s.back++
	}
	s.lane, s.cv = r.Lane, r.CV
	return true
}

func (b *promoteBench) note(phase int, at time.Time, took time.Duration, whole bool) {
	key := promoteWindow{phase, int(at.Sub(b.began) / promoteWindowLength)}
	b.mu.Lock()
	defer b.mu.Unlock()
	w := b.windows[key]
	if w == nil {
		w = demo.NewFreshness()
		b.windows[key] = w
	}
	w.Record(took)
	b.all[phase].Record(took)
	if b.count++; !whole {
		b.missing++
	}
}

// idleBehind counts the users without events whose list is not the lane's.
func (b *promoteBench) idleBehind(ctx context.Context, o *operator, lane string) (n int, err error) {
	var keys []freshet.RecordKey
	for i := 0; i < len(b.users); i += 2 {
		keys = append(keys, freshet.RecordKey{UserID: b.users[i], Surface: freshet.HomeSurface, Place: freshet.PlacePublic})
	}
	lists, err := o.store.Records(ctx, keys)
	for _, l := range lists {
		var r freshet.Recommendation
		if json.Unmarshal(l, &r) != nil || r.Lane != lane {
			n++
		}
	}
	return n, err
}

// promoteResult is what is printed. Of two values the first is of the promotion, the second of the roll-back.
type promoteResult struct {
	Users           int                `json:"users"`
	Idle            int                `json:"idle_users"`
	ReadsPerSecond  float64            `json:"reads_per_s"`
	EventsPerSecond float64            `json:"events_per_s"`
	Missing         int64              `json:"missing"`
	Changed         [2]int             `json:"users_whose_lane_changed"`
	Most            [2]int             `json:"most_changes_of_one_user"`
	Back            int                `json:"older_lists_after_newer"`
	IdleBehind      [2]int             `json:"idle_users_behind"`
	Seconds         [2]float64         `json:"seconds"`
	P50             map[string]float64 `json:"read_p50_ms"`
	P99             map[string]float64 `json:"read_p99_ms"`
	Quiet           []float64          `json:"read_p99_ms_quiet_windows"` // sorted
	Moved           []float64          `json:"read_p99_ms_hand_over_windows"`
	FreshnessP50    float64            `json:"freshness_p50_ms"`
	FreshnessP99    float64            `json:"freshness_p99_ms"`
	Broken          []string           `json:"broken"`
}

func ms(h *demo.Freshness, q float64) float64 {
	return round(float64(h.Quantile(q).Microseconds())/1000, 3)
}

func (b *promoteBench) sum(out *promoteResult, seen []promoteSeen) {
	out.Users, out.Idle, out.Missing = len(b.users), (len(b.users)+1)/2, b.missing
	for i := range seen {
		out.Back += seen[i].back
		for k, n := range seen[i].changes {
			out.Most[k] = max(out.Most[k], n)
			out.Changed[k] += min(n, 1)
		}
	}
	out.P50, out.P99 = map[string]float64{}, map[string]float64{}
	for i, name := range phaseNames {
		out.P50[name], out.P99[name] = ms(b.all[i], .5), ms(b.all[i], .99)
	}
	for key, w := range b.windows {
		if key.phase%2 == 0 {
			out.Quiet = append(out.Quiet, ms(w, .99))
		} else {
			out.Moved = append(out.Moved, ms(w, .99))
		}
	}
	slices.Sort(out.Quiet)
	slices.Sort(out.Moved)
	out.Broken = []string{}
	check := func(holds bool, format string, args ...any) {
		if !holds {
			out.Broken = append(out.Broken, fmt.Sprintf(format, args...))
		}
	}
	check(out.Missing == 0, "%d reads found no whole list", out.Missing)
	check(out.Most[0] <= 1 && out.Most[1] <= 1, "for one user the lane changed %d and %d times", out.Most[0], out.Most[1])
	check(out.Back == 0, "%d reads found an older list after a newer one", out.Back)
	check(out.Changed[0] == out.Users && out.Changed[1] == out.Users, "only %d and %d of %d users came to read the other lane", out.Changed[0], out.Changed[1], out.Users)
	check(out.IdleBehind == [2]int{}, "%d and %d users without events still had the former lane's list", out.IdleBehind[0], out.IdleBehind[1])
	// A window that is cut short by the change of phase has few reads; the median of the hand-overs against the worst quiet window
	// says whether they differ by more than quiet windows do among each other.
	typical := out.Moved[(len(out.Moved)-1)/2]
	check(typical <= out.Quiet[len(out.Quiet)-1], "p99 of reading in the hand-overs is %.2f ms in the middle of its windows, in the worst quiet window %.2f ms", typical, out.Quiet[len(out.Quiet)-1])
}

func (b *promoteBench) print(o *operator, out *promoteResult) error {
	if out.ReadsPerSecond < .97*float64(b.reads) || out.EventsPerSecond < .97*float64(b.rate) {
		out.Broken = append(out.Broken, fmt.Sprintf("the load was not held: %.0f reads/s and %.0f events/s", out.ReadsPerSecond, out.EventsPerSecond))
	}
	if o.json {
		if err := printJSON(o.out, out); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(o.out, "%d users, %d of them idle; %.0f reads/s, %.0f events/s, lists within p50 %.2f ms, p99 %.2f ms\n", out.Users, out.Idle, out.ReadsPerSecond,
			out.EventsPerSecond, out.FreshnessP50, out.FreshnessP99)
		fmt.Fprintf(o.out, "promotion %.2f s, roll-back %.2f s; %d reads found nothing; the lane changed at most %d and %d times for one user\n", out.Seconds[0], out.Seconds[1],
			out.Missing, out.Most[0], out.Most[1])
		for _, name := range phaseNames {
			fmt.Fprintf(o.out, "  reading %-10s p50 %.3f ms, p99 %.3f ms\n", name, out.P50[name], out.P99[name])
		}
	}
	if len(out.Broken) > 0 {
		return fmt.Errorf("%d of what a promotion promises did not hold: %q", len(out.Broken), out.Broken)
	}
	return nil
}
