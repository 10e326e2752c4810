package main

import (
	"context"
	"io"
	"testing"
	"time"

	"go.uber.org/zap"

	"freshet/internal/embedded"
	"freshet/internal/telemetry"
)

// A deployment that `bench fill` filled is served and read: every user has a list, every read is timed, the events sent meanwhile lead
// to lists. The figures mean nothing here.
func TestBenchReadReadsWhatFillWrote(t *testing.T) {
	servers, err := embedded.Start(t.Context(), embedded.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(servers.Close)
	cfg := DefaultConfig()
	cfg.Kafka.Brokers, cfg.Redis.Addrs, cfg.Kafka.Partitions = []string{servers.KafkaAddr()}, []string{servers.RedisAddr()}, 2
	cfg.Model.Library, cfg.Model.Encoder, cfg.Model.Bundle = needLibrary(t), "", "../../models/bundles/shop"
	const users = 40
	if err := benchFill(t.Context(), cfg, fillOptions{users: users, events: 60, late: .05, seed: 1, profiles: true}, zap.NewNop(), true, io.Discard); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	w, err := openWorker(ctx, cfg, telemetry.NewMetrics(), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	for applied := int64(0); applied < users+60; time.Sleep(20 * time.Millisecond) {
		applied = 0
		for _, p := range w.first().consumer.Status() {
			applied += p.Applied
		}
	}
	r, err := benchRead(ctx, cfg, readOptions{reads: 200, events: 50, warm: 200 * time.Millisecond, measured: time.Second, seed: 1}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	if r.Reads != 200 || r.Missing != 0 || r.Users != users || r.P50 <= 0 || r.Bytes < 100 {
		t.Errorf("reads: %+v", r)
	}
	if r.Events != 60 || r.Lists == 0 || r.Fresh99 <= 0 {
		t.Errorf("events meanwhile: %+v", r)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}

func TestBenchFillTakesOnlyThisMachine(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Redis.Addrs = []string{"10.0.0.1:6379"}
	if onThisMachine(cfg) == nil {
		t.Error("a store elsewhere was taken")
	}
}
