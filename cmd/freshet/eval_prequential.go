package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"freshet"
	"freshet/internal/evaluate"
	"freshet/internal/recommend"
)

func prequential(ctx context.Context, e *evaluation) (*evaluate.Report, error) {
	if e.o.sources == "sequence,counts" && e.o.weight < 0 {
		e.o.weight = 0.8
	}
	if !(e.o.until > e.o.train && e.o.until <= 1) || !(e.o.shift >= 0 && e.o.shift < 1) {
		return nil, fmt.Errorf("--until %v --shift %v: use a share above --train (%v) and at most 1, and a share from 0 to below 1", e.o.until, e.o.shift, e.o.train)
	}
	texts, err := e.addItems(ctx)
	if err != nil {
		return nil, err
	}
	cut := int(e.o.train * float64(len(e.data.Events)))
	e.data.Events = e.data.Events[:int(e.o.until*float64(len(e.data.Events)))]
	run := evaluate.Prequential{Log: e.data, Train: float64(cut) / float64(len(e.data.Events)), Held: e.held()}
	cfg := evaluate.ReportConfig{Bootstrap: evaluate.DefaultBootstrap()}
	if e.o.shift > 0 {
		at := cut + int(e.o.shift*float64(len(e.data.Events)-cut))
		from := e.data.Events[at].Time
		e.data.Shift(at, 1)
		cfg.Segments = []evaluate.Segment{{Name: "before the shift", Compare: true, Holds: func(s *evaluate.Scored) bool { return s.Time < from }},
			{Name: "after the shift", Compare: true, Holds: func(s *evaluate.Scored) bool { return s.Time >= from }}}
	}
	seen := evaluate.NewSeen(e.data, e.o.repeats)
	run.Seen = seen
	counts := evaluate.NewCounts(e.data.Items.Len(), evaluate.DefaultCountsConfig()) // taught by their own row; the engine fuses what they know so far
	fused := &countsSource{data: e.data, counts: counts}
	rows, live, err := e.prequentialRows(seen, fused)
	if err != nil {
		return nil, err
	}
	rows = append(rows, evaluate.NewScorerRow(e.data, seen, counts), evaluate.NewScorerRow(e.data, seen, evaluate.NewPopularity(e.data.Items.Len())))
	if texts != nil {
		rows = append(rows, evaluate.NewScorerRow(e.data, seen, texts))
	}
	if e.o.explore > 0 {
		row, err := e.exploring(seen, fused)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	bar := newProgress(os.Stderr, "events")
	run.Progress = func(done, total int) { bar.show(done, float64(done)/float64(total)) }
	ranked, err := run.Run(ctx, rows)
	if err != nil {
		return nil, err
	}
	bar.finish(len(e.data.Events))
	report := ranked.Report(e.bundle.ID(), cfg)
	if e.o.adapt {
		report.Weights = []evaluate.Weights{{When: "at first", Sources: e.weights(e.o.weight)}, {When: "at last", Sources: live.Weights(freshet.HomeSurface)}}
	}
	return report, nil
}

// prequentialRows are the engine, and what it would be with weights that stay, or with lists that are refreshed now and then.
func (e *evaluation) prequentialRows(seen *evaluate.Seen, counts *countsSource) (rows []evaluate.Row, serving refreshing, err error) {
	weights := e.weights(e.o.weight)
	home := e.wholeCatalogue(weights)
	if e.o.adapt {
		home.Adapt = e.adaptation()
	}
	engine, err := e.engineOf(seen, home, counts)
	if err != nil {
		return nil, engine, err
	}
	engine.PauseLearning(true) // not from what the model was trained on
	live := evaluate.NewLive("live", e.data, seen, engine, 64)
	live.Starts = func() { engine.PauseLearning(false) }
	if !e.o.adapt {
		return []evaluate.Row{live, live.Refreshed("10min", 10*time.Minute), live.Refreshed("daily", 24*time.Hour)}, engine, nil
	}
	fixed, err := e.engineOf(seen, e.wholeCatalogue(weights), counts)
	if err != nil {
		return nil, engine, err
	}
	return []evaluate.Row{live, evaluate.NewLive("fixed weights", e.data, seen, fixed, 64)}, engine, nil
}

// exploring is the live row again as a list of ten places, the last of which are kept for what the bundle was not trained on.
func (e *evaluation) exploring(seen *evaluate.Seen, counts recommend.Source) (evaluate.Row, error) {
	const places = 10
	switch {
	case e.o.explore > places:
		return nil, fmt.Errorf("--explore %d: the list has %d places", e.o.explore, places)
	case len(e.untrained) == 0:
		return nil, errors.New("--explore: name a file of --items with some that the bundle was not trained on, and a bundle trained with text")
	}
	home := e.wholeCatalogue(e.weights(e.o.weight))
	home.K, home.Explore = places, e.o.explore
	engine, err := e.engineOf(seen, home, counts)
	if err != nil {
		return nil, err
	}
	for _, id := range e.untrained {
		engine.sources.fresh.Arrive(id, time.Now())
	}
	return evaluate.NewLive("explore", e.data, seen, engine, 64), nil
}

// adaptation is that of the configured home surface, switched on. No list is made with the configured weights to compare with: a row of
// its own does that.
func (e *evaluation) adaptation() recommend.Adapt {
	var a recommend.Adapt
	for i := range e.cfg.Surfaces {
		if s := e.cfg.Surfaces[i].surface(); s.Name == freshet.HomeSurface {
			a = s.Adapt
		}
	}
	a.Mode, a.Control = recommend.AdaptOn, -1
	return a
}
