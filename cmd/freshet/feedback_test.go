package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/zap"

	"freshet"
	"freshet/featurestore"
	"freshet/internal/feedback"
	"freshet/stream"
)

// realServers gives a configuration for real servers with names of the test's own, and the environment that tells a process the same.
func realServers(t testing.TB) (Config, []string) {
	t.Helper()
	kafka, redis := os.Getenv("FRESHET_TEST_KAFKA"), os.Getenv("FRESHET_TEST_REDIS")
	if kafka == "" || redis == "" {
		unavailable(t, "FRESHET_TEST_KAFKA and FRESHET_TEST_REDIS name no servers")
	}
	return serversAt(t, "FRESHET_KAFKA_BROKERS="+kafka, "FRESHET_REDIS_ADDRS="+redis)
}

// serversAt is realServers for servers that variables name; a variable that is given goes before what a test would choose.
func serversAt(t testing.TB, given ...string) (Config, []string) {
	t.Helper()
	bundle, err := filepath.Abs("../../models/bundles/shop")
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("t%d", time.Now().UnixNano())
	env := append(os.Environ(), "FRESHET_REDIS_PREFIX="+name, "FRESHET_KAFKA_GROUP="+name,
		"FRESHET_KAFKA_PARTITIONS=2", "FRESHET_KAFKA_SESSION=3s", "FRESHET_KAFKA_LOSS_WINDOW=200ms", "FRESHET_HTTP_LISTEN=",
		"FRESHET_MODEL_BUNDLE="+bundle, "FRESHET_MODEL_LIBRARY="+needLibrary(t), "FRESHET_MODEL_ENCODER=none", "FRESHET_CATALOGUE_ONLY=false",
		"FRESHET_LOG_LEVEL=warn")
	for _, topic := range []string{"EVENTS", "ITEMS", "RECOMMENDATIONS", "TRAINING_EXAMPLES", "DEAD_LETTERS"} {
		env = append(env, "FRESHET_KAFKA_TOPICS_"+topic+"="+name+"-"+topic)
	}
	env = append(env, given...)
	cfg, err := loadConfig("", env, nil)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := connection(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.EnsureTopics(t.Context(), conn, topicsOf(cfg)...); err != nil {
		t.Fatal(err)
	}
	return cfg, env
}

// startWorker runs `freshet serve` as a process of its own; kill ends it as a power cut would.
func startWorker(t *testing.T, env []string) (kill func()) {
	t.Helper()
	c := exec.Command("freshet", "serve")
	c.Env, c.Stderr = env, os.Stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	gone := false
	kill = func() {
		if !gone {
			gone = true
			_ = c.Process.Kill()
			_ = c.Wait()
		}
	}
	t.Cleanup(kill)
	return kill
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); !holds(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("within a minute it never came to be that %s", what)
		}
	}
}

// shownAndDone makes what users are shown and do, an hour and more ago by the log's time, with repeats and late events.
func shownAndDone(random *rand.Rand, n int) []freshet.Event {
	start := time.Now().Add(-4 * time.Hour).UnixMilli()
	log := make([]freshet.Event, n)
	for i := range log {
		at := start + int64(i)*2*time.Hour.Milliseconds()/int64(n)
		e := freshet.Event{ID: fmt.Sprintf("e%d", i), UserID: fmt.Sprintf("u%d", random.IntN(40)), Time: at - random.Int64N(2)*random.Int64N(600_000), RecordTime: at}
		list := fmt.Sprintf("%s-%d", e.UserID, i/200)
		item := func() freshet.EventItem { return freshet.EventItem{ItemID: fmt.Sprintf("o%04d", 1+random.IntN(8))} }
		switch e.Items = []freshet.EventItem{item()}; random.IntN(4) {
		case 0:
			e.Type, e.RecID, e.Items = "impression", list, append(e.Items, item(), item())
		case 1:
			e.Type, e.RecID = "click", list
		default:
			e.Type = []string{"view", "purchase", "dislike"}[random.IntN(3)]
		}
		if i > 0 && random.IntN(20) == 0 {
			again := log[i-1]
			again.RecordTime, e = at, again
		}
		log[i] = e
	}
	return log
}

// Kill -9 twice while users are shown things and act: the examples are those of a serial join of the log, none missing, none twice.
func TestExamplesEqualASerialJoinWithKillsInTheMiddle(t *testing.T) {
	cfg, env := realServers(t)
	conn, err := connection(cfg)
	if err != nil {
		t.Fatal(err)
	}
	producer, err := stream.NewProducer(stream.ProducerConfig{Connection: conn}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	log := shownAndDone(rand.New(rand.NewPCG(5, 5)), 12_000)
	records := make([]stream.Record, len(log))
	for i := range log {
		e := &log[i]
		records[i] = stream.Record{Key: []byte(e.UserID), Value: stream.AppendEvent(nil, e), Time: e.RecordTime}
	}
	if err := producer.Publish(t.Context(), cfg.Kafka.Topics.Events, records); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		at := progressOf(t, cfg, conn)
		kill := startWorker(t, env)
		eventually(t, "the join works", func() bool { return progressOf(t, cfg, conn) > at })
		kill()
		t.Logf("killed when %d of %d records were joined and committed", progressOf(t, cfg, conn), len(log))
	}
	startWorker(t, env)
	store, err := featurestore.Open(t.Context(), storeConfig(cfg), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	eventually(t, "everything is joined", func() bool {
		for p := range int32(cfg.Kafka.Partitions) {
			open, err := store.OpenJoins(t.Context(), freshet.Source{Topic: cfg.Kafka.Topics.Events, Partition: p}, 1<<62, 1)
			if err != nil || len(open) > 0 {
				return false
			}
		}
		return progressOf(t, cfg, conn) == int64(len(log))
	})
	got, err := readExamples(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	want := serialJoin(t, cfg, conn)
	missing, different := len(want), 0
	for _, x := range got.Examples {
		w, ok := want[x.ID]
		if !ok {
			t.Errorf("example %s is in no serial join", x.ID)
			continue
		}
		if missing--; plain(t, x) != plain(t, w) {
			different++
			if different == 1 {
				t.Logf("joined %s\nserial %s", plain(t, x), plain(t, w))
			}
		}
	}
	t.Logf("%d examples; a serial join has %d: %d missing, %d different; %d copies on the topic, dropped by their id", len(got.Examples), len(want), missing, different, got.Twice)
	if missing != 0 || different != 0 || len(want) == 0 {
		t.Fail()
	}
}

// progressOf is how many records the join's group has committed.
func progressOf(t *testing.T, cfg Config, conn stream.Connection) (n int64) {
	t.Helper()
	offsets, err := stream.Committed(t.Context(), conn, feedbackGroup(cfg), cfg.Kafka.Topics.Events)
	if err != nil {
		return 0 // the coordinator is being looked for
	}
	for _, at := range offsets {
		n += at
	}
	return n
}

// serialJoin reads the log once, in order, without a store.
func serialJoin(t *testing.T, cfg Config, conn stream.Connection) map[string]feedback.Example {
	t.Helper()
	types, err := cfg.EventTypes()
	if err != nil {
		t.Fatal(err)
	}
	decoder, err := stream.NewDecoder(stream.DecoderConfig{Types: types})
	if err != nil {
		t.Fatal(err)
	}
	rules := feedback.Rules{Types: types, Window: cfg.Feedback.Window.D(), Grace: cfg.Feedback.Grace.D()}
	users, all := map[string]*feedback.State{}, map[string]feedback.Example{}
	keep := func(list []feedback.Example) {
		for _, x := range list {
			if _, again := all[x.ID]; !again {
				all[x.ID] = x
			}
		}
	}
	err = stream.Scan(t.Context(), conn, cfg.Kafka.Topics.Events, func(r stream.Record) error {
		e, err := decoder.Decode(&r, freshet.Position{Source: freshet.Source{Topic: r.Topic, Partition: r.Partition}, Offset: r.Offset})
		if err != nil {
			return err
		}
		if users[e.UserID] == nil {
			users[e.UserID] = &feedback.State{}
		}
		closed, _ := users[e.UserID].Take(&e, &rules, nil)
		keep(closed)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range users {
		keep(s.Close(1 << 62))
	}
	return all
}

// plain is an example without what the list says of it: that depends on whether the list still stood.
func plain(t *testing.T, x feedback.Example) string {
	t.Helper()
	x.Lane, x.Model = "", ""
	for i := range x.Items {
		x.Items[i].Place, x.Items[i].Score, x.Items[i].Source = 0, 0, ""
	}
	b, err := json.Marshal(x)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
