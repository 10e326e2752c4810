package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/pprof"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"freshet"
	"freshet/featurestore"
	"freshet/internal/recommend"
	"freshet/models"
)

type listOptions struct {
	items, users, batch, batches int
	plain                        bool
	seed                         uint64
	profile                      string
}

func newBenchListCommand(g *globals, asJSON *bool) *cobra.Command {
	o := listOptions{items: 100_000, users: 2048, batch: 64, batches: 100, seed: 1}
	cmd := &cobra.Command{Use: "list", Short: "Measure what fusion, filters and reasons cost beside the model, stage by stage",
		Long: "A catalogue of --items made-up items with brands, categories and prices; users whose windows are full; four sources (sequence, covisit,\n" +
			"content, popular), a filter, a boost, caps per brand and category, diversity, weights that adapt. Batches of --batch events go through\n" +
			"the engine that serves, and the time of each stage is divided by the events. The model's part is its steps (fold) and its search; fuse,\n" +
			"choose and explain are what is set against it, encode beside them. No server is needed.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, log, err := g.load()
			if err != nil {
				return err
			}
			if o.items < 1000 || o.users < 1 || o.batch < 1 || o.batches < 1 {
				return errors.New("--items: at least 1000; --users, --batch, --batches: at least 1")
			}
			out, err := benchList(cmd.Context(), cfg, o, log)
			if err != nil {
				return err
			}
			return printList(cmd.OutOrStdout(), out, *asJSON)
		}}
	f := cmd.Flags()
	f.IntVar(&o.items, "items", o.items, "items of the catalogue")
	f.IntVar(&o.users, "users", o.users, "users")
	f.IntVar(&o.batch, "batch", o.batch, "events of a batch")
	f.IntVar(&o.batches, "batches", o.batches, "batches that are measured")
	f.BoolVar(&o.plain, "plain", false, "two sources and no rules but purchased and dismissed, as the defaults have it")
	f.StringVar(&o.profile, "cpuprofile", "", "write a pprof CPU profile of what is measured to this file")
	f.Uint64Var(&o.seed, "seed", o.seed, "seed of items and of who meets what")
	return cmd
}

// listResult is what scripts read; microseconds of wall time per event.
type listResult struct {
	Items  int                `json:"items"`
	Batch  int                `json:"batch"`
	Events int                `json:"events"`
	Stages map[string]float64 `json:"stage_us_per_event"`
	Model  float64            `json:"model_us_per_event"`                       // fold and search
	Lists  float64            `json:"fusion_filters_reasons_us_per_event"`      // fuse, choose, explain
	Ratio  float64            `json:"fusion_filters_reasons_per_model"`         //
	Step   float64            `json:"fusion_filters_reasons_per_fold_of_model"` // against the steps alone
}

// stageClock is an engine's Observer that adds stages up.
type stageClock struct {
	unobserved
	took map[string]time.Duration
}

func (c *stageClock) Stage(name string, took time.Duration) { c.took[name] += took }

func benchList(ctx context.Context, cfg Config, o listOptions, log *zap.Logger) (out listResult, err error) {
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
	index, err := models.OpenIndex(bundle, models.IndexConfig{})
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, index.Close()) }()
	catalogue, ids, err := fillBenchCatalogue(ctx, index, newBenchSpace(o.items, bundle.Dim(), o.seed))
	if err != nil {
		return out, err
	}
	types, err := cfg.EventTypes()
	if err != nil {
		return out, err
	}
	ec, err := engineConfig(cfg, types)
	if err != nil {
		return out, err
	}
	ec.HotUsers, ec.HotFor = 2*o.users, time.Hour
	ec.Surfaces = []recommend.Surface{{Name: freshet.HomeSurface, K: 20, Weights: map[string]float64{"sequence": .4, "covisit": .3, "content": .2, "popular": .1},
		Exclude: []string{"purchased", "dismissed"}, Filter: "item.price < 900", Boosts: []recommend.Boost{{Where: "item.brand == \"brand 7\"", Factor: 1.5}},
		PerBrand: 5, PerCategory: 8, Diversity: .2, Adapt: recommend.Adapt{Mode: recommend.AdaptOn}}}
	if o.plain {
		ec.Surfaces = []recommend.Surface{{Name: freshet.HomeSurface, K: 20, Weights: map[string]float64{"sequence": .8, "popular": .2}, Exclude: []string{"purchased", "dismissed"}}}
	}
	ec.ItemsVersion = func() uint64 { return 1 } // nothing changes
	ec.Item = func(id string) (*freshet.Item, bool) { item, ok := catalogue[id]; return item, ok }
	memory, err := featurestore.NewMemory(featurestore.Config{Owner: true, CV: 1}, time.Now)
	if err != nil {
		return out, err
	}
	clock := &stageClock{took: map[string]time.Duration{}}
	sources := newSources(cfg, bundle, index, time.Now)
	engine, err := recommend.New(ec, memory, bundle, index, sources.all, clock, log)
	if err != nil {
		return out, err
	}
	load := newBenchLoad(o.users, ids, types, 0, time.Now().Add(-24*time.Hour), o.seed)
	handle := func(user func(i int) int) error {
		batch := make([]freshet.Event, o.batch)
		for i := range batch {
			batch[i] = load.of(user(i))
			batch[i].Position = freshet.Position{Source: freshet.Source{Topic: "bench"}, Offset: int64(load.n)}
			batch[i].RecordTime = batch[i].Time
		}
		_, err := engine.Handle(ctx, batch)
		return err
	}
	bar := newProgress(os.Stderr, "events before")
	warm := 51 * o.users / o.batch
	for n := range warm {
		if err := handle(func(i int) int { return (n*o.batch + i) % o.users }); err != nil {
			return out, err
		}
		if n%64 == 0 {
			sources.popular.Refresh()
			bar.show(n*o.batch, float64(n)/float64(warm))
		}
	}
	bar.finish(warm * o.batch)
	clear(clock.took)
	if o.profile != "" {
		if err := startProfile(o.profile); err != nil {
			return out, err
		}
		defer pprof.StopCPUProfile()
	}
	for range o.batches {
		if err := handle(func(int) int { return load.r.IntN(o.users) }); err != nil {
			return out, err
		}
	}
	out = listResult{Items: o.items, Batch: o.batch, Events: o.batch * o.batches, Stages: map[string]float64{}}
	for name, took := range clock.took {
		out.Stages[name] = round(float64(took.Microseconds())/float64(out.Events), 2)
	}
	out.Model = round(out.Stages["fold"]+out.Stages["search"], 2)
	out.Lists = round(out.Stages["fuse"]+out.Stages["choose"]+out.Stages["explain"], 2)
	out.Ratio, out.Step = round(out.Lists/out.Model, 3), round(out.Lists/out.Stages["fold"], 3)
	return out, nil
}

// fillBenchCatalogue makes items up and gives each its vector.
func fillBenchCatalogue(ctx context.Context, x *models.Index, space *benchSpace) (map[string]*freshet.Item, []string, error) {
	items, ids := make(map[string]*freshet.Item, space.items), make([]string, space.items)
	for i := range ids {
		id := fmt.Sprintf("bench%07d", i)
		price := float64(i * 7919 % 1000)
		items[id] = &freshet.Item{ItemID: id, Title: "Item " + id, Brand: fmt.Sprint("brand ", i%97), Categories: []string{fmt.Sprint("category ", i%31)}, Price: price}
		if err := x.Upsert(id, space.vector(i), 0); err != nil {
			return nil, nil, err
		}
		x.SetRecommendable(id, true)
		ids[i] = id
	}
	return items, ids, x.Settle(ctx)
}

// listStages are the stages in the order in which they are printed.
var listStages = []string{"load", "apply", "fold", "search", "vote", "score", "fuse", "choose", "explain", "encode", "save"}

func printList(w io.Writer, r listResult, asJSON bool) error {
	if asJSON {
		return printJSON(w, r)
	}
	for name := range r.Stages {
		if !slices.Contains(listStages, name) && name != "rank" {
			return fmt.Errorf("stage %q is not printed", name)
		}
	}
	fmt.Fprintf(w, "%d items, %d events in batches of %d; microseconds per event\n", r.Items, r.Events, r.Batch)
	for _, name := range listStages {
		fmt.Fprintf(w, "  %-8s %8.2f\n", name, r.Stages[name])
	}
	_, err := fmt.Fprintf(w, "model (fold, search) %.2f; fusion, filters and reasons (fuse, choose, explain) %.2f: %.2f of the model, %.2f of its steps alone\n", r.Model, r.Lists, r.Ratio, r.Step)
	return err
}
