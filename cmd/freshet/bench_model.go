package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"freshet"
	"freshet/models"
)

type modelOptions struct {
	items, batch, lanes int
	each                time.Duration
	gflops, gbps        float64
	seed                uint64
}

func newBenchModelCommand(g *globals, asJSON *bool) *cobra.Command {
	o := modelOptions{items: 1_000_000, batch: 256, lanes: 2, each: 10 * time.Second, seed: 1}
	cmd := &cobra.Command{Use: "model", Short: "Measure the model stage on its device: steps and exact search, beside what the device could do",
		Long: "Verifies the bundle on the device (`bundle verify`), fills an index with made-up vectors that lie on it, and runs, from --lanes goroutines\n" +
			"at a time, what a batch of that many events costs: two steps each (the state's and the checkpoint's) and a search for the 100 best of\n" +
			"all items. With the device's ceilings (deployments/gpu/ceilings.py measures them) it tells how many events a second they allow:\n" +
			"for steps and products of queries and items the operations, for reading the items once a batch and writing and reading the scores\n" +
			"the bytes; whichever takes longer bounds the rate. No server is needed.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, log, err := g.load()
			if err != nil {
				return err
			}
			if o.items < 100 || o.batch < 1 || o.lanes < 1 || o.gflops < 0 || o.gbps < 0 {
				return errors.New("--items: at least 100; --batch, --lanes: at least 1; --gflops, --gbps: not negative")
			}
			out, err := benchModel(cmd.Context(), cfg, o, log)
			if err != nil {
				return err
			}
			return printModel(cmd.OutOrStdout(), out, *asJSON)
		}}
	f := cmd.Flags()
	f.IntVar(&o.items, "items", o.items, "items of the catalogue")
	f.IntVar(&o.batch, "batch", o.batch, "events of a batch")
	f.IntVar(&o.lanes, "lanes", o.lanes, "batches under way at a time")
	f.DurationVar(&o.each, "for", o.each, "how long it is measured")
	f.Float64Var(&o.gflops, "gflops", 0, "what the device computes, 10^9 float32 operations a second; 0 = not known")
	f.Float64Var(&o.gbps, "gbps", 0, "what its memory carries, 10^9 bytes a second; 0 = not known")
	f.Uint64Var(&o.seed, "seed", o.seed, "seed of vectors and queries")
	return cmd
}

// modelResult is what scripts read.
type modelResult struct {
	Device    string  `json:"device"`
	Drift     float64 `json:"drift"` // of queries on the device from the trainer's, over the bundle's parity sequences
	Tolerance float64 `json:"tolerance"`
	Items     int     `json:"items"`
	Dim       int     `json:"dim"`
	Batch     int     `json:"batch"`
	Lanes     int     `json:"lanes"`
	PerSecond float64 `json:"events_per_s"`
	P50       float64 `json:"p50_ms"` // of one batch: steps and search
	P99       float64 `json:"p99_ms"`
	StepMs    float64 `json:"step_p50_ms"` // the steps' part
	Flop      float64 `json:"mflop_per_event"`
	Bytes     float64 `json:"kb_per_event"`
	Achieved  float64 `json:"gflop_per_s"`
	Carried   float64 `json:"gb_per_s"`
	Bound     float64 `json:"roofline_events_per_s,omitempty"`
	Share     float64 `json:"share_of_roofline,omitempty"`
	Limit     string  `json:"limited_by,omitempty"` // operations or bytes
}

func benchModel(ctx context.Context, cfg Config, o modelOptions, log *zap.Logger) (out modelResult, err error) {
	rt, err := models.NewRuntime(models.Config{Library: cfg.Model.Library, Device: cfg.Model.Device, Threads: cfg.Model.Threads, FallBack: cfg.Model.FallBack}, log)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, rt.Close()) }()
	bundle, err := models.OpenBundle(rt, cfg.Model.Bundle)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, bundle.Close()) }()
	report, err := bundle.Verify(ctx)
	if err != nil {
		return out, err
	}
	space := newBenchSpace(o.items, bundle.Dim(), o.seed)
	index, _, err := openBenchIndex(ctx, bundle, space, models.IndexConfig{ExactUpTo: -1}, nil, o.batch)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, index.Close()) }()
	out = modelResult{Device: report.Device, Drift: report.Drift, Tolerance: report.Tolerance, Items: o.items, Dim: bundle.Dim(), Batch: o.batch, Lanes: o.lanes}
	if err := runModel(ctx, bundle, index, space.queries(o.batch*32), o, &out); err != nil {
		return out, err
	}
	step, err := os.Stat(filepath.Join(cfg.Model.Bundle, "step.onnx"))
	if err != nil {
		return out, err
	}
	out.roofline(int(step.Size()/4), o) // all but a few of the file's bytes are weights
	if why := rt.FellBack(); why != "" {
		return out, errors.New(why)
	}
	return out, nil
}

// modelLane is one goroutine's batches.
type modelLane struct {
	whole, steps []time.Duration
	n            int
}

// runModel measures o.each long, after a tenth of it to warm up.
func runModel(ctx context.Context, b *models.Bundle, x *models.Index, queries []float32, o modelOptions, out *modelResult) error {
	lanes, failed := make([]modelLane, o.lanes), make([]error, o.lanes)
	measured := time.Now().Add(o.each / 10)
	until := measured.Add(o.each)
	var running sync.WaitGroup
	for i := range lanes {
		running.Go(func() { failed[i] = lanes[i].run(ctx, b, x, queries, o, uint64(i), measured, until) })
	}
	running.Wait()
	if err := errors.Join(failed...); err != nil {
		return err
	}
	var whole, steps []time.Duration
	total := 0
	for _, l := range lanes {
		whole, steps, total = append(whole, l.whole...), append(steps, l.steps...), total+l.n
	}
	if len(whole) == 0 {
		return errors.New("not one batch was done in the time: raise --for")
	}
	slices.Sort(whole)
	slices.Sort(steps)
	ms := func(list []time.Duration, q float64) float64 {
		return round(float64(list[int(q*float64(len(list)-1))].Microseconds())/1000, 3)
	}
	out.P50, out.P99, out.StepMs = ms(whole, .5), ms(whole, .99), ms(steps, .5)
	out.PerSecond = round(float64(total)/time.Since(measured).Seconds(), 0)
	return nil
}

func (l *modelLane) run(ctx context.Context, b *models.Bundle, x *models.Index, queries []float32, o modelOptions, seed uint64, measured, until time.Time) error {
	r := rand.New(rand.NewPCG(o.seed, seed))
	rows := 2 * o.batch
	s := &freshet.Steps{Items: make([]float32, rows*b.Dim()), Types: make([]int64, rows), Gaps: make([]float32, rows), States: make([]float32, rows*b.StateSize())}
	for i := range s.Items {
		s.Items[i] = float32(r.NormFloat64())
	}
	size := o.batch * b.Dim()
	var hits freshet.Hits
	for n := 0; ; n++ {
		began := time.Now()
		if began.After(until) {
			return nil
		}
		if err := b.Advance(ctx, s); err != nil {
			return err
		}
		stepped := time.Since(began)
		from := n * size % len(queries)
		if err := x.SearchInto(ctx, queries[from:from+size], 100, &hits); err != nil {
			return err
		}
		if began.After(measured) {
			l.whole, l.steps, l.n = append(l.whole, time.Since(began)), append(l.steps, stepped), l.n+o.batch
		}
	}
}

// roofline says what an event takes of the device, and how many of them its ceilings allow. parameters are the step's weights, each of
// which is one multiplication and one addition a step.
func (r *modelResult) roofline(parameters int, o modelOptions) {
	flop := 2*2*float64(parameters) + 2*float64(r.Items)*float64(r.Dim)
	bytes := float64(r.Items)*float64(r.Dim)*4/float64(r.Batch) + 2*4*float64(r.Items)
	r.Flop, r.Bytes = round(flop/1e6, 2), round(bytes/1e3, 2)
	r.Achieved, r.Carried = round(flop*r.PerSecond/1e9, 1), round(bytes*r.PerSecond/1e9, 2)
	if o.gflops == 0 || o.gbps == 0 {
		return
	}
	compute, carry := o.gflops*1e9/flop, o.gbps*1e9/bytes
	r.Bound, r.Limit = round(min(compute, carry), 0), "operations"
	if carry < compute {
		r.Limit = "bytes"
	}
	r.Share = round(r.PerSecond/r.Bound, 3)
}

func printModel(w io.Writer, r modelResult, asJSON bool) error {
	if asJSON {
		return printJSON(w, r)
	}
	fmt.Fprintf(w, "on %s: queries off by %.2g at most (allowed %.2g); %d items of %d numbers, batches of %d, %d at a time\n%.0f events/s; a batch p50 %.2f ms (steps %.2f), p99 %.2f\n"+
		"an event takes %.2f Mflop and %.2f KB: %.1f Gflop/s, %.2f GB/s\n", r.Device, r.Drift, r.Tolerance, r.Items, r.Dim, r.Batch, r.Lanes, r.PerSecond, r.P50, r.StepMs, r.P99,
		r.Flop, r.Bytes, r.Achieved, r.Carried)
	if r.Bound == 0 {
		return nil
	}
	_, err := fmt.Fprintf(w, "the device's ceilings allow %.0f events/s, by %s: %.2f of it\n", r.Bound, r.Limit, r.Share)
	return err
}
