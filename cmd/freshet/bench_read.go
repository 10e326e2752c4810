package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"freshet"
	"freshet/featurestore"
	"freshet/internal/demo"
	"freshet/stream"
)

type readOptions struct {
	reads, events  int // a second
	warm, measured time.Duration
	seed           uint64
}

func newBenchReadCommand(g *globals, asJSON *bool) *cobra.Command {
	o := readOptions{reads: 5000, events: 2000, warm: 15 * time.Second, measured: 20 * time.Second, seed: 1}
	cmd := &cobra.Command{Use: "read", Short: "Time one GET of a list, at a fixed rate, while a worker processes events",
		Long: "Takes the users of the lists that stand, and reads the list of a random one, at a rate, as a frontend does: one GET. Meanwhile events\n" +
			"are sent at a rate of their own for a running worker to process, and their lists are heard. Both loops are open: each read has its due\n" +
			"time and is timed from there until its answer, whether or not those before it have been answered, so a slow answer cannot hide\n" +
			"by holding up the reads after it. How late the reads left this process is part of their time, and is told beside it.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, log, err := g.load()
			if err != nil {
				return err
			}
			if o.reads < 1 || o.events < 0 || o.measured <= 0 || o.warm < 0 {
				return errors.New("--rate: at least 1; --events: not negative; --for: above 0; --warm: not negative")
			}
			// A read that is due leaves at once, whatever lists this process is just taking in: the system shares out the cores, not the runtime.
			runtime.GOMAXPROCS(max(8, runtime.GOMAXPROCS(0)))
			debug.SetGCPercent(1000) // a few megabytes live here, and are not to be collected five times a second
			out, err := benchRead(cmd.Context(), cfg, o, log)
			if err != nil {
				return err
			}
			return printRead(cmd.OutOrStdout(), out, *asJSON)
		}}
	f := cmd.Flags()
	f.IntVar(&o.reads, "rate", o.reads, "reads per second")
	f.IntVar(&o.events, "events", o.events, "events per second that the worker is given meanwhile")
	f.DurationVar(&o.measured, "for", o.measured, "how long reads are timed")
	f.DurationVar(&o.warm, "warm", o.warm, "how long both loops run before")
	f.Uint64Var(&o.seed, "seed", o.seed, "seed of who is read and who meets what")
	return cmd
}

// readResult is what scripts read. Times of reads are from when they were due.
type readResult struct {
	Rate      int     `json:"rate"`
	Reads     int64   `json:"reads"`
	Missing   int64   `json:"missing"` // reads that found no list
	PerSecond float64 `json:"reads_per_s"`
	P50       float64 `json:"p50_ms"`
	P90       float64 `json:"p90_ms"`
	P99       float64 `json:"p99_ms"`
	P999      float64 `json:"p999_ms"`
	Max       float64 `json:"max_ms"`
	Late50    float64 `json:"left_late_p50_ms"` // how long after it was due a read left
	Late99    float64 `json:"left_late_p99_ms"`
	Bytes     float64 `json:"list_bytes"`
	EventRate int     `json:"event_rate"`
	Events    int     `json:"events"`
	Lists     int     `json:"lists"`
	Fresh50   float64 `json:"freshness_p50_ms"` // of the events sent meanwhile; 0 = none were
	Fresh99   float64 `json:"freshness_p99_ms"`
	Users     int     `json:"users"`
}

// readBench reads lists on time.
type readBench struct {
	store *featurestore.Redis
	users []string
	r     *rand.Rand

	times, late           *demo.Freshness
	reads, missing, bytes atomic.Int64
}

// readers is how many reads may be under way. Reads beyond that wait, and their waiting counts.
const readers = 64

func benchRead(ctx context.Context, cfg Config, o readOptions, log *zap.Logger) (out readResult, err error) {
	conn, err := connection(cfg)
	if err != nil {
		return out, err
	}
	events := &freshnessBench{due: map[string]time.Time{}, times: demo.NewFreshness()}
	if err := events.prepare(ctx, cfg, conn); err != nil {
		return out, err
	}
	store, err := featurestore.Open(ctx, storeConfig(cfg), log)
	if err != nil {
		return out, err
	}
	defer store.Close()
	p, err := stream.NewProducer(stream.ProducerConfig{Connection: conn, Events: cfg.Kafka.Topics.Events}, log)
	if err != nil {
		return out, err
	}
	defer p.Close()
	b := &readBench{store: store, users: events.users, r: rand.New(rand.NewPCG(o.seed, 0x6e7)), times: demo.NewFreshness(), late: demo.NewFreshness()}
	tail, stop := context.WithCancel(ctx)
	defer stop()
	ready := make(chan struct{})
	g, inner := errgroup.WithContext(tail)
	g.Go(func() error { return stream.Tail(inner, conn, cfg.Kafka.Topics.Recommendations, ready, events.heard) })
	g.Go(func() error {
		defer stop()
		select {
		case <-inner.Done():
			return nil
		case <-ready:
		}
		both, ctx := errgroup.WithContext(inner)
		both.Go(func() error { return b.run(ctx, o) })
		if o.events > 0 {
			both.Go(func() (err error) {
				if out.Events, err = events.send(ctx, p, o.events, o.warm+o.measured, o.seed); err != nil {
					return err
				}
				return events.await(ctx)
			})
		}
		return both.Wait()
	})
	if err := g.Wait(); err != nil {
		return out, err
	}
	if o.events > 0 && events.lists == 0 {
		return out, errors.New("no list came for any event: is a worker running on these topics?")
	}
	ms := func(f *demo.Freshness, q float64) float64 {
		return round(float64(f.Quantile(q).Microseconds())/1000, 3)
	}
	n := b.reads.Load()
	out.Rate, out.EventRate, out.Reads, out.Missing, out.Lists, out.Users = o.reads, o.events, n, b.missing.Load(), events.lists, len(b.users)
	out.PerSecond, out.Bytes = round(float64(n)/o.measured.Seconds(), 0), round(float64(b.bytes.Load())/float64(max(n-out.Missing, 1)), 0)
	out.P50, out.P90, out.P99, out.P999, out.Max = ms(b.times, .5), ms(b.times, .9), ms(b.times, .99), ms(b.times, .999), ms(b.times, 1)
	out.Late50, out.Late99, out.Fresh50, out.Fresh99 = ms(b.late, .5), ms(b.late, .99), ms(events.times, .5), ms(events.times, .99)
	return out, nil
}

// dueRead is one read: whose list, when it is due, and whether it is timed.
type dueRead struct {
	user  string
	at    time.Time
	timed bool
}

// run reads at the rate until the time is over.
func (b *readBench) run(ctx context.Context, o readOptions) error {
	total, warm := int((o.warm+o.measured).Seconds()*float64(o.reads)), int(o.warm.Seconds()*float64(o.reads))
	due := make(chan dueRead, o.reads) // a second of backlog before the clock is held up; its reads keep their due times
	g, ctx := errgroup.WithContext(ctx)
	for range readers {
		g.Go(func() error {
			for d := range due {
				if err := b.read(ctx, d); err != nil {
					return err
				}
			}
			return nil
		})
	}
	g.Go(func() error {
		defer close(due)
		// The runtime's own timers are a millisecond coarse, more than a read takes: this thread sleeps by the system's.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		began := time.Now()
		for n := range total {
			d := dueRead{user: b.users[b.r.IntN(len(b.users))], at: began.Add(time.Duration(float64(n) / float64(o.reads) * float64(time.Second))), timed: n >= warm}
			if wait := time.Until(d.at); wait > 0 {
				ts := syscall.NsecToTimespec(wait.Nanoseconds())
				_ = syscall.Nanosleep(&ts, nil) // a signal wakes it early: a read before it is due is timed as 1 us, and none was seen
			}
			select {
			case due <- d:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	return g.Wait()
}

// read gets one list, as a frontend does.
func (b *readBench) read(ctx context.Context, d dueRead) error {
	left := time.Now()
	records, err := b.store.Records(ctx, []freshet.RecordKey{{UserID: d.user, Surface: freshet.HomeSurface}})
	if err != nil {
		return err
	}
	if !d.timed {
		return nil
	}
	b.times.Record(time.Since(d.at))
	b.late.Record(left.Sub(d.at))
	b.reads.Add(1)
	b.bytes.Add(int64(len(records[0])))
	if records[0] == nil {
		b.missing.Add(1)
	}
	return nil
}

func printRead(w io.Writer, r readResult, asJSON bool) error {
	if asJSON {
		return printJSON(w, r)
	}
	_, err := fmt.Fprintf(w, "%d reads at %d/s while %d events/s are processed: p50 %.3f ms, p90 %.3f, p99 %.3f, p99.9 %.3f, max %.3f (they left late by %.3f at p50, %.3f at p99)\n"+
		"lists of %.0f bytes of %d users, %d reads found none; freshness of the events p50 %.2f ms, p99 %.2f\n",
		r.Reads, r.Rate, r.EventRate, r.P50, r.P90, r.P99, r.P999, r.Max, r.Late50, r.Late99, r.Bytes, r.Users, r.Missing, r.Fresh50, r.Fresh99)
	return err
}
