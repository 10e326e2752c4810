package main

import (
	"testing"
	"time"

	"go.uber.org/zap"
)

// Every length and size of runs is measured, and what is worked out beside the rate is that of the rate.
func TestBenchTextMeasuresEveryLength(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Model.Library, cfg.Model.Device = needLibrary(t), "cpu"
	cfg.resolvePaths()
	if cfg.Model.Encoder == "" {
		unavailable(t, "the text encoder was not found: run make setup")
	}
	r, err := benchText(t.Context(), cfg, textOptions{tokens: []int{4, 16}, batches: []int{1, 2}, each: time.Millisecond, seed: 1}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Rows) != 4 || r.Dim != 384 || r.Device != "cpu" {
		t.Fatalf("%+v", r)
	}
	for _, row := range r.Rows {
		if want := miniLMFlops(row.Tokens, r.Dim) * row.PerSecond / 1e9; row.PerSecond <= 0 || row.Own <= 0 || row.Flops < .9*want-.01 || row.Flops > 1.1*want+.01 {
			t.Errorf("%+v, want %.2f GFLOP/s", row, want)
		}
	}
	if r.Rows[0].Tokens != 4 || r.Rows[1].Batch != 2 {
		t.Errorf("order: %+v", r.Rows)
	}
}
