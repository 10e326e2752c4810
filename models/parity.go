package models

import (
	"encoding/json"
	"fmt"
	"math"

	"freshet"
)

// parity is parity.json: sequences, and the query vectors that one full pass of the trainer gave after each of their events.
type parity struct {
	Tolerance float64    `json:"tolerance"`
	Sequences []sequence `json:"sequences"`
}

type sequence struct {
	Rows    []int                  `json:"rows"`
	Types   []int64                `json:"types"`
	Gaps    []float32              `json:"gaps"`
	Queries map[string][][]float32 `json:"queries"`
}

// maxTolerance is the drift that a bundle may allow itself.
const maxTolerance = 1e-3

func (b *Bundle) readParity() (*parity, error) {
	raw, err := b.file(parityFile)
	if err != nil {
		return nil, err
	}
	var p parity
	if err := json.Unmarshal(raw, &p); err != nil {
		return nil, err
	}
	if !(p.Tolerance > 0 && p.Tolerance <= maxTolerance) {
		return nil, fmt.Errorf("tolerance: %v, want above 0 and at most %v", p.Tolerance, maxTolerance)
	}
	if len(p.Sequences) == 0 {
		return nil, fmt.Errorf("sequences: empty")
	}
	for i := range p.Sequences {
		if err := b.validSequence(&p.Sequences[i]); err != nil {
			return nil, fmt.Errorf("sequences[%d].%w", i, err)
		}
	}
	return &p, nil
}

func (b *Bundle) validSequence(s *sequence) error {
	n := len(s.Rows)
	if n == 0 || len(s.Types) != n || len(s.Gaps) != n {
		return fmt.Errorf("rows: %d, with %d types and %d gaps", n, len(s.Types), len(s.Gaps))
	}
	for _, row := range s.Rows {
		if row < 0 || row >= b.manifest.Items {
			return fmt.Errorf("rows: %d, the bundle has rows 0 to %d", row, b.manifest.Items-1)
		}
	}
	for _, task := range b.manifest.Tasks {
		queries := s.Queries[task]
		if len(queries) != n {
			return fmt.Errorf("queries.%s: %d vectors for %d events", task, len(queries), n)
		}
		for t := range queries {
			if len(queries[t]) != b.Dim() {
				return fmt.Errorf("queries.%s[%d]: %d values, want %d", task, t, len(queries[t]), b.Dim())
			}
		}
	}
	return nil
}

// replay steps all sequences at once, as serving would, and returns the largest difference from the trainer's full pass.
func (b *Bundle) replay(p *parity) (drift float64, err error) {
	states := make([]float32, len(p.Sequences)*b.StateSize())
	for t := 0; ; t++ {
		round, who := b.parityRound(p, t, states)
		if len(who) == 0 {
			return drift, nil
		}
		if err := b.validate(round); err != nil {
			return drift, fmt.Errorf("event %d: %w", t, err)
		}
		if err := b.advance(b.step, b.padding, round); err != nil {
			return drift, err
		}
		for i, n := range who {
			copy(states[n*b.StateSize():(n+1)*b.StateSize()], round.States[i*b.StateSize():])
			for task, name := range b.manifest.Tasks {
				d := distance(round.Queries[task][i*b.Dim():(i+1)*b.Dim()], p.Sequences[n].Queries[name][t])
				if drift = max(drift, d); !(d <= p.Tolerance) {
					return drift, fmt.Errorf("sequences[%d].queries.%s[%d]: step.onnx differs from the full pass by %.2g, at most %.2g", n, name, t, d, p.Tolerance)
				}
			}
		}
	}
}

// parityRound gathers event t of every sequence that has one.
func (b *Bundle) parityRound(p *parity, t int, states []float32) (*freshet.Steps, []int) {
	var s freshet.Steps
	var who []int
	for n := range p.Sequences {
		q := &p.Sequences[n]
		if t >= len(q.Rows) {
			continue
		}
		who = append(who, n)
		s.Items = append(s.Items, b.row(q.Rows[t])...)
		s.Types = append(s.Types, q.Types[t])
		s.Gaps = append(s.Gaps, q.Gaps[t])
		s.States = append(s.States, states[n*b.StateSize():(n+1)*b.StateSize()]...)
	}
	for range b.manifest.Tasks {
		s.Queries = append(s.Queries, make([]float32, len(s.Items)))
	}
	return &s, who
}

// row is the trained vector in a row of the matrix.
func (b *Bundle) row(r int) []float32 {
	d := b.Dim()
	return b.matrix[r*d : (r+1)*d : (r+1)*d]
}

// distance is the largest absolute difference; NaN where either vector has one.
func distance(x, y []float32) (d float64) {
	for i := range x {
		e := math.Abs(float64(x[i]) - float64(y[i]))
		if e > d || e != e {
			d = e
		}
	}
	return d
}
