package recommend

import (
	"context"
	"fmt"

	"freshet"
)

// chain is a run of steps of one state: a user's state over what is new, or his checkpoint over what left the window.
type chain struct {
	state []float32 // moved in place
	steps []freshet.Entry
	gaps  []float32
	half  bool
	at    int              // entries of the window before the first step
	of    *freshet.Profile // told of the states on the way; nil = nobody is
	ask   *task            // whose queries the last step gives; nil for a checkpoint
}

// fold carries out every plan in rounds: round i holds the i-th step of every chain, so one run of the model serves the whole
// batch. A model that fails is an unavailable dependency: the events wait for it, it is never their fault. Afterwards State = fold(Checkpoint, Window) holds for every task that changed.
func (e *Engine) fold(ctx context.Context, x *scratch, tasks []*task) error {
	defer e.stage("fold")()
	chains := x.chains[:0]
	for _, t := range tasks {
		if t.last != nil && !t.profile.Tombstone() {
			chains = e.chains(chains, t)
		}
	}
	x.chains = chains
	defer func() { clear(x.chains); clear(x.active[:cap(x.active)]) }()
	for round := 0; ; round++ {
		active := x.active[:0]
		for i := range chains {
			if round < len(chains[i].steps) {
				active = append(active, chains[i])
			}
		}
		if x.active = active; len(active) == 0 {
			break
		}
		if err := e.step(ctx, x, active, round); err != nil {
			return fmt.Errorf("step %d users: %w: %w", len(active), freshet.ErrUnavailable, err)
		}
	}
	mixed := e.mixed()
	for _, t := range tasks {
		if t.last != nil {
			t.profile.Folded()
			t.profile.Mixed = t.profile.Mixed || mixed
		}
	}
	return nil
}

// mixed tells whether the model has changed its device meanwhile: states from before are then no longer equal bit for bit.
func (e *Engine) mixed() bool {
	m, ok := e.model.(interface{ Mixed() bool })
	return ok && m.Mixed()
}

// chains adds the runs of one task's plan. A change that owes no step (a rejected item) still needs the queries of the present
// state, and only a step gives them: the last steps are taken once more, which gives the same state.
func (e *Engine) chains(list []chain, t *task) []chain {
	p := t.profile
	t.queries = nil
	plan := p.Plan()
	switch {
	case (plan.FromCheckpoint || plan.From != nil) && p.State != nil:
		t.refolds = append(t.refolds, "late")
	case len(plan.Steps) == 0 && len(p.Window) > 0:
		p.Again()
		plan = p.Plan()
		t.refolds = append(t.refolds, "query")
	}
	size := e.model.StateSize()
	switch {
	case p.State == nil || plan.FromCheckpoint:
		p.State = make([]float32, size)
		copy(p.State, p.Checkpoint)
	case plan.From != nil:
		copy(p.State, plan.From)
	}
	present := chain{state: p.State, steps: plan.Steps, gaps: plan.Gaps, half: p.Half, at: plan.At, ask: t}
	if e.cfg.Late != freshet.Reorder { // there is no checkpoint
		return append(list, present)
	}
	present.of = p
	list = append(list, present)
	if len(plan.Leaving) > 0 {
		if p.Checkpoint == nil {
			p.Checkpoint = make([]float32, size)
		}
		list = append(list, chain{state: p.Checkpoint, steps: plan.Leaving, gaps: plan.LeavingGaps, half: p.Half})
	}
	return list
}

// step runs one round of the model over the active chains.
func (e *Engine) step(ctx context.Context, x *scratch, active []chain, round int) error {
	d, s, tasks := e.model.Dim(), e.model.StateSize(), len(e.model.Tasks())
	b := len(active)
	if len(x.rounds) == round { // a round's queries are read until the lists are made
		x.rounds = append(x.rounds, freshet.Steps{})
	}
	run := &x.rounds[round]
	run.Queries = sized(run.Queries, tasks)
	run.Items, run.Types, run.Gaps, run.States = sized(run.Items, b*d), sized(run.Types, b), sized(run.Gaps, b), sized(run.States, b*s)
	for k := range run.Queries {
		run.Queries[k] = sized(run.Queries[k], b*d)
	}
	for i := range active {
		entry := &active[i].steps[round]
		copy(run.Items[i*d:(i+1)*d], e.vectorOf(entry))
		run.Types[i] = e.model.TypeIndex(entry.Type)
		run.Gaps[i] = active[i].gaps[round]
		copy(run.States[i*s:(i+1)*s], active[i].state)
	}
	if err := e.model.Advance(ctx, run); err != nil {
		return err
	}
	for i := range active {
		c := &active[i]
		copy(c.state, run.States[i*s:(i+1)*s])
		if c.half {
			freshet.QuantizeHalf(c.state)
		}
		if at := c.at + round + 1; c.of != nil && at > 0 {
			c.of.Pass(at, c.state)
		}
		if c.ask != nil && round == len(c.steps)-1 {
			c.ask.queries = make([][]float32, tasks)
			for k := range run.Queries {
				c.ask.queries[k] = run.Queries[k][i*d : (i+1)*d]
			}
		}
	}
	return nil
}

// vectorOf gives the vector an entry was first folded with: an entry folded as unknown stays unknown after the catalogue has
// learnt of its item, so that a refold gives the same state.
func (e *Engine) vectorOf(entry *freshet.Entry) []float32 {
	id := entry.ItemID
	if entry.Vector == freshet.Unknown {
		id = ""
	}
	v, _ := e.vectors.Vector(id)
	return v
}

// sized gives n values over the memory of buffer where it is large enough.
func sized[T any](buffer []T, n int) []T {
	if cap(buffer) < n {
		return make([]T, n, n+n/4)
	}
	return buffer[:n]
}
