package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"freshet/internal/embedded"
	"freshet/internal/telemetry"
	"freshet/stream"
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

// The estimate needs no server, grows with users, and is what the codec and the data structures say.
func TestBenchMemoryEstimates(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Model.Library, cfg.Model.Bundle, cfg.Model.Device = needLibrary(t), "../../models/bundles/shop", "cpu"
	var out memoryResult
	if err := estimateMemory(t.Context(), cfg, memoryOptions{users: 1000, counts: true, seed: 1}, zap.NewNop(), &out); err != nil {
		t.Fatal(err)
	}
	e := out.Estimate
	if e.Profile < 1000 || e.Lists < 500 || e.User < e.Profile+e.Lists || e.User > 2*(e.Profile+e.Lists) || e.AOF != e.Profile+e.Lists {
		t.Errorf("%+v", e)
	}
	if want := (float64(e.User)*1000 + float64(e.Counts)*float64(out.Items)) / 1e9; e.Redis < want-.001 || e.Redis > want+.001 {
		t.Errorf("%.3f GB for 1,000 users, want %.3f", e.Redis, want)
	}
	for n, want := range map[int]int{1: 16, 100: 112, 129: 160, 5000: 5120, 5121: 6144} {
		if got := redisBlock(n); got != want {
			t.Errorf("a block for %d bytes: %d, want %d", n, got, want)
		}
	}
}

// What several workers work off in a time is added up; records that ran out before the time was over are an error, not a low rate.
func TestBenchDrainForAddsWorkersUp(t *testing.T) {
	var pages []string
	for range 2 {
		var asked atomic.Int64
		page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, "freshet_applied_offset{partition=\"0\",topic=\"events\"} %d\n", 1000*asked.Add(1))
		}))
		t.Cleanup(page.Close)
		pages = append(pages, page.URL)
	}
	d := drainOptions{metrics: pages, lane: "live", warm: time.Millisecond, length: 100 * time.Millisecond}
	var out strings.Builder
	if err := benchDrainFor(t.Context(), d, true, &out); err != nil {
		t.Fatal(err)
	}
	var r struct {
		Workers int
		Timed   int64
		Rate    float64 `json:"events_per_s"`
	}
	if err := json.Unmarshal([]byte(out.String()), &r); err != nil || r.Workers != 2 || r.Timed != 2000 || r.Rate < 1000 || r.Rate > 20_000 {
		t.Errorf("%s: %v", out.String(), err)
	}
	d.records = 8000 // as many as the pages say by then
	if err := benchDrainFor(t.Context(), d, true, io.Discard); err == nil {
		t.Error("a rate was told of workers that had nothing left to do")
	}
}

// An event is sent when it is due: the first one at once, not an interval later, which at low rates was most of what freshness was said
// to be.
func TestBenchFreshnessSendsWhenDue(t *testing.T) {
	servers, err := embedded.Start(t.Context(), embedded.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(servers.Close)
	conn := stream.Connection{Brokers: []string{servers.KafkaAddr()}}
	if _, err := stream.EnsureTopics(t.Context(), conn, stream.Topic{Name: "events", Partitions: 1, Replicas: 1}); err != nil {
		t.Fatal(err)
	}
	p, err := stream.NewProducer(stream.ProducerConfig{Connection: conn, Events: "events"}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	b := &freshnessBench{users: []string{"u"}, items: []string{"i"}, kind: "view", due: map[string]time.Time{}}
	began := time.Now()
	n, err := b.send(t.Context(), p, 1, 5*time.Second/4, 1)
	if err != nil || n != 1 || len(b.due) != 1 {
		t.Fatalf("%d events of one a second in a second and a quarter: %v", n, err)
	}
	if took := time.Since(began); took > 900*time.Millisecond {
		t.Errorf("the first event was sent after %s", took)
	}
}
