package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"freshet"
	"freshet/internal/evaluate"
	"freshet/internal/recommend"
)

// tuneOptions are the flags of `freshet eval tune` beside those of all evaluations.
type tuneOptions struct {
	train, valid float64
	names        string
	pool         int
	most         int
	out          string
}

func newTuneCommand(g *globals, o *evalOptions) *cobra.Command {
	t := &tuneOptions{train: 0.8, valid: 0.08, names: "sequence,covisit,content,popular", pool: 200, most: 20_000}
	cmd := &cobra.Command{Use: "tune", Short: "Fit the fusion of the sources to past events, and print the configuration", Args: cobra.NoArgs,
		Long: "Replays events through the engine that serves, notes how every source scored the candidates before each of the last events of the\n" +
			"training part, and fits temperatures and weights to what users did. Events after the training part are not read. The bundle must not\n" +
			"have been trained on the events that are tuned on: train one with --split time:S, S = train - valid, and use the result with the\n" +
			"bundle that was trained on all of the training part.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.sources = t.names
			e, err := openEvaluation(g, o)
			if err != nil {
				return err
			}
			defer e.close()
			return e.tune(cmd.Context(), t, cmd.OutOrStdout())
		}}
	f := cmd.Flags()
	f.StringVar(&o.data, "events", "", "file of events (required)")
	f.Float64Var(&t.train, "train", t.train, "share of the events that may be used at all")
	f.Float64Var(&t.valid, "valid", t.valid, "share of the events, the last of those, that are tuned on")
	f.StringVar(&t.names, "sources", t.names, "sources to fuse")
	f.IntVar(&t.pool, "pool", t.pool, "candidates asked of each source")
	f.IntVar(&t.most, "samples", t.most, "choices to fit to at most; 0 = all")
	f.BoolVar(&o.repeats, "repeats", false, "items that the user has had stay candidates")
	f.StringVar(&t.out, "out", "", "write the configuration to this file instead of printing it")
	return cmd
}

// tuned is what tune prints.
type tuned struct {
	Fusion struct {
		Temperatures map[string]float64 `yaml:"temperatures" json:"temperatures"`
	} `yaml:"fusion" json:"fusion"`
	Surfaces []SurfaceBlock `yaml:"surfaces" json:"surfaces"`
}

func (e *evaluation) tune(ctx context.Context, t *tuneOptions, w io.Writer) error {
	if !(t.train > t.valid && t.valid > 0 && t.train <= 1) {
		return fmt.Errorf("--train %v --valid %v: use shares with 0 < valid < train <= 1", t.train, t.valid)
	}
	names := strings.Split(t.names, ",")
	catcher, err := e.catch(ctx, t, names)
	if err != nil {
		return err
	}
	if len(catcher.samples) < 100 {
		return fmt.Errorf("only %d of the choices were among the candidates: too few to fit %d weights to; use more events or a larger --pool", len(catcher.samples), len(names))
	}
	result := evaluate.Tune(catcher.samples, len(names))
	out := e.tunedConfig(names, &result)
	if e.o.json {
		return printJSON(w, map[string]any{"samples": result.Samples, "choices": catcher.choices, "sources": names, "alone_ndcg10": result.Alone,
			"temperatures": result.Temperatures, "weights": result.Weights, "slates": result.Slates, "fused": result.Fused, "config": out})
	}
	text, err := yaml.Marshal(out)
	if err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# freshet eval tune on %s: %d choices, %d among %d candidates of each source; NDCG@10 among those:\n", e.o.data, catcher.choices, result.Samples, t.pool)
	for k, n := range names {
		fmt.Fprintf(&b, "#   %-10s %.4f\n", n, result.Alone[k])
	}
	fmt.Fprintf(&b, "#   fused      %.4f\n%s", result.Fused.NDCG10, text)
	if t.out != "" {
		return os.WriteFile(t.out, []byte(b.String()), 0o644)
	}
	_, err = io.WriteString(w, b.String())
	return err
}

// leastTuned is the share that a source keeps which added nothing to the events that were tuned on: weights that adapt cannot bring back
// what has none.
const leastTuned = 0.02

// tunedConfig is the configuration with the home surface's weights and the temperatures replaced. Weights sum to about 1.
func (e *evaluation) tunedConfig(names []string, r *evaluate.Tuning) *tuned {
	out := &tuned{Surfaces: slices.Clone(e.cfg.Surfaces)}
	out.Fusion.Temperatures = map[string]float64{}
	weights, sum := map[string]float64{}, 0.0
	for _, w := range r.Weights {
		sum += w
	}
	for k, n := range names {
		weights[n] = round(max(r.Weights[k]/sum, leastTuned), 3)
		out.Fusion.Temperatures[n] = round(r.Temperatures[k], 3)
	}
	for i := range out.Surfaces {
		if out.Surfaces[i].Name == freshet.HomeSurface {
			out.Surfaces[i].Weights = weights
		}
	}
	return out
}

// choiceCatcher keeps the latest pool of every user until he does the next thing.
type choiceCatcher struct {
	e       *evaluation
	seen    *evaluate.Seen
	asked   []int // places of the sources among the engine's
	catch   bool
	pools   map[string]caughtPool
	samples []evaluate.Sample
	choices int
}

type caughtPool struct {
	items  []string
	scores [][]float32
}

func (c *choiceCatcher) inspect(who *freshet.Subject, items []freshet.Ref, scores [][]float32) {
	if !c.catch {
		return
	}
	p := caughtPool{scores: make([][]float32, len(c.asked))}
	for i := range items {
		if c.seen.Excluded(who.Profile.UserID, items[i].ItemID) {
			continue
		}
		p.items = append(p.items, items[i].ItemID)
		for n, k := range c.asked {
			p.scores[n] = append(p.scores[n], scores[k][i])
		}
	}
	c.pools[who.Profile.UserID] = p
}

// chosen makes a sample of an event, if the user has a pool and the item stands in it.
func (c *choiceCatcher) chosen(e *freshet.Event) {
	for _, it := range e.Items {
		p, ok := c.pools[e.UserID]
		if c.seen.Excluded(e.UserID, it.ItemID) || !ok {
			continue
		}
		c.choices++
		if at := slices.Index(p.items, it.ItemID); at >= 0 {
			c.samples = append(c.samples, evaluate.Sample{Scores: p.scores, Chosen: at})
		}
	}
}

// catch replays the training part and gives the choices of its last share.
func (e *evaluation) catch(ctx context.Context, t *tuneOptions, names []string) (*choiceCatcher, error) {
	n := int(t.train * float64(len(e.data.Events)))
	e.data.Events = e.data.Events[:n] // nothing after is read, whatever happens below
	from := int((t.train - t.valid) / t.train * float64(n))
	seen := evaluate.NewSeen(e.data, e.o.repeats)
	c := &choiceCatcher{e: e, seen: seen, pools: map[string]caughtPool{}}
	e.inspect = c.inspect
	weights := map[string]float64{}
	for _, name := range names {
		weights[name] = 1
	}
	handler, err := e.engineOf(seen, recommend.Surface{Weights: weights, Depth: t.pool})
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		for k, s := range handler.sources.all {
			if s.Name() == name {
				c.asked = append(c.asked, k)
			}
		}
	}
	bar := newProgress(os.Stderr, "events")
	var batch []freshet.Event
	users := map[string]bool{}
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		_, err := handler.Handle(ctx, batch)
		batch = batch[:0]
		clear(users)
		return err
	}
	for i := range n {
		ev := e.data.Freshet(i)
		c.catch = i >= from-e.data.Users.Len() // pools that stand when the tuned part begins are wanted, too
		if i >= from && (users[ev.UserID] || len(batch) >= 64) || len(batch) >= 4096 {
			if err := flush(); err != nil {
				return nil, err
			}
		}
		if i >= from && (t.most == 0 || len(c.samples) < t.most) {
			c.chosen(&ev)
		}
		e.data.Reveal(seen, i)
		batch, users[ev.UserID] = append(batch, ev), true
		if i%1000 == 0 {
			bar.show(i, float64(i)/float64(n))
		}
	}
	bar.finish(n)
	return c, flush()
}
