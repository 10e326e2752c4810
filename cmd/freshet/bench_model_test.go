package main

import (
	"testing"
	"time"

	"go.uber.org/zap"
)

// The model stage runs and is judged on a CPU as it would be on a GPU: the bundle's parity holds, and what an event takes is what its
// weights and items say.
func TestBenchModelAgainstItsRoofline(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Model.Library, cfg.Model.Bundle, cfg.Model.Device = needLibrary(t), "../../models/bundles/shop", "cpu"
	r, err := benchModel(t.Context(), cfg, modelOptions{items: 2000, batch: 8, lanes: 2, each: 100 * time.Millisecond, gflops: 100, gbps: 10, seed: 1}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	if r.Device != "cpu" || r.Drift > r.Tolerance || r.PerSecond <= 0 || r.P50 <= 0 || r.P99 < r.P50 || r.StepMs > r.P50 {
		t.Errorf("%+v", r)
	}
	if r.Share <= 0 || r.Bound <= 0 {
		t.Errorf("no roofline: %+v", r)
	}
}

func TestRooflineNamesWhatBounds(t *testing.T) {
	r := modelResult{Items: 1_000_000, Dim: 64, Batch: 256, PerSecond: 100_000}
	r.roofline(131_072, modelOptions{gflops: 50_000, gbps: 3_000})
	// 128 Mflop for the products and .5 for two steps; 1 MB of the items' 256 and 8 MB of scores.
	if r.Flop != 128.52 || r.Bytes != 9000 || r.Bound != 333333 || r.Limit != "bytes" || r.Share != .3 {
		t.Errorf("%+v", r)
	}
	r.roofline(131_072, modelOptions{gflops: 10_000, gbps: 3_000})
	if r.Limit != "operations" || r.Bound != 77806 {
		t.Errorf("%+v", r)
	}
}
