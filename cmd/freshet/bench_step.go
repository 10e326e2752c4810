package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"freshet"
	"freshet/featurestore"
	"freshet/internal/recommend"
	"freshet/models"
)

type stepOptions struct {
	history, window, users, pairs int
	late, hot                     float64
	seed                          uint64
	plot                          string // file of the picture; "" = none
}

func newBenchStepCommand(g *globals, asJSON *bool) *cobra.Command {
	histories := []int{10_000}
	o := stepOptions{window: 200, users: 16, pairs: 1000, seed: 1}
	cmd := &cobra.Command{Use: "step", Short: "Measure what an event costs a user with a long history, beside one whose window is just full",
		Long: "Two groups of users, one with as many events behind them as the window holds and one more, one with --history, of which the last are the\n" +
			"same. Both get the same events, in interleaved pairs, through the engine that serves, each time from the same stored profile: load,\n" +
			"apply, step, rank, encode. With --late some of them fall among the last few of their user, with --hot one user has that share of\n" +
			"the events, with a history as long. The ratio is the median over the pairs of CPU time, which other processes do not lengthen as they do\n" +
			"the time of day, with its 95 % interval by bootstrap. Beside it the model alone: the steps of one event, and\n" +
			"encoding the last --window items anew as a model without a state must. Events are views: up to 128 purchases and dismissals\n" +
			"are remembered exactly and cost deeper lists, whatever lies behind them. No server is needed.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, log, err := g.load()
			if err != nil {
				return err
			}
			if len(histories) == 0 || slices.Min(histories) < 1 || o.window < 1 || o.users < 1 || o.pairs < 2 || o.late < 0 || o.late > 1 || o.hot < 0 || o.hot > 1 {
				return errors.New("--history, --window, --users: at least 1; --pairs: at least 2; --late, --hot: 0 to 1")
			}
			if err := checkPlot(o.plot); err != nil {
				return err
			}
			runs := make([]stepResult, len(histories))
			for i, history := range histories {
				o.history = history
				if runs[i], err = benchStep(cmd.Context(), cfg, o, log); err != nil {
					return err
				}
				if err := printStep(cmd.OutOrStdout(), runs[i], *asJSON); err != nil {
					return err
				}
			}
			return drawPlot(o.plot, stepFigure(o.users, runs))
		}}
	f := cmd.Flags()
	f.IntSliceVar(&histories, "history", histories, "events behind a user of the second group; several are measured one after the other, each against a group of its own, and printed one a line")
	f.IntVar(&o.window, "window", o.window, "items that are encoded anew for comparison")
	f.IntVar(&o.users, "users", o.users, "users in a group, and so in a batch")
	f.IntVar(&o.pairs, "pairs", o.pairs, "interleaved pairs")
	f.Float64Var(&o.late, "late", o.late, "share of late events")
	f.Float64Var(&o.hot, "hot", o.hot, "share of the events that one user has")
	f.Uint64Var(&o.seed, "seed", o.seed, "seed of who meets what")
	plotFlag(f, &o.plot)
	return cmd
}

// stepResult is what scripts read.
type stepResult struct {
	History      int        `json:"history"`
	BaseHistory  int        `json:"base_history"`
	Cost         float64    `json:"cpu_us_per_event"`
	BaseCost     float64    `json:"base_cpu_us_per_event"`
	Ratio        float64    `json:"ratio"`
	Interval     [2]float64 `json:"ratio_interval"`
	ProfileBytes float64    `json:"profile_bytes"`
	BaseBytes    float64    `json:"base_profile_bytes"`
	StateBytes   int        `json:"state_bytes"`
	Step         float64    `json:"step_us"`     // the model's steps of one event: the state's and the checkpoint's
	Reencode     float64    `json:"reencode_us"` // the window through the same model
	Window       int        `json:"window"`
	Times        float64    `json:"reencode_ratio"`
	Late         float64    `json:"late"`
	Hot          float64    `json:"hot"`
	Pairs        int        `json:"pairs"`

	model string
	items int
}

// still is a store whose profiles never change: every save is taken and forgotten, so that each measurement begins where the one
// before began.
type still struct {
	profiles     map[string][]byte
	bytes, saved int
}

// Load implements recommend.Store.
func (s *still) Load(_ context.Context, users []string) ([][]byte, error) {
	out := make([][]byte, len(users))
	for i, u := range users {
		out[i] = s.profiles[u]
	}
	return out, nil
}

// Save implements recommend.Store.
func (s *still) Save(_ context.Context, updates []freshet.Update) ([]freshet.SaveResult, error) {
	out := make([]freshet.SaveResult, len(updates))
	for i := range updates {
		out[i] = freshet.Saved
		s.bytes, s.saved = s.bytes+len(updates[i].Profile), s.saved+1
	}
	return out, nil
}

// Records implements recommend.Store.
func (s *still) Records(_ context.Context, keys []freshet.RecordKey) ([][]byte, error) {
	return make([][]byte, len(keys)), nil
}

// stepBench holds what both groups share.
type stepBench struct {
	o      stepOptions
	cfg    recommend.Config
	bundle *models.Bundle
	index  *models.Index
	types  *freshet.EventTypes
}

func benchStep(ctx context.Context, cfg Config, o stepOptions, log *zap.Logger) (out stepResult, err error) {
	rt, err := models.NewRuntime(models.Config{Library: cfg.Model.Library, Device: cfg.Model.Device, Threads: cfg.Model.Threads, FallBack: cfg.Model.FallBack}, log)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, rt.Close()) }()
	b := &stepBench{o: o}
	if b.bundle, err = models.OpenBundle(rt, cfg.Model.Bundle); err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, b.bundle.Close()) }()
	if b.index, err = models.OpenIndex(b.bundle, models.IndexConfig{Recommendable: models.All}); err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, b.index.Close()) }()
	if b.types, err = cfg.EventTypes(); err != nil {
		return out, err
	}
	if b.cfg, err = engineConfig(cfg, b.types); err != nil {
		return out, err
	}
	b.cfg.HotFor = 0
	out = stepResult{History: o.history, BaseHistory: b.cfg.MaxHistory + 1, Window: o.window, Late: o.late, Hot: o.hot, Pairs: o.pairs, StateBytes: 4 * b.bundle.StateSize(),
		model: b.bundle.ID(), items: len(b.bundle.Items())}
	if b.cfg.Half {
		out.StateBytes /= 2
	}
	if err := b.compare(ctx, &out); err != nil {
		return out, err
	}
	return out, b.reencode(ctx, &out)
}

// group gives users with that many events behind them, at rest.
func (b *stepBench) group(ctx context.Context, history int) (*still, *recommend.Engine, *benchLoad, error) {
	memory, err := featurestore.NewMemory(featurestore.Config{Owner: true, CV: 1}, time.Now)
	if err != nil {
		return nil, nil, nil, err
	}
	cheap := b.cfg // the histories' own lists are not looked at
	cheap.HotFor, cheap.Surfaces = time.Hour, []recommend.Surface{{Name: freshet.HomeSurface, K: 1, Weights: map[string]float64{"popular": 1}}}
	past, err := b.engine(cheap, memory)
	if err != nil {
		return nil, nil, nil, err
	}
	load := newBenchLoad(b.o.users, b.bundle.Items(), b.types, 0, time.Now().Add(-24*time.Hour), b.o.seed)
	load.types = load.types[:1] // views: up to 128 purchases are remembered and hidden from lists whatever the history
	for i := range history {
		if history-i == b.cfg.MaxHistory+1 {
			load.again(b.o.seed) // what the window holds is the same for both groups, and so is what lists are made of
		}
		if _, err := past.Handle(ctx, b.batch(load, 0, 0)); err != nil {
			return nil, nil, nil, err
		}
	}
	s := &still{profiles: map[string][]byte{}}
	for i := range b.o.users {
		stored, err := memory.Load(ctx, []string{benchUser(i)})
		if err != nil {
			return nil, nil, nil, err
		}
		s.profiles[benchUser(i)] = stored[0]
	}
	serving, err := b.engine(b.cfg, s)
	return s, serving, load, err
}

func (b *stepBench) engine(cfg recommend.Config, store recommend.Store) (*recommend.Engine, error) {
	return recommend.New(cfg, store, b.bundle, b.index, newSources(DefaultConfig(), b.bundle, b.index, time.Now).all, unobserved{}, zap.NewNop())
}

// batch is one event of each user, or of the first one instead of a share of the others. A late one falls among the last few of its user.
func (b *stepBench) batch(load *benchLoad, late, hot float64) []freshet.Event {
	out := make([]freshet.Event, b.o.users)
	for i := range out {
		user := i
		if load.r.Float64() < hot {
			user = 0
		}
		out[i] = load.of(user)
		if load.r.Float64() < late {
			out[i].Time -= int64(1 + load.r.IntN(8*b.o.users))
		}
		out[i].Position = freshet.Position{Source: freshet.Source{Topic: "bench"}, Offset: int64(load.n)}
		out[i].RecordTime = out[i].Time
	}
	return out
}

// together is how many batches make one measurement: one alone is shorter than the clock of CPU time is fine.
const together = 8

// compare measures the two groups in interleaved pairs.
func (b *stepBench) compare(ctx context.Context, out *stepResult) error {
	stores, costs := [2]*still{}, [2][]float64{}
	var measure [2]func(pair int) error
	for i, history := range []int{out.BaseHistory, b.o.history} {
		s, engine, load, err := b.group(ctx, history)
		if err != nil {
			return fmt.Errorf("users with %d events behind them: %w", history, err)
		}
		stores[i] = s
		next := load.n
		measure[i] = func(pair int) error {
			load.n = next
			load.again(b.o.seed + uint64(pair) + 1) // the same events for both
			for range together {
				if _, err := engine.Handle(ctx, b.batch(load, b.o.late, b.o.hot)); err != nil {
					return err
				}
			}
			return nil
		}
	}
	for pair := range b.o.pairs + 1 { // the first pair warms up
		for turn := range 2 {
			i := (pair + turn) % 2
			before := takePoint().own
			if err := measure[i](pair); err != nil {
				return err
			}
			if pair > 0 {
				costs[i] = append(costs[i], float64((takePoint().own-before).Nanoseconds())/1000/float64(together*b.o.users))
			}
		}
	}
	out.BaseCost, out.Cost = round(median(costs[0]), 1), round(median(costs[1]), 1)
	out.Ratio, out.Interval = ratioOf(costs[1], costs[0], b.o.seed)
	out.BaseBytes, out.ProfileBytes = round(float64(stores[0].bytes)/float64(stores[0].saved), 0), round(float64(stores[1].bytes)/float64(stores[1].saved), 0)
	return nil
}

// reencode measures the model alone: two steps of one event against a window of them.
func (b *stepBench) reencode(ctx context.Context, out *stepResult) error {
	r := rand.New(rand.NewPCG(b.o.seed, 2))
	steps := func(rows int) *freshet.Steps {
		s := &freshet.Steps{Items: make([]float32, rows*b.bundle.Dim()), Types: make([]int64, rows), Gaps: make([]float32, rows),
			States: make([]float32, rows*b.bundle.StateSize())}
		for i := range rows {
			v, _ := b.index.Vector(b.bundle.Items()[r.IntN(len(b.bundle.Items()))])
			copy(s.Items[i*b.bundle.Dim():], v)
		}
		return s
	}
	one, window := steps(2*b.o.users), steps(b.o.users)
	timed := func(n int, s *freshet.Steps) (float64, error) {
		before := takePoint().own
		for range n {
			if err := b.bundle.Advance(ctx, s); err != nil {
				return 0, err
			}
		}
		return float64((takePoint().own - before).Nanoseconds()) / 1000 / float64(b.o.users), nil
	}
	var short, long []float64
	for range min(b.o.pairs, 20) {
		a, err := timed(b.o.window, one)
		if err != nil {
			return err
		}
		z, err := timed(b.o.window, window)
		if err != nil {
			return err
		}
		short, long = append(short, a/float64(b.o.window)), append(long, z)
	}
	out.Step, out.Reencode = round(median(short), 2), round(median(long), 1)
	times, _ := ratioOf(long, short, b.o.seed)
	out.Times = round(times, 1)
	return nil
}

func median(list []float64) float64 {
	list = slices.Sorted(slices.Values(list))
	n := len(list)
	return (list[(n-1)/2] + list[n/2]) / 2
}

// ratioOf is the median of the pairs' ratios, with its 95 % interval by bootstrap over the pairs.
func ratioOf(a, b []float64, seed uint64) (float64, [2]float64) {
	ratios := make([]float64, len(a))
	for i := range a {
		ratios[i] = a[i] / b[i]
	}
	r := rand.New(rand.NewPCG(seed, 3))
	again, drawn := make([]float64, 2000), make([]float64, len(ratios))
	for i := range again {
		for j := range drawn {
			drawn[j] = ratios[r.IntN(len(ratios))]
		}
		again[i] = median(drawn)
	}
	slices.Sort(again)
	return round(median(ratios), 4), [2]float64{round(again[len(again)/40], 4), round(again[len(again)-1-len(again)/40], 4)}
}

func printStep(w io.Writer, r stepResult, asJSON bool) error {
	if asJSON {
		return printJSON(w, r)
	}
	_, err := fmt.Fprintf(w, "%d pairs, %.0f %% late, %.0f %% of one user; history %d: %.1f us of CPU an event, profile %.0f bytes; history %d: %.1f us, %.0f bytes; ratio %.3f [%.3f, %.3f]\n"+
		"the model alone: %.1f us an event; encoding the last %d anew %.0f us, %.0f times as much\n",
		r.Pairs, 100*r.Late, 100*r.Hot, r.History, r.Cost, r.ProfileBytes, r.BaseHistory, r.BaseCost, r.BaseBytes, r.Ratio, r.Interval[0], r.Interval[1], r.Step, r.Window, r.Reencode, r.Times)
	return err
}
