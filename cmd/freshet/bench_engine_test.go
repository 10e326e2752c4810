package main

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/zap"

	"freshet"
	"freshet/featurestore"
	"freshet/internal/recommend"
	"freshet/models"
)

// BenchmarkHandle is what the middle costs by itself: a store in memory, batches of events of users with full windows, every profile
// held hot. Late events are folded anew in as many rounds as the window has entries, which large batches share. FRESHET_BENCH_BUNDLE names a bundle (deployments/bench/bundle.py); default the shop's.
func BenchmarkHandle(b *testing.B) {
	for _, batch := range []int{1, 128, 512} {
		for _, late := range []float64{0, .01} {
			b.Run(fmt.Sprintf("batch=%d/late=%g", batch, late), func(b *testing.B) { benchmarkHandle(b, batch, late) })
		}
	}
}

func benchmarkHandle(b *testing.B, size int, late float64) {
	cfg := DefaultConfig()
	cfg.Model.Bundle = "../../models/bundles/shop"
	if own := os.Getenv("FRESHET_BENCH_BUNDLE"); own != "" {
		cfg.Model.Bundle = own
	}
	cfg.Surfaces[0].Weights = map[string]float64{"sequence": 1, "popular": .2}
	cfg.resolvePaths()
	rt, err := models.NewRuntime(models.Config{Library: cfg.Model.Library, Device: models.CPU}, zap.NewNop())
	if err != nil {
		b.Fatal(err)
	}
	defer rt.Close()
	bundle, err := models.OpenBundle(rt, cfg.Model.Bundle)
	if err != nil {
		b.Fatal(err)
	}
	defer bundle.Close()
	index, err := models.OpenIndex(bundle, models.IndexConfig{Recommendable: models.All})
	if err != nil {
		b.Fatal(err)
	}
	defer index.Close()
	types, err := cfg.EventTypes()
	if err != nil {
		b.Fatal(err)
	}
	ec, err := engineConfig(cfg, types)
	if err != nil {
		b.Fatal(err)
	}
	memory, err := featurestore.NewMemory(featurestore.Config{Owner: true, CV: 1}, time.Now)
	if err != nil {
		b.Fatal(err)
	}
	engine, err := recommend.New(ec, memory, bundle, index, newSources(cfg, bundle, index, time.Now).all, unobserved{}, zap.NewNop())
	if err != nil {
		b.Fatal(err)
	}
	const users = 2048
	load := newBenchLoad(users, bundle.Items(), types, 0, time.Now().Add(-24*time.Hour), 1)
	handle := func(next func(i int) freshet.Event) {
		batch := make([]freshet.Event, size)
		for i := range batch {
			batch[i] = next(i)
			batch[i].Position = freshet.Position{Source: freshet.Source{Topic: "bench"}, Offset: int64(load.n)}
			batch[i].RecordTime = batch[i].Time
		}
		if _, err := engine.Handle(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
	}
	for round := range 55 {
		for from := 0; from < users; from += size {
			handle(func(i int) freshet.Event {
				e := load.of(from + i)
				e.Time = load.base + int64(round)*60_000
				return e
			})
		}

	}
	load.base, load.late = load.base+56*60_000, late
	b.ReportAllocs()
	b.ResetTimer()
	before := takePoint()
	for b.Loop() {
		handle(func(int) freshet.Event { return load.next() })
	}
	after := takePoint()
	n := float64(b.N * size)
	b.ReportMetric(float64((after.own-before.own).Nanoseconds())/1000/n, "cpu-us/event")
	b.ReportMetric(float64(after.mallocs-before.mallocs)/n, "allocs/event")
}
