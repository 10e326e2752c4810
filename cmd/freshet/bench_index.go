package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"freshet"
	"freshet/models"
)

type indexOptions struct {
	items, batch, queries int
	recall                float64
	each                  time.Duration
	seed                  uint64
	plot                  string // file of the picture; "" = none
}

func newBenchIndexCommand(g *globals, asJSON *bool) *cobra.Command {
	o := indexOptions{items: 100_000, batch: 128, queries: 1000, recall: .99, each: 5 * time.Second, seed: 1}
	cmd := &cobra.Command{Use: "index", Short: "Measure the search of a large catalogue beside the exact one, and what it misses",
		Long: "Fills two indexes with the same made-up vectors, one that scores everything and one that divides its rows into cells, and searches\n" +
			"both for the 100 best items, from as many goroutines as there are cores. Vectors lie in clusters of Zipf sizes in a space whose\n" +
			"directions matter less and less, as those of trained item matrices do (deployments/bench/bundle.py); a query lies between two items of a\n" +
			"cluster, with noise. Recall is the share of the exact 100 best that are found; with --plot also for other numbers of cells.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, log, err := g.load()
			if err != nil {
				return err
			}
			if o.items < 100 || o.batch < 1 || o.queries < 1 {
				return errors.New("--items: at least 100; --batch, --queries: at least 1")
			}
			if err := checkPlot(o.plot); err != nil {
				return err
			}
			out, err := benchIndex(cmd.Context(), cfg, o, log)
			if err != nil {
				return err
			}
			if err := printIndex(cmd.OutOrStdout(), out, *asJSON); err != nil {
				return err
			}
			return drawPlot(o.plot, indexFigure(out))
		}}
	f := cmd.Flags()
	f.IntVar(&o.items, "items", o.items, "items of the catalogue")
	f.IntVar(&o.batch, "batch", o.batch, "queries searched together")
	f.IntVar(&o.queries, "queries", o.queries, "queries that recall is measured on")
	f.Float64Var(&o.recall, "recall", o.recall, "share of the 100 best items that must be found")
	f.DurationVar(&o.each, "for", o.each, "how long each of the two is measured")
	f.Uint64Var(&o.seed, "seed", o.seed, "seed of vectors and queries")
	plotFlag(f, &o.plot)
	return cmd
}

// indexResult is what scripts read.
type indexResult struct {
	Items     int     `json:"items"`
	PerSecond float64 `json:"events_per_s"`
	Recall    float64 `json:"recall100"`
	Exact     float64 `json:"exact_events_per_s"`
	Own       float64 `json:"cpu_us_per_event"`
	ExactOwn  float64 `json:"exact_cpu_us_per_event"`
	Cells     int     `json:"cells"`  // 0 = the index scores everything
	Probes    int     `json:"probes"` // cells that a query looks into
	Build     float64 `json:"build_s"`
	Batch     int     `json:"batch"`

	ByProbes []probesResult `json:"by_probes,omitempty"` // with --plot

	model string // whose width the vectors have
}

// probesResult is what is found by looking into that many cells.
type probesResult struct {
	Probes int     `json:"probes"`
	Recall float64 `json:"recall100"`
}

// benchIndex measures the two indexes one after the other.
func benchIndex(ctx context.Context, cfg Config, o indexOptions, log *zap.Logger) (out indexResult, err error) {
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
	space := newBenchSpace(o.items, bundle.Dim(), o.seed)
	asked := space.queries(o.queries)
	warm := space.queries(o.batch * 256) // other queries than those that recall is measured on
	out.Items, out.Batch, out.model = o.items, o.batch, bundle.ID()

	log.Info("exact")
	exact, _, err := openBenchIndex(ctx, bundle, space, models.IndexConfig{ExactUpTo: -1}, nil, o.batch)
	if err != nil {
		return out, err
	}
	want, err := exact.Search(ctx, asked, 100)
	if err == nil {
		out.Exact, out.ExactOwn, err = searchFor(ctx, exact, warm, o)
	}
	if err = errors.Join(err, exact.Close()); err != nil {
		return out, err
	}

	log.Info("in cells")
	divided, took, err := openBenchIndex(ctx, bundle, space, models.IndexConfig{Recall: o.recall}, warm, o.batch)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, divided.Close()) }()
	out.Build = round(took.Seconds(), 1)
	out.Probes, out.Cells = divided.Cells()
	got, err := divided.Search(ctx, asked, 100)
	if err != nil {
		return out, err
	}
	out.Recall = round(overlap(want, got), 4)
	if out.PerSecond, out.Own, err = searchFor(ctx, divided, warm, o); err != nil || o.plot == "" {
		return out, err
	}
	out.ByProbes, err = recallByProbes(ctx, divided, asked, want)
	return out, err
}

// recallByProbes looks into 1, 2, 4, ... cells until hardly anything is missed; nil where everything is scored.
func recallByProbes(ctx context.Context, x *models.Index, asked []float32, want freshet.Hits) (out []probesResult, err error) {
	_, of := x.Cells()
	for probes := 1; of > 0; probes *= 2 {
		x.LookInto(probes)
		got, err := x.Search(ctx, asked, 100)
		if err != nil {
			return nil, err
		}
		recall := overlap(want, got)
		out = append(out, probesResult{min(probes, of), round(recall, 4)})
		if recall >= .9995 || probes >= of {
			break
		}
	}
	return out, nil
}

// openBenchIndex fills an index and has it find its cells for the queries that it will be asked.
func openBenchIndex(ctx context.Context, b *models.Bundle, space *benchSpace, cfg models.IndexConfig, warm []float32, batch int) (*models.Index, time.Duration, error) {
	cfg.RewriteAfter = -1
	x, err := models.OpenIndex(b, cfg)
	if err != nil {
		return nil, 0, err
	}
	fill := func() error {
		for i := range space.items {
			id := fmt.Sprintf("bench%07d", i)
			if err := x.Upsert(id, space.vector(i), 0); err != nil {
				return err
			}
			x.SetRecommendable(id, true)
		}
		return x.Settle(ctx)
	}
	began := time.Now()
	if err := fill(); err != nil {
		return nil, 0, errors.Join(err, x.Close())
	}
	took := time.Since(began)
	for from := 0; from < len(warm); from += max(1, batch/2) * b.Dim() { // as many as it keeps
		if _, err := x.Search(ctx, warm[from:from+b.Dim()], 100); err != nil {
			return nil, 0, errors.Join(err, x.Close())
		}
	}
	return x, took, x.Settle(ctx) // with the queries it was asked
}

// searchFor searches for a while from all cores and gives queries per second and microseconds of CPU per query.
func searchFor(ctx context.Context, x *models.Index, queries []float32, o indexOptions) (perSecond, own float64, err error) {
	size := len(queries) / 256 // numbers in one of the 256 batches
	until, before := time.Now().Add(o.each), takePoint()
	var mu sync.Mutex
	var workers sync.WaitGroup
	total := 0
	for w := range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			var h freshet.Hits
			n := 0
			for at := w; time.Now().Before(until); at = (at + 1) % 256 {
				if e := x.SearchInto(ctx, queries[at*size:(at+1)*size], 100, &h); e != nil {
					mu.Lock()
					err = e
					mu.Unlock()
					return
				}
				n += o.batch
			}
			mu.Lock()
			total += n
			mu.Unlock()
		})
	}
	workers.Wait()
	after := takePoint()
	return round(float64(total)/after.at.Sub(before.at).Seconds(), 0), round(float64((after.own-before.own).Microseconds())/float64(max(total, 1)), 1), err
}

// overlap is the share of want's items that got has, query by query.
func overlap(want, got freshet.Hits) float64 {
	found, of := 0, 0
	for from := 0; from < len(want.Items); from += want.N {
		have := map[string]bool{}
		for _, id := range got.Items[from : from+want.N] {
			have[id] = true
		}
		for _, id := range want.Items[from : from+want.N] {
			if id != "" {
				of++
				if have[id] {
					found++
				}
			}
		}
	}
	return float64(found) / float64(max(of, 1))
}

func printIndex(w io.Writer, r indexResult, asJSON bool) error {
	if asJSON {
		return printJSON(w, r)
	}
	_, err := fmt.Fprintf(w, "%d items, batches of %d: exact %.0f queries/s (%.0f us CPU); %d of %d cells %.0f queries/s (%.0f us), recall@100 %.4f, built in %.1f s\n",
		r.Items, r.Batch, r.Exact, r.ExactOwn, r.Probes, r.Cells, r.PerSecond, r.Own, r.Recall, r.Build)
	return err
}

// benchSpace is a made-up catalogue's vectors: clusters of Zipf sizes, a falling spectrum in random directions, lengths between 1
// and 1.3. What an item's vector is follows from its number, so that nothing has to be kept.
type benchSpace struct {
	items, dim int
	seed       uint64
	centres    [][]float64
	share      []float64 // cumulative
	scale      []float64
	turn       [][]float64 // orthonormal
	r          *rand.Rand
}

func newBenchSpace(items, dim int, seed uint64) *benchSpace {
	s := &benchSpace{items: items, dim: dim, seed: seed, r: rand.New(rand.NewPCG(seed, 0x5bace))}
	s.scale = make([]float64, dim)
	for j := range s.scale {
		s.scale[j] = math.Pow(float64(j+1), -.35)
	}
	s.centres, s.share = make([][]float64, max(8, int(math.Sqrt(float64(items))))), nil
	sum := 0.0
	for c := range s.centres {
		s.centres[c] = s.normal(s.r, 1)
		sum += 1 / float64(c+5)
		s.share = append(s.share, sum)
	}
	s.turn = orthonormal(s.r, dim)
	return s
}

func (s *benchSpace) normal(r *rand.Rand, width float64) []float64 {
	v := make([]float64, s.dim)
	for j := range v {
		v[j] = width * s.scale[j] * r.NormFloat64()
	}
	return v
}

// clusterOf is the same for the same item.
func (s *benchSpace) clusterOf(r *rand.Rand) int {
	at, _ := slices.BinarySearch(s.share, r.Float64()*s.share[len(s.share)-1])
	return min(at, len(s.centres)-1)
}

// vector gives an item's vector.
func (s *benchSpace) vector(item int) []float32 {
	r := rand.New(rand.NewPCG(s.seed, uint64(item)))
	v := s.normal(r, .7)
	for j, c := range s.centres[s.clusterOf(r)] {
		v[j] += c
	}
	return s.finish(v, 1+.3*r.Float64())
}

// queries gives queries between two items of a cluster, with noise, of the length that makes the best score about 10.
func (s *benchSpace) queries(n int) []float32 {
	out := make([]float32, 0, n*s.dim)
	for range n {
		centre := s.centres[s.clusterOf(s.r)]
		a, b, noise := s.normal(s.r, .7), s.normal(s.r, .7), s.normal(s.r, .35)
		for j := range a {
			a[j] = centre[j] + .6*a[j] + .4*b[j] + noise[j]
		}
		out = append(out, s.finish(a, 8)...)
	}
	return out
}

// finish turns a vector and gives it its length.
func (s *benchSpace) finish(v []float64, length float64) []float32 {
	out, norm := make([]float32, s.dim), 0.0
	for _, x := range v {
		norm += x * x
	}
	norm = length / math.Sqrt(norm)
	for i, x := range v {
		for j, t := range s.turn[i] {
			out[j] += float32(x * t * norm)
		}
	}
	return out
}

// orthonormal draws a random rotation, by Gram and Schmidt.
func orthonormal(r *rand.Rand, n int) [][]float64 {
	q := make([][]float64, n)
	for i := range q {
		q[i] = make([]float64, n)
		for j := range q[i] {
			q[i][j] = r.NormFloat64()
		}
		for _, p := range q[:i] {
			along := 0.0
			for j := range p {
				along += p[j] * q[i][j]
			}
			for j := range p {
				q[i][j] -= along * p[j]
			}
		}
		norm := 0.0
		for _, x := range q[i] {
			norm += x * x
		}
		for j := range q[i] {
			q[i][j] /= math.Sqrt(norm)
		}
	}
	return q
}
