package models

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"freshet"

	"go.uber.org/zap"
)

// tiny is the bundle that testdata/make_tiny.py writes: dim 8, state 12, 19 items.
const tiny = "testdata/tiny"

var shared struct {
	sync.Once
	rt  *Runtime
	err error
}

// testRuntime loads the library once for all tests. FRESHET_ONNXRUNTIME names it; else it is looked for in .freshet above.
func testRuntime(t testing.TB) *Runtime {
	t.Helper()
	path := locate(t, "FRESHET_ONNXRUNTIME", "onnxruntime/libonnxruntime.so")
	shared.Do(func() { shared.rt, shared.err = NewRuntime(Config{Library: path, Device: CPU}, zap.NewNop()) })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.rt
}

// locate finds a fetched file or folder, or skips the test; in CI its absence is a failure.
func locate(t testing.TB, env, under string) string {
	t.Helper()
	if path := os.Getenv(env); path != "" {
		return path
	}
	dir, err := os.Getwd()
	for err == nil && dir != filepath.Dir(dir) {
		path := filepath.Join(dir, ".freshet", under)
		if _, err := os.Stat(path); err == nil {
			return path
		}
		dir = filepath.Dir(dir)
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("no %s and no .freshet/%s: the set-up fetches it", env, under)
	}
	t.Skipf("no %s and no .freshet/%s: the set-up fetches it", env, under)
	return ""
}

func openTiny(t testing.TB) *Bundle {
	t.Helper()
	return openBundle(t, tiny)
}

func openBundle(t testing.TB, dir string) *Bundle {
	t.Helper()
	b, err := OpenBundle(testRuntime(t), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func TestBundleSaysWhatItIs(t *testing.T) {
	b := openTiny(t)
	if b.ID() != "tiny@"+b.Manifest().Fingerprint[:8] {
		t.Errorf("id %s, fingerprint %s", b.ID(), b.Manifest().Fingerprint)
	}
	if b.Dim() != 8 || b.StateSize() != 12 || b.MaxHistory() != 50 || b.TextDim() != 384 || b.Device() != CPU {
		t.Errorf("dim %d, state %d, history %d, text %d on %s", b.Dim(), b.StateSize(), b.MaxHistory(), b.TextDim(), b.Device())
	}
	if tasks := b.Tasks(); len(tasks) != 2 || tasks[0] != "click" || tasks[1] != "purchase" {
		t.Errorf("tasks %v", tasks)
	}
	for name, want := range map[string]int64{"view": 1, "purchase": 4, "play": 0, "": 0} {
		if got := b.TypeIndex(name); got != want {
			t.Errorf("type %q has index %d, want %d", name, got, want)
		}
	}
}

func TestAdvanceDoesNotDependOnTheBatch(t *testing.T) {
	b := openTiny(t)
	all, err := b.trial()
	if err != nil {
		t.Fatal(err)
	}
	all = b.gather(all, identity(all.Len()))
	alone := b.gather(all, identity(all.Len()))
	for i := range alone.Len() {
		if err := b.Advance(context.Background(), b.cut(alone, i, 1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Advance(context.Background(), all); err != nil {
		t.Fatal(err)
	}
	if row, what := b.firstDifference(alone, all); row >= 0 {
		t.Errorf("%s of row %d differs between a batch of 1 and of %d", what, row, all.Len())
	}
	if differentBits(all.States[:12], make([]float32, 12)) < 0 {
		t.Error("the states did not move")
	}
}

func TestAdvanceSkipsQueriesThatNobodyAsksFor(t *testing.T) {
	b := openTiny(t)
	trial, err := b.trial()
	if err != nil {
		t.Fatal(err)
	}
	full, purchase, none := b.gather(trial, []int{3, 4}), b.gather(trial, []int{3, 4}), b.gather(trial, []int{3, 4})
	purchase.Queries[0], none.Queries = nil, nil
	for _, s := range []*freshet.Steps{full, purchase, none} {
		if err := b.Advance(context.Background(), s); err != nil {
			t.Fatal(err)
		}
	}
	if differentBits(full.Queries[1], purchase.Queries[1]) >= 0 || differentBits(full.States, none.States) >= 0 {
		t.Error("leaving a query out changed another result")
	}
}

func TestAdvanceRefusesWhatDoesNotFit(t *testing.T) {
	b := openTiny(t)
	nan := float32(math.NaN())
	for name, spoil := range map[string]func(*freshet.Steps){
		"items":   func(s *freshet.Steps) { s.Items = s.Items[1:] },
		"gaps":    func(s *freshet.Steps) { s.Gaps = nil },
		"states":  func(s *freshet.Steps) { s.States = append(s.States, 0) },
		"queries": func(s *freshet.Steps) { s.Queries = s.Queries[:1] },
		"query":   func(s *freshet.Steps) { s.Queries[1] = s.Queries[1][1:] },
		"type":    func(s *freshet.Steps) { s.Types[0] = 5 },
		"no type": func(s *freshet.Steps) { s.Types[0] = -1 },
		"gap":     func(s *freshet.Steps) { s.Gaps[1] = -1 },
		"nan gap": func(s *freshet.Steps) { s.Gaps[1] = nan },
	} {
		s := &freshet.Steps{Items: make([]float32, 16), Types: make([]int64, 2), Gaps: make([]float32, 2), States: make([]float32, 24),
			Queries: [][]float32{make([]float32, 16), make([]float32, 16)}}
		spoil(s)
		if err := b.Advance(context.Background(), s); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
