package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"freshet"
	"freshet/featurestore"
	"freshet/internal/demo"
	"freshet/internal/telemetry"
	"freshet/stream"
)

// pipelineOptions say what is measured.
type pipelineOptions struct {
	users   int
	events  int
	rounds  int  // events for each user before what is measured
	greet   bool // the first of them are one of each user; else all are of random ones
	late    float64
	rates   []int
	each    time.Duration
	warm    time.Duration // of the first rate, before the ladder, not timed
	seed    uint64
	profile string
	floors  bool
	servers []int
	plot    string // file of the picture; "" = none
}

func newBenchPipelineCommand(g *globals, asJSON *bool) *cobra.Command {
	o := pipelineOptions{users: 50_000, events: 200_000, rounds: 3, late: .01, rates: []int{1000, 0}, each: 10 * time.Second, warm: 10 * time.Second, seed: 1, floors: true}
	cmd := &cobra.Command{Use: "pipeline", Short: "Measure the whole path on real servers, with the floors under it",
		Long: "Gives made-up users full histories, writes events to a topic, and works them off: first with everything that `serve` does, then,\n" +
			"at fixed rates, timing each event from when it was due until its list is in Redis; last the floors, on the same topic: only\n" +
			"consuming, with the saves, with saves and publishing, where profiles and lists have the size that the worker wrote.\n" +
			"Topics, group and keys have names of their own and stay behind: use servers that you can throw away. Only loopback addresses are taken.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, log, err := g.load()
			if err != nil {
				return err
			}
			b, err := newPipelineBench(cfg, o, log)
			if err != nil {
				return err
			}
			if err := b.run(cmd.Context()); err != nil {
				return err
			}
			if err := b.print(cmd.OutOrStdout(), *asJSON); err != nil {
				return err
			}
			return drawPlot(o.plot, b.figure())
		}}
	f := cmd.Flags()
	f.IntVar(&o.users, "users", o.users, "users with full histories")
	f.IntVar(&o.events, "events", o.events, "events measured at full speed, after those that warm up")
	f.IntVar(&o.rounds, "rounds", o.rounds, "events for each user that warm up")
	f.Float64Var(&o.late, "late", o.late, "share of events that come late, by up to ten minutes")
	f.IntSliceVar(&o.rates, "rates", o.rates, "events per second of the freshness ladder; 0 = half of what was measured at full speed")
	f.DurationVar(&o.each, "for", o.each, "how long each rate is held")
	f.DurationVar(&o.warm, "warm", o.warm, "how long the first rate is held before the ladder, untimed: a broker that has only seen full speed compiles what single events take")
	f.Uint64Var(&o.seed, "seed", o.seed, "seed of who meets what")
	f.StringVar(&o.profile, "cpuprofile", "", "write a pprof CPU profile of the full-speed part to this file")
	f.IntSliceVar(&o.servers, "pids", nil, "process ids on this machine, whose processor time is told too: of Redis (each master of a Cluster), then of Kafka")
	f.BoolVar(&o.floors, "floors", o.floors, "measure the floors too")
	plotFlag(f, &o.plot)
	return cmd
}

// pipelineBench is one run.
type pipelineBench struct {
	cfg  Config
	o    pipelineOptions
	log  *zap.Logger
	conn stream.Connection
	load *benchLoad
	send *stream.Producer

	window  *benchWindow
	ladder  atomic.Pointer[rung] // the rate held now
	handled atomic.Int64
	then    func(context.Context) error // nil = nothing; called after the last rate, while the worker runs
	stages  map[string]float64          // seconds by stage at the window's begin, then their difference
	store   *featurestore.Redis

	full    benchCost
	floors  map[string]benchCost
	rungs   []*rung
	items   int
	model   string                // its name
	masters []featurestore.Server // of Redis, after the last rate
}

// newPipelineBench gives the run names of its own and refuses servers that are not on this machine.
func newPipelineBench(cfg Config, o pipelineOptions, log *zap.Logger) (*pipelineBench, error) {
	if err := errors.Join(checkPlot(o.plot), onThisMachine(cfg)); err != nil {
		return nil, err
	}
	if len(o.servers) == 1 {
		return nil, errors.New("--pids: that of Redis (of a Cluster those of its masters) and, last, that of Kafka")
	}
	if o.users < 1 || o.rounds < 1 || o.events < 1000 || o.late < 0 || o.late > .5 {
		return nil, errors.New("--users, --rounds: at least 1; --events: at least 1000; --late: 0 to 0.5")
	}
	name := "bench-" + strconv.FormatInt(time.Now().UnixMilli(), 36)
	k := &cfg.Kafka
	k.Topics = Topics{Events: name + "-events", Items: name + "-items", Recommendations: name + "-recommendations", Examples: name + "-examples", DeadLetters: name + "-dlq"}
	k.Group, k.Start, k.Create, cfg.Redis.Prefix = name, "earliest", true, name
	conn, err := connection(cfg)
	if err != nil {
		return nil, err
	}
	return &pipelineBench{cfg: cfg, o: o, log: log, conn: conn, floors: map[string]benchCost{}}, nil
}

// run is the story: prepare, full speed, the ladder, the floors.
func (b *pipelineBench) run(ctx context.Context) (err error) {
	metrics := telemetry.NewMetrics()
	w, err := openWorker(ctx, b.cfg, metrics, b.log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	b.store = w.store
	if err := b.prepare(ctx, w); err != nil {
		return err
	}
	defer b.send.Close()
	if err := b.serve(ctx, w, w.first().metrics); err != nil {
		return err
	}
	in, err := w.store.Inspect(ctx)
	if err != nil {
		return err
	}
	b.masters = in.Servers
	if !b.o.floors {
		return nil
	}
	return b.runFloors(ctx)
}

func (b *pipelineBench) warm() int { return b.o.rounds * b.o.users }

// total is what lies on the topic; the last twentieth is not timed, since partitions do not end at the same moment.
func (b *pipelineBench) total() int { return (b.warm() + b.o.events) * 20 / 19 }

// prepare fills the catalogue, the profiles and the topic.
func (b *pipelineBench) prepare(ctx context.Context, w *worker) (err error) {
	if err := mastersOnThisMachine(ctx, w.store); err != nil {
		return err
	}
	if b.send, err = stream.NewProducer(stream.ProducerConfig{Connection: b.conn, Events: b.cfg.Kafka.Topics.Events, Items: b.cfg.Kafka.Topics.Items}, b.log); err != nil {
		return err
	}
	items := w.first().bundle.Items()
	b.items, b.model = len(items), w.first().bundle.ID()
	if err := publishBareItems(ctx, b.send, items); err != nil {
		return err
	}
	b.load = newBenchLoad(b.o.users, items, w.types, b.o.late, time.Now().Add(-time.Hour), b.o.seed)
	b.log.Info("seeding profiles", zap.Int("users", b.o.users))
	if err := seedProfiles(ctx, w.first(), b.load, b.cfg.Profile.MaxHistory); err != nil {
		return fmt.Errorf("seed profiles: %w", err)
	}
	b.log.Info("writing events", zap.Int("events", b.total()))
	if b.o.greet {
		if err := b.load.greet(ctx, b.send); err != nil {
			return err
		}
	}
	return b.load.publish(ctx, b.send, b.total()-b.load.n)
}

// serve runs the worker over what lies on the topic, then at each rate of the ladder.
func (b *pipelineBench) serve(ctx context.Context, w *worker, metrics *telemetry.Metrics) error {
	b.window = newBenchWindow(int64(b.warm()), int64(b.warm()+b.o.events), b.o.profile)
	b.window.servers = b.o.servers
	w.watch = func(events []freshet.Event, lists []freshet.Publication) { b.passed(events, lists, metrics) }
	running, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- w.Run(running) }()
	b.log.Info("full speed")
	err := b.measure(running, ended, metrics)
	stop()
	if left := <-ended; err == nil {
		err = left
	}
	return err
}

func (b *pipelineBench) measure(ctx context.Context, ended chan error, metrics *telemetry.Metrics) error {
	select {
	case <-b.window.done:
	case err := <-ended:
		ended <- err
		return errors.Join(errors.New("the worker ended early"), err)
	}
	if b.window.err != nil {
		return b.window.err
	}
	b.full = b.window.cost()
	now := metrics.StageSeconds()
	for stage, s := range now {
		b.stages[stage] = round((s-b.stages[stage])*1e6/float64(b.window.end.handled-b.window.begin.handled), 2)
	}
	for i, rate := range b.o.rates {
		if rate == 0 {
			rate = int(b.full.PerSecond / 2)
		}
		if i == 0 && b.o.warm > 0 {
			if _, err := b.hold(ctx, rate, b.o.warm); err != nil {
				return err
			}
		}
		r, err := b.hold(ctx, rate, b.o.each)
		if err != nil {
			return err
		}
		b.rungs = append(b.rungs, r)
	}
	if b.then != nil {
		return b.then(ctx)
	}
	return nil
}

// passed hears every batch whose lists became visible.
func (b *pipelineBench) passed(events []freshet.Event, lists []freshet.Publication, metrics *telemetry.Metrics) {
	if b.window.handled.Load()+int64(len(events)) >= b.window.from && b.window.handled.Load() < b.window.from {
		b.stages = metrics.StageSeconds()
	}
	b.window.passed(len(events), len(lists))
	b.handled.Add(int64(len(events)))
	if r := b.ladder.Load(); r != nil {
		r.heard(events, len(lists))
	}
}

// rung is one rate of the ladder.
type rung struct {
	Rate  int     `json:"rate"`
	Sent  int     `json:"sent"`
	P50   float64 `json:"p50_ms"`
	P90   float64 `json:"p90_ms"`
	P99   float64 `json:"p99_ms"`
	P999  float64 `json:"p999_ms"`
	Max   float64 `json:"max_ms"`
	Lists float64 `json:"lists_per_event"`
	Own   float64 `json:"cpu_us_per_event"` // the worker and the sender

	Cost     benchCost `json:"cost"`               // what everybody took for an event, the sender's part included
	Rewrites int64     `json:"redis_aof_rewrites"` // that began meanwhile

	first int       // number of its first event
	began time.Time // when that one was due
	times *demo.Freshness
	heads atomic.Int64
	lists atomic.Int64
}

func (r *rung) due(n int) time.Time {
	return r.began.Add(time.Duration(float64(n-r.first) / float64(r.Rate) * float64(time.Second)))
}

func (r *rung) heard(events []freshet.Event, lists int) {
	now := time.Now()
	for i := range events {
		if n := numberOf(events[i].ID); n >= r.first {
			r.times.Record(now.Sub(r.due(n)))
			r.heads.Add(1)
		}
	}
	r.lists.Add(int64(lists))
}

// hold sends events at a rate. The loop is open: an event is due whether or not those before it were answered, so a slow worker
// cannot slow the load down, and waiting counts.
func (b *pipelineBench) hold(ctx context.Context, rate int, each time.Duration) (*rung, error) {
	if err := b.await(ctx, int64(b.load.n)); err != nil {
		return nil, err
	}
	rewrites, err := b.quiet(ctx)
	if err != nil {
		return nil, err
	}
	b.log.Info("holding a rate", zap.Int("events_per_s", rate))
	r := &rung{Rate: rate, first: b.load.n, began: time.Now().Add(100 * time.Millisecond), times: demo.NewFreshness()}
	b.ladder.Store(r)
	defer b.ladder.Store(nil)
	before := b.point(r)
	if err := b.sendAt(ctx, r, each); err != nil {
		return nil, err
	}
	r.Sent = b.load.n - r.first
	if err := b.await(ctx, int64(b.load.n)); err != nil {
		return nil, err
	}
	r.Cost = costBetween(before, b.point(r))
	if r.Rewrites, _, err = b.rewrites(ctx); err != nil {
		return nil, err
	}
	r.Rewrites -= rewrites
	ms := func(q float64) float64 { return round(float64(r.times.Quantile(q).Microseconds())/1000, 2) }
	r.P50, r.P90, r.P99, r.P999, r.Max = ms(.5), ms(.9), ms(.99), ms(.999), ms(1)
	r.Lists, r.Own = r.Cost.Lists, r.Cost.Own
	return r, nil
}

// quiet waits until no server of Redis rewrites its append-only file, and tells how many rewrites there have been. Full speed writes
// gigabytes of it within seconds, and the rewriting that this leads to takes a core for as long: at a lower rate it comes that much more rarely,
// and must not be counted against the first seconds of one.
func (b *pipelineBench) quiet(ctx context.Context) (rewrites int64, err error) {
	for {
		rewrites, busy, err := b.rewrites(ctx)
		if err != nil || !busy {
			return rewrites, err
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// rewrites counts those of all servers of Redis and tells whether one is under way.
func (b *pipelineBench) rewrites(ctx context.Context) (n int64, busy bool, err error) {
	in, err := b.store.Inspect(ctx)
	for _, s := range in.Servers {
		n, busy = n+s.Rewrites, busy || s.Rewriting
	}
	return n, busy, err
}

// point is what has been used up to now, and what the rung has brought.
func (b *pipelineBench) point(r *rung) benchPoint {
	p := takePoint()
	p.servers, p.handled, p.lists = timesOf(b.o.servers), r.heads.Load(), r.lists.Load()
	return p
}

// sendTick is how long the sender gathers what is due. Many producers do that for longer (linger.ms); it counts as waiting.
const sendTick = time.Millisecond

// sendAt sends what is due, every tick, without waiting for the answers to what was sent before; at most 32 sends are under way.
func (b *pipelineBench) sendAt(ctx context.Context, r *rung, each time.Duration) error {
	total := int(each.Seconds() * float64(r.Rate))
	failed, slots := make(chan error, 1), make(chan struct{}, 32)
	tick := time.NewTicker(sendTick)
	defer tick.Stop()
	for sent := 0; sent < total; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-failed:
			return err
		case <-tick.C:
		}
		var batch []freshet.Event
		for now := time.Now(); sent < total && !r.due(r.first+sent).After(now); sent++ {
			batch = append(batch, b.load.next())
		}
		if len(batch) == 0 {
			continue
		}
		slots <- struct{}{}
		go func() {
			defer func() { <-slots }()
			if err := b.send.PublishEvents(ctx, batch); err != nil {
				select {
				case failed <- err:
				default:
				}
			}
		}()
	}
	for range cap(slots) {
		slots <- struct{}{}
	}
	return nil
}

// await waits until that many events are handled.
func (b *pipelineBench) await(ctx context.Context, events int64) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for b.handled.Load() < events {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// runFloors measures what is under everything, with a profile and a list that the worker wrote.
func (b *pipelineBench) runFloors(ctx context.Context) error {
	store, err := featurestore.Open(ctx, storeConfig(b.cfg), b.log)
	if err != nil {
		return err
	}
	defer store.Close()
	user := benchUser(rand.New(rand.NewPCG(b.o.seed, 1)).IntN(b.o.users))
	profiles, err := store.Load(ctx, []string{user})
	if err != nil {
		return err
	}
	records, err := store.Records(ctx, []freshet.RecordKey{{UserID: user, Surface: freshet.HomeSurface}})
	if err != nil {
		return err
	}
	at := bytes.Index(records[0], []byte(`,"rec_id"`))
	if profiles[0] == nil || at < 0 {
		return fmt.Errorf("user %s has no profile and list to take the sizes from", user)
	}
	for _, name := range []string{"consume", "save", "publish"} {
		b.log.Info("floor", zap.String("up to", name))
		cfg := storeConfig(b.cfg)
		cfg.Prefix += "-" + name
		f := &floor{name: name, publish: name == "publish", profile: profiles[0], list: records[0][at:], seen: map[freshet.Source]map[string]freshet.Version{},
			window: newBenchWindow(int64(b.warm()), int64(b.warm()+b.o.events), "")}
		f.window.servers = b.o.servers
		if name != "consume" {
			if f.store, err = featurestore.Open(ctx, cfg, b.log); err != nil {
				return err
			}
		}
		cost, err := runFloor(ctx, b.cfg, f, b.log)
		if f.store != nil {
			err = errors.Join(err, f.store.Close())
		}
		if err != nil {
			return err
		}
		b.floors[name] = cost
	}
	return nil
}

// result has the names that scripts rely on first.
func (b *pipelineBench) result() map[string]any {
	out := map[string]any{"events_per_s": b.full.PerSecond, "cpu_us_per_event": b.full.Own, "allocs_per_event": b.full.Mallocs, "lists_per_event": b.full.Lists,
		"machine_cpu_us_per_event": b.full.Machine, "loopback_bytes_per_event": b.full.Network, "alloc_bytes_per_event": b.full.Bytes, "stage_us_per_event": b.stages,
		"items": b.items, "history": b.cfg.Profile.MaxHistory, "users": b.o.users, "late": b.o.late, "partitions": b.cfg.Kafka.Partitions, "ladder": b.rungs}
	if n := len(b.full.Servers) - 1; n > 0 {
		redis := 0.
		for _, us := range b.full.Servers[:n] {
			redis += us
		}
		out["redis_cpu_us_per_event"], out["kafka_cpu_us_per_event"] = round(redis, 2), b.full.Servers[n]
		if n > 1 {
			out["redis_cpu_us_by_master"] = b.full.Servers[:n]
		}
	}
	if len(b.masters) > 1 {
		out["redis_key_share_by_master"] = keyShares(b.masters)
	}
	for i, r := range b.rungs {
		if i == 0 {
			out["freshness_p50_ms"], out["freshness_p99_ms"] = r.P50, r.P99
		}
	}
	if len(b.floors) == 3 {
		consume, save, publish := b.floors["consume"], b.floors["save"], b.floors["publish"]
		out["floor_consume"], out["floor_save"], out["floor_publish"] = consume.PerSecond, save.PerSecond, publish.PerSecond
		out["ratio_to_floor"] = round(b.full.PerSecond/publish.PerSecond, 3)
		out["cpu_us_by_stage"] = map[string]float64{"consume": consume.Own, "save": round(save.Own-consume.Own, 2),
			"publish": round(publish.Own-save.Own, 2), "compute": round(b.full.Own-publish.Own, 2)}
		out["floors"] = b.floors
	}
	return out
}

// keyShares is each master's part of all keys, by address.
func keyShares(masters []featurestore.Server) []float64 {
	var all int64
	for _, m := range masters {
		all += m.Keys
	}
	shares := make([]float64, len(masters))
	for i, m := range masters {
		shares[i] = round(float64(m.Keys)/float64(max(all, 1)), 4)
	}
	return shares
}

func (b *pipelineBench) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return printJSON(w, b.result())
	}
	row := func(name string, c benchCost) {
		fmt.Fprintf(w, "%-22s %8.0f events/s  %6.1f us own CPU  %6.1f us machine  %6.1f allocations  %7.0f bytes\n", name, c.PerSecond, c.Own, c.Machine, c.Mallocs, c.Bytes)
	}
	for _, name := range []string{"consume", "save", "publish"} {
		if c, ok := b.floors[name]; ok {
			row("floor: "+name, c)
		}
	}
	row("everything", b.full)
	if n := len(b.full.Servers) - 1; n > 0 {
		fmt.Fprintf(w, "servers' CPU an event: Redis %.1f us, Kafka %.1f us\n", b.result()["redis_cpu_us_per_event"], b.full.Servers[n])
	}
	if len(b.masters) > 1 {
		fmt.Fprintf(w, "masters' shares of the keys: %v\n", keyShares(b.masters))
	}
	for _, r := range b.rungs {
		fmt.Fprintf(w, "at %6d events/s: p50 %.2f ms, p90 %.2f, p99 %.2f, p99.9 %.2f, max %.2f; %.3f lists per event\n", r.Rate, r.P50, r.P90, r.P99, r.P999, r.Max, r.Lists)
	}
	return nil
}
