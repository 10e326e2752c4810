package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/zap"

	"freshet"
	"freshet/featurestore"
	"freshet/internal/embedded"
	"freshet/internal/shop"
	"freshet/internal/telemetry"
	"freshet/stream"
)

// needLibrary finds ONNX Runtime, or skips the test; in CI its absence is a failure.
func needLibrary(t testing.TB) string {
	t.Helper()
	library := firstExisting("FRESHET_ONNXRUNTIME", "onnxruntime/libonnxruntime.so")
	if library == "" {
		unavailable(t, "ONNX Runtime was not found: run make setup")
	}
	return library
}

// served is a worker on servers inside the test, with the shop's bundle and its catalogue.
type served struct {
	*worker
	servers *embedded.Servers
	items   []freshet.Item
	offsets int
}

// serveEmbedded starts the servers and a worker, which ends with the test. change may change its configuration. The catalogue is the
// shop's, or those of its items whose id begins with one of some prefixes.
func serveEmbedded(t *testing.T, change func(*Config), prefixes ...string) *served {
	t.Helper()
	s := &served{}
	var err error
	if s.servers, err = embedded.Start(t.Context(), embedded.Config{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.servers.Close() })
	cfg := DefaultConfig()
	cfg.Kafka.Brokers, cfg.Redis.Addrs = []string{s.servers.KafkaAddr()}, []string{s.servers.RedisAddr()}
	cfg.Kafka.Partitions = 1
	cfg.Model.Library, cfg.Model.Encoder, cfg.Model.Bundle = needLibrary(t), "", "../../models/bundles/shop"
	if change != nil {
		change(&cfg)
	}
	if s.worker, err = openWorker(t.Context(), cfg, telemetry.NewMetrics(), zap.NewNop()); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.worker.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := s.worker.Close(); err != nil {
			t.Error(err)
		}
	})
	s.items = shop.New(7, shop.Config{Shoppers: 1, Start: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}).Items()
	if len(prefixes) > 0 {
		s.items = slices.DeleteFunc(s.items, func(i freshet.Item) bool {
			return !slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(i.ItemID, p) })
		})
	}
	s.publishItems(t, s.items...)
	return s
}

func (s *served) publishItems(t *testing.T, items ...freshet.Item) {
	t.Helper()
	changes := make([]stream.ItemChange, len(items))
	for i := range items {
		changes[i] = stream.ItemChange{ItemID: items[i].ItemID, Item: &items[i]}
	}
	if err := s.producer.PublishItems(t.Context(), changes); err != nil {
		t.Fatal(err)
	}
	ids := make([]string, len(items))
	for n, i := range items {
		ids[n] = i.ItemID
	}
	s.await(t, "the items are known, and stored, which they are a moment later", func() bool {
		for _, id := range ids {
			if _, ok := s.worker.items.Item(id); !ok {
				return false
			}
		}
		stored, err := s.store.Items(t.Context(), ids)
		return err == nil && !slices.Contains(stored, nil)
	})
}

// happen publishes behaviours, each written as "user type item", a minute apart, and waits until they have been worked off.
func (s *served) happen(t *testing.T, behaviours ...string) {
	t.Helper()
	events := make([]freshet.Event, len(behaviours))
	for i, b := range behaviours {
		var user, kind, item string
		if _, err := fmt.Sscan(b, &user, &kind, &item); err != nil {
			t.Fatalf("%q: %v", b, err)
		}
		s.offsets++
		events[i] = freshet.Event{ID: fmt.Sprintf("e%d", s.offsets), Type: kind, UserID: user, Items: []freshet.EventItem{{ItemID: item}},
			Time: time.Date(2026, 1, 1, 0, s.offsets, 0, 0, time.UTC).UnixMilli()}
	}
	if err := s.producer.PublishEvents(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	s.await(t, "the events are applied", func() bool {
		applied := int64(0)
		for _, p := range s.status() {
			applied += p.Applied
		}
		return applied >= int64(s.offsets)
	})
}

// await polls until something holds.
func (s *served) await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(30 * time.Second); !holds(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("within 30 s it never came to be that %s", what)
		}
	}
}

// The transcripts in testdata/served are what an operator sees of a worker that has served somebody.
func TestCommandLineOnServers(t *testing.T) {
	s := serveEmbedded(t, nil)
	s.happen(t, "u1 view o0001", "u1 view o0025", "u1 cart o0025", "u1 view o0004", "u1 purchase o0025", "u1 view o0002")
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/served",
		RequireExplicitExec: true,
		UpdateScripts:       *rewrite,
		Setup: func(e *testscript.Env) error {
			e.Setenv("FRESHET_ONNXRUNTIME", s.cfg.Model.Library)
			e.Setenv("FRESHET_ENCODER", "none")
			e.Setenv("FRESHET_MODEL_BUNDLE", filepath.Join(root, "models/bundles/shop"))
			e.Setenv("OTHER_BUNDLE", filepath.Join(root, "models/bundles/beauty"))
			e.Setenv("FRESHET_KAFKA_BROKERS", s.servers.KafkaAddr())
			e.Setenv("FRESHET_REDIS_ADDRS", s.servers.RedisAddr())
			return nil
		},
	})
}

// unavailable skips a test for want of something that continuous integration must have.
func unavailable(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(reason)
	}
	t.Skip(reason)
}

// embeddedStore is a store on a Redis of the test's own, and that one's address.
func embeddedStore(t *testing.T) (*featurestore.Redis, string) {
	t.Helper()
	servers, err := embedded.Start(t.Context(), embedded.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(servers.Close)
	store, err := featurestore.Open(t.Context(), featurestore.Config{Addrs: []string{servers.RedisAddr()}}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return store, servers.RedisAddr()
}
