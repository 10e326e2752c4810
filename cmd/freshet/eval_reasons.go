package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"freshet"
	"freshet/featurestore"
	"freshet/internal/evaluate"
	"freshet/internal/recommend"
)

// reasonOptions are the flags of `freshet eval reasons` beside those of all evaluations.
type reasonOptions struct {
	samples, moments int
	seed             uint64
	least            float64
}

func newReasonsCommand(g *globals, o *evalOptions) *cobra.Command {
	r := &reasonOptions{samples: 1000, moments: 20, seed: 1, least: 0.95}
	cmd := &cobra.Command{Use: "reasons", Short: "Check reasons: without the item that one names, is the recommendation less likely?", Args: cobra.NoArgs,
		Long: "Replays events through the engine that serves. At moments spread over what follows the training part it takes recommendations of random\n" +
			"users and asks for their exact reasons, as `freshet user show` does. Then another engine, whose sources have learnt the same, is given the\n" +
			"user's events from the first one on, once as they are and once without the item that the reason names, and ranks the whole catalogue: the\n" +
			"recommendation's likelihood must be lower. Ends with an error where it is in less than --at-least of the samples.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case r.samples < 1 || r.moments < 1 || r.samples < r.moments:
				return fmt.Errorf("--samples %d --moments %d: use 1 or more, and no more moments than samples", r.samples, r.moments)
			case !(o.train > 0 && o.train < 1):
				return fmt.Errorf("--train %v: use a share between 0 and 1", o.train)
			}
			e, err := openEvaluation(g, o)
			if err != nil {
				return err
			}
			defer e.close()
			return e.checkReasons(cmd.Context(), r, cmd.OutOrStdout())
		}}
	f := cmd.Flags()
	f.StringVar(&o.data, "events", "", "file of events (required)")
	f.Float64Var(&o.train, "train", o.train, "share of the events before the first sample: what the bundle was trained on")
	f.IntVar(&r.samples, "samples", r.samples, "recommendations to look at")
	f.IntVar(&r.moments, "moments", r.moments, "moments of the stream that they are taken at")
	f.Uint64Var(&r.seed, "seed", r.seed, "of the choice of users and recommendations")
	f.Float64Var(&r.least, "at-least", r.least, "share of samples whose likelihood must be lower without the named item")
	return cmd
}

// reasonsReport is what the check found. Shares are of all samples.
type reasonsReport struct {
	Data    string `json:"data"`
	Model   string `json:"model"`
	Sources string `json:"sources"`
	Samples int    `json:"samples"`
	// Lowered: the recommendation was less likely without the item that its exact reason names.
	Lowered float64 `json:"lowered"`
	// LoweredBySource is the same for what the strongest source names, LoweredByEstimate for what the record names.
	LoweredBySource   float64 `json:"lowered_by_source"`
	LoweredByEstimate float64 `json:"lowered_by_estimate"`
	// Unnamed samples have no exact reason: without no item of the window would the recommendation be less likely.
	Unnamed float64 `json:"unnamed"`
	// Agreed: the record's estimate names the item that the exact reason of the same source names.
	Agreed  float64 `json:"estimate_agrees"`
	History float64 `json:"mean_items_in_window"` // to choose from
	Seconds float64 `json:"seconds"`

	names map[string]int // strongest sources
}

// sampled is one recommendation with the items that may be behind it.
type sampled struct {
	user  int32
	item  string
	named [4]string // nobody; by the exact reason, the strongest source, the record
	logs  [4]float64
}

func (e *evaluation) checkReasons(ctx context.Context, o *reasonOptions, w io.Writer) error {
	began := time.Now()
	weights := e.weights(1)
	seen := evaluate.NewSeen(e.data, false)
	handler, err := e.reasoningEngine(seen, weights)
	if err != nil {
		return err
	}
	n := len(e.data.Events)
	from := int(e.o.train * float64(n))
	r := rand.New(rand.NewPCG(o.seed, 0x4ea5))
	report := &reasonsReport{Data: e.o.data, Model: e.bundle.ID(), Sources: e.o.sources, names: map[string]int{}}
	histories := make([][]int, e.data.Users.Len())
	var batch []freshet.Event
	bar := newProgress(os.Stderr, "samples")
	for i, moment := 0, 1; i < n && moment <= o.moments; i++ {
		ev := e.data.Freshet(i)
		batch = append(batch, ev)
		e.data.Reveal(seen, i)
		histories[e.data.Events[i].User] = append(histories[e.data.Events[i].User], i)
		due := i == from+(n-from)*moment/o.moments-1
		if len(batch) < 64 && !due {
			continue
		}
		if _, err := handler.Handle(ctx, batch); err != nil {
			return err
		}
		batch = batch[:0]
		if !due {
			continue
		}
		wanted := o.samples*moment/o.moments - report.Samples
		if err := e.sampleReasons(ctx, handler.Engine, weights, histories, wanted, r, report); err != nil {
			return err
		}
		bar.show(report.Samples, float64(report.Samples)/float64(o.samples))
		moment++
	}
	bar.finish(report.Samples)
	report.settle()
	report.Seconds = round(time.Since(began).Seconds(), 1)
	if e.o.json {
		err = printJSON(w, report)
	} else {
		err = report.print(w)
	}
	if err == nil && report.Lowered < o.least {
		err = fmt.Errorf("the likelihood is lower in %.3f of the samples, less than --at-least %v", report.Lowered, o.least)
	}
	return err
}

// reasoningEngine serves lists of 20, as deep as serving looks.
func (e *evaluation) reasoningEngine(seen *evaluate.Seen, weights map[string]float64) (refreshing, error) {
	k := e.o.k
	defer func() { e.o.k = k }()
	e.o.k = 20
	return e.engineOf(seen, recommend.Surface{Weights: weights})
}

// sampleReasons takes recommendations of users of this moment.
func (e *evaluation) sampleReasons(ctx context.Context, engine *recommend.Engine, weights map[string]float64, histories [][]int, wanted int, r *rand.Rand, report *reasonsReport) error {
	var samples []*sampled
	for _, u := range r.Perm(len(histories)) {
		if len(samples) == wanted {
			break
		}
		if len(histories[u]) < 2 {
			continue
		}
		a, err := engine.Account(ctx, e.data.Users.ID(int32(u)), nil)
		if err != nil {
			return err
		}
		if len(a.Reasons) == 0 {
			continue
		}
		g := &a.Reasons[r.IntN(len(a.Reasons))]
		s := &sampled{user: int32(u), item: g.ItemID, named: [4]string{"", g.Because, g.Sources[0].Because, g.Sources[0].Estimate}}
		samples = append(samples, s)
		report.names[g.Sources[0].Source]++
		if g.Sources[0].Because == g.Sources[0].Estimate {
			report.Agreed++
		}
		report.History += float64(e.windowItems(histories[u]))
	}
	if len(samples) < wanted {
		return fmt.Errorf("only %d of %d users have a list to sample: use fewer --samples or more --moments", len(samples), wanted)
	}
	if err := e.relive(ctx, weights, histories, samples); err != nil {
		return err
	}
	for _, s := range samples {
		report.take(s)
	}
	return nil
}

// windowItems counts the different items of a user's window.
func (e *evaluation) windowItems(history []int) int {
	items := map[int32]bool{}
	for _, i := range history[max(0, len(history)-e.cfg.Profile.MaxHistory):] {
		for _, item := range e.data.ItemsOf(&e.data.Events[i]) {
			items[item] = true
		}
	}
	return len(items)
}

// frozen hides everything of a source but what Source asks for: it does not learn.
type frozen struct{ recommend.Source }

// relive gives users their events again, without the items that samples name, and notes how likely each recommendation is in the
// end among the whole catalogue.
func (e *evaluation) relive(ctx context.Context, weights map[string]float64, histories [][]int, samples []*sampled) error {
	store, err := featurestore.NewMemory(storeConfig(e.cfg), time.Now)
	if err != nil {
		return err
	}
	cfg, err := engineConfig(e.cfg, e.types)
	if err != nil {
		return err
	}
	cfg.Surfaces = []recommend.Surface{{Name: freshet.HomeSurface, K: 1, Weights: weights, Depth: e.data.Items.Len()}}
	cfg.HotFor, cfg.HotUsers = 0, 0
	var all []recommend.Source
	for _, s := range e.sources.all {
		all = append(all, frozen{s})
	}
	found := map[string]*float64{}
	wanted := map[string]string{}
	cfg.Inspect = func(who *freshet.Subject, items []freshet.Ref, scores [][]float32) {
		item := wanted[who.Profile.UserID]
		if at := slices.IndexFunc(items, func(r freshet.Ref) bool { return r.ItemID == item }); at >= 0 {
			*found[who.Profile.UserID] = e.logLikelihood(weights, items, scores, at)
		}
	}
	engine, err := recommend.New(cfg, store, e.bundle, e.index, all, unobserved{}, e.log)
	if err != nil {
		return err
	}
	var events []freshet.Event
	for n, s := range samples {
		for v, named := range s.named {
			s.logs[v] = math.NaN()
			if v > 0 && named == "" {
				continue
			}
			user := strconv.Itoa(n) + "-" + strconv.Itoa(v)
			found[user], wanted[user] = &s.logs[v], s.item
			for _, i := range histories[s.user] {
				ev := e.data.Freshet(i)
				ev.UserID = user
				if named != "" {
					ev.Items = slices.DeleteFunc(ev.Items, func(it freshet.EventItem) bool { return it.ItemID == named })
				}
				if len(ev.Items) > 0 {
					events = append(events, ev)
				}
			}
		}
	}
	_, err = engine.Handle(ctx, events)
	return err
}

// logLikelihood is the log-linear fusion of an item's scores, less the logarithm of all items' together.
func (e *evaluation) logLikelihood(weights map[string]float64, items []freshet.Ref, scores [][]float32, at int) float64 {
	fused := make([]float64, len(items))
	for k, s := range e.sources.all {
		w, ok := weights[s.Name()]
		if !ok {
			continue
		}
		if t, ok := e.cfg.Fusion.Temperatures[s.Name()]; ok {
			w /= t
		}
		for i, v := range scores[k] {
			fused[i] += w * float64(v)
		}
	}
	most, sum := slices.Max(fused), 0.0
	for _, v := range fused {
		sum += math.Exp(v - most)
	}
	return fused[at] - most - math.Log(sum)
}

func (r *reasonsReport) take(s *sampled) {
	r.Samples++
	if s.named[1] == "" {
		r.Unnamed++
	}
	for v, count := range []*float64{nil, &r.Lowered, &r.LoweredBySource, &r.LoweredByEstimate} {
		if v > 0 && s.logs[v] < s.logs[0] { // NaN is not less
			*count++
		}
	}
}

func (r *reasonsReport) settle() {
	for _, v := range []*float64{&r.Lowered, &r.LoweredBySource, &r.LoweredByEstimate, &r.Unnamed, &r.Agreed, &r.History} {
		*v = round(*v/float64(max(1, r.Samples)), 4)
	}
}

func (r *reasonsReport) print(w io.Writer) error {
	_, err := fmt.Fprintf(w, "%d recommendations by %s (%s), %.1f items in the window on average, %.0f s\n"+
		"less likely without the item that is named by\n"+
		"  the exact reason         %5.1f %%  (%.1f %% have none)\n  the strongest source     %5.1f %%\n  the record's estimate    %5.1f %%\n"+
		"the estimate names what the exact reason of its source names in %.1f %%\nstrongest sources: %v\n",
		r.Samples, r.Model, r.Sources, r.History, r.Seconds, 100*r.Lowered, 100*r.Unnamed, 100*r.LoweredBySource, 100*r.LoweredByEstimate, 100*r.Agreed, r.names)
	return err
}
