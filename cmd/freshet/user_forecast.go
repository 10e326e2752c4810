package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"freshet"
	"freshet/featurestore"
	"freshet/internal/candidate"
	"freshet/internal/recommend"
	"freshet/models"
)

func newForecastCommand(g *globals, asJSON *bool) *cobra.Command {
	o := recommend.ForecastConfig{Alternatives: 3}
	cmd := &cobra.Command{Use: "forecast ID", Short: "What a user does next, step by step, from his stored state; nothing is written",
		Long: "Decodes the next behaviours (type and item): the model takes each one in as if it had happened and is asked again. By default the\n" +
			"likeliest behaviour is taken at each step; --beam keeps several sequences and prefers what is likely as a whole; --samples draws\n" +
			"sequences at random, the same ones for the same --seed.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.Validate(); err != nil {
				return fmt.Errorf("--%w", err)
			}
			return forecastUser(cmd.Context(), g, args[0], o, *asJSON, cmd.OutOrStdout())
		}}
	cmd.Flags().IntVar(&o.Steps, "steps", 5, "behaviours to look ahead")
	cmd.Flags().IntVar(&o.Beam, "beam", 1, "sequences kept at each step")
	cmd.Flags().IntVar(&o.Samples, "samples", 0, "sequences drawn at random instead")
	cmd.Flags().Uint64Var(&o.Seed, "seed", 1, "seed of the draws")
	cmd.Flags().Float64Var(&o.Temperature, "temperature", 1, "of the draws: below 1 keeps to the likely")
	cmd.Flags().BoolVar(&o.Repeats, "repeats", false, "an item may come twice within a forecast")
	return cmd
}

func forecastUser(ctx context.Context, g *globals, user string, o recommend.ForecastConfig, asJSON bool, w io.Writer) error {
	cfg, log, err := g.load()
	if err != nil {
		return err
	}
	f, err := openForecaster(ctx, cfg, log.WithOptions(zap.IncreaseLevel(zap.WarnLevel)))
	if err != nil {
		return errors.Join(err, f.close())
	}
	forecast, err := f.engine.Forecast(ctx, user, f.index, o)
	if err := errors.Join(err, f.close()); err != nil {
		return fmt.Errorf("%s: %w", user, err)
	}
	f.entitle(forecast)
	if asJSON {
		return printJSON(w, forecast)
	}
	return printForecast(w, forecast)
}

// forecaster is the part of a worker that a forecast or an account of reasons needs: the model, the store, and the catalogue as the store has it.
type forecaster struct {
	runtime *models.Runtime
	bundle  *models.Bundle
	index   *models.Index
	store   *featurestore.Redis
	engine  *recommend.Engine
	titles  map[string]string
	items   map[string]*freshet.Item
}

func (f *forecaster) close() error {
	var errs []error
	if f.store != nil {
		errs = append(errs, f.store.Close())
	}
	if f.index != nil {
		errs = append(errs, f.index.Close())
	}
	if f.bundle != nil {
		errs = append(errs, f.bundle.Close())
	}
	if f.runtime != nil {
		errs = append(errs, f.runtime.Close())
	}
	return errors.Join(errs...)
}

func openForecaster(ctx context.Context, cfg Config, log *zap.Logger) (f *forecaster, err error) {
	f = &forecaster{titles: map[string]string{}, items: map[string]*freshet.Item{}}
	m := cfg.Model
	if f.store, err = featurestore.Open(ctx, storeConfig(cfg), log); err != nil {
		return f, err
	}
	f.runtime, err = models.NewRuntime(models.Config{Library: m.Library, Device: m.Device, Threads: m.Threads, FallBack: m.FallBack}, log)
	if err != nil {
		return f, err
	}
	if f.bundle, err = models.OpenBundle(f.runtime, m.Bundle); err != nil {
		return f, err
	}
	known := models.Catalogue
	if !cfg.Catalogue.Only {
		known = models.All
	}
	if f.index, err = models.OpenIndex(f.bundle, models.IndexConfig{Recommendable: known, RewriteAfter: -1}); err != nil {
		return f, err
	}
	if err := f.store.EachItem(ctx, func(items []*freshet.Item) error { return f.take(ctx, items) }); err != nil {
		return f, err
	}
	if err := f.index.Settle(ctx); err != nil {
		return f, err
	}
	types, err := cfg.EventTypes()
	if err != nil {
		return f, err
	}
	engine, err := engineConfig(cfg, types)
	if err != nil {
		return f, err
	}
	engine.Surfaces = []recommend.Surface{{Name: freshet.HomeSurface, K: 1, Weights: map[string]float64{"sequence": 1}}} // no list is made
	f.engine, err = recommend.New(engine, f.store, f.bundle, f.index, []recommend.Source{candidate.NewSequence("sequence", 0, f.index)}, unobserved{}, log)
	return f, err
}

// take lets the index know items of the catalogue. What training did not see has the vector that the tower makes of its stored text
// vector; without one it cannot be forecast yet.
func (f *forecaster) take(ctx context.Context, items []*freshet.Item) error {
	var fresh []string
	for _, item := range items {
		if item == nil {
			continue
		}
		f.titles[item.ItemID], f.items[item.ItemID] = item.Title, item
		if _, kind := f.index.Vector(item.ItemID); kind != freshet.Trained && f.bundle.TextDim() > 0 {
			fresh = append(fresh, item.ItemID)
		}
	}
	stored, err := f.store.Vectors(ctx, fresh)
	if err != nil {
		return err
	}
	for i, id := range fresh {
		if len(stored[i].Vector) != f.bundle.TextDim() {
			continue
		}
		v, err := f.bundle.ItemVectors(ctx, [][]float32{stored[i].Vector})
		if err != nil {
			return err
		}
		if err := f.index.Upsert(id, v[0], 0); err != nil {
			return err
		}
	}
	for _, item := range items {
		if item != nil {
			f.index.SetRecommendable(item.ItemID, item.Recommendable(time.Now()))
		}
	}
	return nil
}

// entitle adds the titles that people know items by.
func (f *forecaster) entitle(forecast *recommend.Forecast) {
	for _, s := range forecast.Sequences {
		for i := range s.Steps {
			b := &s.Steps[i]
			b.Title = f.titles[b.ItemID]
			for n := range b.Alternatives {
				b.Alternatives[n].Title = f.titles[b.Alternatives[n].ItemID]
			}
		}
	}
}

func printForecast(w io.Writer, f *recommend.Forecast) error {
	fmt.Fprintf(w, "user %s after %d events, by %s, %s, %.0f s between steps\n", f.UserID, f.Rev, f.Model, f.Method, f.GapSeconds)
	for _, s := range f.Sequences {
		fmt.Fprintf(w, "\nprobability %.2g\n", s.Probability)
		for n, b := range s.Steps {
			fmt.Fprintf(w, "  %2d. %5.1f %%  %-10s %-14s %s\n", n+1, 100*b.Probability, b.Type, b.ItemID, b.Title)
			for _, a := range b.Alternatives {
				fmt.Fprintf(w, "      %5.1f %%  %-10s %-14s %s\n", 100*a.Probability, a.Type, a.ItemID, a.Title)
			}
		}
	}
	return nil
}
