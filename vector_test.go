package freshet

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// Whichever way it is summed, the product is the product, for every length and wherever in memory the vectors begin.
func TestDotIsTheProduct(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	memory := make([]float32, 700)
	for i := range memory {
		memory[i] = float32(r.NormFloat64())
	}
	for n := range 300 {
		x, y := memory[n%7:n%7+n], memory[330+n%5:330+n%5+n]
		want, size := 0.0, 1e-30
		for i := range x {
			want += float64(x[i]) * float64(y[i])
			size += math.Abs(float64(x[i]) * float64(y[i]))
		}
		for name, got := range map[string]float32{"Dot": Dot(x, y), "dot": dot(x, y)} {
			if math.Abs(float64(got)-want) > 1e-6*size {
				t.Errorf("%s of %d values: %v, want %v", name, n, got, want)
			}
		}
	}
	if nan := []float32{0, 0, float32(math.NaN()), 0, 0, 0, 0, 0}; Dot(nan, nan) == Dot(nan, nan) {
		t.Error("a value that is no number was lost")
	}
}

// Above finds the same places as a plain loop, whatever the length, the alignment, and values that are no numbers.
func TestAboveFindsWhatIsGreater(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	memory := make([]float32, 400)
	for turn := range 2000 {
		for i := range memory {
			memory[i] = float32(r.IntN(9) - 4)
			if r.IntN(20) == 0 {
				memory[i] = []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.Copysign(0, -1)), -math.MaxFloat32}[r.IntN(5)]
			}
		}
		n, begin := r.IntN(300), r.IntN(9)
		values, floor := memory[begin:begin+n], []float32{0, -4, 4, 2, -math.MaxFloat32, float32(math.Inf(1)), float32(math.NaN())}[turn%7]
		var want []int32
		for i, v := range values {
			if v > floor {
				want = append(want, int32(i))
			}
		}
		at := make([]int32, n+AboveRoom+1)
		at[n+AboveRoom] = -7
		got := at[:Above(values, floor, at)]
		if !slices.Equal(got, want) {
			t.Fatalf("above %v of %v: %v, want %v", floor, values, got, want)
		}
		if at[n+AboveRoom] != -7 {
			t.Fatalf("wrote behind the %d-th and its room", n)
		}
	}
}

func BenchmarkDot(b *testing.B) {
	x, y := make([]float32, 64), make([]float32, 64)
	for _, way := range []struct {
		name string
		dot  func(x, y []float32) float32
	}{{"wide", Dot}, {"plain", dot}} {
		b.Run(way.name, func(b *testing.B) {
			for b.Loop() {
				way.dot(x, y)
			}
		})
	}
}
