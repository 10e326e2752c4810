package main

import (
	"context"
	"fmt"
	"testing"

	"go.uber.org/zap"

	"freshet"
	"freshet/internal/telemetry"
	"freshet/models"
	"freshet/stream"
)

// BenchmarkCatalogueStart is how long a worker takes to load a catalogue whose text vectors are stored, on real servers, from opening
// its model until lists can be made. The items are all new to the bundle: each needs its vector from the tower, the dearest case.
func BenchmarkCatalogueStart(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		b.Run(fmt.Sprintf("items=%d", n), func(b *testing.B) {
			cfg, _ := realServers(b)
			cfg.Catalogue.Only = true
			if cfg.Model.Encoder = firstExisting("FRESHET_ENCODER", "encoder/all-MiniLM-L6-v2"); cfg.Model.Encoder == "" {
				unavailable(b, "the text encoder was not found: run make setup")
			}
			publishStored(b, cfg, n)
			b.ResetTimer()
			for b.Loop() {
				w, err := openWorker(b.Context(), cfg, telemetry.NewMetrics(), zap.NewNop())
				if err != nil {
					b.Fatal(err)
				}
				ctx, stop := context.WithCancel(context.Background())
				ended := make(chan error, 1)
				go func() { ended <- w.Run(ctx) }()
				<-w.follower.Caught()
				b.StopTimer()
				if w.items.Len() != n || w.first().index.Len() != n {
					b.Fatalf("%d items, %d of them recommendable, want %d", w.items.Len(), w.first().index.Len(), n)
				}
				stop()
				if err := <-ended; err != nil {
					b.Fatal(err)
				}
				if err := w.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "items/s")
		})
	}
}

// publishStored publishes n items and stores a vector for each, as a worker before would have.
func publishStored(b *testing.B, cfg Config, n int) {
	b.Helper()
	w, err := openWorker(b.Context(), cfg, telemetry.NewMetrics(), zap.NewNop())
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	texts, err := models.OpenTextEncoder(w.runtime, models.TextConfig{Dir: cfg.Model.Encoder, Workers: 1})
	if err != nil {
		b.Fatal(err)
	}
	defer texts.Close()
	reader := freshet.HashID(texts.Hash())
	for from := 0; from < n; from += 5000 {
		changes, vectors := make([]stream.ItemChange, 5000), make([]freshet.ItemVector, 5000)
		for i := range changes {
			id := fmt.Sprintf("x%06d", from+i)
			item := &freshet.Item{ItemID: id, Title: "Trail boot " + id, Description: "A boot for long days on wet paths, number " + id, Categories: []string{"Footwear", "Boots"},
				Domain: "outdoor", Brand: "Oddfell", Price: float64(50 + i%100), Currency: "EUR"}
			changes[i] = stream.ItemChange{ItemID: id, Item: item}
			v := make([]float32, texts.Dim())
			v[i%len(v)], v[(i/7)%len(v)] = 0.8, 0.6
			vectors[i] = freshet.ItemVector{ItemID: id, Text: freshet.HashID(item.Text()), Encoder: reader, Vector: v}
		}
		if err := w.producer.PublishItems(b.Context(), changes); err != nil {
			b.Fatal(err)
		}
		if err := w.store.PutVectors(b.Context(), vectors); err != nil {
			b.Fatal(err)
		}
	}
}
