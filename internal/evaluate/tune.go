package evaluate

import (
	"cmp"
	"math"
	"slices"
)

// Sample is one choice that a user made: the candidates as every source scored them, and which of them it was.
type Sample struct {
	User   int32
	Scores [][]float32 // [source][candidate]
	Chosen int         // place among the candidates
}

// Tuning is what Tune found.
type Tuning struct {
	Temperatures []float64 // of each source: score / temperature is a calibrated log-probability
	Weights      []float64 // of each source over calibrated scores; 0 = it adds nothing
	Alone        []float64 // NDCG@10 of each source alone, on the samples
	Fused        Figures   // of the weights, on the samples
	Samples      int
	Slates       int // samples whose choice was among the best of some source: those that the weights are fitted to
}

// Figures are the two that decide.
type Figures struct {
	HR10   float64 `json:"hr10"`
	NDCG10 float64 `json:"ndcg10"`
}

// Slate is how many of each source's best candidates Tune looks at: places near the top of a list are what weights are for, and a likelihood
// over hundreds of candidates that nobody would show is mostly about those.
const Slate = 16

// Tune fits log-linear fusion to samples. Each source alone is calibrated first: its temperature is the one under which the choices
// were most likely, p(chosen) = softmax(scores / temperature) (temperature scaling, Guo et al., ICML 2017). Then the weights are those
// with the greatest likelihood of a conditional logit over the calibrated scores (McFadden, 1973), which is convex, none below 0, among
// the Slate best candidates of each source: under such a model what is chosen within a part of the candidates has the same weights, whichever
// part it is.
func Tune(samples []Sample, sources int) Tuning {
	t := Tuning{Samples: len(samples), Temperatures: make([]float64, sources), Weights: make([]float64, sources), Alone: make([]float64, sources)}
	one := make([]float64, sources)
	for k := range sources {
		clear(one)
		one[k] = 1
		scale := maximise(samples, one, func(j int) bool { return j == k })[k]
		t.Temperatures[k] = 1 / max(scale, 1e-3)
		clear(one)
		one[k] = 1
		t.Alone[k] = figuresOf(samples, one).NDCG10
	}
	slates := slatesOf(samples, Slate)
	t.Slates = len(slates)
	start := make([]float64, sources)
	for k := range start {
		start[k] = 1 / (t.Temperatures[k] * float64(sources))
	}
	raw := maximise(slates, start, func(int) bool { return true })
	for k := range raw {
		t.Weights[k] = raw[k] * t.Temperatures[k]
	}
	t.Fused = figuresOf(samples, raw)
	return t
}

// slatesOf keeps the n best candidates of each source; samples whose choice is not among them are left out.
func slatesOf(samples []Sample, n int) []Sample {
	var out []Sample
	for _, s := range samples {
		keep, places := make([]bool, len(s.Scores[0])), make([]int, len(s.Scores[0]))
		for _, scores := range s.Scores {
			for i := range places {
				places[i] = i
			}
			slices.SortStableFunc(places, func(a, b int) int { return cmp.Compare(scores[b], scores[a]) })
			for _, i := range places[:min(n, len(places))] {
				keep[i] = true
			}
		}
		if !keep[s.Chosen] {
			continue
		}
		slate := Sample{User: s.User, Scores: make([][]float32, len(s.Scores))}
		for i := range keep {
			if !keep[i] {
				continue
			}
			if i == s.Chosen {
				slate.Chosen = len(slate.Scores[0])
			}
			for k := range s.Scores {
				slate.Scores[k] = append(slate.Scores[k], s.Scores[k][i])
			}
		}
		out = append(out, slate)
	}
	return out
}

// maximise climbs the mean log-likelihood of the samples by Newton's method over the free weights, none of which may fall below 0.
func maximise(samples []Sample, start []float64, free func(k int) bool) []float64 {
	w := slices.Clone(start)
	value, grad, hess := likelihood(samples, w)
	for range 40 {
		step := newton(grad, hess, w, free)
		moved := false
		for size := 1.0; size > 1e-4; size /= 2 {
			next := slices.Clone(w)
			for k := range next {
				next[k] = max(0, w[k]+size*step[k])
			}
			if v, g, h := likelihood(samples, next); v > value+1e-9 {
				w, value, grad, hess, moved = next, v, g, h, true
				break
			}
		}
		if !moved {
			break
		}
	}
	return w
}

// likelihood gives the mean log-likelihood of the choices, its gradient, and the (negative) curvature.
func likelihood(samples []Sample, w []float64) (value float64, grad []float64, curvature [][]float64) {
	n := len(w)
	grad, curvature = make([]float64, n), make([][]float64, n)
	for k := range curvature {
		curvature[k] = make([]float64, n)
	}
	mean := make([]float64, n)
	var p []float64
	for _, s := range samples {
		p = softmax(p, s.Scores, w)
		value += math.Log(max(p[s.Chosen], 1e-300))
		for k := range mean {
			mean[k] = 0
			for i, v := range s.Scores[k] {
				mean[k] += p[i] * float64(v)
			}
			grad[k] += float64(s.Scores[k][s.Chosen]) - mean[k]
		}
		for k := range mean {
			for l := 0; l <= k; l++ {
				sum := 0.0
				for i := range p {
					sum += p[i] * float64(s.Scores[k][i]) * float64(s.Scores[l][i])
				}
				curvature[k][l] += sum - mean[k]*mean[l]
			}
		}
	}
	count := max(float64(len(samples)), 1)
	for k := range grad {
		grad[k] /= count
		for l := 0; l <= k; l++ {
			curvature[k][l] /= count
			curvature[l][k] = curvature[k][l]
		}
	}
	return value / count, grad, curvature
}

func softmax(p []float64, scores [][]float32, w []float64) []float64 {
	p = p[:0]
	top := math.Inf(-1)
	for i := range scores[0] {
		v := 0.0
		for k := range w {
			if w[k] != 0 {
				v += w[k] * float64(scores[k][i])
			}
		}
		p, top = append(p, v), max(top, v)
	}
	sum := 0.0
	for i := range p {
		p[i] = math.Exp(p[i] - top)
		sum += p[i]
	}
	for i := range p {
		p[i] /= sum
	}
	return p
}

// newton solves curvature x step = gradient over the free weights by elimination, with a little ridge.
func newton(grad []float64, curvature [][]float64, w []float64, free func(k int) bool) []float64 {
	var at []int
	for k := range grad {
		if free(k) && !(w[k] == 0 && grad[k] < 0) {
			at = append(at, k)
		}
	}
	n := len(at)
	m := make([][]float64, n)
	for i := range m {
		m[i] = make([]float64, n+1)
		for j := range at {
			m[i][j] = curvature[at[i]][at[j]]
		}
		m[i][i] += 1e-6 + 1e-6*m[i][i]
		m[i][n] = grad[at[i]]
	}
	for i := range m {
		for j := i + 1; j < n; j++ {
			f := m[j][i] / m[i][i]
			for l := i; l <= n; l++ {
				m[j][l] -= f * m[i][l]
			}
		}
	}
	step := make([]float64, len(grad))
	for i := n - 1; i >= 0; i-- {
		v := m[i][n]
		for j := i + 1; j < n; j++ {
			v -= m[i][j] * step[at[j]]
		}
		step[at[i]] = v / m[i][i]
	}
	return step
}

// figuresOf ranks every choice among its candidates; ties count against it.
func figuresOf(samples []Sample, w []float64) Figures {
	var t tally
	for _, s := range samples {
		own, rank := scoreAt(s.Scores, w, s.Chosen), int32(1)
		for i := range s.Scores[0] {
			if i != s.Chosen && scoreAt(s.Scores, w, i) >= own {
				rank++
			}
		}
		t.add(rank)
	}
	n := math.Max(t.n, 1)
	return Figures{t.sum[0] / n, t.sum[1] / n}
}

func scoreAt(scores [][]float32, w []float64, i int) float64 {
	v := 0.0
	for k := range w {
		if w[k] != 0 {
			v += w[k] * float64(scores[k][i])
		}
	}
	return v
}
