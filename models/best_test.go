package models

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestBestKeepsTheHighestInOrderOfRows(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 6))
	for turn := range 400 {
		n, k := r.IntN(3000), 1+r.IntN(150)
		values := 1 << r.IntN(16) // few different ones: many are equal
		all := make([]float32, n)
		for i := range all {
			if all[i] = float32(r.IntN(values)-values/2) / 8; r.IntN(4) == 0 && turn%2 == 0 {
				all[i] = hidden
			}
		}
		if turn%5 == 0 { // a sample of every 16th row sees only the highest
			for i := 0; i < n; i += 16 {
				all[i] += 1 << 16
			}
		}
		var b best
		b.reset(k)
		for from := 0; from < n; {
			to := min(n, from+1+r.IntN(n))
			b.take(all[from:to], int32(from))
			from = to
		}
		scores, rows := make([]float32, k), make([]int64, k)
		b.drain(scores, rows)
		want := make([]int64, 0, n)
		for i, s := range all {
			if s > hidden {
				want = append(want, int64(i))
			}
		}
		slices.SortStableFunc(want, func(x, y int64) int { return cmp.Compare(all[y], all[x]) })
		want = want[:min(k, len(want))]
		if got := rows[:len(want)]; !slices.Equal(got, want) {
			t.Fatalf("turn %d: of %d the %d highest are rows %v, got %v", turn, n, k, want, got)
		}
		for i, row := range want {
			if scores[i] != all[row] {
				t.Fatalf("turn %d: row %d has %v, not %v", turn, row, all[row], scores[i])
			}
		}
		for i := len(want); i < k; i++ {
			if scores[i] != hidden {
				t.Fatalf("turn %d: %v behind the last", turn, scores[i])
			}
		}
	}
}

// BenchmarkBest picks the 105 highest of 3,706, as a search of a small catalogue does for every event.
func BenchmarkBest(b *testing.B) {
	r := rand.New(rand.NewPCG(7, 7))
	all := make([]float32, 64*3706)
	for i := range all {
		all[i] = float32(r.NormFloat64())
	}
	scores, rows := make([]float32, 105), make([]int64, 105)
	var h best
	for i := 0; b.Loop(); i++ {
		from := i % 64 * 3706
		h.reset(len(scores))
		h.take(all[from:from+3706], 0)
		h.drain(scores, rows)
	}
}
