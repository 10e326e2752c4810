package models

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"

	"freshet"
)

const (
	calibrated  = 100 // best items whose finding is counted
	sampleSize  = 512 // queries
	sampleTurns = 64  // how often the kept queries are replaced before the number of cells is found anew
)

// samples keeps queries that were asked lately: which cells must be looked into depends on how queries lie among the items, and
// nothing tells that but the queries themselves.
type samples struct {
	mu   sync.Mutex
	list [][]float32
	seen int
	wake func()
	due  atomic.Bool // enough new queries have come; the index's background work finds the number of cells anew
}

// keep notes one query of a batch. It never waits: a search that finds another one here goes on.
func (s *samples) keep(query []float32) {
	if !s.mu.TryLock() {
		return
	}
	defer s.mu.Unlock()
	if len(s.list) < sampleSize {
		s.list = append(s.list, slices.Clone(query))
	} else {
		copy(s.list[s.seen%sampleSize], query)
	}
	s.seen++
	if s.seen == sampleSize || s.seen%(sampleSize*sampleTurns) == 0 {
		s.due.Store(true)
		if s.wake != nil {
			s.wake()
		}
	}
}

// target is the recall to calibrate for: a little more than what was asked for, since it is measured on a sample.
func (x *Index) target() float64 { return x.cfg.Recall + (1-x.cfg.Recall)*.7 }

// sample gives queries to calibrate with: those asked lately, or, before there are enough, some that lie as a model's do: near the
// items, and not on them.
func (x *Index) sample(vectors [][]float32) []float32 {
	x.samples.mu.Lock()
	defer x.samples.mu.Unlock()
	if len(x.samples.list) == sampleSize {
		return slices.Concat(x.samples.list...)
	}
	r := rand.New(rand.NewPCG(uint64(len(vectors)), 0x5a3b1e))
	d := x.bundle.Dim()
	out := make([]float32, 0, sampleSize*d)
	for range sampleSize {
		v := vectors[r.IntN(len(vectors))]
		noise := float32(.6 * math.Sqrt(float64(freshet.Dot(v, v))/float64(d)))
		for _, value := range v {
			out = append(out, value+noise*float32(r.NormFloat64()))
		}
	}
	return out
}

// recalibrate finds the number of cells anew, for the queries that are asked and the items that are shown now.
func (x *Index) recalibrate() {
	s, err := x.hold()
	if err != nil {
		return // closed
	}
	defer s.generation.session.release()
	c := s.generation.cells
	if c == nil || c.centres == nil {
		return
	}
	before := c.probes.Load()
	recall, err := c.calibrate(s.generation.mask, x.sample(nil), calibrated, x.target())
	if err != nil {
		x.log.Error("finding how many cells to look into failed; it stays as it was", zap.Error(err))
		return
	}
	x.log.Debug("cells to look into", zap.Int32("before", before), zap.Int32("now", c.probes.Load()), zap.Int("of", c.len()), zap.Float64("recall", recall))
}
