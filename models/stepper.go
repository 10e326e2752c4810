package models

import (
	"context"
	"fmt"
	"math"

	"freshet"
)

// Advance moves each row's user by one event: States become the states after, Queries the query vectors. It is one run of
// step.onnx whatever the number of rows (more only where the bundle's padding says so), and may be called concurrently.
//
// A row's result does not depend on which other rows are in the batch: bit for bit on a CPU (see Verify), within float32
// rounding on CUDA. A run that fails on the device is freshet.ErrUnavailable and leaves States as they were.
func (b *Bundle) Advance(ctx context.Context, s *freshet.Steps) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := b.validate(s); err != nil {
		return fmt.Errorf("advance %d rows: %w", s.Len(), err)
	}
	return b.advance(b.step, b.padding, s)
}

// validate refuses what the graph would read out of bounds or turn into a state that is not a number.
func (b *Bundle) validate(s *freshet.Steps) error {
	n, d := s.Len(), b.Dim()
	switch {
	case len(s.Items) != n*d:
		return fmt.Errorf("items: %d values, want %d x %d", len(s.Items), n, d)
	case len(s.Gaps) != n:
		return fmt.Errorf("gaps: %d, want %d", len(s.Gaps), n)
	case len(s.States) != n*b.StateSize():
		return fmt.Errorf("states: %d values, want %d x %d", len(s.States), n, b.StateSize())
	case len(s.Queries) != 0 && len(s.Queries) != len(b.manifest.Tasks):
		return fmt.Errorf("queries: %d matrices, want none or one for each of %v", len(s.Queries), b.manifest.Tasks)
	}
	for t, q := range s.Queries {
		if q != nil && len(q) != n*d {
			return fmt.Errorf("queries[%d]: %d values, want %d x %d", t, len(q), n, d)
		}
	}
	for i := range n {
		if t := s.Types[i]; t < 0 || t >= int64(len(b.manifest.EventTypes)) {
			return fmt.Errorf("types[%d]: %d, the bundle knows 0 to %d", i, t, len(b.manifest.EventTypes)-1)
		}
		if g := s.Gaps[i]; !(g >= 0 && g <= math.MaxFloat32) {
			return fmt.Errorf("gaps[%d]: %v, want seconds >= 0", i, g)
		}
	}
	return nil
}

// advance runs valid steps on a session of step.onnx, in pieces of the sizes that the padding allows.
func (b *Bundle) advance(on *session, p padding, s *freshet.Steps) error {
	scratch := b.takeScratch()
	defer b.scratch.Put(scratch)
	for from := 0; from < s.Len(); {
		n, rows := p.piece(s.Len() - from)
		if err := b.runPiece(on, scratch, s, from, n, rows); err != nil {
			return err
		}
		from += n
	}
	return nil
}

// stepScratch is what one run needs beside the caller's matrices. It is reused and only grows.
type stepScratch struct {
	t                          tensors
	items, gaps, states, after []float32
	types                      []int64
	queries                    [][]float32
}

func (b *Bundle) takeScratch() *stepScratch {
	if x, ok := b.scratch.Get().(*stepScratch); ok {
		return x
	}
	return &stepScratch{queries: make([][]float32, len(b.manifest.Tasks))}
}

// runPiece computes n rows from row `from` on, in a run of `rows` >= n rows. Where the two are equal the graph reads the caller's
// matrices in place; else they are copied and zero rows fill up. Outputs that nobody asked for go to the scratch, and so do the
// states, since the graph may still read the old ones while it writes the new ones.
func (b *Bundle) runPiece(on *session, x *stepScratch, s *freshet.Steps, from, n, rows int) error {
	d, size := b.Dim(), b.StateSize()
	items, types, gaps, states := s.Items[from*d:(from+n)*d], s.Types[from:from+n], s.Gaps[from:from+n], s.States[from*size:(from+n)*size]
	if rows > n {
		items, x.items = padded(x.items, items, rows*d)
		types, x.types = padded(x.types, types, rows)
		gaps, x.gaps = padded(x.gaps, gaps, rows)
		states, x.states = padded(x.states, states, rows*size)
	}
	x.after = grown(x.after, rows*size)
	defer x.t.free()
	for _, name := range b.inputs {
		var v view
		switch name {
		case "item":
			v = floats(items, rows, d)
		case "type":
			v = ints(types, rows)
		case "gap":
			v = floats(gaps, rows)
		case "state":
			v = floats(states, rows, size)
		}
		if err := x.t.add(&v); err != nil {
			return err
		}
	}
	after := floats(x.after, rows, size)
	if err := x.t.add(&after); err != nil {
		return err
	}
	for t := range b.manifest.Tasks {
		q := query(s, t)
		if q == nil || rows > n {
			x.queries[t] = grown(x.queries[t], rows*d)
			q = x.queries[t]
		} else {
			q = q[from*d : (from+n)*d]
		}
		v := floats(q, rows, d)
		if err := x.t.add(&v); err != nil {
			return err
		}
	}
	if err := on.run(&x.t, len(b.inputs)); err != nil {
		return err
	}
	copy(s.States[from*size:(from+n)*size], x.after)
	if rows > n {
		for t := range b.manifest.Tasks {
			if q := query(s, t); q != nil {
				copy(q[from*d:(from+n)*d], x.queries[t])
			}
		}
	}
	return nil
}

func query(s *freshet.Steps, task int) []float32 {
	if task >= len(s.Queries) {
		return nil
	}
	return s.Queries[task]
}

// grown returns a slice of n values over buffer where it is large enough.
func grown[T any](buffer []T, n int) []T {
	if cap(buffer) < n {
		return make([]T, n)
	}
	return buffer[:n]
}

// padded copies values into buffer and fills it up with zeros to n.
func padded[T any](buffer, values []T, n int) (filled, kept []T) {
	buffer = grown(buffer, n)
	clear(buffer[copy(buffer, values):])
	return buffer, buffer
}
