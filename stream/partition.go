package stream

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"
	"go.uber.org/zap"

	"freshet"
)

// Why a loop leaves off.
var (
	errEnded  = errors.New("the generation ended")
	errRewind = errors.New("read again from the committed offset")
	errBeyond = errors.New("the topic was created anew or truncated")
)

// States of a loop, as Status names them.
const (
	StateStarting = "starting" // looking for the offset to begin at
	StateRunning  = "running"
	StateRetrying = "retrying" // something passing fails; Err says what
	StateStopped  = "stopped"  // until somebody changes the configuration; Err says how
	stateLeft     = "left"
)

// handleTries is how often events are offered before they are held to be at fault.
const handleTries = 5

// beyondPatience is how long an offset may lie beyond the log's end before the topic is taken for another one: a broker that
// just became leader may say too low an end for a moment.
const beyondPatience = 3 * time.Second

// partition is the loop of one assigned partition in one generation. The fields above mu belong to the loop's goroutine.
type partition struct {
	c      *Consumer
	g      *generation
	source freshet.Source
	log    *zap.Logger

	next    int64 // offset to fetch next; -1 = nothing committed, the start is to be found
	first   int64 // lowest offset fetched in this generation
	count   int   // partitions of the topic, for the misrouted; 0 = unknown
	again   map[listKey]bool
	events  []freshet.Event // the batch's memory, used again and again
	posting chan error      // takes the end of the publishing that is under way; nil = none is
	strays  bool            // the batch has users whose events belong on another partition, or may

	turned atomic.Int64 // when the loop last turned, Unix nanoseconds
	ending atomic.Bool  // the generation is over; the batch in hand is being finished

	mu        sync.Mutex
	progress  Progress
	lastTime  int64 // record time of the last applied record, Unix milliseconds
	marks     marks
	due       int64 // next offset to commit; -1 = none
	state     string
	err       error
	asked     bool  // somebody wants a rewind
	rewinding bool  // is doing so
	askedTo   int64 // and to there, if lower than the committed one; -1 = just to that
}

type listKey struct{ user, surface string }

func newPartition(c *Consumer, g *generation, a kafka.PartitionAssignment) *partition {
	source := freshet.Source{Topic: c.cfg.Topic, Incarnation: c.cfg.TopicIncarnation, Partition: int32(a.ID)}
	at := max(a.Offset, -1) // negative = nothing committed
	p := &partition{
		c: c, g: g, source: source, log: c.log.With(zap.Int("partition", a.ID)), next: at, first: math.MaxInt64,
		again: map[listKey]bool{}, due: -1, askedTo: -1, state: StateStarting,
		progress: Progress{Applied: max(at, 0), Committed: at, End: max(at, 0)},
	}
	p.turn()
	return p
}

// run is the loop: find where to begin, read until something makes it begin elsewhere or leave.
func (p *partition) run(ended context.Context) {
	alive, stop := context.WithCancel(ended) // a context of the standard library: deriving from it costs no goroutine
	defer stop()
	work, finish := p.workUntil(alive)
	defer finish()
	defer p.leave()
	var wait backoff
	for p.locate(alive) {
		began := time.Now()
		err := p.read(alive, work)
		switch {
		case alive.Err() != nil:
			return
		case errors.Is(err, errRewind):
			p.rewind(alive)
		}
		if time.Since(began) > backoffMax {
			wait.reset()
		}
		wait.wait(alive) // a store or a broker that says the same at once again must not make this a busy loop
	}
}

// workUntil gives the context of the batch in hand: it outlives the generation by the drain time, and Run's own end likewise.
func (p *partition) workUntil(alive context.Context) (context.Context, context.CancelFunc) {
	work, cancel := context.WithCancel(p.g.run)
	stop := context.AfterFunc(alive, func() {
		p.ending.Store(true)
		drain := time.AfterFunc(p.c.cfg.drain(), cancel)
		context.AfterFunc(work, func() { drain.Stop() })
	})
	return work, func() { stop(); cancel() }
}

func (p *partition) leave() {
	p.c.handler.Release(p.source)
	p.mu.Lock()
	p.state = stateLeft
	p.mu.Unlock()
	p.c.observe.Left(p.source)
}

// locate checks where to read against what the log has. It returns false when the generation ended or the partition stopped.
func (p *partition) locate(alive context.Context) bool {
	var wait backoff
	var beyond time.Time
	for {
		begin, end, err := p.c.reader.bounds(alive, int(p.source.Partition))
		p.turn()
		if err == nil {
			err = p.settle(alive, begin, end)
		}
		if err == nil {
			p.fine()
			return true
		}
		if errors.Is(err, errBeyond) {
			if beyond.IsZero() {
				beyond = time.Now()
			}
			if time.Since(beyond) > beyondPatience {
				p.stop(err)
				<-alive.Done()
				return false
			}
		}
		if alive.Err() != nil {
			return false
		}
		p.trouble(StageFetch, err)
		if !wait.wait(alive) {
			return false
		}
	}
}

// truncated is for an offset that was committed, or saved, and lies beyond the log's end.
func (p *partition) truncated(next int64, was string, end int64) error {
	return fmt.Errorf("%s-%d: offset %d was %s but the log ends at %d: %w; "+
		"start with --set kafka.topic_incarnation=%d to read it as a new one", p.source.Topic, p.source.Partition, next, was, end, errBeyond, p.source.Incarnation+1)
}

// settle fixes the offset to begin at, given the log's bounds and the store's memory.
func (p *partition) settle(alive context.Context, begin, end int64) error {
	if n, err := p.c.reader.partitions(alive); err == nil {
		p.count = n
	}
	if p.next > end {
		return p.truncated(p.next, "committed", end)
	}
	from, err := p.remembered(alive, end)
	if err != nil {
		return err
	}
	committed := p.next >= 0
	switch {
	case !committed:
		if p.next, err = p.start(begin, end); err != nil {
			p.next = -1
			return err
		}
	case p.next < begin:
		p.gap(begin)
	}
	if committed && max(from, begin) < p.next {
		if err := p.behind(from, begin); err != nil {
			return err
		}
	}
	p.first = min(p.first, p.next)
	p.mu.Lock()
	p.progress.Applied, p.progress.End = p.next, end
	p.mu.Unlock()
	return nil
}

// remembered asks the store up to where it holds the partition. A broker forgets what a group committed when it deletes a topic; what
// the store remembers of it is then all that tells the new topic from the old one.
func (p *partition) remembered(alive context.Context, end int64) (from int64, err error) {
	s, ok := p.c.handler.(Starter)
	if !ok {
		return p.next, nil
	}
	from, saved, err := s.Start(alive, p.source, p.next)
	if err == nil && saved > end {
		err = p.truncated(saved, "saved", end)
	}
	return from, err
}

// behind goes back to where the store's memory ends, which is before the commit. The commit follows, so that whoever reads the
// partition next begins there too.
func (p *partition) behind(from, begin int64) error {
	p.c.observe.Rollback(p.source)
	p.log.Warn("the store holds less than was committed; reading again", zap.Int64("committed", p.next), zap.Int64("from", from))
	if p.next = from; from < begin {
		p.gap(begin)
	}
	return p.commitNow(p.next)
}

// start finds the first offset of a partition without a commit. "latest" means the end, but a partition that was added since the
// group began to commit is read from its beginning. The end is committed at once, else a rebalance before the first event would
// move it.
func (p *partition) start(begin, end int64) (int64, error) {
	if p.c.cfg.Start == StartEarliest || p.source.Partition >= p.c.added {
		return begin, nil
	}
	return end, p.commitNow(end)
}

func (p *partition) commitNow(next int64) error {
	p.g.mu.Lock()
	defer p.g.mu.Unlock()
	return p.g.commit(map[int]int64{int(p.source.Partition): next})
}

// gap notes records that the log deleted before they were read, and goes on behind them.
func (p *partition) gap(to int64) {
	p.log.Warn("records were deleted before they were read; raise the topic's retention or add workers",
		zap.Int64("from", p.next), zap.Int64("to", to), zap.Int64("records", to-p.next))
	p.c.observe.Gap(p.source, to-p.next)
	p.next = to
}

// read fetches and takes until the generation ends or reading must begin elsewhere.
func (p *partition) read(alive, work context.Context) (err error) {
	defer func() {
		if left := p.published(); err == nil || errors.Is(err, errEnded) {
			err = errors.Join(err, left)
		}
	}()
	var wait backoff
	for alive.Err() == nil {
		if p.rewindAsked() {
			return errRewind
		}
		began := time.Now()
		a, err := p.c.fetcher.fetch(alive, p.question())
		p.turn()
		switch {
		case alive.Err() != nil:
			return errEnded
		case errors.Is(err, kafka.OffsetOutOfRange):
			return err
		case err != nil:
			p.trouble(StageFetch, err)
			wait.wait(alive)
			continue
		}
		wait.reset()
		p.fine()
		if len(a.records) > 0 {
			p.c.observe.Stage(StageFetch, time.Since(began))
		}
		if err := p.takeAll(alive, work, a); err != nil {
			return err
		}
	}
	return errEnded
}

// question asks for what comes next.
func (p *partition) question() question {
	return question{partition: int(p.source.Partition), offset: p.next, maxBytes: p.c.cfg.FetchBytes, wait: p.c.cfg.FetchWait}
}

// takeAll takes what one fetch brought, in batches.
func (p *partition) takeAll(alive, work context.Context, a answer) error {
	clear(p.again)
	if len(a.records) > 0 && a.start > p.next {
		p.gap(min(a.start, a.records[0].Offset))
	}
	p.mu.Lock()
	p.progress.End = max(a.end, a.next)
	p.mu.Unlock()
	if len(a.records) == 0 {
		if err := p.published(); err != nil {
			return err
		}
		p.next = a.next
		p.done(a.next, p.lastTime)
		return nil
	}
	for rest := a.records; len(rest) > 0; {
		n := min(len(rest), p.c.cfg.batch())
		batch, next := rest[:n], a.next
		if rest = rest[n:]; len(rest) > 0 {
			next = rest[0].Offset
		}
		if alive.Err() != nil {
			return errEnded
		}
		began := time.Now()
		lists, err := p.take(alive, work, batch)
		if err != nil {
			return err
		}
		if err := p.post(alive, work, p.wanted(lists), began, next, batch[n-1].Time); err != nil {
			return err
		}
		p.next = next
	}
	return nil
}

// post publishes a batch's lists while the next one is fetched and handled; then everything below next is done. One is under way at a
// time, so that a user's lists go out in order.
func (p *partition) post(alive, work context.Context, lists []freshet.Publication, began time.Time, next, recordTime int64) error {
	if err := p.published(); err != nil {
		return err
	}
	if p.c.lists == nil || len(lists) == 0 {
		p.done(next, recordTime)
		return nil
	}
	p.posting = make(chan error, 1)
	go func(ended chan<- error) {
		err := p.publish(alive, work, lists, began)
		if err == nil {
			p.done(next, recordTime)
		}
		ended <- err
	}(p.posting)
	return nil
}

// published waits until nothing is being published.
func (p *partition) published() error {
	if p.posting == nil {
		return nil
	}
	err := <-p.posting
	p.posting = nil
	return err
}

// take is one batch on its way: decode, dead letters, handle. It gives back the lists to publish.
func (p *partition) take(alive, work context.Context, batch []Record) ([]freshet.Publication, error) {
	began := time.Now()
	events, bad := p.decode(batch)
	p.c.observe.Stage(StageDecode, time.Since(began))
	if err := p.bury(alive, work, bad); err != nil {
		return nil, err
	}
	if len(events) == 0 {
		return nil, nil
	}
	return p.fold(alive, work, events, handleTries)
}

// decode reads the batch's events, in place of the last batch's.
func (p *partition) decode(batch []Record) (events []freshet.Event, bad []DeadLetter) {
	events, p.strays = p.events[:0], p.count == 0
	for i := range batch {
		r := &batch[i]
		e, err := p.c.decoder.Decode(r, freshet.Position{Source: p.source, Offset: r.Offset})
		if err != nil {
			bad = append(bad, DeadLetter{Record: *r, Stage: StageDecode, Err: err})
			continue
		}
		if p.count > 0 && partitionOf(r.Key, p.count) != int(p.source.Partition) {
			p.c.observe.Misrouted(p.source)
			p.strays = true
		}
		p.strays = p.strays || string(r.Key) != e.UserID && partitionOf([]byte(e.UserID), p.count) != int(p.source.Partition)
		events = append(events, e)
	}
	p.events = events
	return events, bad
}

// bury writes dead letters and returns when they are acknowledged.
func (p *partition) bury(alive, work context.Context, bad []DeadLetter) error {
	if len(bad) == 0 {
		return nil
	}
	if p.c.letters != nil {
		put := func() error { return p.c.letters.Put(work, bad...) }
		if err := p.insist(alive, work, "dead-letter", put); err != nil {
			return err
		}
	}
	for i := range bad {
		p.c.observe.DeadLetter(bad[i].Stage, reason(&bad[i]))
	}
	return nil
}

// reason is the field at fault, without the place in a list: it becomes a metric's label.
func reason(l *DeadLetter) string {
	var field *freshet.FieldError
	if !errors.As(l.Err, &field) {
		return l.Stage
	}
	if cut := strings.IndexAny(field.Field, ".["); cut > 0 {
		return field.Field[:cut]
	}
	return field.Field
}

// fold offers events to the handler until they are saved, and gives back what they led to. Events that fail for a reason of their
// own as often as tries are taken apart.
func (p *partition) fold(alive, work context.Context, events []freshet.Event, tries int) ([]freshet.Publication, error) {
	var wait backoff
	for failed := 0; ; {
		began := time.Now()
		lists, err := p.c.batcher.handle(work, events, p.strays || failed > 0)
		p.turn()
		if err == nil {
			p.c.observe.Stage(StageHandle, time.Since(began))
			p.fine()
			return lists, nil
		}
		switch {
		case work.Err() != nil:
			return nil, errEnded
		case errors.Is(err, freshet.ErrLost):
			p.log.Error("the store holds less than was saved to it; reading again from the committed offset", zap.Error(err))
			return nil, errRewind
		case errors.Is(err, freshet.ErrUnavailable), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
			// It passes; nothing is held against the events.
		default:
			if failed++; failed >= tries {
				return p.split(alive, work, events, err)
			}
		}
		p.trouble(StageHandle, err)
		if !wait.wait(alive) {
			return nil, errEnded
		}
		if p.rewindAsked() {
			return nil, errRewind
		}
	}
}

// split halves events that cannot be handled until the one that is to blame stands alone; that one goes to the dead letters.
func (p *partition) split(alive, work context.Context, events []freshet.Event, cause error) (lists []freshet.Publication, err error) {
	if len(events) > 1 {
		for _, half := range [][]freshet.Event{events[:len(events)/2], events[len(events)/2:]} {
			tries := 1
			if len(half) == 1 {
				tries = handleTries
			}
			of, err := p.fold(alive, work, half, tries)
			if err != nil {
				return nil, err
			}
			lists = append(lists, of...)
		}
		return lists, nil
	}
	at := events[0].Position
	p.log.Error("ALARM: an event cannot be handled; it goes to the dead letters",
		zap.Int64("offset", at.Offset), zap.String("event_id", events[0].ID), zap.Error(cause))
	letter, err := p.letterOf(alive, at, cause)
	if err != nil {
		return nil, err
	}
	return nil, p.bury(alive, work, []DeadLetter{letter})
}

// letterOf fetches the record of an event again, so that its dead letter holds the bytes that were received.
func (p *partition) letterOf(alive context.Context, at freshet.Position, cause error) (DeadLetter, error) {
	var wait backoff
	for {
		a, err := p.c.reader.fetch(alive, question{partition: int(at.Partition), offset: at.Offset, maxBytes: p.c.cfg.FetchBytes, wait: p.c.cfg.FetchWait})
		if err == nil && len(a.records) > 0 && a.records[0].Offset == at.Offset {
			return DeadLetter{Record: a.records[0], Stage: StageHandle, Err: cause}, nil
		}
		if errors.Is(err, kafka.OffsetOutOfRange) || err == nil && a.next > at.Offset {
			// Deleted meanwhile: the letter says so by having no bytes.
			return DeadLetter{Record: Record{Topic: at.Topic, Partition: at.Partition, Offset: at.Offset}, Stage: StageHandle, Err: cause}, nil
		}
		p.turn()
		if err != nil {
			p.trouble(StageFetch, err)
		}
		if !wait.wait(alive) {
			return DeadLetter{}, errEnded
		}
	}
}

// publish writes lists and returns when they are acknowledged. If the save may no longer be the last word by then, it looks
// again and publishes what is newer, until nothing is.
func (p *partition) publish(alive, work context.Context, due []freshet.Publication, saved time.Time) error {
	began := time.Now()
	for len(due) > 0 {
		put := func() error { return p.c.lists.PublishLists(work, due) }
		if err := p.insist(alive, work, StagePublish, put); err != nil {
			return err
		}
		again, ok := p.c.handler.(Rechecker)
		if !ok || alive.Err() == nil && time.Since(saved) <= p.c.cfg.SessionTimeout/2 {
			break
		}
		var newer []freshet.Publication
		look := func() (err error) { newer, err = again.Recheck(work, due); return err }
		if err := p.insist(alive, work, StagePublish, look); err != nil {
			return err
		}
		due = newer
	}
	p.c.observe.Stage(StagePublish, time.Since(began))
	return nil
}

// wanted leaves out stored lists that were published before: those computed from an event that lies before everything fetched in
// this generation, and those that this fetch has brought already.
func (p *partition) wanted(lists []freshet.Publication) []freshet.Publication {
	due := make([]freshet.Publication, 0, len(lists))
	for _, l := range lists {
		if l.Stored {
			key := listKey{l.UserID, l.Surface}
			// A record does not say of which incarnation of its topic it is; at worst an older one's list is published again.
			if l.From.Topic != p.source.Topic || l.From.Partition != p.source.Partition || l.From.Offset < p.first || p.again[key] {
				continue
			}
			p.again[key] = true
		}
		due = append(due, l)
	}
	return due
}

// insist does something until it succeeds, or until the time for the batch in hand is over.
func (p *partition) insist(alive, work context.Context, stage string, do func() error) error {
	var wait backoff
	for {
		err := do()
		p.turn()
		if err == nil {
			p.fine()
			return nil
		}
		if work.Err() != nil {
			return errEnded
		}
		p.trouble(stage, err)
		if !wait.wait(alive) {
			return errEnded
		}
	}
}
