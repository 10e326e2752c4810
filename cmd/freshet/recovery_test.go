package main

import (
	"bufio"
	"errors"
	"io"
	"net"
	"reflect"
	"slices"
	"testing"
	"time"

	"go.uber.org/zap"

	"freshet"
)

// FLUSHALL restarts nothing and breaks no connection. Whoever is missing after it was there before: taking him for a new user would
// store a profile whose position covers everything that was lost.
func TestNobodyIsTakenForNewInAStoreThatWasEmptied(t *testing.T) {
	store, addr := embeddedStore(t)
	l := &lane{w: &worker{}, name: freshet.LiveLane, cfg: DefaultConfig(), log: zap.NewNop(), store: store}
	l.recovery = newRecovery(l)
	if err := l.recovery.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	engine := guarded{store, l}
	if found, err := engine.Load(t.Context(), []string{"u"}); err != nil || found[0] != nil {
		t.Fatalf("a new user: %v, %v", found, err)
	}
	flushAll(t, addr)
	if _, err := engine.Load(t.Context(), []string{"u"}); !errors.Is(err, freshet.ErrLost) {
		t.Fatalf("a user who is missing after FLUSHALL: %v, want lost", err)
	}
	if _, err := l.recovery.marks.Accept(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := engine.Load(t.Context(), []string{"u"}); err != nil {
		t.Errorf("after the store was taken back: %v", err)
	}
}

// What the events do not bring back to a store that was emptied comes from the worker: the items, and the table of lanes.
func TestAStoreThatWasEmptiedGetsItemsAndLanesBack(t *testing.T) {
	s := serveEmbedded(t, func(c *Config) { c.Bootstrap, c.Kafka.LossWindow = "auto", Duration(100*time.Millisecond) })
	s.happen(t, "u1 view o0001", "u2 view o0002")
	s.await(t, "the events are committed", func() bool { return s.status()[0].Committed == 2 })
	s.await(t, "the lane has caught up, which changes the table", func() bool { return s.worker.table.Load().Version == 2 })
	before := s.table(t)
	flushAll(t, s.servers.RedisAddr())
	s.await(t, "everything is back", func() bool {
		items, err1 := s.store.Items(t.Context(), []string{"o0001", s.items[len(s.items)-1].ItemID})
		users, err2 := s.store.Load(t.Context(), []string{"u1", "u2"})
		return err1 == nil && err2 == nil && !slices.Contains(items, nil) && users[0] != nil && users[1] != nil
	})
	if after := s.table(t); !reflect.DeepEqual(after, before) {
		t.Errorf("the table was %+v and is %+v", before, after)
	}
}

func flushAll(t *testing.T, addr string) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "*1\r\n$8\r\nFLUSHALL\r\n"); err != nil {
		t.Fatal(err)
	}
	if answer, err := bufio.NewReader(c).ReadString('\n'); err != nil || answer != "+OK\r\n" {
		t.Fatalf("FLUSHALL: %q, %v", answer, err)
	}
}
