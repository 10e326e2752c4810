package models

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"freshet"
)

// BenchmarkText encodes catalogue-like texts: one text a run against batches of equal length.
func BenchmarkText(b *testing.B) {
	var texts []string
	for _, g := range goldens(b) {
		if len(g.IDs) >= 8 && len(g.IDs) <= 48 {
			texts = append(texts, g.Text)
		}
	}
	for _, workers := range []int{1, 2} {
		for _, tokens := range []int{1, 512, 4096} {
			b.Run(fmt.Sprintf("workers=%d/batch_tokens=%d", workers, tokens), func(b *testing.B) {
				e := openEncoder(b, TextConfig{Workers: workers, BatchTokens: tokens})
				for b.Loop() {
					if _, err := e.Encode(context.Background(), texts); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*len(texts)), "us/text")
			})
		}
	}
}

var _ = json.Marshal
var _ = rand.N[int]
var _ = os.Open
var _ = filepath.Join
var _ freshet.Steps
