package feedback

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"go.uber.org/zap"

	"freshet"
)

// Store keeps the states. Implementations answer with freshet.ErrUnavailable (wrapped) while they cannot.
type Store interface {
	// Joins reads the states of users, nil where there is none.
	Joins(ctx context.Context, users []string) ([][]byte, error)
	// SaveJoins stores each update if nothing has changed since its base: Saved, Newer or Retry.
	SaveJoins(ctx context.Context, updates []freshet.JoinUpdate) ([]freshet.SaveResult, error)
	// OpenJoins lists the users of a partition who have open exposures that are due before a moment (Unix milliseconds of the log's
	// time), at most n (0 = all of them).
	OpenJoins(ctx context.Context, source freshet.Source, before int64, n int) ([]freshet.JoinDue, error)
	// PutOpenJoins notes when users' exposures are due.
	PutOpenJoins(ctx context.Context, source freshet.Source, due []freshet.JoinDue) error
	// Records reads lists that stand now, nil where there is none.
	Records(ctx context.Context, keys []freshet.RecordKey) ([][]byte, error)
}

// Record is an example or an erasure on its way out.
type Record struct {
	UserID string
	Value  []byte
}

// Publisher writes records, keyed by user, and returns when they are acknowledged.
type Publisher func(ctx context.Context, records []Record) error

// Observer hears what was counted; telemetry implements it.
type Observer interface {
	// Shown counts one item before a user's eyes, Clicked its first outcome. "" = the list had been replaced before the impression came.
	Shown(user, item, lane, surface, source string)
	Clicked(user, lane, surface, source string)
	// Examples counts what was published.
	Examples(n int)
}

// Joiner folds events into states and publishes what is complete. It implements the stream's Handler. One partition's batches come one
// after another; Sweep may run beside them.
type Joiner struct {
	rules   Rules
	store   Store
	publish Publisher
	obs     Observer
	log     *zap.Logger

	mu         sync.Mutex
	partitions map[freshet.Source]*partition // of those that are ours
}

// partition is what is known of one partition. Its lock keeps Handle and Sweep apart.
type partition struct {
	sync.Mutex
	source freshet.Source
	open   map[string]bool // users who may have open exposures; nil = not read yet
}

// NewJoiner builds a joiner.
func NewJoiner(rules Rules, store Store, publish Publisher, obs Observer, log *zap.Logger) (*Joiner, error) {
	rules = rules.withDefaults()
	switch {
	case rules.Types == nil:
		return nil, errors.New("feedback: event types are missing")
	case rules.Window < 0 || rules.Grace < 0:
		return nil, fmt.Errorf("feedback.window %v, feedback.grace %v: must not be negative", rules.Window, rules.Grace)
	}
	return &Joiner{rules: rules, store: store, publish: publish, obs: obs, log: log, partitions: map[freshet.Source]*partition{}}, nil
}

// Release implements the stream's Handler.
func (j *Joiner) Release(source freshet.Source) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.partitions, source)
}

func (j *Joiner) partitionOf(source freshet.Source) *partition {
	j.mu.Lock()
	defer j.mu.Unlock()
	p := j.partitions[source]
	if p == nil {
		p = &partition{source: source}
		j.partitions[source] = p
	}
	return p
}

// Handle implements the stream's Handler. It publishes by itself, so it gives no lists.
func (j *Joiner) Handle(ctx context.Context, events []freshet.Event) ([]freshet.Publication, error) {
	if len(events) == 0 {
		return nil, nil
	}
	p := j.partitionOf(events[0].Position.Source)
	p.Lock()
	defer p.Unlock()
	if err := j.look(ctx, p); err != nil {
		return nil, err
	}
	tasks := j.concerned(events, p.open)
	lists, err := j.lists(ctx, tasks)
	if err != nil {
		return nil, err
	}
	err = j.settle(ctx, p.source, tasks, func(t *joining) {
		for _, e := range t.events {
			list := lists[freshet.RecordKey{UserID: e.UserID, Surface: e.Surface}]
			if list != nil && list.RecID != e.RecID {
				list = nil
			}
			closed, changed := t.state.Take(e, &j.rules, list)
			t.closed, t.changed = append(t.closed, closed...), t.changed || changed
			if typ, _ := j.rules.Types.Lookup(e.Type); changed && typ.Effect == freshet.Erase {
				t.closed, t.erased = nil, e.Time
			}
		}
	})
	if err != nil {
		return nil, err
	}
	for _, t := range tasks {
		if t.state.Deadline() > 0 {
			p.open[t.user] = true
		} else {
			delete(p.open, t.user)
		}
	}
	return nil, nil
}

// look reads once which users of a partition another worker has left with open exposures.
func (j *Joiner) look(ctx context.Context, p *partition) error {
	if p.open != nil {
		return nil
	}
	due, err := j.store.OpenJoins(ctx, p.source, math.MaxInt64, 0)
	if err != nil {
		return fmt.Errorf("read open exposures of %s-%d: %w", p.source.Topic, p.source.Partition, err)
	}
	p.open = make(map[string]bool, len(due))
	for _, d := range due {
		p.open[d.UserID] = true
	}
	return nil
}

// joining is one user's part of a batch.
type joining struct {
	user    string
	events  []*freshet.Event
	base    []byte
	rev     uint64
	state   State
	closed  []Example
	erased  int64
	changed bool
}

// concerned gives the users for whom the batch can change anything: who is shown something now, or was.
func (j *Joiner) concerned(events []freshet.Event, open map[string]bool) []*joining {
	byUser := map[string]*joining{}
	var out []*joining
	for i := range events {
		e := &events[i]
		t := byUser[e.UserID]
		if t == nil {
			typ, _ := j.rules.Types.Lookup(e.Type)
			if !open[e.UserID] && typ.Effect != freshet.Observe && typ.Effect != freshet.Erase {
				continue // what he did before he was shown anything joins nothing
			}
			t = &joining{user: e.UserID}
			byUser[e.UserID], out = t, append(out, t)
		}
		t.events = append(t.events, e)
	}
	return out
}

// lists reads the lists that the batch's impressions name, where they still stand.
func (j *Joiner) lists(ctx context.Context, tasks []*joining) (map[freshet.RecordKey]*List, error) {
	out := map[freshet.RecordKey]*List{}
	var keys []freshet.RecordKey
	for _, t := range tasks {
		for _, e := range t.events {
			key := freshet.RecordKey{UserID: e.UserID, Surface: e.Surface}
			if typ, _ := j.rules.Types.Lookup(e.Type); typ.Effect != freshet.Observe || e.RecID == "" {
				continue
			}
			if _, asked := out[key]; !asked {
				out[key], keys = nil, append(keys, key)
			}
		}
	}
	if len(keys) == 0 {
		return out, nil
	}
	stored := make([]freshet.RecordKey, len(keys))
	for i, k := range keys {
		if stored[i] = k; k.Surface == "" {
			stored[i].Surface = freshet.HomeSurface
		}
		stored[i].Place = freshet.PlacePublic // what users see, whichever lane made it
	}
	records, err := j.store.Records(ctx, stored)
	if err != nil {
		return nil, fmt.Errorf("read %d lists: %w", len(keys), err)
	}
	for i, b := range records {
		var r freshet.Recommendation
		if b == nil || json.Unmarshal(b, &r) != nil {
			continue // described by nobody: the impression counts all the same
		}
		out[keys[i]] = listOf(&r)
	}
	return out, nil
}

func listOf(r *freshet.Recommendation) *List {
	l := &List{RecID: r.RecID, Lane: r.Lane, Model: r.Model, Arm: r.Arm, ArmP: r.Propensity, Items: make([]Shown, len(r.Items))}
	for i, item := range r.Items {
		l.Items[i] = Shown{ItemID: item.ItemID, Place: i + 1, Score: item.Score, Propensity: item.Propensity}
		if len(item.Reasons) > 0 {
			l.Items[i].Source = item.Reasons[0].Source
		}
	}
	return l
}

// maxReloads bounds how often a batch chases states that others keep changing.
const maxReloads = 8

// settle loads states, has do change them, publishes what was closed, and saves: in this order, so that a crash repeats examples and
// loses none. States that somebody else saved meanwhile are done again.
func (j *Joiner) settle(ctx context.Context, source freshet.Source, tasks []*joining, do func(*joining)) error {
	for try := 0; len(tasks) > 0; try++ {
		if try == maxReloads {
			return fmt.Errorf("save %d joins that others keep changing: %w", len(tasks), freshet.ErrUnavailable)
		}
		if err := j.load(ctx, tasks); err != nil {
			return err
		}
		var due []freshet.JoinDue
		for _, t := range tasks {
			do(t)
			if at := t.state.Deadline(); at > 0 {
				due = append(due, freshet.JoinDue{UserID: t.user, At: at})
			}
		}
		if err := j.publishAll(ctx, tasks); err != nil {
			return err
		}
		if err := j.store.PutOpenJoins(ctx, source, due); err != nil {
			return fmt.Errorf("note %d open exposures: %w", len(due), err)
		}
		again, err := j.save(ctx, tasks)
		if err != nil {
			return err
		}
		var over []freshet.JoinDue
		for _, t := range tasks {
			if t.state.Deadline() == 0 && !slices.Contains(again, t) {
				over = append(over, freshet.JoinDue{UserID: t.user})
			}
		}
		if err := j.store.PutOpenJoins(ctx, source, over); err != nil {
			return fmt.Errorf("note %d closed exposures: %w", len(over), err)
		}
		tasks = again
	}
	return nil
}

func (j *Joiner) load(ctx context.Context, tasks []*joining) error {
	users := make([]string, len(tasks))
	for i, t := range tasks {
		users[i] = t.user
	}
	stored, err := j.store.Joins(ctx, users)
	if err != nil {
		return fmt.Errorf("read %d joins: %w", len(users), err)
	}
	for i, t := range tasks {
		*t = joining{user: t.user, events: t.events}
		if err := t.decode(stored[i]); err != nil {
			j.log.Error("a stored join is damaged: what the user was shown lately is forgotten", zap.Error(err))
			t.state, t.base = State{}, stored[i][:min(freshet.JoinHead, len(stored[i]))]
		}
	}
	return nil
}

// A stored state: format (1 byte, 1), revision (8 bytes, big-endian), then JSON.
const format = 1

func (t *joining) decode(b []byte) error {
	if b == nil {
		return nil
	}
	if len(b) < freshet.JoinHead || b[0] != format {
		return fmt.Errorf("%d bytes are no join of format %d", len(b), format)
	}
	t.base, t.rev = b[:freshet.JoinHead:freshet.JoinHead], binary.BigEndian.Uint64(b[1:])
	return json.Unmarshal(b[freshet.JoinHead:], &t.state)
}

func (t *joining) encode() ([]byte, error) {
	b := make([]byte, freshet.JoinHead, 256)
	b[0] = format
	binary.BigEndian.PutUint64(b[1:], t.rev+1)
	text, err := json.Marshal(&t.state)
	return append(b, text...), err
}

func (j *Joiner) publishAll(ctx context.Context, tasks []*joining) error {
	var out []Record
	n := 0
	for _, t := range tasks {
		for i := range t.closed {
			b, err := json.Marshal(&t.closed[i])
			if err != nil {
				return err
			}
			out, n = append(out, Record{t.user, b}), n+1
		}
		if t.erased > 0 {
			b, err := json.Marshal(Erasure{V: 1, UserID: t.user, ErasedAt: t.erased})
			if err != nil {
				return err
			}
			out = append(out, Record{t.user, b})
		}
	}
	if len(out) == 0 {
		return nil
	}
	if err := j.publish(ctx, out); err != nil {
		return fmt.Errorf("publish %d examples: %w: %w", n, freshet.ErrUnavailable, err)
	}
	j.obs.Examples(n)
	return nil
}

// save stores what changed and gives back what somebody else changed meanwhile.
func (j *Joiner) save(ctx context.Context, tasks []*joining) (again []*joining, err error) {
	var updates []freshet.JoinUpdate
	var changed []*joining
	for _, t := range tasks {
		if !t.changed {
			continue
		}
		b, err := t.encode()
		if err != nil {
			return nil, err
		}
		updates, changed = append(updates, freshet.JoinUpdate{UserID: t.user, Base: t.base, Value: b}), append(changed, t)
	}
	if len(updates) == 0 {
		return nil, nil
	}
	results, err := j.store.SaveJoins(ctx, updates)
	if err != nil {
		return nil, fmt.Errorf("save %d joins: %w", len(updates), err)
	}
	for i, t := range changed {
		if results[i] != freshet.Saved {
			again = append(again, t)
			continue
		}
		for _, m := range t.state.moves {
			if m.Clicked {
				j.obs.Clicked(t.user, m.Lane, m.Surface, m.Source)
			} else {
				j.obs.Shown(t.user, m.ItemID, m.Lane, m.Surface, m.Source)
			}
		}
	}
	return again, nil
}

// sweepAtOnce bounds the users of one sweep.
const sweepAtOnce = 1000

// Sweep closes the exposures of users who do nothing more. now is the log's time: the clock's, when the partition has been read to its
// end; nobody's outcomes may still be on their way. It is called about once a second for each partition of ours.
func (j *Joiner) Sweep(ctx context.Context, source freshet.Source, now int64) error {
	p := j.partitionOf(source)
	p.Lock()
	defer p.Unlock()
	for {
		due, err := j.store.OpenJoins(ctx, source, now, sweepAtOnce)
		if err != nil || len(due) == 0 {
			return err
		}
		tasks := make([]*joining, len(due))
		for i, d := range due {
			tasks[i] = &joining{user: d.UserID}
		}
		err = j.settle(ctx, source, tasks, func(t *joining) {
			t.closed = t.state.Close(now)
			t.changed = len(t.closed) > 0
		})
		if err != nil {
			return err
		}
	}
}
