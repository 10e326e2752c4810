package evaluate

import (
	"context"
	"fmt"
	"time"

	"freshet"
)

// Row is one line of a prequential table: something that has a list, or a full ranking, for every user at every moment. All rows
// of a run live through the same events side by side. The driver calls them from one goroutine:
//
//	Begin once, when the warm-up ends and scoring begins;
//	Advance before each event, with its time;
//	Rank for each of its items (while scoring), then Reveal.
type Row interface {
	Name() string
	// Begin tells the row the time of the first event that will be scored, before anything is revealed.
	Begin(firstScored int64)
	// Advance tells the row how late it is, Unix milliseconds.
	Advance(ctx context.Context, now int64) error
	// Rank gives the place of target for the user; 0 = not in the list. personal tells whether it stood in a list made for this
	// user rather than in the default list.
	Rank(ctx context.Context, asked Question, target int32) (rank int32, personal bool, err error)
	// Reveal shows event number i of the log; seen holds it already. scoring is false during the warm-up.
	Reveal(ctx context.Context, i int, scoring bool) error
}

// scorerRow ranks with full score vectors and, when its scorer is a Learner, learns each event.
type scorerRow struct {
	log    *Log
	seen   *Seen
	scorer Scorer
	learn  Learner
	rank   *ranker
	out    [][]float32
	alike  bool // everybody gets the same ranking
}

// NewScorerRow makes a row of a baseline: exact ranks over the whole catalogue, learning online if the scorer can.
func NewScorerRow(log *Log, seen *Seen, scorer Scorer) Row {
	r := &scorerRow{log: log, seen: seen, scorer: scorer, rank: newRanker(log.Items.Len()), out: [][]float32{make([]float32, log.Items.Len())}}
	r.learn, _ = scorer.(Learner)
	_, r.alike = scorer.(*Popularity)
	return r
}

func (r *scorerRow) Name() string                         { return r.scorer.Name() }
func (r *scorerRow) Begin(int64)                          {}
func (r *scorerRow) Advance(context.Context, int64) error { return nil }

func (r *scorerRow) Rank(ctx context.Context, asked Question, target int32) (int32, bool, error) {
	if err := r.scorer.Score(ctx, []Question{asked}, r.out); err != nil {
		return 0, false, fmt.Errorf("score with %s: %w", r.scorer.Name(), err)
	}
	return r.rank.rank(r.out[0], target, r.seen.excluded(asked.User)), len(asked.History) > 0 && !r.alike, nil
}

func (r *scorerRow) Reveal(_ context.Context, i int, _ bool) error {
	e := &r.log.Events[i]
	if r.learn == nil || e.Effect != freshet.Extend {
		return nil
	}
	items, history := r.log.ItemsOf(e), r.seen.History(e.User)
	known := len(history) - len(items) // seen holds the event already
	for n, item := range items {
		r.learn.Learn(history[:known+n], item)
	}
	return nil
}

// Live is the row of the serving engine. Events are collected into one Handle call until one of their users is asked for again
// (or, in the warm-up, until the batch is full): what the engine sees and when is the same as one event at a time, since a user's
// list depends on the user's own events.
type Live struct {
	name    string
	log     *Log
	seen    *Seen
	handler Handler
	batch   int
	popular *Popularity // the default list, as of now
	full    *ranker

	// Starts, if set, is called when scoring begins, after the handler has taken in what came before.
	Starts  func()
	scoring bool

	waiting []freshet.Event
	users   map[int32]struct{} // with an event waiting
	lists   map[int32][]int32
	watched []*Refreshed
}

// NewLive makes the engine's row. batch is how many events one Handle call holds at most, 64 by default. Users
// without a list get what was most popular so far.
func NewLive(name string, log *Log, seen *Seen, handler Handler, batch int) *Live {
	if batch <= 0 {
		batch = 64
	}
	return &Live{name: name, log: log, seen: seen, handler: handler, batch: batch, popular: NewPopularity(log.Items.Len()), full: newRanker(log.Items.Len()),
		users: map[int32]struct{}{}, lists: map[int32][]int32{}}
}

// Name of the row.
func (r *Live) Name() string { return r.name }

// Begin does nothing: the engine is live from the first event on.
func (r *Live) Begin(int64) {}

// Advance does nothing: the engine's lists change with events only.
func (r *Live) Advance(context.Context, int64) error { return nil }

// Rank is the place in the user's list, after all of the user's events so far were handled.
func (r *Live) Rank(ctx context.Context, asked Question, target int32) (int32, bool, error) {
	if _, waits := r.users[asked.User]; waits {
		if err := r.flush(ctx); err != nil {
			return 0, false, err
		}
	}
	list, ok := r.lists[asked.User]
	if !ok {
		return r.full.rank(r.popular.counts, target, r.seen.excluded(asked.User)), false, nil
	}
	return rankInList(list, asked.User, target, r.seen), true, nil
}

// warmEvents is how many events one Handle call takes in the warm-up, when nobody asks for lists in between.
const warmEvents = 4096

// Reveal puts the event into the next Handle call.
func (r *Live) Reveal(ctx context.Context, i int, scoring bool) error {
	if scoring && !r.scoring {
		r.scoring = true
		if err := r.flush(ctx); err != nil {
			return err
		}
		if r.Starts != nil {
			r.Starts()
		}
	}
	user := r.log.Events[i].User
	_, waits := r.users[user]
	if scoring && waits {
		if err := r.flush(ctx); err != nil {
			return err
		}
	}
	if e := &r.log.Events[i]; e.Effect == freshet.Extend {
		for _, item := range r.log.ItemsOf(e) {
			r.popular.Learn(nil, item)
		}
	}
	r.waiting = append(r.waiting, r.log.Freshet(i))
	r.users[user] = struct{}{}
	if scoring && len(r.waiting) >= r.batch || len(r.waiting) >= warmEvents {
		return r.flush(ctx)
	}
	return nil
}

// flush handles what waits.
func (r *Live) flush(ctx context.Context) error {
	if len(r.waiting) == 0 {
		return nil
	}
	published, err := r.handler.Handle(ctx, r.waiting)
	if err != nil {
		return fmt.Errorf("handle %d events: %w", len(r.waiting), err)
	}
	changed := map[int32]struct{}{}
	if err := r.log.takeLists(published, r.lists, changed); err != nil {
		return err
	}
	for _, w := range r.watched {
		for user := range changed {
			w.changed[user] = struct{}{}
		}
	}
	r.waiting = r.waiting[:0]
	clear(r.users)
	return nil
}

// Refreshed is what a batch system built on the same engine would show: the lists that the live row had at the last full day,
// or ten minutes, of event time (UTC). Users without a list then get the default list of that moment.
type Refreshed struct {
	name    string
	live    *Live
	every   int64 // milliseconds
	from    int64 // the period that the first scored event lies in
	period  int64
	started bool
	lists   map[int32][]int32
	changed map[int32]struct{} // users whose live list changed since the last refresh
	popular []float32
}

// Refreshed makes the row that copies the live one every so often.
func (r *Live) Refreshed(name string, every time.Duration) *Refreshed {
	f := &Refreshed{name: name, live: r, every: max(every.Milliseconds(), 1), lists: map[int32][]int32{}, changed: map[int32]struct{}{}}
	r.watched = append(r.watched, f)
	return f
}

// Name of the row.
func (r *Refreshed) Name() string { return r.name }

// Begin notes from which refresh on anybody will ask.
func (r *Refreshed) Begin(firstScored int64) { r.from = floorDiv(firstScored, r.every) }

// Advance copies the live lists when a refresh has come due since the last event.
func (r *Refreshed) Advance(ctx context.Context, now int64) error {
	period := floorDiv(now, r.every)
	if period < r.from || r.started && period <= r.period {
		return nil
	}
	r.period, r.started = period, true
	if err := r.live.flush(ctx); err != nil {
		return err
	}
	for user := range r.changed {
		if list, ok := r.live.lists[user]; ok {
			r.lists[user] = list
		} else {
			delete(r.lists, user)
		}
	}
	clear(r.changed)
	r.popular = append(r.popular[:0], r.live.popular.counts...)
	return nil
}

// Rank is the place in the list of the last refresh, less what the user has had since.
func (r *Refreshed) Rank(_ context.Context, asked Question, target int32) (int32, bool, error) {
	list, ok := r.lists[asked.User]
	if !ok {
		return r.live.full.rank(r.popular, target, r.live.seen.excluded(asked.User)), false, nil
	}
	return rankInList(list, asked.User, target, r.live.seen), true, nil
}

// Reveal does nothing: the live row learns, this one copies.
func (r *Refreshed) Reveal(context.Context, int, bool) error { return nil }

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
