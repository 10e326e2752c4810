package stream

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"freshet"
)

// rechecker saves a newer list while the first one is on its way.
type rechecker struct {
	*member
	slow   time.Duration
	newer  atomic.Int64
	looked atomic.Int64
}

func (r *rechecker) Handle(ctx context.Context, events []freshet.Event) ([]freshet.Publication, error) {
	lists, err := r.member.Handle(ctx, events)
	time.Sleep(r.slow) // as a process that was suspended between its save and its publish
	return lists, err
}

func (r *rechecker) Recheck(_ context.Context, published []freshet.Publication) ([]freshet.Publication, error) {
	r.looked.Add(1)
	if r.newer.Add(-1) < 0 {
		return nil, nil
	}
	p := published[0]
	p.Record = []byte("newer")
	return []freshet.Publication{p}, nil
}

func TestAListThatMayBeStaleIsLookedAtAgain(t *testing.T) {
	r := newRig(t, fakeBroker(t), 1)
	h := &rechecker{member: &member{ledger: newLedger()}, slow: r.session/2 + 100*time.Millisecond}
	h.newer.Store(2)
	r.run(r.config(), h, nil)
	r.send(0, 1, 1)
	eventually(t, "looked at until equal", func() bool { return h.looked.Load() == 3 })
	lists := r.read(r.name("lists"))
	if n := len(lists); n != 3 || string(lists[2].Value) != "newer" {
		t.Errorf("%d lists published", n)
	}
}

func TestStoredListsAreFilteredByWhatThisGenerationFetched(t *testing.T) {
	here := freshet.Source{Topic: "events", Partition: 1} // as a stored record tells it: without the incarnation
	p := &partition{source: freshet.Source{Topic: "events", Partition: 1, Incarnation: 2}, first: 100, again: map[listKey]bool{}}
	at := func(s freshet.Source, offset int64) freshet.Position {
		return freshet.Position{Source: s, Offset: offset}
	}
	got := p.wanted([]freshet.Publication{
		{UserID: "new", From: at(here, 5)},
		{UserID: "before", From: at(here, 99), Stored: true},
		{UserID: "a", Surface: "home", From: at(here, 100), Stored: true},
		{UserID: "a", Surface: "home", From: at(here, 100), Stored: true},
		{UserID: "a", Surface: "video", From: at(here, 100), Stored: true},
		{UserID: "elsewhere", From: at(freshet.Source{Topic: "events", Partition: 2}, 500), Stored: true},
		{UserID: "a", Surface: "home", From: at(here, 101)},
	})
	var names []string
	for _, l := range got {
		names = append(names, fmt.Sprintf("%s/%s/%d", l.UserID, l.Surface, l.From.Offset))
	}
	if want := []string{"new//5", "a/home/100", "a/video/100", "a/home/101"}; !slices.Equal(names, want) {
		t.Errorf("published %v, want %v", names, want)
	}
}
