package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/pprof"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"freshet"
	"freshet/internal/telemetry"
	"freshet/models"
	"freshet/stream"
)

// catalogueOptions say what catalogue is loaded.
type catalogueOptions struct {
	items, cold int
	each        time.Duration
	profile     string
}

func newBenchCatalogueCommand(g *globals, asJSON *bool) *cobra.Command {
	o := catalogueOptions{items: 100_000, cold: 200, each: 5 * time.Second}
	cmd := &cobra.Command{Use: "catalogue", Short: "Measure how long a worker takes to load a large catalogue, and steps while the index is rebuilt",
		Long: "Publishes made-up items that are all new to the bundle, the dearest case, and stores a text vector for each, as a worker before would have;\n" +
			"then starts a worker three times: when nobody has written the items for frontends (first), when they stand in the store (again), and with\n" +
			"items whose texts nobody has read (cold: how many a second). Then times single steps, model and search of 100, alone and while the index\n" +
			"is rebuilt without a pause. Topics and keys have names of their own and stay behind: use servers that you can throw away.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, log, err := g.load()
			if err != nil {
				return err
			}
			if o.items < 1000 || o.cold < 0 {
				return errors.New("--items: at least 1000; --cold: at least 0")
			}
			if cfg.Model.Encoder == "" {
				return errors.New("model.encoder: the text encoder was not found: run make setup, or name its folder")
			}
			b, err := newPipelineBench(cfg, pipelineOptions{users: 1, events: 1000}, log) // for names of its own, on this machine
			if err != nil {
				return err
			}
			out, err := benchCatalogue(cmd.Context(), b.cfg, o, log.WithOptions(zap.IncreaseLevel(zap.WarnLevel)))
			if err != nil {
				return err
			}
			if *asJSON {
				return printJSON(cmd.OutOrStdout(), out)
			}
			return out.print(cmd.OutOrStdout())
		}}
	f := cmd.Flags()
	f.IntVar(&o.items, "items", o.items, "items with stored vectors")
	f.IntVar(&o.cold, "cold", o.cold, "items whose texts are read")
	f.StringVar(&o.profile, "cpuprofile", "", "write a pprof CPU profile of the second load to this file")
	f.DurationVar(&o.each, "for", o.each, "how long steps are timed, alone and during rebuilds")
	return cmd
}

// catalogueFigures is what scripts read. Times are seconds from opening the worker until lists can be made.
type catalogueFigures struct {
	Items    int     `json:"items"`
	First    float64 `json:"first_s"`
	Again    float64 `json:"again_s"`
	Index    float64 `json:"index_s"`     // of Again: building the index after the last item
	CPU      float64 `json:"again_cpu_s"` // of Again: processor time of this process, whatever else the machine does
	Cold     int     `json:"cold_items"`
	ColdRate float64 `json:"cold_texts_per_s"`

	Alone    latencies `json:"step_alone"`
	Rebuild  latencies `json:"step_during_rebuilds"`
	Rebuilds int       `json:"rebuilds"`
}

// latencies of single steps, milliseconds.
type latencies struct {
	Steps int     `json:"steps"`
	P50   float64 `json:"p50_ms"`
	P99   float64 `json:"p99_ms"`
	Max   float64 `json:"max_ms"`
}

func latenciesOf(took []time.Duration) latencies {
	slices.Sort(took)
	at := func(q float64) float64 {
		return round(took[min(len(took)-1, int(q*float64(len(took))))].Seconds()*1000, 3)
	}
	return latencies{Steps: len(took), P50: at(.5), P99: at(.99), Max: at(1)}
}

func (c *catalogueFigures) print(w io.Writer) error {
	_, err := fmt.Fprintf(w, "%d items loaded in %.1f s when nobody had written them for frontends, in %.1f s afterwards (%.1f s of it the index; %.1f s of processor time)\n"+
		"cold: %d texts read at %.1f a second\nstep and search of 100, ms: p50 %.3f, p99 %.3f, most %.3f alone; p50 %.3f, p99 %.3f, most %.3f during %d rebuilds\n",
		c.Items, c.First, c.Again, c.Index, c.CPU, c.Cold, c.ColdRate, c.Alone.P50, c.Alone.P99, c.Alone.Max, c.Rebuild.P50, c.Rebuild.P99, c.Rebuild.Max, c.Rebuilds)
	return err
}

func benchCatalogue(ctx context.Context, cfg Config, o catalogueOptions, log *zap.Logger) (*catalogueFigures, error) {
	cfg.Catalogue.Only, cfg.HTTP.Listen, cfg.Feedback.Enabled = true, "", false
	out := &catalogueFigures{Items: o.items, Cold: o.cold}
	if err := publishStored(ctx, cfg, o.items, log); err != nil {
		return nil, err
	}
	var err error
	if out.First, _, err = loadOnce(ctx, cfg, o.items, log, nil); err != nil {
		return nil, err
	}
	if err := startProfile(o.profile); err != nil {
		return nil, err
	}
	before := takePoint()
	if out.Again, out.Index, err = loadOnce(ctx, cfg, o.items, log, func(w *worker) error {
		out.CPU = round((takePoint().own - before.own).Seconds(), 2)
		pprof.StopCPUProfile()
		return timeSteps(ctx, w, o.each, out)
	}); err != nil {
		return nil, err
	}
	if o.cold == 0 {
		return out, nil
	}
	if err := publishCold(ctx, cfg, o.cold, log); err != nil {
		return nil, err
	}
	_, _, err = loadOnce(ctx, cfg, o.items+o.cold, log, func(w *worker) error {
		n, took := w.items.Encodings()
		out.ColdRate = round(float64(n)/max(took.Seconds(), 1e-3), 1)
		return nil
	})
	return out, err
}

// loadOnce starts a worker and ends it when lists can be made, after do.
func loadOnce(ctx context.Context, cfg Config, n int, log *zap.Logger, do func(*worker) error) (took, index float64, err error) {
	began := time.Now()
	w, err := openWorker(ctx, cfg, telemetry.NewMetrics(), log)
	if err != nil {
		return 0, 0, err
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- w.Run(running) }()
	select {
	case <-w.follower.Caught():
	case err := <-ended:
		stop()
		return 0, 0, errors.Join(err, w.Close())
	}
	read := time.Now()
	l := w.first()
	err = l.catalogueRead(ctx) // the lane does the same at this moment: the later one finds nothing to do
	took, index = time.Since(began).Seconds(), time.Since(read).Seconds()
	if got := l.index.Len(); err == nil && got != n {
		err = fmt.Errorf("%d of %d items can be recommended", got, n)
	}
	if err == nil && do != nil {
		err = do(w)
	}
	stop()
	return round(took, 2), round(index, 2), errors.Join(err, <-ended, w.Close())
}

// publishStored publishes n items and stores a vector for each.
func publishStored(ctx context.Context, cfg Config, n int, log *zap.Logger) error {
	return withTexts(ctx, cfg, log, func(w *worker, texts *models.TextEncoder) error {
		reader := freshet.HashID(texts.Hash())
		for from := 0; from < n; from += 5000 {
			changes := benchItems("x", from, min(from+5000, n))
			vectors := make([]freshet.ItemVector, len(changes))
			for i, c := range changes {
				v := make([]float32, texts.Dim())
				v[(from+i)%len(v)], v[((from+i)/7)%len(v)] = 0.8, 0.6
				vectors[i] = freshet.ItemVector{ItemID: c.ItemID, Text: freshet.HashID(c.Item.Text()), Encoder: reader, Vector: v}
			}
			if err := w.producer.PublishItems(ctx, changes); err != nil {
				return err
			}
			if err := w.store.PutVectors(ctx, vectors); err != nil {
				return err
			}
		}
		return nil
	})
}

func publishCold(ctx context.Context, cfg Config, n int, log *zap.Logger) error {
	return withTexts(ctx, cfg, log, func(w *worker, _ *models.TextEncoder) error {
		return w.producer.PublishItems(ctx, benchItems("cold", 0, n))
	})
}

// withTexts lends a worker that does not run.
func withTexts(ctx context.Context, cfg Config, log *zap.Logger, do func(*worker, *models.TextEncoder) error) error {
	w, err := openWorker(ctx, cfg, telemetry.NewMetrics(), log)
	if err != nil {
		return err
	}
	if w.texts == nil {
		return errors.Join(errors.New("model.bundle: the bundle reads no texts; use one that does, such as models/bundles/shop"), w.Close())
	}
	return errors.Join(do(w, w.texts), w.Close())
}

func benchItems(prefix string, from, to int) []stream.ItemChange {
	out := make([]stream.ItemChange, to-from)
	for i := range out {
		id := fmt.Sprintf("%s%06d", prefix, from+i)
		out[i] = stream.ItemChange{ItemID: id, Item: &freshet.Item{ItemID: id, Title: "Trail boot " + id, Categories: []string{"Footwear", "Boots"},
			Description: "A boot for long days on wet paths, number " + id, Domain: "outdoor", Brand: "Oddfell", Price: float64(50 + i%100), Currency: "EUR"}}
	}
	return out
}

// timeSteps times one event's work on model and index, alone and while the index is rebuilt.
func timeSteps(ctx context.Context, w *worker, each time.Duration, out *catalogueFigures) error {
	l := w.first()
	dim, size := l.bundle.Dim(), l.bundle.StateSize()
	run := freshet.Steps{Items: make([]float32, dim), Types: []int64{0}, Gaps: []float32{60}, States: make([]float32, size), Queries: make([][]float32, len(l.bundle.Tasks()))}
	for i := range run.Queries {
		run.Queries[i] = make([]float32, dim)
	}
	ids := w.items.IDs(1000)
	step := func(n int) error {
		v, _ := l.index.Vector(ids[n%len(ids)])
		copy(run.Items, v)
		if err := l.bundle.Advance(ctx, &run); err != nil {
			return err
		}
		_, err := l.index.Search(ctx, run.Queries[0], 100)
		return err
	}
	measure := func(f func()) (latencies, error) {
		var took []time.Duration
		for began := time.Now(); time.Since(began) < each; {
			at := time.Now()
			if err := step(len(took)); err != nil {
				return latencies{}, err
			}
			took = append(took, time.Since(at))
		}
		f()
		return latenciesOf(took), nil
	}
	var err error
	if out.Alone, err = measure(func() {}); err != nil {
		return err
	}
	rebuilding, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		for n := 0; ; n++ {
			v, _ := l.index.Vector(ids[n%len(ids)])
			moved := slices.Clone(v)
			moved[n%len(moved)] += 1e-3
			if err := l.index.Upsert(ids[n%len(ids)], moved, 0); err != nil {
				done <- err
				return
			}
			if err := l.index.Settle(rebuilding); err != nil {
				if rebuilding.Err() != nil {
					err = nil
				}
				done <- err
				return
			}
			out.Rebuilds++
		}
	}()
	out.Rebuild, err = measure(stop)
	stop()
	return errors.Join(err, <-done)
}
