package models

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"freshet"

	"go.uber.org/zap"
)

// failing gives a session that the library refuses to run: another bundle's graph, whose matrices have other shapes. It stands for a
// device that fails under a session which was opened on it.
func failing(t *testing.T, rt *Runtime, inputs, outputs []string) *session {
	t.Helper()
	s, err := rt.openFile(filepath.Join("bundles", "shop", stepFile), stepFile, inputs, outputs)
	if err != nil {
		t.Fatal(err)
	}
	s.device = CUDA
	return s
}

// stepOf runs one step of a bundle from a zero state.
func stepOf(b *Bundle) (*freshet.Steps, error) {
	s := &freshet.Steps{Items: make([]float32, b.Dim()), Types: []int64{0}, Gaps: []float32{1}, States: make([]float32, b.StateSize()),
		Queries: make([][]float32, len(b.Tasks()))}
	copy(s.Items, b.matrix[b.Dim():])
	for k := range s.Queries {
		s.Queries[k] = make([]float32, b.Dim())
	}
	return s, b.Advance(context.Background(), s)
}

func TestADeviceThatFailsIsWaitedFor(t *testing.T) {
	b := openBundle(t, tiny)
	whole := b.step
	defer func() { _ = whole.close() }()
	b.step = failing(t, b.rt, []string{"item", "state"}, []string{"state_out"})
	s, err := stepOf(b)
	if !errors.Is(err, freshet.ErrUnavailable) || !strings.Contains(err.Error(), CUDA) {
		t.Fatalf("%v, want unavailable on %s", err, CUDA)
	}
	if slices.ContainsFunc(s.States, func(x float32) bool { return x != 0 }) {
		t.Error("a failed step changed the state")
	}
	if b.Mixed() || b.rt.FellBack() != "" {
		t.Error("it fell back where it may not")
	}
}

func TestADeviceThatFailsIsReplacedByTheCPUWhereAllowed(t *testing.T) {
	b := openBundle(t, tiny)
	want, err := stepOf(b)
	if err != nil {
		t.Fatal(err)
	}
	rt := &Runtime{cfg: b.rt.cfg, device: CUDA, log: zap.NewNop()} // of its own: FellBack is the runtime's
	opened := 0
	broken := failing(t, b.rt, []string{"item", "state"}, []string{"state_out"})
	broken.spare = func(why error) (*session, error) {
		opened++
		rt.fellBack(stepFile, why)
		return b.rt.openFile(filepath.Join(tiny, stepFile), stepFile, b.inputs, b.outputs)
	}
	whole := b.step
	defer func() { _ = whole.close() }()
	b.step = broken
	for range 3 {
		got, err := stepOf(b)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got.States, want.States) || !slices.Equal(got.Queries[0], want.Queries[0]) {
			t.Error("the CPU computes something else")
		}
	}
	if opened != 1 || !b.Mixed() || b.Device() != CPU || !strings.Contains(rt.FellBack(), stepFile) {
		t.Errorf("opened %d times, mixed %v, device %s, %q", opened, b.Mixed(), b.Device(), rt.FellBack())
	}
}

func TestASpareThatCannotBeOpenedIsTriedAgain(t *testing.T) {
	b := openBundle(t, tiny)
	broken := failing(t, b.rt, []string{"item", "state"}, []string{"state_out"})
	tries := 0
	broken.spare = func(error) (*session, error) { tries++; return nil, errors.New("no memory") }
	whole := b.step
	defer func() { _ = whole.close() }()
	b.step = broken
	for range 2 {
		if _, err := stepOf(b); !errors.Is(err, freshet.ErrUnavailable) || !strings.Contains(err.Error(), "no memory") {
			t.Errorf("%v", err)
		}
	}
	if tries != 2 || b.Mixed() {
		t.Errorf("%d tries, mixed %v", tries, b.Mixed())
	}
}
