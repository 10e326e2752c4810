package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"freshet"
	"freshet/internal/recommend"
)

// evalSources are the sources that --sources may name, beside all and counts.
var evalSources = []string{"sequence", "covisit", "content", "popular", "trending", "recent", "covisit-last", "content-last"}

func checkSources(names string) error {
	if names == "all" {
		return nil
	}
	for _, n := range strings.Split(names, ",") {
		if n != "counts" && !slices.Contains(evalSources, n) {
			return fmt.Errorf("--sources %s: %q is not one of all, %s, counts", names, n, strings.Join(evalSources, ", "))
		}
	}
	return nil
}

// weights of the sources that --sources names: those of the configured home surface; a source that it does not name weighs 1. a is the
// weight of the evaluation's own counts.
func (e *evaluation) weights(a float64) map[string]float64 {
	home := map[string]float64{}
	for _, s := range e.cfg.Surfaces {
		if s.Name == freshet.HomeSurface {
			home = s.Weights
		}
	}
	if e.o.sources == "all" {
		return maps.Clone(home)
	}
	out := map[string]float64{}
	for _, n := range strings.Split(e.o.sources, ",") {
		w, named := home[n]
		switch {
		case n == "counts" && e.o.sources != "counts":
			w = a
		case !named:
			w = 1
		}
		if w > 0 {
			out[n] = w
		}
	}
	return out
}

// refreshing is the engine with the sources that a worker refreshes every second: here after every batch.
type refreshing struct {
	*recommend.Engine
	sources *sources
	weights map[string]float64 // only what takes part needs to be fresh
}

// Handle implements evaluate.Handler.
func (r refreshing) Handle(ctx context.Context, events []freshet.Event) ([]freshet.Publication, error) {
	out, err := r.Engine.Handle(ctx, events)
	if r.weights["popular"] > 0 {
		r.sources.popular.Refresh()
	}
	if r.weights["trending"] > 0 {
		r.sources.trending.Refresh()
	}
	return out, err
}
