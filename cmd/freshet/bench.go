package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"freshet"
	"freshet/internal/demo"
	"freshet/stream"
)

func newBenchCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{Use: "bench", Short: "Measure: a running deployment, or each part by itself"}
	var asJSON bool
	cmd.PersistentFlags().BoolVar(&asJSON, "json", false, "print one JSON object")
	rate, length, seed := 1000, 20*time.Second, uint64(1)
	fresh := &cobra.Command{Use: "freshness", Short: "Send events at a fixed rate and time each until its list is on the output topic",
		Long: "Takes the users and items of the lists that stand, and has random ones of them meet. Open loop: every event has its due\n" +
			"time, and waiting counts from there, so a slow worker cannot hide by slowing the load. Lists reach the topic after Redis,\n" +
			"so the figure bounds what a reader of Redis sees. A list that follows several events of one user is timed by the last.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, log, err := g.load()
			if err != nil {
				return err
			}
			return benchFreshness(cmd.Context(), cfg, log, rate, length, seed, asJSON, cmd.OutOrStdout())
		}}
	fresh.Flags().IntVar(&rate, "rate", rate, "events per second")
	fresh.Flags().DurationVar(&length, "for", length, "how long")
	fresh.Flags().Uint64Var(&seed, "seed", seed, "seed of who meets what")
	d := drainOptions{metrics: []string{"http://127.0.0.1:9464/metrics"}, lane: freshet.LiveLane, warm: 10 * time.Second}
	drain := &cobra.Command{Use: "drain", Short: "Wait until workers have worked off the events topic, and time it",
		Long: "With --for it does not wait for the end: it counts what is worked off in that time, after --warm. Partitions must not move meanwhile.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if d.length > 0 {
				return benchDrainFor(cmd.Context(), d, asJSON, cmd.OutOrStdout())
			}
			return benchDrain(cmd.Context(), d, asJSON, cmd.OutOrStdout())
		}}
	drain.Flags().StringSliceVar(&d.metrics, "metrics", d.metrics, "the workers' metrics pages")
	drain.Flags().StringVar(&d.lane, "lane", d.lane, "lane that works it off")
	drain.Flags().Int64Var(&d.records, "records", 0, "records on the topic")
	drain.Flags().DurationVar(&d.length, "for", 0, "count for so long instead of waiting for the end")
	drain.Flags().DurationVar(&d.warm, "warm", d.warm, "with --for: how long to wait before counting")
	cmd.AddCommand(newBenchPipelineCommand(g, &asJSON), newBenchCatalogueCommand(g, &asJSON), newBenchIndexCommand(g, &asJSON), newBenchStepCommand(g, &asJSON), newBenchListCommand(g, &asJSON),
		newBenchPromoteCommand(g, &asJSON), newBenchVisitsCommand(g, &asJSON), newBenchFillCommand(g, &asJSON), newBenchReadCommand(g, &asJSON), newBenchMemoryCommand(g, &asJSON), newBenchTextCommand(g, &asJSON), newBenchModelCommand(g, &asJSON), fresh, drain)
	return cmd
}

// freshnessBench sends events and hears the lists they lead to.
type freshnessBench struct {
	users, items []string
	kind         string

	mu    sync.Mutex
	due   map[string]time.Time // event id -> when it was to be sent
	lists int
	times *demo.Freshness
	worst time.Duration
}

func benchFreshness(ctx context.Context, cfg Config, log *zap.Logger, rate int, length time.Duration, seed uint64, asJSON bool, w io.Writer) error {
	conn, err := connection(cfg)
	if err != nil {
		return err
	}
	b := &freshnessBench{due: map[string]time.Time{}, times: demo.NewFreshness()}
	if err := b.prepare(ctx, cfg, conn); err != nil {
		return err
	}
	p, err := stream.NewProducer(stream.ProducerConfig{Connection: conn, Events: cfg.Kafka.Topics.Events}, log)
	if err != nil {
		return err
	}
	defer p.Close()
	tail, stop := context.WithCancel(ctx)
	defer stop()
	ready := make(chan struct{})
	g, tail := errgroup.WithContext(tail)
	g.Go(func() error { return stream.Tail(tail, conn, cfg.Kafka.Topics.Recommendations, ready, b.heard) })
	sent := 0
	g.Go(func() error {
		defer stop()
		select {
		case <-tail.Done():
			return nil
		case <-ready:
		}
		if sent, err = b.send(tail, p, rate, length, seed); err != nil {
			return err
		}
		return b.await(tail)
	})
	if err := g.Wait(); err != nil {
		return err
	}
	if b.lists == 0 {
		return errors.New("no list came for any event: is a worker running on these topics?")
	}
	ms := func(q float64) float64 { return float64(b.times.Quantile(q).Microseconds()) / 1000 }
	out := map[string]any{"rate": rate, "sent": sent, "lists": b.lists, "unanswered": len(b.due), "freshness_p50_ms": ms(.5), "freshness_p90_ms": ms(.9),
		"freshness_p99_ms": ms(.99), "freshness_p999_ms": ms(.999), "freshness_max_ms": float64(b.worst.Microseconds()) / 1000}
	if asJSON {
		return printJSON(w, out)
	}
	_, err = fmt.Fprintf(w, "%d events at %d/s, %d lists: p50 %.2f ms, p90 %.2f, p99 %.2f, p99.9 %.2f, max %.2f\n", sent, rate, b.lists, ms(.5), ms(.9), ms(.99), ms(.999),
		out["freshness_max_ms"])
	return err
}

// prepare takes users and items from the lists that stand, and an event type that extends profiles.
func (b *freshnessBench) prepare(ctx context.Context, cfg Config, conn stream.Connection) error {
	types, err := cfg.EventTypes()
	if err != nil {
		return err
	}
	for _, name := range types.Names() {
		if t, _ := types.Lookup(name); t.Effect == freshet.Extend && b.kind == "" {
			b.kind = name
		}
	}
	last, err := lastRecords(ctx, conn, cfg.Kafka.Topics.Recommendations)
	if err != nil {
		return err
	}
	items := map[string]bool{}
	for key, r := range last {
		if r.value == nil || key.Surface != freshet.HomeSurface {
			continue
		}
		var list freshet.Recommendation
		if err := json.Unmarshal(r.value, &list); err != nil {
			return err
		}
		b.users = append(b.users, key.UserID)
		for _, it := range list.Items {
			items[it.ItemID] = true
		}
	}
	for id := range items {
		b.items = append(b.items, id)
	}
	slices.Sort(b.users)
	slices.Sort(b.items)
	if len(b.users) == 0 || len(b.items) == 0 {
		return fmt.Errorf("topic %s holds no lists to take users and items from: run a worker over some events first", cfg.Kafka.Topics.Recommendations)
	}
	return nil
}

func (b *freshnessBench) send(ctx context.Context, p *stream.Producer, rate int, length time.Duration, seed uint64) (int, error) {
	r := rand.New(rand.NewPCG(seed, 0xbe7c4))
	run := strconv.FormatInt(time.Now().UnixNano(), 36)
	began, n := time.Now(), 0
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	due := func(n int) time.Time {
		return began.Add(time.Duration(float64(n) / float64(rate) * float64(time.Second)))
	}
	for total := int(length.Seconds() * float64(rate)); ; {
		var batch []freshet.Event
		for now := time.Now(); n < total && !due(n).After(now); n++ {
			e := freshet.Event{ID: fmt.Sprintf("bench-%s-%d", run, n), Type: b.kind, UserID: b.users[r.IntN(len(b.users))],
				Items: []freshet.EventItem{{ItemID: b.items[r.IntN(len(b.items))]}}, Time: due(n).UnixMilli()}
			b.mu.Lock()
			b.due[e.ID] = due(n)
			b.mu.Unlock()
			batch = append(batch, e)
		}
		if err := p.PublishEvents(ctx, batch); err != nil {
			return n, err
		}
		if n >= total {
			return n, nil
		}
		select {
		case <-ctx.Done():
			return n, ctx.Err()
		case <-tick.C:
		}
	}
}

// heard takes a record of the output topic.
func (b *freshnessBench) heard(r stream.Record) error {
	now := time.Now()
	if r.Value == nil {
		return nil
	}
	var list struct {
		Event struct {
			EventID string `json:"event_id"`
		} `json:"event"`
	}
	if err := json.Unmarshal(r.Value, &list); err != nil {
		return fmt.Errorf("record at offset %d: %w", r.Offset, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	due, ok := b.due[list.Event.EventID]
	if !ok {
		return nil
	}
	delete(b.due, list.Event.EventID)
	b.lists++
	b.times.Record(now.Sub(due))
	b.worst = max(b.worst, now.Sub(due))
	return nil
}

// await gives the last lists time to come. Events that were folded together with a later one of their user stay unanswered.
func (b *freshnessBench) await(ctx context.Context) error {
	quiet, before := 0, -1
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for quiet < 10 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		b.mu.Lock()
		now := b.lists
		b.mu.Unlock()
		if now == before {
			quiet++
		} else {
			quiet, before = 0, now
		}
	}
	return nil
}

// drainOptions say whose work is watched.
type drainOptions struct {
	metrics      []string // pages of workers that own disjoint partitions
	lane         string
	records      int64
	warm, length time.Duration
}

// applied adds up what the workers have applied.
func (d *drainOptions) applied(ctx context.Context) (sum int64, err error) {
	for _, url := range d.metrics {
		n, err := appliedOffsets(ctx, url, d.lane)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// benchDrainFor counts what workers work off in a time.
func benchDrainFor(ctx context.Context, d drainOptions, asJSON bool, w io.Writer) error {
	var at [2]time.Time
	var sum [2]int64
	for i, wait := range []time.Duration{d.warm, d.length} {
		if err := sleep(ctx, wait); err != nil {
			return err
		}
		var err error
		if sum[i], err = d.applied(ctx); err != nil {
			return err
		}
		at[i] = time.Now()
	}
	if d.records > 0 && sum[1] >= d.records {
		return fmt.Errorf("all %d records were worked off before the time was over: give them more", d.records)
	}
	took := at[1].Sub(at[0]).Seconds()
	n := sum[1] - sum[0]
	if asJSON {
		return printJSON(w, map[string]any{"workers": len(d.metrics), "timed": n, "seconds": round(took, 2), "events_per_s": round(float64(n)/took, 0)})
	}
	_, err := fmt.Fprintf(w, "%d workers, %d records in %.1f s: %.0f events/s\n", len(d.metrics), n, took, float64(n)/took)
	return err
}

// benchDrain watches the applied offsets until they reach the number of records.
func benchDrain(ctx context.Context, d drainOptions, asJSON bool, w io.Writer) error {
	records := d.records
	if records <= 0 {
		return errors.New("--records: say how many records are on the topic")
	}
	bar := newProgress(os.Stderr, "records")
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var began time.Time
	var first int64
	for {
		applied, err := d.applied(ctx)
		now := time.Now()
		if err == nil && applied > 0 && began.IsZero() {
			began, first = now, applied
		}
		if err == nil {
			bar.show(int(applied), float64(applied)/float64(records))
		}
		if applied >= records {
			bar.finish(int(applied))
			took := now.Sub(began).Seconds()
			perSecond := math.Round(float64(applied-first) / max(took, 1e-3))
			if asJSON {
				return printJSON(w, map[string]any{"records": applied, "timed": applied - first, "seconds": took, "events_per_s": perSecond})
			}
			_, err = fmt.Fprintf(w, "%d records, %d of them timed: %.0f events/s\n", applied, applied-first, perSecond)
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

func appliedOffsets(ctx context.Context, url, lane string) (sum int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), "freshet_applied_offset{"); ok && ofLane(rest, lane) {
			if _, value, ok := strings.Cut(rest, "} "); ok {
				v, err := strconv.ParseFloat(value, 64)
				if err != nil {
					return 0, err
				}
				sum += int64(v)
			}
		}
	}
	return sum, lines.Err()
}

// ofLane tells whether labels are a lane's; live's name none.
func ofLane(labels, lane string) bool {
	if lane == freshet.LiveLane {
		return !strings.Contains(labels, `lane="`)
	}
	return strings.Contains(labels, `lane="`+lane+`"`)
}
