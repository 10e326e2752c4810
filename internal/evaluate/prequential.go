package evaluate

import (
	"context"
	"fmt"
	"slices"

	"freshet"
)

// Prequential is the protocol of a stream: every event, in global time order, is ranked by all rows before it is revealed to them.
type Prequential struct {
	Log  *Log
	Seen *Seen // of the same log, with nothing revealed; the rows look at it too

	// Train is the share of events, from the first, that is revealed without being scored: profiles and counts warm up on it. It
	// is the part the model was trained on. 0.8 is the usual choice; 0 scores everything.
	Train float64
	// Held, if set, names the items that the training did not see: their events in the training part never happened, for any row.
	Held func(itemID string) bool
	// Progress, if set, is told of events done, at every hundredth of them.
	Progress func(done, total int)
}

// Scored is one ranked item: what is known of it before it is revealed.
type Scored struct {
	User, Item int32
	Time       int64
	History    int32 // items that the user had before
	Warm       bool  // the user has events in the training part
	New        bool  // the item has none there
	Held       bool  // the item was kept out of the training
	Before     int32 // events of the item that were revealed before this one
}

// RowRanks are the ranks that a row gave, one per scored item, and whether a list made for the user gave them.
type RowRanks struct {
	Name     string
	Ranks    []int32
	Personal []bool
}

// Ranked is the outcome of a run: which items were scored and what every row made of them.
type Ranked struct {
	Log     *Log
	Trained int // events in the training part
	Repeats int // items that were not scored because the user had had them before and repeats are out
	Held    int // items that were kept out of the training
	Hidden  int // events of the training part that were left out for it
	Scored  []Scored
	Rows    []RowRanks
}

// Run goes through the log once. The log must be in the order in which it is to be replayed.
func (p *Prequential) Run(ctx context.Context, rows []Row) (*Ranked, error) {
	if p.Train < 0 || p.Train >= 1 {
		return nil, fmt.Errorf("train share %v: use a share of events from 0 to below 1", p.Train)
	}
	for i := 1; i < len(p.Log.Events); i++ {
		if p.Log.Events[i].Time < p.Log.Events[i-1].Time {
			return nil, fmt.Errorf("event %d is earlier than the one before it: sort the log by time first", i)
		}
	}
	cut := int(float64(len(p.Log.Events)) * p.Train)
	run := &preqRun{Prequential: p, rows: rows, out: &Ranked{Log: p.Log, Trained: cut, Rows: make([]RowRanks, len(rows))}}
	run.warm, run.known = make([]bool, p.Log.Users.Len()), make([]bool, p.Log.Items.Len())
	run.hold()
	for i, r := range rows {
		run.out.Rows[i].Name = r.Name()
		r.Begin(p.Log.Events[cut].Time)
	}
	step := max(len(p.Log.Events)/100, 1)
	for i := range p.Log.Events {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := run.event(ctx, i, i >= cut); err != nil {
			return nil, fmt.Errorf("event %d of %d: %w", i, len(p.Log.Events), err)
		}
		if p.Progress != nil && ((i+1)%step == 0 || i+1 == len(p.Log.Events)) {
			p.Progress(i+1, len(p.Log.Events))
		}
	}
	return run.out, nil
}

type preqRun struct {
	*Prequential
	rows  []Row
	warm  []bool  // users of the training part
	known []bool  // items of the training part
	held  []bool  // items that were kept out of it
	times []int32 // how often each item was revealed
	out   *Ranked
}

// hold notes which items were kept out of the training.
func (p *preqRun) hold() {
	p.held, p.times = make([]bool, p.Log.Items.Len()), make([]int32, p.Log.Items.Len())
	for i := range p.held {
		if p.Held != nil && p.Held(p.Log.Items.ID(int32(i))) {
			p.held[i] = true
			p.out.Held++
		}
	}
}

// event ranks and then reveals one event.
func (p *preqRun) event(ctx context.Context, i int, scoring bool) error {
	e := &p.Log.Events[i]
	items := p.Log.ItemsOf(e)
	if !scoring && slices.ContainsFunc(items, func(item int32) bool { return p.held[item] }) {
		p.out.Hidden++
		return nil
	}
	for _, r := range p.rows {
		if err := r.Advance(ctx, e.Time); err != nil {
			return fmt.Errorf("%s: %w", r.Name(), err)
		}
	}
	if scoring && e.Effect == freshet.Extend {
		for _, item := range items {
			if err := p.score(ctx, e, item); err != nil {
				return err
			}
		}
	}
	for _, item := range items {
		p.Seen.add(e.User, item, e.Effect == freshet.Extend)
		p.times[item]++
		if !scoring {
			p.warm[e.User], p.known[item] = true, true
		}
	}
	for _, r := range p.rows {
		if err := r.Reveal(ctx, i, scoring); err != nil {
			return fmt.Errorf("%s: %w", r.Name(), err)
		}
	}
	return nil
}

// score lets every row rank one item.
func (p *preqRun) score(ctx context.Context, e *Event, item int32) error {
	if p.Seen.excludes(e.User, item) {
		p.out.Repeats++
		return nil
	}
	asked := Question{User: e.User, History: p.Seen.History(e.User)}
	p.out.Scored = append(p.out.Scored, Scored{User: e.User, Item: item, Time: e.Time, History: int32(len(asked.History)), Warm: p.warm[e.User], New: !p.known[item],
		Held: p.held[item], Before: p.times[item]})
	for n, r := range p.rows {
		rank, personal, err := r.Rank(ctx, asked, item)
		if err != nil {
			return fmt.Errorf("%s: %w", r.Name(), err)
		}
		row := &p.out.Rows[n]
		row.Ranks, row.Personal = append(row.Ranks, rank), append(row.Personal, personal)
	}
	return nil
}
