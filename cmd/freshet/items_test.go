package main

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/zap"

	"freshet"
	"freshet/featurestore"
	"freshet/internal/embedded"
	"freshet/stream"
)

// Of two workers one keeps a partition's items. When it goes, the other takes over and is given what was not written.
func TestAPartitionOfItemsHasOneKeeper(t *testing.T) {
	addr := os.Getenv("FRESHET_TEST_REDIS")
	if addr == "" {
		servers, err := embedded.Start(t.Context(), embedded.Config{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { servers.Close() })
		addr = servers.RedisAddr()
	}
	store, err := featurestore.Open(t.Context(), featurestore.Config{Addrs: []string{addr}, Prefix: fmt.Sprintf("keeper-%d", time.Now().UnixNano())}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	at := freshet.Source{Topic: "items", Partition: 3}
	change := func(offset int64) []stream.ItemChange {
		return []stream.ItemChange{{ItemID: "i", Item: &freshet.Item{ItemID: "i"}, Position: freshet.Position{Source: at, Offset: offset}}}
	}
	var again []int64
	a := newItemKeeper(store, func(int, int64) { t.Error("the first keeper has nothing to catch up with") }, zap.NewNop())
	b := newItemKeeper(store, func(_ int, from int64) { again = append(again, from) }, zap.NewNop())
	take := func(k *itemKeeper, offset int64, foreign, kept bool) {
		t.Helper()
		out, err := k.changes(t.Context(), change(offset))
		if err != nil {
			t.Fatal(err)
		}
		if out[0].Foreign != foreign || out[0].Kept != kept {
			t.Errorf("offset %d: foreign %v, kept %v", offset, out[0].Foreign, out[0].Kept)
		}
		if err := k.applied(t.Context(), change(offset)); err != nil {
			t.Fatal(err)
		}
	}
	take(a, 0, false, false)
	take(b, 0, true, false)
	take(a, 1, false, false)
	take(b, 1, true, false)
	take(b, 2, true, false) // a has not read it when it goes
	renew := func(k *itemKeeper) {
		t.Helper()
		if err := k.renew(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	renew(b)
	renew(a)
	take(a, 1, false, true) // read once more
	gone, stop := context.WithCancel(t.Context())
	stop()
	a.run(gone)
	renew(b)
	if len(again) != 1 || again[0] != 2 {
		t.Fatalf("the new keeper reads again from %v, not from 2", again)
	}
	take(b, 2, false, false)
	take(b, 3, false, false)
	after := newItemKeeper(store, nil, zap.NewNop())
	after.holder = b.holder // the same worker, started anew
	take(after, 3, false, true)
	take(after, 4, false, false)
}

// A store that forgot items is given all of them again, also when one was under way at that moment, and also by whoever keeps them next.
func TestItemsThatTheStoreForgotAreWrittenAgain(t *testing.T) {
	store, _ := embeddedStore(t)
	at := freshet.Source{Topic: "items", Partition: 3}
	again := 0
	k := newItemKeeper(store, func(partition int, from int64) {
		if again++; partition != 3 || from != 0 {
			t.Errorf("partition %d from %d", partition, from)
		}
	}, zap.NewNop())
	take := func(offset, noted int64) {
		t.Helper()
		change := []stream.ItemChange{{ItemID: "i", Item: &freshet.Item{ItemID: "i"}, Position: freshet.Position{Source: at, Offset: offset}}}
		out, err := k.changes(t.Context(), change)
		if err != nil || out[0].Kept || out[0].Foreign {
			t.Errorf("offset %d: %+v, %v", offset, out, err)
		}
		if err := k.applied(t.Context(), change); err != nil {
			t.Fatal(err)
		}
		if n, err := store.Noted(t.Context(), keeperTask(at)); err != nil || n != noted {
			t.Errorf("after offset %d everything below %d is noted, want %d; %v", offset, n, noted, err)
		}
	}
	take(0, 1)
	take(1, 2)
	if err := k.writeAgain(t.Context()); err != nil || again != 1 {
		t.Fatalf("%d partitions are read again, %v", again, err)
	}
	take(2, 0) // fetched before
	take(0, 1)
	take(1, 2)
	take(2, 3)
}
