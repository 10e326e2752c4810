package evaluate

import (
	"context"
	"math"
	"slices"
	"testing"
)

// constant scores the same for everybody.
type constant struct {
	name   string
	scores []float32
}

func (f constant) Name() string { return f.name }
func (f constant) Score(_ context.Context, asked []Question, out [][]float32) error {
	for i := range asked {
		copy(out[i], f.scores)
	}
	return nil
}

func TestFuse(t *testing.T) {
	l := sequences(t, "u: a b c", "v: a b c", "w: a b d") // everybody had a and b; c twice, d once, nobody has e
	l.AddItems(slices.Values([]string{"e"}))
	s := l.LeaveOneOut(Test)
	base := constant{"base", []float32{0, 0, 1, 1.1, 1.2}} // prefers e, then d
	counts := constant{"counts", []float32{0, 0, 2, 1, 0}}
	weight, trials, err := ChooseWeight(context.Background(), s, base, counts, []float64{0, .05, 1, 2})
	if err != nil {
		t.Fatal(err)
	}
	if weight != 1 || len(trials) != 4 || trials[2].NDCG10 != trials[3].NDCG10 || trials[0].NDCG10 >= trials[1].NDCG10 {
		t.Errorf("weight %v of %+v", weight, trials)
	}
	fused := &Fused{Base: base, Counts: counts, Weight: weight}
	outcomes, err := s.Rank(context.Background(), fused)
	if err != nil {
		t.Fatal(err)
	}
	if want := []Outcome{{0, 1}, {1, 1}, {2, 2}}; !slices.Equal(outcomes, want) || fused.Name() != "base+counts" {
		t.Errorf("%s: %v", fused.Name(), outcomes)
	}
	if got := Measure(outcomes, Bootstrap{}).NDCG10; !close4(got, trials[2].NDCG10) {
		t.Errorf("fused NDCG@10 %v, the trial said %v", got, trials[2].NDCG10)
	}
	scores := []float32{1, 1}
	Fuse(scores, []float32{0, 1}, 2)
	if math.Abs(float64(scores[0])-(1+2*math.Log(1e-5))) > 1e-5 || math.Abs(float64(scores[1])-1) > 1e-4 {
		t.Errorf("fused scores %v", scores)
	}
}
