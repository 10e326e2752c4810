package models

import (
	_ "embed"
	"math"
	"math/rand/v2"
	"slices"
	"sync/atomic"

	"freshet"
)

// A large catalogue is not scored whole for every query. Its vectors are divided into cells around centres (k-means); a query is
// scored against the centres, and then against the items of the cells whose centres fit it best (an inverted file: Jegou et al.,
// "Product Quantization for Nearest Neighbor Search", 2011, section 4). Scores are exact; what can be missed is an item in a cell
// that was not looked into. How many cells are looked into is found by measurement (calibrate), so that of the 100 best items the
// share asked for is found.
//
// Cells are worked through one after the other with all queries that look into them, so that each cell is one matrix product and
// its vectors are read from memory once a batch.

// cellsGraph scores queries [B, dim] against one cell, whose vectors stand in columns: Gemm(query, items, mask).
//
//go:embed cells.onnx
var cellsGraph []byte

var (
	cellsInputs  = []string{"query", "items", "mask"}
	cellsOutputs = []string{"scores"}
)

// cells is the division of one generation's rows; row r of the generation lies in the cell c with begin[c] <= r < begin[c+1]. A catalogue
// that is scored whole has cells too, of as many rows in their order as one matrix product does well with, and no centres.
type cells struct {
	session *session // of cellsGraph
	dim     int
	begin   []int     // one more than there are cells
	columns []float32 // for each cell a matrix [dim, rows of the cell], one after the other
	centres []float32 // [dim, cells]; nil = every cell is looked into
	lift    []float32 // what is added to a centre's score: the mean bias of its items
	probes  atomic.Int32
}

func (c *cells) len() int { return len(c.begin) - 1 }

// cellsScratch is what a search of cells needs. It is reused and only grows.
type cellsScratch struct {
	t       tensors
	coarse  []float32
	scores  []float32
	queries []float32
	best    []best // of each query
	nearest best
	pairs   []int32 // queries by cell: those of cell c are pairs[first[c]:first[c+1]]
	first   []int32
	probed  []int32 // [query, probe] cells
	pair    []float32
	twice   []float32
}

// search gives the k best rows of each query, best first, as search.onnx does; where there are fewer, scores are hidden.
func (c *cells) search(x *cellsScratch, mask, queries []float32, k int, scores []float32, rows []int64) error {
	b := len(queries) / c.dim
	x.best = grown(x.best, b)
	for i := range x.best {
		x.best[i].reset(k)
	}
	find := c.searchNearest
	if c.centres == nil {
		find = c.searchAll
	}
	if err := find(x, mask, queries); err != nil {
		return err
	}
	for i := range x.best {
		x.best[i].drain(scores[i*k:(i+1)*k], rows[i*k:(i+1)*k])
	}
	return nil
}

// abreast is how many queries a block is scored for at once, so that their scores are still in the core's cache when the best are picked.
const abreast = 32

// searchAll scores every row.
func (c *cells) searchAll(x *cellsScratch, mask, queries []float32) error {
	for cell := range c.len() {
		from, to := c.begin[cell], c.begin[cell+1]
		n := to - from
		x.scores = grown(x.scores, min(len(x.best), abreast)*n)
		for first := 0; first < len(x.best); first += abreast {
			some := x.best[first:min(first+abreast, len(x.best))]
			scores := x.scores[:len(some)*n]
			if err := c.run(x, queries[first*c.dim:(first+len(some))*c.dim], c.columns[from*c.dim:to*c.dim], mask[from:to], scores); err != nil {
				return err
			}
			for i := range some {
				some[i].take(scores[i*n:(i+1)*n], int32(from))
			}
		}
	}
	return nil
}

// searchNearest scores the rows of the cells that fit each query best.
func (c *cells) searchNearest(x *cellsScratch, mask, queries []float32) error {
	probes := min(int(c.probes.Load()), c.len())
	if err := c.rank(x, queries, probes); err != nil {
		return err
	}
	c.invert(x, len(queries)/c.dim, probes)
	for cell := range c.len() {
		if who := x.pairs[x.first[cell]:x.first[cell+1]]; len(who) > 0 {
			if err := c.searchCell(x, mask, queries, cell, who); err != nil {
				return err
			}
		}
	}
	return nil
}

// rank notes the cells that fit each query best in x.probed, best first.
func (c *cells) rank(x *cellsScratch, queries []float32, probes int) error {
	b, n := len(queries)/c.dim, c.len()
	x.coarse, x.probed = grown(x.coarse, b*n), grown(x.probed, b*probes)
	clear(x.probed) // a query that is not a number finds no cell
	if err := c.run(x, queries, c.centres, c.lift, x.coarse); err != nil {
		return err
	}
	for i := range b {
		x.nearest.reset(probes)
		x.nearest.take(x.coarse[i*n:(i+1)*n], 0)
		for j, key := range x.nearest.sorted() {
			_, row := unpack(key)
			x.probed[i*probes+j] = row
		}
	}
	return nil
}

// invert lists the queries of each cell.
func (c *cells) invert(x *cellsScratch, b, probes int) {
	x.first, x.pairs = grown(x.first, c.len()+2), grown(x.pairs, b*probes)
	clear(x.first)
	for _, cell := range x.probed[:b*probes] {
		x.first[cell+2]++
	}
	for i := 2; i < len(x.first); i++ {
		x.first[i] += x.first[i-1]
	}
	for i, cell := range x.probed[:b*probes] {
		x.pairs[x.first[cell+1]] = int32(i / probes)
		x.first[cell+1]++
	}
}

// searchCell scores one cell for the queries that look into it.
func (c *cells) searchCell(x *cellsScratch, mask, queries []float32, cell int, who []int32) error {
	from, to := c.begin[cell], c.begin[cell+1]
	n := to - from
	if n == 0 {
		return nil
	}
	x.queries, x.scores = grown(x.queries, len(who)*c.dim), grown(x.scores, len(who)*n)
	for j, q := range who {
		copy(x.queries[j*c.dim:(j+1)*c.dim], queries[int(q)*c.dim:])
	}
	if err := c.run(x, x.queries, c.columns[from*c.dim:to*c.dim], mask[from:to], x.scores); err != nil {
		return err
	}
	for j, q := range who {
		x.best[q].take(x.scores[j*n:(j+1)*n], int32(from))
	}
	return nil
}

// run is one matrix product. A product of one row takes another kernel than one of many, which sums in another order: a lone query is
// scored beside itself, so that its scores are the same bit for bit in whatever company it comes, in a replay too.
func (c *cells) run(x *cellsScratch, queries, columns, lift, scores []float32) error {
	if len(queries) > c.dim {
		return product(c.session, &x.t, c.dim, queries, columns, lift, scores)
	}
	x.pair, x.twice = append(append(x.pair[:0], queries...), queries...), grown(x.twice, 2*len(lift))
	err := product(c.session, &x.t, c.dim, x.pair, columns, lift, x.twice)
	copy(scores, x.twice[:len(lift)])
	return err
}

func product(s *session, t *tensors, dim int, queries, columns, lift, scores []float32) error {
	defer t.free()
	b, n := len(queries)/dim, len(lift)
	for _, v := range [...]view{floats(queries, b, dim), floats(columns, dim, n), floats(lift, n), floats(scores, b, n)} {
		if err := t.add(&v); err != nil {
			return err
		}
	}
	return s.run(t, len(cellsInputs))
}

// How cells are made.
const (
	trainRows  = 64 // rows looked at per centre while the centres are found
	trainTurns = 8
	assignRows = 1024 // rows assigned by one matrix product
)

// cellCount is how many cells a number of rows is divided into: twice its root. With more of them fewer rows are scored in vain, and more
// centres.
func cellCount(rows int) int { return max(16, int(2*math.Sqrt(float64(rows)))) }

// divide finds centres of vectors and says which one each vector is nearest to. It is the same for the same vectors.
func divide(s *session, vectors [][]float32, dim int) (centres []float32, cell []int32, err error) {
	n := cellCount(len(vectors))
	r := rand.New(rand.NewPCG(uint64(len(vectors)), 0xce115))
	sample := make([][]float32, min(len(vectors), n*trainRows))
	for i, at := range r.Perm(len(vectors))[:len(sample)] {
		sample[i] = vectors[at]
	}
	centres = make([]float32, n*dim)
	for i := range n {
		copy(centres[i*dim:], sample[i%len(sample)])
	}
	for range trainTurns {
		cell, err = assign(s, sample, centres, dim)
		if err != nil {
			return nil, nil, err
		}
		recentre(r, sample, cell, centres, dim)
	}
	cell, err = assign(s, vectors, centres, dim)
	return centres, cell, err
}

// assign finds the nearest centre of each vector: the highest of v . c - |c|^2/2.
func assign(s *session, vectors [][]float32, centres []float32, dim int) ([]int32, error) {
	n := len(centres) / dim
	columns, lift := transposed(centres, n, dim), make([]float32, n)
	for i := range lift {
		c := centres[i*dim : (i+1)*dim]
		lift[i] = -freshet.Dot(c, c) / 2
	}
	var t tensors
	out := make([]int32, len(vectors))
	rows, scores := make([]float32, assignRows*dim), make([]float32, assignRows*n)
	for from := 0; from < len(vectors); from += assignRows {
		b := min(assignRows, len(vectors)-from)
		for i := range b {
			copy(rows[i*dim:(i+1)*dim], vectors[from+i])
		}
		if err := product(s, &t, dim, rows[:b*dim], columns, lift, scores[:b*n]); err != nil {
			return nil, err
		}
		for i := range b {
			best, high := 0, hidden
			for j, v := range scores[i*n : (i+1)*n] {
				if v > high {
					best, high = j, v
				}
			}
			out[from+i] = int32(best)
		}
	}
	return out, nil
}

// recentre moves each centre to the mean of its vectors; one that has none takes a random vector.
func recentre(r *rand.Rand, vectors [][]float32, cell []int32, centres []float32, dim int) {
	counts := make([]float32, len(centres)/dim)
	clear(centres)
	for i, v := range vectors {
		c := centres[int(cell[i])*dim:]
		for j, x := range v {
			c[j] += x
		}
		counts[cell[i]]++
	}
	for i, n := range counts {
		c := centres[i*dim : (i+1)*dim]
		if n == 0 {
			copy(c, vectors[r.IntN(len(vectors))])
			continue
		}
		for j := range c {
			c[j] /= n
		}
	}
}

// transposed turns [rows, dim] into [dim, rows].
func transposed(m []float32, rows, dim int) []float32 {
	out := make([]float32, len(m))
	for i := range rows {
		for j := range dim {
			out[j*rows+i] = m[i*dim+j]
		}
	}
	return out
}

// blockRows is the size of the cells of a catalogue that is scored whole: with a batch of queries its scores stay in a core's cache.
const blockRows = 4096

// openBlocks lays all vectors out in their order.
func openBlocks(s *session, vectors [][]float32, dim int) *cells {
	n := (len(vectors) + blockRows - 1) / blockRows
	c := &cells{session: s, dim: dim, begin: make([]int, n+1), columns: make([]float32, len(vectors)*dim)}
	for i := range n {
		c.begin[i+1] = min(c.begin[i]+blockRows, len(vectors))
		c.layOut(i, vectors[c.begin[i]:c.begin[i+1]])
	}
	return c
}

// layOut puts a cell's vectors into their columns.
func (c *cells) layOut(cell int, vectors [][]float32) {
	from, to := c.begin[cell], c.begin[cell+1]
	columns, rows := c.columns[from*c.dim:to*c.dim], to-from
	for j, vector := range vectors {
		for d, v := range vector {
			columns[d*rows+j] = v
		}
	}
}

// openCells divides entries and lays their vectors out cell by cell. It gives the order in which the generation must list them.
func openCells(s *session, vectors [][]float32, bias []float32, dim int) (c *cells, order []int32, err error) {
	centres, cell, err := divide(s, vectors, dim)
	if err != nil {
		return nil, nil, err
	}
	n := len(centres) / dim
	order = make([]int32, len(vectors))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortStableFunc(order, func(a, b int32) int { return int(cell[a] - cell[b]) })
	c = &cells{session: s, dim: dim, begin: make([]int, n+1), columns: make([]float32, len(vectors)*dim), centres: transposed(centres, n, dim), lift: make([]float32, n)}
	for _, at := range cell {
		c.begin[at+1]++
	}
	for i := range n {
		c.begin[i+1] += c.begin[i]
	}
	for i := range n {
		of := order[c.begin[i]:c.begin[i+1]]
		rows := make([][]float32, len(of))
		for j, at := range of {
			rows[j] = vectors[at]
			c.lift[i] += bias[at] / float32(len(of))
		}
		c.layOut(i, rows)
	}
	c.probes.Store(int32(n))
	return c, order, nil
}

// calibrate finds how many cells must be looked into so that, over sample queries, at least `recall` of the n best items are
// found, and sets it. It gives the share that is found with that number.
func (c *cells) calibrate(mask, queries []float32, n int, recall float64) (float64, error) {
	b, all := len(queries)/c.dim, c.len()
	x := new(cellsScratch)
	k := min(n, len(mask))
	scores, rows := make([]float32, b*k), make([]int64, b*k)
	whole := &cells{session: c.session, dim: c.dim, begin: c.begin, columns: c.columns, centres: c.centres, lift: c.lift}
	whole.probes.Store(int32(all))
	if err := whole.search(x, mask, queries, k, scores, rows); err != nil {
		return 0, err
	}
	found, total := make([]int, all+1), 0 // found[p] = best items in the p-th cell of their query
	place := make([]int, all)
	for i := range b {
		for p, cell := range x.probed[i*all : (i+1)*all] {
			place[cell] = p
		}
		for j := i * k; j < (i+1)*k && scores[j] > hidden; j++ {
			at, exact := slices.BinarySearch(c.begin, int(rows[j]))
			for exact && at+1 < len(c.begin) && c.begin[at+1] == int(rows[j]) {
				at++ // behind empty cells
			}
			if !exact {
				at--
			}
			found[place[at]]++
			total++
		}
	}
	sum := 0
	for p := range all {
		if sum += found[p]; float64(sum) >= recall*float64(total) {
			c.probes.Store(int32(p + 1))
			return float64(sum) / float64(max(total, 1)), nil
		}
	}
	c.probes.Store(int32(all))
	return 1, nil
}
