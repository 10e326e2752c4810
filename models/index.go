package models

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"freshet"

	"go.uber.org/zap"
)

// Recommendable says which of the bundle's items may be recommended before anybody names them.
type Recommendable uint8

// Serving recommends what the catalogue knows; evaluation ranks everything that training knew.
const (
	Catalogue Recommendable = iota // none: SetRecommendable names each
	All                            // every one
)

// IndexConfig says how an index behaves.
type IndexConfig struct {
	Work          string        // folder for rewritten matrices, made when missing; default: the system's temporary folder
	Recommendable Recommendable // what an item is until SetRecommendable says otherwise; default Catalogue
	Newest        int           // items scored beside the matrix before it is rewritten at once; default 256
	ExactUpTo     int           // rows that are scored whole for every query; more are divided into cells, on a CPU. Default 50,000, negative: no limit
	Recall        float64       // share of the 100 best items that a search of cells must find, on average; default 0.99
	RewriteAfter  time.Duration // how long a change waits for company before the matrix is rewritten; default 500 ms, negative: only Settle rewrites
}

func (c IndexConfig) withDefaults() IndexConfig {
	if c.Newest == 0 {
		c.Newest = 256
	}
	if c.ExactUpTo == 0 {
		c.ExactUpTo = 50_000
	}
	if c.Recall == 0 {
		c.Recall = .99
	}
	if c.RewriteAfter == 0 {
		c.RewriteAfter = 500 * time.Millisecond
	}
	return c
}

// Validate names the field that cannot be used.
func (c IndexConfig) Validate() error {
	switch {
	case c.Recommendable > All:
		return fmt.Errorf("recommendable: %d, use Catalogue or All", c.Recommendable)
	case c.Recall < 0 || c.Recall > 1:
		return fmt.Errorf("recall: %v, use 0 to 1", c.Recall)
	case c.Newest < 0:
		return fmt.Errorf("newest: %d, use 1 or more", c.Newest)
	}
	return nil
}

// Index finds the items whose vectors fit a query best, over the whole catalogue: exactly where scoring everything is cheap, and beyond
// IndexConfig.ExactUpTo rows by looking into the cells that fit the query best (cells.go), as many as it takes for IndexConfig.Recall.
//
// The bulk of the vectors lies in one matrix (a generation), which a matrix product scores: on a CPU in memory of ours, on a device inside
// a session of search.onnx. Items that
// came or changed since that session was opened are the newest: they are scored beside it, one by one. In the background the
// matrix is written anew with them, a new session is opened, and one pointer is exchanged; searches under way end on the old one.
//
// Search, Score, Vector and Len take no lock and never wait for a writer. Upsert, SetRecommendable and Remove show in the next
// search. Equal scores are ordered by arrival: rows of the bundle first.
type Index struct {
	bundle *Bundle
	cfg    IndexConfig
	log    *zap.Logger
	work   string
	items  *table

	current atomic.Pointer[snapshot]
	shown   atomic.Int64
	closed  atomic.Bool
	held    atomic.Bool // a catalogue is being loaded: rewrites wait
	scratch sync.Pool   // *searchScratch
	samples samples     // queries that were asked, to calibrate with

	writing sync.Mutex               // guards what follows, and entry.row and entry.beside
	all     []*entry                 // in order of arrival; all[0] is nil, the unknown item
	met     atomic.Pointer[[]*entry] // all, for readers
	version uint64                   // of the latest vector

	rewriting sync.Mutex   // one rewrite at a time
	took      atomic.Int64 // nanoseconds of the last rewrite
	wake      chan struct{}
	quit      chan struct{}
	done      sync.WaitGroup // the background rewriter
}

// snapshot is what a search works on. It is never changed, only replaced.
type snapshot struct {
	generation *generation
	newest     []*entry // items whose vectors the generation does not have, in order of arrival
}

// OpenIndex opens the bundle's items for search. Close it before the bundle.
func OpenIndex(b *Bundle, cfg IndexConfig) (*Index, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configure the index: %w", err)
	}
	x := &Index{bundle: b, cfg: cfg.withDefaults(), log: b.rt.log.With(zap.String("model", b.ID())), items: newTable(len(b.ids)),
		wake: make(chan struct{}, 1), quit: make(chan struct{})}
	if cfg.Work != "" {
		if err := os.MkdirAll(cfg.Work, 0o700); err != nil {
			return nil, fmt.Errorf("open the index: %w", err)
		}
	}
	x.samples.wake = x.nudge
	var err error
	if x.work, err = os.MkdirTemp(cfg.Work, "index-"); err != nil {
		return nil, fmt.Errorf("open the index: %w", err)
	}
	x.fill()
	g, err := x.firstGeneration()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the index: %w", err), os.RemoveAll(x.work))
	}
	x.exchange(g)
	if x.cfg.RewriteAfter > 0 {
		x.done.Go(x.rewriteInBackground)
	}
	return x, nil
}

// firstGeneration is over the bundle's own rows, and on a device its own matrix.
func (x *Index) firstGeneration() (*generation, error) {
	if x.bundle.step.runsOn() != CPU {
		return x.bundle.openGeneration(x.bundle.dir, slices.Clone(x.all), 0)
	}
	entries, vectors, version := x.gather()
	return x.generationOf(entries, vectors, version)
}

func (x *Index) large(rows int) bool { return x.cfg.ExactUpTo >= 0 && rows > x.cfg.ExactUpTo }

func (x *Index) generationOf(entries []*entry, vectors [][]float32, version uint64) (*generation, error) {
	switch {
	case x.bundle.step.runsOn() != CPU:
		return x.bundle.writeGeneration(x.work, entries, vectors, version)
	case x.large(len(entries)):
		return x.bundle.divideGeneration(entries, vectors, version, x.sample(vectors), x.target())
	}
	return x.bundle.blockGeneration(entries, vectors, version)
}

// fill takes in the rows of the bundle.
func (x *Index) fill() {
	b := x.bundle
	x.all = make([]*entry, 1, len(b.ids))
	met := x.all
	x.met.Store(&met)
	for row := 1; row < len(b.ids); row++ {
		x.arrive(b.ids[row], &place{vector: b.row(row), norm: length(b.row(row)), bias: b.bias[row], trained: true, shown: x.cfg.Recommendable == All})
	}
}

// arrive adds an item that the index has not met.
func (x *Index) arrive(id string, p *place) *entry {
	e := &entry{id: id, order: len(x.all), row: -1}
	e.at.Store(p)
	x.all = append(x.all, e)
	met := x.all // who reads an older one sees less of the same memory
	x.met.Store(&met)
	x.items.add(e)
	if p.shown {
		x.shown.Add(1)
	}
	return e
}

// Upsert gives an item that training did not know its vector (Dim long, from ItemVectors) and bias. Items of the bundle keep their
// trained vector and bias, whatever is passed. Whether the item may be recommended does not change; at first it is what
// IndexConfig.Recommendable says.
func (x *Index) Upsert(id string, vector []float32, bias float32) error {
	if err := x.validVector(id, vector, bias); err != nil {
		return fmt.Errorf("upsert item %q: %w", id, err)
	}
	x.writing.Lock()
	defer x.writing.Unlock()
	e := x.items.find(id)
	if e == nil {
		x.version++
		p := &place{vector: slices.Clone(vector), norm: length(vector), bias: bias, shown: x.cfg.Recommendable == All, version: x.version}
		x.besides(x.arrive(id, p))
		return nil
	}
	next := *e.at.Load()
	next.removed = false
	if !next.trained {
		if differentBits(next.vector, vector) >= 0 {
			x.version++
			next.vector, next.norm, next.version = slices.Clone(vector), length(vector), x.version
		}
		next.bias = bias
	}
	x.move(e, &next)
	return nil
}

func (x *Index) validVector(id string, vector []float32, bias float32) error {
	if id == "" || len(id) > freshet.MaxItemID {
		return fmt.Errorf("item_id: %d bytes, want 1 to %d", len(id), freshet.MaxItemID)
	}
	if len(vector) != x.bundle.Dim() {
		return fmt.Errorf("vector: %d values, want %d", len(vector), x.bundle.Dim())
	}
	for i, v := range append(slices.Clone(vector), bias) {
		if v-v != 0 {
			return fmt.Errorf("vector or bias: value %d is %v", i, v)
		}
	}
	return nil
}

// SetRecommendable says whether searches may return an item, and tells whether the index knows it. An item that is not
// recommendable keeps its vector.
func (x *Index) SetRecommendable(id string, on bool) bool {
	return x.change(id, func(p *place) { p.shown, p.removed = on, p.removed && !on })
}

// Remove takes an item out of searches, and out of the next matrix unless it is one of the bundle's. Its vector stays known: users
// who met it keep a state that can be folded again. It tells whether the index knew the item.
func (x *Index) Remove(id string) bool {
	return x.change(id, func(p *place) { p.shown, p.removed = false, !p.trained })
}

func (x *Index) change(id string, f func(*place)) bool {
	x.writing.Lock()
	defer x.writing.Unlock()
	e := x.items.find(id)
	if e == nil {
		return false
	}
	next := *e.at.Load()
	f(&next)
	x.move(e, &next)
	return true
}

// move puts an entry into a new place. An item that the matrix lacks, or has an old vector of, joins the newest first and changes
// after, so that no search misses it.
func (x *Index) move(e *entry, p *place) {
	g := x.current.Load().generation
	if !p.removed && (e.row < 0 || p.version > g.version) {
		x.besides(e)
	}
	if before := e.at.Swap(p); before.shown != p.shown {
		if p.shown {
			x.shown.Add(1)
		} else {
			x.shown.Add(-1)
		}
	}
	if e.row >= 0 {
		g.setMask(e.row, g.maskOf(p))
	}
}

// besides makes an entry one of the newest. Appending beyond what any snapshot sees leaves older snapshots as they are.
func (x *Index) besides(e *entry) {
	if e.beside {
		return
	}
	e.beside = true
	s := x.current.Load()
	x.current.Store(&snapshot{generation: s.generation, newest: append(s.newest, e)})
	x.nudge()
}

// nudge has the background work look what there is to do.
func (x *Index) nudge() {
	select {
	case x.wake <- struct{}{}:
	default: // it knows already
	}
}

// Vector is what the model folds for an item: its trained vector, its tower vector, or the unknown item's. It must not be changed.
func (x *Index) Vector(id string) ([]float32, freshet.VectorKind) {
	e := x.items.find(id)
	if e == nil {
		return x.bundle.row(0), freshet.Unknown
	}
	p := e.at.Load()
	if p.trained {
		return p.vector, freshet.Trained
	}
	return p.vector, freshet.Tower
}

// Number is an item's freshet.Ref.Number; 0 = the index does not know it.
func (x *Index) Number(id string) int32 {
	if e := x.items.find(id); e != nil {
		return int32(e.order)
	}
	return 0
}

// find gives an item that somebody else has named; nil = the index does not know it.
func (x *Index) find(r freshet.Ref) *entry {
	if all := *x.met.Load(); r.Number > 0 && int(r.Number) < len(all) {
		return all[r.Number]
	}
	return x.items.find(r.ItemID)
}

// VectorOf gives the vector of an item and its length; nil for an item that the index does not know. It must not be changed.
func (x *Index) VectorOf(item freshet.Ref) (vector []float32, norm float32) {
	if e := x.find(item); e != nil {
		p := e.at.Load()
		return p.vector, p.norm
	}
	return nil, 0
}

func length(v []float32) float32 { return float32(math.Sqrt(float64(freshet.Dot(v, v)))) }

// UnknownVector is the unknown item's row: what entries of kind freshet.Unknown are folded with.
func (x *Index) UnknownVector() []float32 { return x.bundle.row(0) }

// Len is how many items a search can return now.
func (x *Index) Len() int { return int(x.shown.Load()) }

// Cells says how many cells a search looks into, of how many; 0, 0 where it scores everything.
func (x *Index) Cells() (probes, of int) {
	c := x.current.Load().generation.cells
	if c == nil || c.centres == nil {
		return 0, 0
	}
	return int(c.probes.Load()), c.len()
}

// LookInto has searches look into that many cells, at least one, until the number is found anew; where everything is scored it changes
// nothing. Serving needs it never, measurements may.
func (x *Index) LookInto(probes int) {
	if c := x.current.Load().generation.cells; c != nil && c.centres != nil {
		c.probes.Store(int32(min(max(probes, 1), c.len())))
	}
}

// Settle does now what is otherwise done in the background, and waits for it: the newest items are written into the matrix, and where
// that is divided, the number of cells to look into is found for the queries asked lately. Serving needs it never, tests and evaluation may.
func (x *Index) Settle(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if x.closed.Load() {
		return fmt.Errorf("settle the index: %w", ErrClosed)
	}
	if err := x.rewrite(); err != nil {
		return fmt.Errorf("rewrite the item matrix: %w", err)
	}
	if x.samples.due.Swap(false) {
		x.recalibrate()
	}
	return nil
}

// Hold puts rewrites off until Release: while a whole catalogue is loaded, each would be out of date when it is done. Settle is not put off.
func (x *Index) Hold() { x.held.Store(true) }

// Release ends Hold.
func (x *Index) Release() {
	x.held.Store(false)
	x.nudge()
}

// rewriteInBackground is a goroutine of the index; Close ends it. A change waits for company for RewriteAfter, and for ten times
// as long as the last rewrite took, so that rewriting never takes more than a tenth of a core; many changes do not wait.
func (x *Index) rewriteInBackground() {
	for {
		select {
		case <-x.quit:
			return
		case <-x.wake:
		}
		if x.samples.due.Swap(false) {
			x.recalibrate()
		}
		if len(x.current.Load().newest) < x.cfg.Newest {
			select {
			case <-x.quit:
				return
			case <-time.After(max(x.cfg.RewriteAfter, 10*time.Duration(x.took.Load()))):
			}
		}
		if x.held.Load() {
			continue // Release wakes
		}
		if err := x.rewrite(); err != nil && !x.closed.Load() {
			x.log.Error("rewriting the item matrix failed; the newest items are scored beside the old one", zap.Error(err))
		}
	}
}

// rewrite opens a generation with all vectors of this moment. Writers go on meanwhile; what they change is newest again.
func (x *Index) rewrite() error {
	x.rewriting.Lock()
	defer x.rewriting.Unlock()
	entries, vectors, version := x.gather()
	if len(x.current.Load().newest) == 0 && len(entries) == len(x.current.Load().generation.entries) {
		return nil
	}
	start := time.Now()
	g, err := x.generationOf(entries, vectors, version)
	if err != nil {
		return err
	}
	old := x.exchange(g)
	x.took.Store(int64(time.Since(start)))
	x.log.Debug("item matrix rewritten", zap.Int("rows", len(entries)), zap.Duration("took", time.Since(start)))
	return old.close()
}

func (x *Index) gather() (entries []*entry, vectors [][]float32, version uint64) {
	x.writing.Lock()
	defer x.writing.Unlock()
	entries, vectors = append(entries, nil), append(vectors, x.bundle.row(0))
	for _, e := range x.all[1:] {
		if p := e.at.Load(); !p.removed {
			entries, vectors = append(entries, e), append(vectors, p.vector)
		}
	}
	return entries, vectors, x.version
}

// exchange makes g the current generation and returns the one before.
func (x *Index) exchange(g *generation) *generation {
	x.writing.Lock()
	defer x.writing.Unlock()
	for _, e := range x.all[1:] {
		e.row, e.beside = -1, false
	}
	for row, e := range g.entries {
		if e != nil {
			e.row = row
			g.mask[row] = g.maskOf(e.at.Load())
		}
	}
	next := &snapshot{generation: g}
	for _, e := range x.all[1:] {
		if p := e.at.Load(); !p.removed && (e.row < 0 || p.version > g.version) {
			e.beside = true
			next.newest = append(next.newest, e)
		}
	}
	if before := x.current.Swap(next); before != nil {
		return before.generation
	}
	return nil
}

// Close ends the background work and frees the session; searches under way end first. The work folder is removed.
func (x *Index) Close() error {
	if x.closed.Swap(true) {
		return fmt.Errorf("close the index: %w", ErrClosed)
	}
	close(x.quit)
	x.done.Wait()
	x.rewriting.Lock()
	defer x.rewriting.Unlock()
	return errors.Join(x.current.Load().generation.close(), os.RemoveAll(filepath.Clean(x.work)))
}
