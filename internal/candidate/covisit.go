package candidate

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"freshet"
)

// CovisitConfig shapes the counts. A zero field means its default.
type CovisitConfig struct {
	HalfLife time.Duration // of a count, in event time; the same for all workers of a lane; default 60 days
	Keep     int           // successors kept per item, the strongest; default 128
	MaxItems int           // items kept in memory; default 100,000, at 1 KB each
	Reach    int           // how many events apart two items still make a pair; default 20
	Back     float64       // what a pair counts for the item that came second, of what it counts for the first; default 0.5, negative = nothing
	Last     int           // how many of a user's last items vote; default 30
	Decay    float64       // the k-th item back votes with k^-Decay; default 0.7
	Damp     float64       // scores are divided by (n_j + 1)^Damp, n_j = how often item j was met; default 0.2
	Numbers  Numbers       // of items; nil = they have none
}

func (c CovisitConfig) withDefaults() CovisitConfig {
	setDefault(&c.HalfLife, 60*24*time.Hour)
	setDefault(&c.Keep, 128)
	setDefault(&c.MaxItems, 100_000)
	setDefault(&c.Reach, 20)
	setDefault(&c.Back, 0.5)
	setDefault(&c.Last, 30)
	setDefault(&c.Decay, 0.7)
	setDefault(&c.Damp, 0.2)
	if c.Numbers == nil {
		c.Numbers = unnumbered{}
	}
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// covisitFloor keeps the logarithm of an item without votes finite: votes below it hardly differ. Chosen on 72-80 % of the events of MovieLens
// 100K and Yoochoose by the likelihood of fused lists; a smaller one makes a fusion mistrust every item that has not yet followed another.
const covisitFloor = 3e-3

// backReach is how many events apart a pair still counts backwards. Pairs further apart add next to nothing, and twice as many counts would
// cost the store twice as much. Like Back and Damp chosen on the same events as the floor: what stood before an item is evidence of what may
// come after it, and short histories have too little evidence.
const backReach = 3

// Covisit proposes what usually stood near the items that the user met lately, learnt from the stream. A pair (i, j) of one user's
// history with j following k <= Reach events after i adds weight/k to C[i,j] and, for k <= 3, Back times as much to C[j,i]; n_i counts
// how often i was met; all of it halves every HalfLife. With h_k the k-th item of a history from its end, the score is log(c_j + 0.003),
//
//	c_j = (n_j + 1)^-Damp * sum over k <= Last of k^-Decay * C[h_k, j] / (n_{h_k} + 1)
//
// which is the count baseline of internal/evaluate with decay, with bounded rows and with pairs that count backwards. Only the Keep strongest successors of an item are
// kept. Decay runs forward, as in Popular: what is stored is inflated to a landmark and never rewritten for ageing.
//
// All of it is in memory, so that an event costs no trip to the store. covisit_sync.go shares it between workers.
type Covisit struct {
	cfg   CovisitConfig
	votes []float32 // k^-Decay
	step  []float32 // 1/k

	mu       sync.RWMutex
	number   map[string]int32 // id -> row
	items    []freshet.Ref    // of each row
	rowOf    []int32          // by an item's Number: its row + 1, 0 = none
	unknown  int              // rows whose item has no Number
	rows     []covisitRow
	landmark int64 // ms; event time whose additions count as written; 0 = no event yet
	latest   int64 // ms; newest event time
	cursor   int   // next row whose damp is brought up to date
	full     bool  // no room for more items until compact

	dirty      []int32  // rows with something to flush, in order of their first addition since
	wanted     []int32  // rows to read from the store
	rotate     int      // next row that is read again
	identified int      // the row whose Number was looked for last
	stale      []string // items whose similar list is out of date

	idle    bool // nothing is learnt
	ballots sync.Pool
}

// covisitRow is what is known of one item. Weights are inflated to the landmark.
type covisitRow struct {
	n     float32 // how often the item was met
	damp  float32 // (n now + 1)^-Damp, at most some thousand events old
	next  []link  // successors, in no order
	owed  []link  // additions that the store has not got yet
	owedN float32
	flags uint8
}

const (
	rowDirty   = 1 << iota // stands in dirty
	rowWanted              // stands in wanted
	rowLoaded              // was read from the store
	rowSimilar             // stands in stale
)

type link struct {
	item   int32
	weight float32
}

// NewCovisit starts with nothing counted.
func NewCovisit(cfg CovisitConfig) *Covisit {
	c := &Covisit{cfg: cfg.withDefaults(), number: map[string]int32{}}
	for k := 1; k <= c.cfg.Last; k++ {
		c.votes = append(c.votes, float32(math.Pow(float64(k), -c.cfg.Decay)))
	}
	for k := 1; k <= c.cfg.Reach; k++ {
		c.step = append(c.step, 1/float32(k))
	}
	c.ballots.New = func() any { return &ballot{} }
	return c
}

// Name implements the engine's Source.
func (c *Covisit) Name() string { return "covisit" }

// Idle makes the source learn nothing: where no surface asks for it, it should cost nothing. To be called before the first event.
func (c *Covisit) Idle() { c.idle = true }

// Learn implements the engine's Learner.
func (c *Covisit) Learn(lessons []freshet.Lesson) {
	if c.idle {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range lessons {
		if l := &lessons[i]; l.Type.EffectOf(l.Event) == freshet.Extend && l.Type.Weight > 0 {
			c.learn(l)
		}
	}
}

func (c *Covisit) learn(l *freshet.Lesson) {
	scale := c.inflation(l.Event.Time)
	history := make([]int32, 0, freshet.MaxBefore+8)
	for i := range l.Before {
		if l.Before[i].Time > l.Event.Time { // a late event follows only what happened before it
			break
		}
		if n, ok := c.intern(l.Before[i].ItemID); ok {
			history = append(history, n)
		}
	}
	for i := range l.Event.Items {
		j, ok := c.intern(l.Event.Items[i].ItemID)
		if !ok {
			continue
		}
		for k := 1; k <= min(len(history), len(c.step)); k++ {
			before, weight := history[len(history)-k], scale*c.step[k-1]*float32(l.Type.Weight)
			c.add(before, link{j, weight})
			if k <= backReach && c.cfg.Back > 0 && before != j {
				c.add(j, link{before, weight * float32(c.cfg.Back)})
			}
		}
		row := &c.rows[j]
		row.n += scale
		row.owedN += scale
		c.mark(j)
		c.redamp(j)
		history = append(history, j)
	}
	for range 4 { // decay makes damps old: bring a few up to date with every event
		if len(c.rows) > 0 {
			c.cursor = (c.cursor + 1) % len(c.rows)
			c.redamp(int32(c.cursor))
		}
	}
}

// inflation is what an addition at a time counts for, relative to the landmark.
func (c *Covisit) inflation(at int64) float32 {
	if c.landmark == 0 {
		c.landmark = at
	}
	c.latest = max(c.latest, at)
	exponent := c.halfLives(at)
	if exponent > maxExponent {
		c.rebase(at)
		exponent = 0
	}
	return float32(math.Exp2(max(exponent, -maxExponent)))
}

func (c *Covisit) halfLives(at int64) float64 {
	return float64(at-c.landmark) / float64(c.cfg.HalfLife.Milliseconds())
}

// rebase moves the landmark up; what has decayed to nothing is dropped.
func (c *Covisit) rebase(to int64) {
	scale := float32(math.Exp2(-c.halfLives(to)))
	shrink := func(list []link) []link {
		kept := list[:0]
		for _, l := range list {
			if l.weight *= scale; l.weight > 1e-9 {
				kept = append(kept, l)
			}
		}
		return kept
	}
	for i := range c.rows {
		r := &c.rows[i]
		r.n, r.owedN, r.next, r.owed = r.n*scale, r.owedN*scale, shrink(r.next), shrink(r.owed)
	}
	c.landmark = to
}

// intern numbers an item; false = there is no room for it until the next compact.
func (c *Covisit) intern(id string) (int32, bool) {
	if n, ok := c.number[id]; ok {
		return n, true
	}
	if len(c.items) >= c.cfg.MaxItems {
		c.full = true
		return 0, false
	}
	n := int32(len(c.items))
	c.number[id] = n
	c.items = append(c.items, freshet.Ref{ItemID: id})
	c.unknown++
	c.identify(n)
	c.rows = append(c.rows, covisitRow{damp: 1, flags: rowWanted})
	c.wanted = append(c.wanted, n)
	return n, true
}

// identify notes the Number of a row's item, if it has one.
func (c *Covisit) identify(n int32) {
	item := &c.items[n]
	if item.Number = c.cfg.Numbers.Number(item.ItemID); item.Number == 0 {
		return
	}
	c.unknown--
	if need := int(item.Number) + 1 - len(c.rowOf); need > 0 {
		c.rowOf = append(c.rowOf, make([]int32, need)...)
	}
	c.rowOf[item.Number] = n + 1
}

// row finds an item's row; false = it has none. The caller holds the lock.
func (c *Covisit) row(item *freshet.Ref) (int32, bool) {
	if item.Number > 0 {
		if int(item.Number) < len(c.rowOf) && c.rowOf[item.Number] > 0 {
			return c.rowOf[item.Number] - 1, true
		}
		if c.unknown == 0 {
			return 0, false
		}
	}
	n, ok := c.number[item.ItemID]
	return n, ok
}

// add counts a pair, in the row and in what is owed to the store.
func (c *Covisit) add(from int32, l link) {
	r := &c.rows[from]
	r.next = addLink(r.next, l, c.cfg.Keep)
	r.owed = addLink(r.owed, l, c.cfg.Keep)
	c.mark(from)
}

// addLink adds to a list of at most keep links; when it is full, the weakest gives way.
func addLink(list []link, l link, keep int) []link {
	for i := range list {
		if list[i].item == l.item {
			list[i].weight += l.weight
			return list
		}
	}
	if len(list) < keep {
		return append(list, l)
	}
	weakest := 0
	for i := range list {
		if list[i].weight < list[weakest].weight {
			weakest = i
		}
	}
	if list[weakest].weight <= l.weight {
		list[weakest] = l
	}
	return list
}

func (c *Covisit) mark(n int32) {
	if r := &c.rows[n]; r.flags&rowDirty == 0 {
		r.flags |= rowDirty
		c.dirty = append(c.dirty, n)
	}
}

func (c *Covisit) redamp(n int32) {
	r := &c.rows[n]
	r.damp = float32(math.Pow(float64(r.n)*math.Exp2(-c.halfLives(c.latest))+1, -c.cfg.Damp))
}

// Ask works out every vote for one subject. The opinion holds no lock.
func (c *Covisit) Ask(who *freshet.Subject) freshet.Opinion {
	b := c.ballots.Get().(*ballot)
	b.source, b.window = c, who.Profile.Window
	c.mu.RLock()
	defer c.mu.RUnlock()
	if len(b.cells) < len(c.rows) {
		b.cells = make([]cell, len(c.rows)+len(c.rows)/4)
	}
	one := float32(math.Exp2(c.halfLives(c.latest)))
	w := who.Profile.Window
	for k := 1; k <= min(len(w), len(c.votes)); k++ {
		if n, ok := c.number[w[len(w)-k].ItemID]; ok {
			b.count(c.rows[n].next, c.votes[k-1]/(c.rows[n].n+one), uint8(k))
		}
	}
	for i, n := range b.touched {
		b.votes = append(b.votes, b.cells[n].sum*c.rows[n].damp)
		b.items = append(b.items, c.items[n])
		b.cells[n].at = int32(i)
	}
	return b
}

// Propose implements the engine's Source.
func (c *Covisit) Propose(_ context.Context, subjects []freshet.Subject, n int) ([][]freshet.Candidate, error) {
	out := make([][]freshet.Candidate, len(subjects))
	for i := range subjects {
		o := c.Ask(&subjects[i])
		out[i] = append([]freshet.Candidate(nil), o.Propose(n)...)
		o.Close()
	}
	return out, nil
}

// Score implements the engine's Source.
func (c *Covisit) Score(_ context.Context, who *freshet.Subject, items []freshet.Ref, out []float32) error {
	o := c.Ask(who)
	defer o.Close()
	o.Score(items, out)
	return nil
}

// String says how much is held, for logs.
func (c *Covisit) String() string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	links := 0
	for i := range c.rows {
		links += len(c.rows[i].next)
	}
	return fmt.Sprintf("%d items, %d successors", len(c.rows), links)
}

// Last gives the same counts as a source of its own, "covisit-last", for which the last item alone votes: what "because you viewed" shows.
func (c *Covisit) Last() *CovisitLast { return &CovisitLast{c} }

// CovisitLast is Covisit over the user's last item.
type CovisitLast struct{ all *Covisit }

// Name implements the engine's Source.
func (*CovisitLast) Name() string { return "covisit-last" }

// Ask implements the engine's Voter.
func (c *CovisitLast) Ask(who *freshet.Subject) freshet.Opinion { return c.all.Ask(lastOf(who)) }

// Propose implements the engine's Source.
func (c *CovisitLast) Propose(ctx context.Context, subjects []freshet.Subject, n int) ([][]freshet.Candidate, error) {
	last := make([]freshet.Subject, len(subjects))
	for i := range subjects {
		last[i] = *lastOf(&subjects[i])
	}
	return c.all.Propose(ctx, last, n)
}

// Score implements the engine's Source.
func (c *CovisitLast) Score(ctx context.Context, who *freshet.Subject, items []freshet.Ref, out []float32) error {
	return c.all.Score(ctx, lastOf(who), items, out)
}

// lastOf is a subject who has met his last item only.
func lastOf(who *freshet.Subject) *freshet.Subject {
	p := *who.Profile
	p.Window = p.Window[max(0, len(p.Window)-1):]
	return &freshet.Subject{Profile: &p, Queries: who.Queries, Now: who.Now}
}
