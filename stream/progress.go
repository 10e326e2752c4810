package stream

import (
	"context"
	"time"

	"go.uber.org/zap"
)

// done notes that everything below next is saved and published.
func (p *partition) done(next, recordTime int64) {
	p.mu.Lock()
	if next > p.progress.Applied {
		p.marks.note(next, time.Now())
	}
	p.progress.Applied, p.lastTime = next, recordTime
	now := p.current()
	p.mu.Unlock()
	p.c.observe.Moved(p.source, now)
}

// current is the progress with its lag; the caller holds mu.
func (p *partition) current() Progress {
	now := p.progress
	if now.Records() > 0 && p.lastTime > 0 {
		now.Lag = max(0, time.Since(time.UnixMilli(p.lastTime)))
	}
	return now
}

// rewind drops the local copies and goes back to the committed offset, or to where it was asked to.
func (p *partition) rewind(alive context.Context) {
	p.c.handler.Release(p.source)
	p.c.observe.Rollback(p.source)
	p.mu.Lock()
	to, askedTo := p.progress.Committed, p.askedTo
	if to < 0 {
		to = p.first
	}
	p.asked, p.askedTo, p.rewinding = false, -1, true
	p.marks.forget()
	p.due = -1
	p.mu.Unlock()
	if askedTo >= 0 && askedTo < to {
		to = askedTo
		var wait backoff
		for err := p.commitNow(to); err != nil && wait.wait(alive); err = p.commitNow(to) {
			p.turn()
			p.trouble("commit", err)
		}
	}
	p.log.Warn("rewound", zap.Int64("from", p.next), zap.Int64("to", to))
	p.next = to
	p.first = min(p.first, to)
	p.mu.Lock()
	p.progress.Applied, p.rewinding = to, false // nobody may be told that what was lost is saved
	p.mu.Unlock()
}

func (p *partition) askRewind(to int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = true
	if to >= 0 && (p.askedTo < 0 || to < p.askedTo) {
		p.askedTo = to
	}
}

// behindRewind tells whether what the partition says of itself is from before a rewind.
func (p *partition) behindRewind() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked || p.rewinding
}

func (p *partition) rewindAsked() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked
}

// markDue moves what is old enough to what shall be committed.
func (p *partition) markDue(limit time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if next := p.marks.due(limit); next >= 0 {
		p.due = next
	}
}

func (p *partition) toCommit() (int64, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.due, p.due > p.progress.Committed
}

func (p *partition) committedAt(next int64) {
	p.mu.Lock()
	p.progress.Committed = next
	now := p.current()
	p.mu.Unlock()
	p.c.observe.Moved(p.source, now)
}

// turn says that the loop is alive.
func (p *partition) turn() { p.turned.Store(time.Now().UnixNano()) }

// trouble notes a failure that is being retried; only the first of a row is logged.
func (p *partition) trouble(stage string, err error) {
	p.c.observe.Retried(p.source, stage)
	p.mu.Lock()
	was := p.state
	p.state, p.err = StateRetrying, err
	p.mu.Unlock()
	if was != StateRetrying {
		p.log.Warn("trying again until it works", zap.String("stage", stage), zap.Error(err))
	}
}

// fine notes that what failed works again.
func (p *partition) fine() {
	p.mu.Lock()
	was := p.state
	p.state, p.err = StateRunning, nil
	p.mu.Unlock()
	if was == StateRetrying {
		p.log.Info("works again")
	}
}

func (p *partition) stop(err error) {
	p.mu.Lock()
	p.state, p.err = StateStopped, err
	p.mu.Unlock()
	p.log.Error("ALARM: partition stopped", zap.Error(err))
}

func (p *partition) status() (PartitionStatus, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return PartitionStatus{
		Source: p.source, Progress: p.current(), State: p.state, Err: p.err,
		Since: time.Duration(time.Now().UnixNano() - p.turned.Load()),
	}, p.state != stateLeft
}
