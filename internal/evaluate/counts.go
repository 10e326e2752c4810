package evaluate

import (
	"context"
	"math"
)

// CountsConfig shapes the decayed transition counts. The defaults are those that were measured.
type CountsConfig struct {
	Reach int     // how many events apart two items still make a pair; default 20
	Last  int     // how many of a user's last items vote; default 30
	Decay float64 // the k-th item back votes with k^-Decay; default 0.7
	Damp  float64 // scores are divided by (n_j + 1)^Damp, n_j = how often item j was seen; default 0.3
}

// DefaultCountsConfig is the configuration under which the published figures of this project were made.
func DefaultCountsConfig() CountsConfig {
	return CountsConfig{Reach: 20, Last: 30, Decay: 0.7, Damp: 0.3}
}

// Counts is the baseline to beat: what followed what, nearer pairs counting more. A pair (i, j) of one user's history with j
// following k events after i adds 1/k to C[i,j]. With n_i = how often item i was seen, and h_k the k-th item of a history from
// its end,
//
//	score(j) = (n_j + 1)^-Damp * sum over k <= Last of k^-Decay * C[h_k, j] / (n_{h_k} + 1)
//
// so that a vote is what usually follows an item, not how often the item is seen. It learns from each event as it comes and takes a second to build on a million events.
type Counts struct {
	cfg        CountsConfig
	rows       []countRow
	popularity []float32
	damp       []float32 // (popularity + 1)^-Damp, kept with it
	votes      []float32 // k^-Decay
	step       []float32 // 1/k
}

// NewCounts starts with nothing counted.
func NewCounts(items int, cfg CountsConfig) *Counts {
	c := &Counts{cfg: cfg, rows: make([]countRow, items), popularity: make([]float32, items), damp: make([]float32, items)}
	for i := range c.damp {
		c.damp[i] = 1
	}
	for k := 1; k <= cfg.Last; k++ {
		c.votes = append(c.votes, float32(math.Pow(float64(k), -cfg.Decay)))
	}
	for k := 1; k <= cfg.Reach; k++ {
		c.step = append(c.step, 1/float32(k))
	}
	return c
}

// Name of the baseline.
func (c *Counts) Name() string { return "counts" }

// Learn adds the pairs that item makes with the last Reach items of history.
func (c *Counts) Learn(history []int32, item int32) {
	for k := 1; k <= min(len(history), c.cfg.Reach); k++ {
		c.rows[history[len(history)-k]].add(item, c.step[k-1], len(c.rows))
	}
	c.popularity[item]++
	c.damp[item] = float32(math.Pow(float64(c.popularity[item])+1, -c.cfg.Damp))
}

// LearnAll learns whole histories.
func (c *Counts) LearnAll(histories [][]int32) {
	for _, h := range histories {
		for i, item := range h {
			c.Learn(h[:i], item)
		}
	}
}

// Score of every item. A user without history gets popularity, far below any transition.
func (c *Counts) Score(_ context.Context, asked []Question, out [][]float32) error {
	for i, q := range asked {
		c.score(q.History, out[i])
	}
	return nil
}

func (c *Counts) score(history []int32, out []float32) {
	if len(history) == 0 {
		for j, n := range c.popularity {
			out[j] = n * 1e-9
		}
		return
	}
	clear(out)
	for k := 1; k <= min(len(history), c.cfg.Last); k++ {
		item := history[len(history)-k]
		c.rows[item].addTo(out, c.votes[k-1]/(c.popularity[item]+1))
	}
	for j := range out {
		out[j] *= c.damp[j]
	}
}

// countRow is one row of C: an open hash table of item+1 -> count while few items have one, a plain row after that.
type countRow struct {
	keys  []int32 // 0 = free
	cells []float32
	used  int
	dense bool
}

func (r *countRow) add(item int32, v float32, items int) {
	if r.dense {
		r.cells[item] += v
		return
	}
	if 4*(r.used+1) > 3*len(r.keys) {
		r.grow(items)
		if r.dense {
			r.cells[item] += v
			return
		}
	}
	at := r.find(item + 1)
	if r.keys[at] == 0 {
		r.keys[at] = item + 1
		r.used++
	}
	r.cells[at] += v
}

// find gives the place of a key, or the free place where it belongs.
func (r *countRow) find(key int32) uint32 {
	mask := uint32(len(r.keys) - 1)
	at := uint32(key) * 2654435769 >> 7 & mask
	for r.keys[at] != 0 && r.keys[at] != key {
		at = (at + 1) & mask
	}
	return at
}

func (r *countRow) grow(items int) {
	keys, cells := r.keys, r.cells
	size := max(8, 2*len(keys))
	if 2*size >= items {
		r.keys, r.cells, r.dense = nil, make([]float32, items), true
		for i, k := range keys {
			if k != 0 {
				r.cells[k-1] = cells[i]
			}
		}
		return
	}
	r.keys, r.cells = make([]int32, size), make([]float32, size)
	for i, k := range keys {
		if k != 0 {
			at := r.find(k)
			r.keys[at], r.cells[at] = k, cells[i]
		}
	}
}

// addTo adds weight times the row to out.
func (r *countRow) addTo(out []float32, weight float32) {
	if r.dense {
		cells := r.cells[:len(out)]
		for j, v := range cells {
			out[j] += weight * v
		}
		return
	}
	for i, k := range r.keys {
		if k != 0 {
			out[k-1] += weight * r.cells[i]
		}
	}
}
