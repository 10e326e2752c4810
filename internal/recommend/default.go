package recommend

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"freshet"
)

// coldSources are those that need no user: what a list for somebody unknown can be made of.
var coldSources = []string{"popular", "trending", newSource}

// cold gives the weights of a surface's list for users who have none: those that are configured for it, else those of the surface's own sources that
// need no user, else popularity with what is trending.
func (s *Surface) cold(known func(source string) bool) map[string]float64 {
	weights := maps.Clone(s.Cold)
	if len(weights) == 0 {
		weights = map[string]float64{}
		for _, name := range coldSources {
			if w := s.Weights[name]; w > 0 {
				weights[name] = w
			}
		}
	}
	if len(weights) == 0 {
		weights = map[string]float64{"popular": 1, "trending": 0.5}
	}
	maps.DeleteFunc(weights, func(name string, _ float64) bool { return !known(name) })
	return weights
}

// hushed keeps what is no user's out of the figures.
type hushed struct{ Observer }

func (hushed) Stage(string, time.Duration) {}
func (hushed) Shares(string, float64)      {}

// coldConfig is for an engine with the same surfaces for a user of whom nothing is known; nil = none of the sources can serve him.
func coldConfig(cfg Config, sources []Source) *Config {
	known := func(name string) bool {
		return slices.ContainsFunc(sources, func(s Source) bool { return s.Name() == name })
	}
	surfaces := cfg.Surfaces
	cfg.Surfaces, cfg.Inspect, cfg.Excluded = nil, nil, nil
	for _, s := range surfaces {
		if s.Weights, s.Depth, s.Adapt = s.cold(known), 0, (Adapt{}); len(s.Weights) == 0 {
			return nil
		}
		cfg.Surfaces = append(cfg.Surfaces, s)
	}
	return &cfg
}

// Default is the list of one surface for users without one.
type Default struct {
	Surface string
	Record  []byte
}

// Defaults makes the lists that users without one are served, with the surfaces' rules: of what is popular, trending and new. A surface for
// which there is nothing is left out. They belong to no user and no event.
func (e *Engine) Defaults(ctx context.Context) ([]Default, error) {
	if e.nobody == nil {
		return nil, nil
	}
	cv := e.cfg.CV
	if e.cfg.Table != nil {
		cv = e.cfg.Table().Lanes[e.cfg.Lane].CV
	}
	now := e.cfg.Now()
	who := freshet.Subject{Profile: &freshet.Profile{}, Now: now.UnixMilli()}
	var out []Default
	err := e.nobody.lists(ctx, nil, []freshet.Subject{who}, new(laps), nil, func(_ int, s *Surface, l list) {
		if len(l.items) == 0 {
			return
		}
		r := freshet.Recommendation{V: 1, CV: cv, RecID: "default-" + s.Name, Surface: s.Name, Lane: e.cfg.Lane, Model: e.model.ID(), Items: l.items,
			ComputedAt: now.UTC().Format(time.RFC3339Nano)}
		out = append(out, Default{s.Name, r.Fit(r.AppendJSON(nil))})
	})
	if err != nil {
		return nil, fmt.Errorf("make the lists of users without one: %w", err)
	}
	return out, nil
}
