package recommend

import (
	"context"
	"fmt"
	"hash/maphash"
	"math"
	"math/bits"
	"strings"
	"sync"
	"sync/atomic"

	"freshet"
)

// Adapt says how the weights of a surface follow what users do. A zero field means its default.
type Adapt struct {
	Mode     AdaptMode // default off
	Bound    float64   // a weight stays between its configured value divided and multiplied by this; default 4
	HalfLife float64   // choices after which one counts half; default 2,000
	Control  float64   // share of lists made with the configured weights all the same, to compare with; default 0.05, negative = none
}

// AdaptMode switches adaptation.
type AdaptMode string

// The modes.
const (
	AdaptOff    AdaptMode = "off"    // the configured weights
	AdaptOn     AdaptMode = "on"     // learns, and uses what was learnt
	AdaptFrozen AdaptMode = "frozen" // uses what was learnt until now, and learns nothing
)

// The arms of a surface that adapts: which weights a list was made with.
const (
	ArmAdapted = "adapted"
	ArmControl = "control"
)

func (a *Adapt) validate(field string, s *Surface) error {
	if a.Mode == "" {
		a.Mode = AdaptOff
	}
	if a.Bound == 0 {
		a.Bound = 4
	}
	if a.HalfLife == 0 {
		a.HalfLife = 2000
	}
	if a.Control == 0 {
		a.Control = 0.05
	}
	a.Control = max(a.Control, 0)
	switch {
	case a.Mode != AdaptOff && a.Mode != AdaptOn && a.Mode != AdaptFrozen:
		return fmt.Errorf("%s.adapt.mode: %q, use %s, %s or %s", field, a.Mode, AdaptOff, AdaptOn, AdaptFrozen)
	case a.Mode != AdaptOff && s.Fusion == Reciprocal:
		return fmt.Errorf("%s.adapt.mode: %s needs fusion: %s; %s knows no weights that a choice could say anything about", field, a.Mode, LogLinear, Reciprocal)
	case !(a.Bound >= 1 && a.Bound <= 1000):
		return fmt.Errorf("%s.adapt.bound: %v, must be 1 to 1000", field, a.Bound)
	case !(a.HalfLife >= 100):
		return fmt.Errorf("%s.adapt.half_life: %v choices, must be at least 100", field, a.HalfLife)
	case !(a.Control <= 1):
		return fmt.Errorf("%s.adapt.control: %v, must be a share of lists, at most 1", field, a.Control)
	}
	return nil
}

// EvidenceStore is where workers share what choices said about the weights. Terms are sums; see adapter.
type EvidenceStore interface {
	// AddEvidence multiplies all terms of a surface by decay, adds some and gives what came out. Adding nothing reads.
	AddEvidence(ctx context.Context, surface string, decay float64, add map[string]float64) (map[string]float64, error)
}

// adapter learns the weights of one surface from what users choose.
//
// Full information, not a bandit's: of every candidate that stood before the user's next behaviour all scores are known, so one choice says
// something about every weighting, whichever made the list. The model is the conditional logit that `freshet eval tune` fits, p(i) =
// softmax over candidates of sum_k w_k x score_ki. It is followed by Newton steps with forgetting: with x the scores of the choice,
// E[x] and H their mean and covariance under p, every choice adds H to P and H w + (x - E[x]) to b, both of which halve every HalfLife
// choices; the best weights of the recent past are P^-1 b. Sums commute, so workers add up theirs and flush each second.
//
// What is learnt is believed as far as it is certain. Under the configured weights D2 = d'P d, d = (P^-1 b - configured), has the
// expectation K (Wald, 1943): the step taken is d x (1 - caution x K / D2), none below 0 (positive-part James-Stein, 1961). So where nothing
// has changed, next to nothing moves. A common factor of all weights does not change a list; it is taken out before.
type adapter struct {
	s     *Surface
	base  []float64 // configured weight / temperature, [source]
	ks    []int     // the sources that take part
	mix   atomic.Pointer[[]float64]
	decay float64

	mu    sync.Mutex
	known evidence // everybody's, decayed
	owed  evidence // of this worker since the last flush
	since float64  // choices of this worker since then
	scale float64  // the likelihood's: p = softmax(scale x mix x scores)
	new   int      // choices since the mix was worked out
	pause bool
}

// evidence is the sums of an adapter, [place in ks].
type evidence struct {
	n float64
	b []float64
	p [][]float64 // lower triangle
}

func newEvidence(k int) evidence {
	e := evidence{b: make([]float64, k), p: make([][]float64, k)}
	for i := range e.p {
		e.p[i] = make([]float64, i+1)
	}
	return e
}

func (e *evidence) add(decay float64, o *evidence) {
	e.n = e.n*decay + o.n
	for i := range e.b {
		e.b[i] = e.b[i]*decay + o.b[i]
		for j := range e.p[i] {
			e.p[i][j] = e.p[i][j]*decay + o.p[i][j]
		}
	}
}

// caution is how many times as far from the configured weights as chance would take them the evidence must be to be believed at all.
const caution = 3

// solveEvery is after how many choices the mix is worked out again.
const solveEvery = 16

func newAdapter(s *Surface, base []float64) *adapter {
	a := &adapter{s: s, base: base, scale: 1, decay: math.Exp2(-1 / s.Adapt.HalfLife)}
	for mask := s.mask; mask != 0; mask &= mask - 1 {
		a.ks = append(a.ks, bits.TrailingZeros32(mask))
	}
	a.known, a.owed = newEvidence(len(a.ks)), newEvidence(len(a.ks))
	a.mix.Store(&base)
	return a
}

// slate is what stood before a user when his list was made: the best candidates of each source with every source's score.
type slate struct {
	items  []uint64    // hashes: only compared within the process
	scores [][]float32 // [place in ks][candidate]
}

// perSource is how many of each source's candidates a slate keeps. Which ones does not depend on the weights.
const perSource = 16

// slateOf keeps what learn needs, nil if that is nothing.
func (a *adapter) slateOf(p *pool, hidden func(at int32) bool) *slate {
	places := p.places[:0]
	for _, k := range a.ks {
		n := 0
		for _, c := range p.lists[k] {
			if n == perSource {
				break
			}
			at := p.find(freshet.Ref{ItemID: c.ItemID, Number: c.Number})
			if at < 0 || hidden(at) {
				continue
			}
			n++
			if p.flags[at]&flagSlate == 0 {
				p.flags[at] |= flagSlate
				places = append(places, at)
			}
		}
	}
	for _, at := range places {
		p.flags[at] &^= flagSlate
	}
	p.places = places
	if len(places) < 2 {
		return nil
	}
	out := &slate{items: make([]uint64, len(places)), scores: make([][]float32, len(a.ks))}
	flat := make([]float32, len(places)*len(a.ks))
	for n, at := range places {
		out.items[n] = hashOf(p.items[at].ItemID)
	}
	for i, k := range a.ks {
		out.scores[i] = flat[i*len(places) : (i+1)*len(places)]
		for n, at := range places {
			out.scores[i][n] = p.scores[k][at]
		}
	}
	return out
}

func hashOf(id string) uint64 { return maphash.String(poolSeed, id) }

// learn takes one choice in. A choice that was not among the candidates says nothing about their weights.
func (a *adapter) learn(sl *slate, item string) {
	chosen, hash := -1, hashOf(item)
	for i, h := range sl.items {
		if h == hash {
			chosen = i
			break
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if chosen < 0 || a.pause {
		return
	}
	k := len(a.ks)
	w, mix := make([]float64, k), *a.mix.Load()
	for i, src := range a.ks {
		w[i] = a.scale * mix[src]
	}
	one := newEvidence(k)
	one.n = 1
	p := softmaxOf(sl.scores, w)
	mean := make([]float64, k)
	for i, row := range sl.scores {
		for c, v := range row {
			mean[i] += p[c] * float64(v)
		}
	}
	for i := range k {
		one.b[i] = float64(sl.scores[i][chosen]) - mean[i]
		for j := range i + 1 {
			sum := 0.0
			for c := range p {
				sum += p[c] * (float64(sl.scores[i][c]) - mean[i]) * (float64(sl.scores[j][c]) - mean[j])
			}
			one.p[i][j] = sum
		}
	}
	for i := range k {
		for j := range k {
			one.b[i] += one.at(i, j) * w[j]
		}
	}
	a.known.add(a.decay, &one)
	a.owed.add(a.decay, &one)
	a.since++
	if a.new++; a.new >= solveEvery {
		a.solve()
	}
}

func (e *evidence) at(i, j int) float64 { return e.p[max(i, j)][min(i, j)] }

func softmaxOf(scores [][]float32, w []float64) []float64 {
	p := make([]float64, len(scores[0]))
	for k, row := range scores {
		for i, v := range row {
			p[i] += w[k] * float64(v)
		}
	}
	top, sum := math.Inf(-1), 0.0
	for _, v := range p {
		top = max(top, v)
	}
	for i := range p {
		p[i] = math.Exp(p[i] - top)
		sum += p[i]
	}
	for i := range p {
		p[i] /= sum
	}
	return p
}

// solve works the mix out; the caller holds the lock.
func (a *adapter) solve() {
	a.new = 0
	k := len(a.ks)
	base := make([]float64, k)
	for i, src := range a.ks {
		base[i] = a.base[src]
	}
	best := a.known.best(base, a.scale)
	// The common factor: the multiple of the configured weights that is nearest, as P measures distances.
	along, across := a.known.product(base, base), a.known.product(base, best)
	if !(along > 0 && across > 0) {
		return
	}
	a.scale = across / along
	d := make([]float64, k)
	for i := range d {
		d[i] = best[i]/a.scale - base[i]
	}
	far := a.known.product(d, d) * a.scale * a.scale
	believed := 0.0
	if limit := caution * float64(k-1); far > limit {
		believed = 1 - limit/far
	}
	mix := make([]float64, len(a.base))
	for i, src := range a.ks {
		mix[src] = min(max(base[i]+believed*d[i], base[i]/a.s.Adapt.Bound), base[i]*a.s.Adapt.Bound)
	}
	a.mix.Store(&mix)
}

// product is x'P y.
func (e *evidence) product(x, y []float64) float64 {
	sum := 0.0
	for i := range x {
		for j := range y {
			sum += x[i] * e.at(i, j) * y[j]
		}
	}
	return sum
}

// best gives P^-1 b. A little weight on the configured weights keeps directions that no choice has looked into where they were.
func (e *evidence) best(base []float64, scale float64) []float64 {
	n := len(base)
	m := make([][]float64, n)
	for i := range m {
		m[i] = make([]float64, n+1)
		for j := range n {
			m[i][j] = e.at(i, j)
		}
		ridge := 1e-3*m[i][i] + 1e-9
		m[i][i] += ridge
		m[i][n] = e.b[i] + ridge*scale*base[i]
	}
	for i := range m {
		for j := i + 1; j < n; j++ {
			f := m[j][i] / m[i][i]
			for l := i; l <= n; l++ {
				m[j][l] -= f * m[i][l]
			}
		}
	}
	x := make([]float64, n)
	for i := n - 1; i >= 0; i-- {
		v := m[i][n]
		for j := i + 1; j < n; j++ {
			v -= m[i][j] * x[j]
		}
		x[i] = v / m[i][i]
	}
	return x
}

// terms names the sums by sources, so that another configuration finds what concerns it.
func (a *adapter) terms(e *evidence, names func(k int) string) map[string]float64 {
	out := map[string]float64{"n": e.n}
	for i, k := range a.ks {
		out["b "+names(k)] = e.b[i]
		for j := range e.p[i] {
			out[pairOf(names(k), names(a.ks[j]))] = e.p[i][j]
		}
	}
	return out
}

func pairOf(a, b string) string { return "p " + min(a, b) + " " + max(a, b) }

func (a *adapter) take(terms map[string]float64, names func(k int) string) evidence {
	e := newEvidence(len(a.ks))
	e.n = terms["n"]
	for i, k := range a.ks {
		e.b[i] = terms["b "+names(k)]
		for j := range e.p[i] {
			e.p[i][j] = terms[pairOf(names(k), names(a.ks[j]))]
		}
	}
	return e
}

// sync gives the store what was learnt here and takes what everybody learnt.
func (a *adapter) sync(ctx context.Context, store EvidenceStore, names func(k int) string) error {
	a.mu.Lock()
	owed, since := a.owed, a.since
	a.owed, a.since = newEvidence(len(a.ks)), 0
	a.mu.Unlock()
	add, decay := map[string]float64{}, 1.0
	if since > 0 {
		add, decay = a.terms(&owed, names), math.Pow(a.decay, since)
	}
	sum, err := store.AddEvidence(ctx, a.s.Name, decay, add)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil { // owed again, the older part decayed by what came meanwhile
		again := a.owed
		owed.add(math.Pow(a.decay, a.since), &again)
		a.owed, a.since = owed, a.since+since
		return fmt.Errorf("share the weights of surface %s: %w", a.s.Name, err)
	}
	a.known = a.take(sum, names)
	a.known.add(math.Pow(a.decay, a.since), &a.owed)
	a.solve()
	return nil
}

// SyncWeights gives the store what was learnt about weights and takes what everybody learnt; its owner calls it about once a second,
// from one goroutine. Surfaces that do not adapt cost nothing.
func (e *Engine) SyncWeights(ctx context.Context, store EvidenceStore) error {
	for i := range e.adapters {
		if a := e.adapters[i]; a != nil {
			if err := a.sync(ctx, store, e.sourceName); err != nil {
				return err
			}
		}
	}
	return nil
}

func (e *Engine) sourceName(k int) string { return e.sources[k].Name() }

// PauseLearning stops surfaces from adapting, or lets them go on: an evaluation must not learn from what the model was trained on.
func (e *Engine) PauseLearning(pause bool) {
	for _, a := range e.adapters {
		if a != nil {
			a.mu.Lock()
			a.pause = pause || a.s.Adapt.Mode != AdaptOn
			a.mu.Unlock()
		}
	}
}

// Weights gives the weights that a surface's lists are made with now, by source; temperatures are taken out again.
func (e *Engine) Weights(surface string) map[string]float64 {
	for i := range e.cfg.Surfaces {
		s := &e.cfg.Surfaces[i]
		if s.Name != surface {
			continue
		}
		out := map[string]float64{}
		mix := *e.mixes[i]
		if a := e.adapters[i]; a != nil {
			mix = *a.mix.Load()
		}
		for mask := s.mask; mask != 0; mask &= mask - 1 {
			k := bits.TrailingZeros32(mask)
			out[e.sources[k].Name()] = mix[k] / e.scale[k]
		}
		return out
	}
	return nil
}

// arm draws which weights a list is made with: the same for the same user and event, whoever makes it.
func (e *Engine) arm(s *Surface, who *freshet.Subject) (name string, propensity float64, mix []float64) {
	a := e.adapters[s.place]
	if a == nil {
		return "", 0, *e.mixes[s.place]
	}
	if c := s.Adapt.Control; c > 0 && draw(who, s.Name) < c {
		return ArmControl, c, a.base
	}
	return ArmAdapted, 1 - s.Adapt.Control, *a.mix.Load()
}

// draw gives a number from 0 to below 1 that depends on the user, his revision and a purpose alone.
func draw(who *freshet.Subject, purpose string) float64 {
	h := freshet.HashID(strings.Join([]string{who.Profile.UserID, purpose, fmt.Sprint(who.Profile.Rev)}, "\x00"))
	h ^= h >> 33 // the finaliser of MurmurHash3: the upper bits of HashID know little of the last bytes
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return float64((h^h>>33)>>11) / (1 << 53)
}
