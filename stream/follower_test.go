package stream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"freshet"
)

// shelf is a catalogue in memory.
type shelf struct {
	mu    sync.Mutex
	items map[string]string // id -> title
	bad   []DeadLetter
	fails atomic.Int64 // how often apply shall fail
}

func (s *shelf) apply(_ context.Context, changes []ItemChange) error {
	if s.fails.Add(-1) >= 0 {
		return errors.New("store away")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range changes {
		if c.Item == nil {
			delete(s.items, c.ItemID)
		} else {
			s.items[c.ItemID] = c.Item.Title
		}
	}
	return nil
}

func (s *shelf) reject(_ context.Context, l DeadLetter) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bad = append(s.bad, l)
	return nil
}

func (s *shelf) title(id string) string { s.mu.Lock(); defer s.mu.Unlock(); return s.items[id] }

func TestFollowerReadsTheWholeTopicThenStaysWithIt(t *testing.T) {
	onBrokers(t, func(t *testing.T, b *broker) {
		ctx := testContext(t)
		r := newRig(t, b, 1)
		if _, err := EnsureTopics(ctx, b.conn, Topic{Name: b.name("items"), Partitions: 3, Compact: true}); err != nil {
			t.Fatal(err)
		}
		var changes []ItemChange
		for version := range 3 {
			for i := range 100 {
				id := fmt.Sprintf("i%d", i)
				changes = append(changes, ItemChange{ItemID: id, Item: &freshet.Item{ItemID: id, Title: fmt.Sprintf("%s v%d", id, version)}})
			}
		}
		changes = append(changes, ItemChange{ItemID: "i7"})
		if err := r.producer.PublishItems(ctx, changes); err != nil {
			t.Fatal(err)
		}
		if err := r.producer.Publish(ctx, b.name("items"), []Record{{Key: []byte("bad"), Value: []byte("{")}}); err != nil {
			t.Fatal(err)
		}
		s := &shelf{items: map[string]string{}}
		s.fails.Store(2)
		f, err := NewFollower(FollowerConfig{Connection: b.conn, Topic: b.name("items")}, s.apply, s.reject, quiet(t))
		if err != nil {
			t.Fatal(err)
		}
		run, stop := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() { done <- f.Run(run) }()
		select {
		case <-f.Caught():
		case <-ctx.Done():
			t.Fatal("never caught up")
		}
		s.mu.Lock()
		n, bad := len(s.items), len(s.bad)
		s.mu.Unlock()
		if n != 99 || s.title("i42") != "i42 v2" || s.title("i7") != "" || bad != 1 {
			t.Errorf("caught up with %d items, i42=%q, i7=%q, %d bad", n, s.title("i42"), s.title("i7"), bad)
		}
		began := time.Now()
		if err := r.producer.PublishItems(ctx, []ItemChange{{ItemID: "new", Item: &freshet.Item{ItemID: "new", Title: "New"}}}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the new item is seen", func() bool { return s.title("new") == "New" })
		if read, of := f.Progress(); read < of-1 || of != 302 { // the bad record is no change
			t.Errorf("%d of %d records read", read, of)
		}
		s.mu.Lock()
		clear(s.items)
		s.mu.Unlock()
		for partition := range 3 {
			f.Again(partition, 0)
		}
		eventually(t, "everything was read again", func() bool { return s.title("i42") == "i42 v2" && s.title("new") == "New" })
		if took := time.Since(began); took > time.Second {
			t.Errorf("a new item took %v", took)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestFollowerOfAnEmptyTopicHasCaughtUp(t *testing.T) {
	b := fakeBroker(t)
	ctx := testContext(t)
	if _, err := EnsureTopics(ctx, b.conn, Topic{Name: "items", Partitions: 2, Compact: true}); err != nil {
		t.Fatal(err)
	}
	f, err := NewFollower(FollowerConfig{Connection: b.conn}, func(context.Context, []ItemChange) error { return nil }, nil, quiet(t))
	if err != nil {
		t.Fatal(err)
	}
	run, stop := context.WithCancel(ctx)
	defer stop()
	go func() { _ = f.Run(run) }()
	select {
	case <-f.Caught():
	case <-ctx.Done():
		t.Error("never caught up")
	}
}
