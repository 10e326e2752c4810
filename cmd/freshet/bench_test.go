package main

import (
	"io"
	"slices"
	"testing"
	"time"

	"go.uber.org/zap"

	"freshet"
	"freshet/featurestore"
	"freshet/internal/embedded"
	"freshet/models"
)

// The whole of `bench pipeline` against the servers inside the process: every event is handled, lists come, every floor works, and the
// names that scripts read are there. The figures mean nothing here.
func TestBenchPipelineMeasuresEveryPart(t *testing.T) {
	servers, err := embedded.Start(t.Context(), embedded.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(servers.Close)
	cfg := DefaultConfig()
	cfg.Kafka.Brokers, cfg.Redis.Addrs, cfg.Model.Bundle = []string{servers.KafkaAddr()}, []string{servers.RedisAddr()}, "../../models/bundles/shop"
	cfg.Kafka.Partitions, cfg.Model.Encoder = 2, "none"
	cfg.Surfaces[0].Weights = map[string]float64{"sequence": 1, "popular": .2}
	cfg.resolvePaths()
	if cfg.Model.Library == "" {
		unavailable(t, "ONNX Runtime was not found: run make setup")
	}
	// A lane that catches up takes batches of up to 4,096: the window must hold several of them.
	b, err := newPipelineBench(cfg, pipelineOptions{users: 100, events: 20_000, rounds: 3, late: .05, rates: []int{200}, each: time.Second, seed: 1, floors: true}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	if err := b.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := b.result()
	if stages, ok := r["stage_us_per_event"].(map[string]float64); !ok || stages["rank"] <= 0 || stages["save"] <= 0 {
		t.Errorf("stages: %v", r["stage_us_per_event"])
	}
	for _, name := range []string{"events_per_s", "floor_consume", "floor_save", "floor_publish", "ratio_to_floor", "cpu_us_per_event", "freshness_p50_ms", "freshness_p99_ms"} {
		if v, ok := r[name].(float64); !ok || v <= 0 {
			t.Errorf("%s = %v, want a figure above 0", name, r[name])
		}
	}
	if r["items"] != len(b.load.items) || r["history"] != 50 {
		t.Errorf("items %v, history %v", r["items"], r["history"])
	}
	if rung := b.rungs[0]; rung.Sent != 200 || rung.heads.Load() != 200 || rung.Lists <= 0 {
		t.Errorf("sent %d at 200/s for a second, timed %d, %v lists an event", rung.Sent, rung.heads.Load(), rung.Lists)
	}
	if err := b.print(io.Discard, true); err != nil {
		t.Error(err)
	}
}

func TestBenchPipelineTakesOnlyThisMachine(t *testing.T) {
	for what, change := range map[string]func(*Config){
		"a broker":              func(c *Config) { c.Kafka.Brokers = []string{"10.0.0.1:9092"} },
		"a master of a Cluster": func(c *Config) { c.Redis.Addrs, c.Redis.Cluster = []string{"127.0.0.1:1", "10.0.0.1:6379"}, true },
	} {
		cfg := DefaultConfig()
		change(&cfg)
		if _, err := newPipelineBench(cfg, pipelineOptions{users: 1, rounds: 1, events: 1000}, zap.NewNop()); err == nil {
			t.Errorf("%s elsewhere was taken", what)
		}
	}
}

// Of the processes that are named the last is Kafka's; what the masters of a Cluster take is one figure, and each one's is there too.
func TestBenchPipelineAddsUpTheMastersOfACluster(t *testing.T) {
	o := pipelineOptions{users: 1, rounds: 1, events: 1000}
	for pids, taken := range map[int]bool{0: true, 1: false, 2: true, 4: true} {
		o.servers = make([]int, pids)
		if _, err := newPipelineBench(DefaultConfig(), o, zap.NewNop()); (err == nil) != taken {
			t.Errorf("%d process ids: %v", pids, err)
		}
	}
	one := (&pipelineBench{full: benchCost{Servers: []float64{7, 9}}}).result()
	if one["redis_cpu_us_per_event"] != 7. || one["kafka_cpu_us_per_event"] != 9. || one["redis_cpu_us_by_master"] != nil || one["redis_key_share_by_master"] != nil {
		t.Errorf("one Redis: %v", one)
	}
	three := (&pipelineBench{full: benchCost{Servers: []float64{1.01, 2.02, 3.03, 9}}, masters: []featurestore.Server{{Keys: 1}, {Keys: 3}, {Keys: 4}}}).result()
	if three["redis_cpu_us_per_event"] != 6.06 || three["kafka_cpu_us_per_event"] != 9. || !slices.Equal(three["redis_cpu_us_by_master"].([]float64), []float64{1.01, 2.02, 3.03}) ||
		!slices.Equal(three["redis_key_share_by_master"].([]float64), []float64{.125, .375, .5}) {
		t.Errorf("three masters: %v", three)
	}
}

func TestBenchLoadIsTheSameForASeedAndLateAsAsked(t *testing.T) {
	types, err := freshet.NewEventTypes(freshet.DefaultEventTypes())
	if err != nil {
		t.Fatal(err)
	}
	items := []string{"a", "b", "c"}
	at := time.UnixMilli(1_700_000_000_000)
	one, two := newBenchLoad(1000, items, types, .01, at, 7), newBenchLoad(1000, items, types, .01, at, 7)
	late := 0
	for n := range 20_000 {
		a, b := one.next(), two.next()
		if a.ID != b.ID || a.UserID != b.UserID || a.Time != b.Time || !slices.Equal(a.Items, b.Items) {
			t.Fatalf("event %d: %+v and %+v", n, a, b)
		}
		if numberOf(a.ID) != n {
			t.Fatalf("event %d: its id %q says %d", n, a.ID, numberOf(a.ID))
		}
		if a.Time < at.UnixMilli()+int64(n) {
			late++
		}
	}
	if late < 150 || late > 250 {
		t.Errorf("%d of 20,000 events late, want about 200", late)
	}
}

// What does not depend on the clock must hold in any run: a profile behind 400 events is as large as one whose window is just full,
// every measurement begins from the same profiles, and the parts that scripts read are there.
func TestBenchStepMeasuresFromTheSameProfiles(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Model.Bundle, cfg.Model.Device = "../../models/bundles/shop", "cpu"
	cfg.resolvePaths()
	if cfg.Model.Library == "" {
		unavailable(t, "ONNX Runtime was not found: run make setup")
	}
	for _, o := range []stepOptions{{late: .05}, {hot: .3}} {
		o.history, o.window, o.users, o.pairs, o.seed = 400, 20, 4, 3, 1
		checkBenchStep(t, cfg, o)
	}
}

func checkBenchStep(t *testing.T, cfg Config, o stepOptions) {
	t.Helper()
	r, err := benchStep(t.Context(), cfg, o, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	if r.BaseHistory != 51 || r.Ratio <= 0 || r.Step <= 0 || r.Times <= 1 || r.Cost <= 0 {
		t.Errorf("%+v", r)
	}
	if d := r.ProfileBytes / r.BaseBytes; d < .98 || d > 1.02 {
		t.Errorf("a profile of %v bytes behind 400 events, %v bytes behind 51", r.ProfileBytes, r.BaseBytes)
	}
}

func TestBenchIndexFindsWhatTheExactSearchFinds(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Model.Bundle, cfg.Model.Device = "../../models/bundles/shop", "cpu"
	cfg.resolvePaths()
	if cfg.Model.Library == "" {
		unavailable(t, "ONNX Runtime was not found: run make setup")
	}
	r, err := benchIndex(t.Context(), cfg, indexOptions{items: 3000, batch: 8, queries: 20, recall: .99, each: 50 * time.Millisecond, seed: 1}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	if r.Recall != 1 || r.Cells != 0 || r.PerSecond <= 0 || r.Exact <= 0 {
		t.Errorf("3,000 items are scored whole: %+v", r)
	}
}

// Looking into more cells finds no less, and into enough of them nearly everything.
func TestBenchIndexTellsWhatFewerCellsFind(t *testing.T) {
	cfg := DefaultConfig()
	cfg.resolvePaths()
	if cfg.Model.Library == "" {
		unavailable(t, "ONNX Runtime was not found: run make setup")
	}
	rt, err := models.NewRuntime(models.Config{Library: cfg.Model.Library, Device: "cpu", Threads: 1}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer rt.Close()
	bundle, err := models.OpenBundle(rt, "../../models/bundles/shop")
	if err != nil {
		t.Fatal(err)
	}
	defer bundle.Close()
	space := newBenchSpace(2000, bundle.Dim(), 1)
	asked := space.queries(20)
	exact, _, err := openBenchIndex(t.Context(), bundle, space, models.IndexConfig{ExactUpTo: -1}, nil, 8)
	if err != nil {
		t.Fatal(err)
	}
	defer exact.Close()
	want, err := exact.Search(t.Context(), asked, 100)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := recallByProbes(t.Context(), exact, asked, want); err != nil || out != nil {
		t.Errorf("where everything is scored: %v, %v", out, err)
	}
	divided, _, err := openBenchIndex(t.Context(), bundle, space, models.IndexConfig{ExactUpTo: 100, Recall: .9}, nil, 8)
	if err != nil {
		t.Fatal(err)
	}
	defer divided.Close()
	out, err := recallByProbes(t.Context(), divided, asked, want)
	if err != nil || len(out) < 3 || out[0].Probes != 1 || out[0].Recall >= .9 || out[len(out)-1].Recall < .9995 {
		t.Fatalf("%v, %v", out, err)
	}
	for i := range out[1:] {
		if out[i+1].Recall < out[i].Recall || out[i+1].Probes <= out[i].Probes {
			t.Errorf("%v", out)
		}
	}
}
