package models

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"freshet"
)

// BenchmarkCells finds the 100 best of a catalogue that is divided into cells.
func BenchmarkCells(b *testing.B) {
	bundle := benchBundle(b)
	const items = 100_000
	x := openIndex(b, bundle, IndexConfig{Recommendable: All, RewriteAfter: -1})
	for i, v := range clustered(rand.New(rand.NewPCG(3, 3)), items, bundle.Dim(), 300) {
		if err := x.Upsert(fmt.Sprintf("n%d", i), v, 0); err != nil {
			b.Fatal(err)
		}
	}
	if err := x.Settle(context.Background()); err != nil {
		b.Fatal(err)
	}
	var queries []float32
	for _, v := range clustered(rand.New(rand.NewPCG(4, 4)), 128, bundle.Dim(), 300) {
		queries = append(queries, v...)
	}
	probes, of := x.Cells()
	for _, batch := range []int{1, 16, 128} {
		b.Run(fmt.Sprintf("items=%d/cells=%d/probes=%d/batch=%d", items, of, probes, batch), func(b *testing.B) {
			b.ReportAllocs()
			var h freshet.Hits
			for b.Loop() {
				if err := x.SearchInto(context.Background(), queries[:batch*bundle.Dim()], 100, &h); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*batch), "us/query")
		})
	}
}
