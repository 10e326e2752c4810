package models

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"

	"freshet"

	"go.uber.org/zap"
)

// A profile's state must be fold(checkpoint, window) bit for bit on a CPU, whoever shared the batches. Matrix kernels may sum in
// another order for another number of rows, so a bundle finds out at opening which batches agree, and runs the others padded.

// Two things were seen to differ: a product with one row takes another kernel than one with many, and functions like tanh take
// another path for what is left of a matrix after the last full vector of numbers. Widths that are multiples of 16 avoid both.

// padding says which numbers of rows a run may have.
type padding struct {
	multiple int // a run's rows are a multiple of this; 0 = any number
	fixed    int // a run has exactly this many rows; 0 = any number
}

// paddings are tried in the order of what they cost. The last one makes each row a run of its own and cannot fail.
var paddings = []padding{{}, {multiple: 2}, {multiple: 4}, {multiple: 8}, {multiple: 16}, {fixed: 8}, {fixed: 32}, {fixed: 1}}

// piece says how many of the rows that are left the next run takes, and how many it has.
func (p padding) piece(left int) (n, rows int) {
	switch {
	case p.fixed > 0:
		return min(left, p.fixed), p.fixed
	case p.multiple > 0:
		return left, (left + p.multiple - 1) / p.multiple * p.multiple
	}
	return left, left
}

func (p padding) String() string {
	switch {
	case p.fixed == 1:
		return "one row at a time"
	case p.fixed > 0:
		return fmt.Sprintf("%d rows at a time", p.fixed)
	case p.multiple > 0:
		return fmt.Sprintf("padded to a multiple of %d rows", p.multiple)
	}
	return "any"
}

// trialRows is the largest batch compared; trialSizes are cut from it.
const trialRows = 256

var trialSizes = []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 13, 16, 17, 31, 32, 33, 64, 100, 256}

// choosePadding takes the cheapest padding under which all batches agree. On CUDA there is nothing to choose: profiles that were
// stepped there compare within the parity's tolerance.
func (b *Bundle) choosePadding() error {
	if b.step.device != CPU {
		return nil
	}
	trial, err := b.trial()
	if err != nil {
		return err
	}
	for _, p := range paddings {
		alone, err := b.runTrial(b.step, p, trial, identity(trialRows), 1)
		if err != nil {
			return err
		}
		difference, err := b.compareTrials(b.step, p, trial, alone)
		if err != nil {
			return err
		}
		if difference == "" {
			b.padding = p
			return nil
		}
		b.rt.log.Info("batches differ in bits", zap.String("model", b.ID()), zap.String("batches", p.String()), zap.String("difference", difference))
	}
	return errors.New("the same row run twice gives different bits")
}

// trial makes believable steps: items of the bundle, all event types, gaps from none to a month, states that three steps have led
// to. It is the same for the same bundle.
func (b *Bundle) trial() (*freshet.Steps, error) {
	r := rand.New(rand.NewPCG(b.fingerprint, 1))
	d := b.Dim()
	s := &freshet.Steps{Items: make([]float32, trialRows*d), Types: make([]int64, trialRows), Gaps: make([]float32, trialRows),
		States: make([]float32, trialRows*b.StateSize())}
	for range 3 {
		for i := range trialRows {
			row := r.IntN(b.manifest.Items)
			copy(s.Items[i*d:(i+1)*d], b.matrix[row*d:])
			s.Types[i] = r.Int64N(int64(len(b.manifest.EventTypes)))
			s.Gaps[i] = float32(math.Expm1(r.Float64() * math.Log(30*24*3600)))
		}
		if err := b.advance(b.step, padding{}, s); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// runTrial runs the trial's rows in the given order, size rows a batch, and returns the outcome in the trial's order.
func (b *Bundle) runTrial(on *session, p padding, trial *freshet.Steps, order []int, size int) (*freshet.Steps, error) {
	mixed := b.gather(trial, order)
	for from := 0; from < mixed.Len(); from += size {
		if err := b.advance(on, p, b.cut(mixed, from, min(size, mixed.Len()-from))); err != nil {
			return nil, err
		}
	}
	back := make([]int, len(order))
	for i, row := range order {
		back[row] = i
	}
	return b.gather(mixed, back), nil
}

// compareTrials runs the trial in batches of every size, in order and shuffled, and tells the first difference from reference.
func (b *Bundle) compareTrials(on *session, p padding, trial, reference *freshet.Steps) (string, error) {
	r := rand.New(rand.NewPCG(b.fingerprint, 2))
	for _, size := range trialSizes {
		for name, order := range map[string][]int{"in order": identity(trialRows), "shuffled": r.Perm(trialRows)} {
			got, err := b.runTrial(on, p, trial, order, size)
			if err != nil {
				return "", err
			}
			if row, what := b.firstDifference(got, reference); row >= 0 {
				return fmt.Sprintf("%s of row %d in batches of %d, %s", what, row, size, name), nil
			}
		}
	}
	return "", nil
}

// firstDifference compares bits, so that two NaN are equal and 0 is not -0.
func (b *Bundle) firstDifference(x, y *freshet.Steps) (row int, what string) {
	if i := differentBits(x.States, y.States); i >= 0 {
		return i / b.StateSize(), "the state"
	}
	for t, task := range b.manifest.Tasks {
		if i := differentBits(x.Queries[t], y.Queries[t]); i >= 0 {
			return i / b.Dim(), "query_" + task
		}
	}
	return -1, ""
}

func differentBits(x, y []float32) int {
	for i := range x {
		if math.Float32bits(x[i]) != math.Float32bits(y[i]) {
			return i
		}
	}
	return -1
}

func identity(n int) []int {
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	return order
}

// gather copies rows in the given order, with a query matrix for every task.
func (b *Bundle) gather(s *freshet.Steps, order []int) *freshet.Steps {
	d, size := b.Dim(), b.StateSize()
	g := &freshet.Steps{Queries: make([][]float32, len(b.manifest.Tasks))}
	for _, row := range order {
		g.Items = append(g.Items, s.Items[row*d:(row+1)*d]...)
		g.Types = append(g.Types, s.Types[row])
		g.Gaps = append(g.Gaps, s.Gaps[row])
		g.States = append(g.States, s.States[row*size:(row+1)*size]...)
	}
	for t := range g.Queries {
		if len(s.Queries) == 0 {
			g.Queries[t] = make([]float32, len(order)*d)
			continue
		}
		for _, row := range order {
			g.Queries[t] = append(g.Queries[t], s.Queries[t][row*d:(row+1)*d]...)
		}
	}
	return g
}

// cut views n rows from row `from` on.
func (b *Bundle) cut(s *freshet.Steps, from, n int) *freshet.Steps {
	d, size := b.Dim(), b.StateSize()
	c := &freshet.Steps{Items: s.Items[from*d : (from+n)*d], Types: s.Types[from : from+n], Gaps: s.Gaps[from : from+n],
		States: s.States[from*size : (from+n)*size], Queries: make([][]float32, len(s.Queries))}
	for t, q := range s.Queries {
		c.Queries[t] = q[from*d : (from+n)*d]
	}
	return c
}
