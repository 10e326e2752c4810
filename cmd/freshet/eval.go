package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"freshet"
	"freshet/featurestore"
	"freshet/internal/dataset"
	"freshet/internal/evaluate"
	"freshet/internal/recommend"
	"freshet/models"
)

// evalOptions are the flags of `freshet eval`.
type evalOptions struct {
	bundle, data, items string
	sources             string
	train               float64
	k                   int
	repeats             bool
	json                bool
	plot                string
	weight              float64
	coldItems, coldFrom float64
	explore             int
	until               float64
	depth               int
	adapt               bool
	shift               float64
	save                string
}

func newEvalCommand(g *globals) *cobra.Command {
	o := &evalOptions{train: 0.8, k: 100, sources: "sequence", weight: -1, until: 1}
	cmd := &cobra.Command{
		Use:   "eval",
		Short: "Measure accuracy on a file of events, through the engine that serves",
		Long: "Ranks what users really did next among the whole catalogue. Reads every format that `freshet import` reads, as it is.\n" +
			"Every rating counts as a behaviour, whatever its value, as in the published figures. Confidence intervals are bootstrapped over users.",
	}
	f := cmd.PersistentFlags()
	f.StringVar(&o.bundle, "bundle", "", "folder of the bundle (default: model.bundle)")
	f.StringVar(&o.sources, "sources", o.sources, "what ranks: all (the fusion of the home surface), or some of sequence, covisit, content, popular, trending, recent; loo also: counts, sequence,counts")
	f.Float64Var(&o.weight, "weight", o.weight, "weight of the counts in a fusion, instead of one chosen on validation")
	f.IntVar(&o.k, "k", o.k, "places of the lists; at least 50")
	f.BoolVar(&o.json, "json", false, "print one JSON object")
	plotFlag(f, &o.plot)
	f.StringVar(&o.save, "save", "", "keep the ranks in this file, for freshet eval compare")
	cmd.AddCommand(newTuneCommand(g, o), newReasonsCommand(g, o), newCompareCommand(), newOffPolicyCommand(g))
	loo := &cobra.Command{Use: "loo", Short: "Leave-one-out: the last event of every user is hidden and ranked", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runEval(cmd, g, o, leaveOneOut) }}
	loo.Flags().StringVar(&o.data, "data", "", "file of events (required)")
	preq := &cobra.Command{Use: "prequential", Short: "Each event is ranked in the list that stands, then revealed, in time order", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runEval(cmd, g, o, prequential) }}
	preq.Flags().StringVar(&o.data, "events", "", "file of events (required)")
	preq.Flags().StringVar(&o.items, "items", "", "file of items: adds the text baseline, and items without events as candidates")
	preq.Flags().Float64Var(&o.train, "train", o.train, "share of the events that is revealed before scoring begins: what the bundle was trained on")
	preq.Flags().Float64Var(&o.coldItems, "cold-items", 0, "share of the items that the bundle was trained without (the trainer's cleaning.hold_items): reports their first events; needs --items")
	preq.Flags().Float64Var(&o.coldFrom, "cold-from", 0, "where that share begins (the trainer's cleaning.hold_from): two that do not overlap, one to choose by and one to score")
	preq.Flags().IntVar(&o.explore, "explore", 0, "adds the row explore: a list of ten whose last places, so many, are kept for items that the bundle was not trained on; needs --items")
	preq.Flags().Float64Var(&o.until, "until", o.until, "share of the events that is looked at; with --train 0.72 --until 0.8 nothing of the usual test part is")
	preq.Flags().IntVar(&o.depth, "depth", 0, "candidates asked of each source, as serving asks; 0 = the whole catalogue, which takes longer")
	preq.Flags().BoolVar(&o.adapt, "adapt", false, "let the weights follow what users do, beside a row whose weights stay as they are")
	preq.Flags().Float64Var(&o.shift, "shift", 0, "plant a shift of behaviour after this share of the scored events: from then on every item plays the part of another")
	preq.Flags().BoolVar(&o.repeats, "repeats", false, "items that the user has had stay candidates")
	cmd.AddCommand(loo, preq)
	return cmd
}

// evaluation is everything an evaluation stands on.
type evaluation struct {
	o       *evalOptions
	cfg     Config
	log     *zap.Logger
	types   *freshet.EventTypes
	runtime *models.Runtime
	bundle  *models.Bundle
	index   *models.Index
	data    *evaluate.Log
	sources *sources // of the latest engine

	untrained []string // items of --items that the bundle knows by their text alone

	inspect func(who *freshet.Subject, items []freshet.Ref, scores [][]float32) // of the engines that are made
}

func runEval(cmd *cobra.Command, g *globals, o *evalOptions, protocol func(context.Context, *evaluation) (*evaluate.Report, error)) error {
	began := time.Now()
	e, err := openEvaluation(g, o)
	if err != nil {
		return err
	}
	defer e.close()
	r, err := protocol(cmd.Context(), e)
	if err != nil {
		return err
	}
	r.Data, r.Seconds = o.data, math.Round(time.Since(began).Seconds()*10)/10
	return e.show(cmd.OutOrStdout(), r)
}

func openEvaluation(g *globals, o *evalOptions) (*evaluation, error) {
	switch {
	case o.data == "":
		return nil, errors.New("name the file of events: --data FILE for loo, --events FILE for prequential")
	case o.k < 50 || o.k > 5000:
		return nil, fmt.Errorf("--k %d: use 50 to 5000", o.k)
	}
	if err := checkSources(o.sources); err != nil {
		return nil, err
	}
	if err := checkPlot(o.plot); err != nil {
		return nil, err
	}
	cfg, log, err := g.load()
	if err != nil {
		return nil, err
	}
	for i := range cfg.Events.Types {
		cfg.Events.Types[i].Threshold = nil
	}
	e := &evaluation{o: o, cfg: cfg, log: log.WithOptions(zap.IncreaseLevel(zap.WarnLevel))}
	if o.bundle != "" {
		e.cfg.Model.Bundle = o.bundle
	}
	if e.types, err = e.cfg.EventTypes(); err != nil {
		return nil, err
	}
	if err := e.openModel(); err != nil {
		return nil, errors.Join(err, e.close())
	}
	if e.data, err = readLog(o.data, e.types, cfg.MinTime()); err != nil {
		return nil, errors.Join(err, e.close())
	}
	return e, nil
}

func (e *evaluation) openModel() (err error) {
	m := e.cfg.Model
	e.runtime, err = models.NewRuntime(models.Config{Library: m.Library, Device: m.Device, Threads: m.Threads, FallBack: m.FallBack}, e.log)
	if err != nil {
		return err
	}
	if e.bundle, err = models.OpenBundle(e.runtime, m.Bundle); err != nil {
		return err
	}
	e.index, err = models.OpenIndex(e.bundle, models.IndexConfig{Recommendable: models.All})
	return err
}

func (e *evaluation) close() error {
	var errs []error
	if e.index != nil {
		errs = append(errs, e.index.Close())
	}
	if e.bundle != nil {
		errs = append(errs, e.bundle.Close())
	}
	if e.runtime != nil {
		errs = append(errs, e.runtime.Close())
	}
	return errors.Join(errs...)
}

func readLog(path string, types *freshet.EventTypes, minTime time.Time) (*evaluate.Log, error) {
	bad := 0
	r, err := dataset.OpenEvents(path, dataset.Options{Types: types, MinTime: minTime, OnBad: func(err *dataset.RowError) {
		if bad++; bad <= 3 {
			fmt.Fprintln(os.Stderr, "left out:", err)
		}
	}})
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := evaluate.ReadLog(r.All(), types, r.Order())
	if err == nil && r.Timed() {
		data.SortByTime("time, ties in file order")
	}
	if bad > 3 {
		fmt.Fprintf(os.Stderr, "left out: %d rows in all\n", bad)
	}
	return data, err
}

// engine is the serving engine over a store in memory, with lists of --k places and the exact set of seen items kept out. weights
// name the sources; counts may be nil when they do not take part.
func (e *evaluation) engine(seen *evaluate.Seen, weights map[string]float64, extra ...recommend.Source) (*recommend.Engine, error) {
	r, err := e.engineOf(seen, e.wholeCatalogue(weights), extra...)
	return r.Engine, err
}

// wholeCatalogue is a surface whose sources are asked for everything, unless --depth says how deep: what an evaluation ranks should not
// depend on how deep serving looks.
func (e *evaluation) wholeCatalogue(weights map[string]float64) recommend.Surface {
	if e.o.depth > 0 {
		return recommend.Surface{Weights: weights, Depth: e.o.depth}
	}
	return recommend.Surface{Weights: weights, Depth: max(e.data.Items.Len(), e.o.k)}
}

// engineOf is engine with a home surface of one's own, and the sources that must be refreshed beside it.
func (e *evaluation) engineOf(seen *evaluate.Seen, home recommend.Surface, extra ...recommend.Source) (refreshing, error) {
	r := refreshing{weights: home.Weights}
	store, err := featurestore.NewMemory(storeConfig(e.cfg), time.Now)
	if err != nil {
		return r, err
	}
	cfg, err := engineConfig(e.cfg, e.types)
	if err != nil {
		return r, err
	}
	home.Name = freshet.HomeSurface
	if home.K == 0 {
		home.K = e.o.k
	}
	cfg.Surfaces = []recommend.Surface{home}
	cfg.Excluded, cfg.HotUsers = seen.Excluded, 2*e.data.Users.Len()
	cfg.Inspect = e.inspect
	r.sources = newSources(e.cfg, e.bundle, e.index, time.Now)
	if home.Weights["covisit"] == 0 && home.Weights["covisit-last"] == 0 {
		r.sources.covisit.Idle()
	}
	if home.Explore == 0 {
		r.sources.fresh.Idle()
	}
	e.sources = r.sources
	r.Engine, err = recommend.New(cfg, store, e.bundle, e.index, append(r.sources.all, extra...), unobserved{}, e.log)
	return r, err
}

func leaveOneOut(ctx context.Context, e *evaluation) (*evaluate.Report, error) {
	weight, trials := e.o.weight, []evaluate.Trial(nil)
	if e.o.sources == "sequence,counts" && weight < 0 {
		var err error
		if weight, trials, err = e.chooseWeight(ctx); err != nil {
			return nil, err
		}
	}
	split := e.data.LeaveOneOut(evaluate.Test)
	counts := evaluate.NewCounts(e.data.Items.Len(), evaluate.DefaultCountsConfig())
	popular := evaluate.NewPopularity(e.data.Items.Len())
	split.Teach(counts)
	split.Teach(popular)
	engine, err := e.engine(split.Seen, e.weights(weight), &countsSource{data: e.data, counts: counts})
	if err != nil {
		return nil, err
	}
	bar := newProgress(os.Stderr, "users")
	ranks, err := split.RankHandler(ctx, engine, func(done, total int) { bar.show(done, float64(done)/float64(total)) })
	if err != nil {
		return nil, err
	}
	bar.finish(len(split.Questions))
	rows := []evaluate.NamedOutcomes{{Name: e.o.sources, Outcomes: ranks}}
	for _, s := range []evaluate.Scorer{counts, popular} {
		outcomes, err := split.Rank(ctx, s)
		if err != nil {
			return nil, err
		}
		rows = append(rows, evaluate.NamedOutcomes{Name: s.Name(), Outcomes: outcomes})
	}
	r := split.Report(e.bundle.ID(), rows, evaluate.DefaultBootstrap())
	if e.o.sources == "sequence,counts" {
		r.FusionWeight, r.FusionTrials = &weight, trials
	}
	return r, nil
}

func (e *evaluation) show(w io.Writer, r *evaluate.Report) error {
	if e.o.save != "" {
		if err := saveRanks(e.o.save, e.o.sources, r); err != nil {
			return err
		}
	}
	if e.o.plot != "" {
		f, err := evalFigure(r)
		if err != nil {
			return err
		}
		if err := f.Save(e.o.plot); err != nil {
			return err
		}
	}
	if e.o.json {
		return printJSON(w, r)
	}
	return r.Table(w)
}

// unobserved is an engine's Observer that looks away.
type unobserved struct{}

func (unobserved) Event(string, freshet.Outcome) {}
func (unobserved) Stage(string, time.Duration)   {}
func (unobserved) Refold(string)                 {}
func (unobserved) Fenced(string)                 {}
func (unobserved) Visible(time.Time)             {}
func (unobserved) Shares(string, float64)        {}
