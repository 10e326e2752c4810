package models

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"freshet"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func TestVerifyReportsASoundBundle(t *testing.T) {
	r, err := openTiny(t).Verify(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if !r.OK() || r.Drift > 1e-5 || r.Device != CPU || len(r.Compared) < 6 || len(r.Threads) != 2 {
		t.Errorf("report %+v", r)
	}
}

func TestVerifySeesFilesChangeUnderAnOpenBundle(t *testing.T) {
	dir := copyTiny(t)
	b := openBundle(t, dir)
	edit(t, dir, biasFile, float(1, 5))
	if _, err := b.Verify(context.Background()); err == nil || !strings.Contains(err.Error(), biasFile) {
		t.Errorf("verify: %v", err)
	}
}

func TestPaddingCutsBatches(t *testing.T) {
	type run struct{ n, rows int }
	for _, test := range []struct {
		p    padding
		left int
		want []run
	}{
		{padding{}, 5, []run{{5, 5}}},
		{padding{multiple: 2}, 1, []run{{1, 2}}},
		{padding{multiple: 4}, 9, []run{{9, 12}}},
		{padding{multiple: 4}, 8, []run{{8, 8}}},
		{padding{fixed: 8}, 19, []run{{8, 8}, {8, 8}, {3, 8}}},
		{padding{fixed: 1}, 2, []run{{1, 1}, {1, 1}}},
	} {
		var got []run
		for left := test.left; left > 0; {
			n, rows := test.p.piece(left)
			got, left = append(got, run{n, rows}), left-n
		}
		if len(got) != len(test.want) {
			t.Fatalf("%v of %d rows: %v, want %v", test.p, test.left, got, test.want)
		}
		for i := range got {
			if got[i] != test.want[i] {
				t.Errorf("%v of %d rows: %v, want %v", test.p, test.left, got, test.want)
			}
		}
	}
}

// Every padding must compute the same as none; the last resort must not depend on batches whatever the kernels do.
func TestPaddedRunsComputeTheSame(t *testing.T) {
	b := openTiny(t)
	trial, err := b.trial()
	if err != nil {
		t.Fatal(err)
	}
	plain, err := b.runTrial(b.step, padding{}, trial, identity(trialRows), 7)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range paddings {
		got, err := b.runTrial(b.step, p, trial, identity(trialRows), 7)
		if err != nil {
			t.Fatal(err)
		}
		if d := math.Max(distance(got.States, plain.States), distance(got.Queries[1], plain.Queries[1])); !(d < 1e-5) {
			t.Errorf("%v: differs by %v", p, d)
		}
	}
	alone, err := b.runTrial(b.step, padding{fixed: 1}, trial, identity(trialRows), 1)
	if err != nil {
		t.Fatal(err)
	}
	if difference, err := b.compareTrials(b.step, padding{fixed: 1}, trial, alone); err != nil || difference != "" {
		t.Errorf("one row at a time: %s (%v)", difference, err)
	}
}

func TestCompareTrialsSeesOneBit(t *testing.T) {
	b := openTiny(t)
	trial, err := b.trial()
	if err != nil {
		t.Fatal(err)
	}
	reference, err := b.runTrial(b.step, b.padding, trial, identity(trialRows), 1)
	if err != nil {
		t.Fatal(err)
	}
	at := &reference.Queries[1][5*b.Dim()+3]
	*at = math.Float32frombits(math.Float32bits(*at) ^ 1)
	difference, err := b.compareTrials(b.step, b.padding, trial, reference)
	if err != nil || !strings.Contains(difference, "query_purchase of row 5 in batches of 1") {
		t.Errorf("difference %q (%v)", difference, err)
	}
}

func TestAdvanceIsSafeForConcurrentUse(t *testing.T) {
	b := openTiny(t)
	trial, err := b.trial()
	if err != nil {
		t.Fatal(err)
	}
	want, err := b.runTrial(b.step, b.padding, trial, identity(trialRows), 32)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for size := 1; size <= 8; size++ {
		all.Go(func() {
			got, err := b.runTrial(b.step, b.padding, trial, identity(trialRows), size)
			if err != nil {
				t.Error(err)
			} else if row, what := b.firstDifference(got, want); row >= 0 {
				t.Errorf("%s of row %d differs in batches of %d", what, row, size)
			}
		})
	}
	all.Wait()
}

func TestAdvanceAfterCloseAndAfterCancel(t *testing.T) {
	b, err := OpenBundle(testRuntime(t), tiny)
	if err != nil {
		t.Fatal(err)
	}
	s := &freshet.Steps{Items: make([]float32, 8), Types: make([]int64, 1), Gaps: make([]float32, 1), States: make([]float32, 12)}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := b.Advance(ctx, s); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if err := errors.Join(b.Close(), b.Close()); err != nil {
		t.Errorf("closing twice: %v", err)
	}
	if err := b.Advance(context.Background(), s); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

func TestAProcessHasOneRuntime(t *testing.T) {
	rt := testRuntime(t)
	if _, err := NewRuntime(Config{Library: rt.cfg.Library}, zap.NewNop()); err == nil || !strings.Contains(err.Error(), "open already") {
		t.Errorf("a second runtime: %v", err)
	}
}

func TestRuntimeConfigurationIsJudged(t *testing.T) {
	for want, cfg := range map[string]Config{
		"library: empty":   {},
		"device: \"tpu\"":  {Library: "x", Device: "tpu"},
		"threads: -1":      {Library: "x", Threads: -1},
		"device_id: -2":    {Library: "x", DeviceID: -2},
		"library: stat no": {Library: "no/such/file.so"},
	} {
		if _, err := NewRuntime(cfg, zap.NewNop()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", cfg, err, want)
		}
	}
}

// The library of the tests has no CUDA provider: cuda must refuse, auto must fall back and say so in one line.
func TestDeviceFallsBackOnlyWhereItMay(t *testing.T) {
	rt := testRuntime(t)
	if probeCUDA(0) == nil {
		t.Skip("this machine has a CUDA device")
	}
	strict := &Runtime{cfg: Config{Library: rt.cfg.Library, Device: CUDA}.withDefaults(), log: zap.NewNop()}
	if err := strict.chooseDevice("x"); err == nil || !strings.Contains(err.Error(), "device: cuda is not available") {
		t.Errorf("cuda: %v", err)
	}
	core, logs := observer.New(zap.InfoLevel)
	auto := &Runtime{cfg: Config{Library: rt.cfg.Library}.withDefaults(), log: zap.New(core)}
	if err := auto.chooseDevice("x"); err != nil {
		t.Fatal(err)
	}
	entries := logs.All()
	if auto.Device() != CPU || len(entries) != 1 || entries[0].ContextMap()["device"] != CPU || !strings.HasPrefix(entries[0].ContextMap()["why"].(string), "CUDA is not available") {
		t.Errorf("auto runs on %s and logged %v", auto.Device(), entries)
	}
}

func TestResizeKeepsTheRest(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(tiny, searchFile))
	if err != nil {
		t.Fatal(err)
	}
	larger, err := resize(raw, matrixFile, 32, 100, 8)
	if err != nil {
		t.Fatal(err)
	}
	g, err := parseGraph(larger)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := checkSearch(g, 100, 8); err != nil {
		t.Error(err)
	}
	if e := g.external[0]; !sameShape(e.shape, []int{100, 8}) || e.length != 3200 || e.name != "items" || e.elem != elemFloat32 {
		t.Errorf("the matrix became %+v", e)
	}
	if _, err := resize(raw, "other.f32", 32, 100, 8); err == nil {
		t.Error("a graph without the file was resized")
	}
}

// Every bundle in the repository opens and has the same bits in every batch.
func TestCommittedBundlesAreSound(t *testing.T) {
	found, err := filepath.Glob("bundles/*/" + manifestFile)
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 {
		t.Skip("no bundles/*/manifest.json")
	}
	for _, path := range found {
		t.Run(filepath.Base(filepath.Dir(path)), func(t *testing.T) {
			r, err := openBundle(t, filepath.Dir(path)).Verify(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if !r.OK() {
				t.Error(r.Differences)
			}
			t.Logf("%+v", r)
		})
	}
}
