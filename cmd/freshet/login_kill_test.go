package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"go.uber.org/zap"

	"freshet"
	"freshet/featurestore"
	"freshet/stream"
)

// Kill -9 in the middle while hundreds of people log in: each of them ends with his own and his anonymous behaviours, in order, none missing and
// none twice, and with the state, to the last bit, of a twin who did it all under one name.
func TestLoginsMergeAcrossKills(t *testing.T) {
	const people, behaviours = 300, 24
	cfg, env := realServers(t)
	conn, err := connection(cfg)
	if err != nil {
		t.Fatal(err)
	}
	producer, err := stream.NewProducer(stream.ProducerConfig{Connection: conn, Events: cfg.Kafka.Topics.Events}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	log := loginStream(rand.New(rand.NewPCG(8, 8)), people, behaviours)
	committed := func() (n int64) {
		offsets, err := stream.Committed(t.Context(), conn, cfg.Kafka.Group, cfg.Kafka.Topics.Events)
		if err != nil {
			return 0 // the coordinator is being looked for
		}
		for _, at := range offsets {
			n += at
		}
		return n
	}
	const kills = 3
	for n := range kills { // each finds work to do, however fast the one before was
		at := committed()
		if err := producer.PublishEvents(t.Context(), log[n*len(log)/kills:(n+1)*len(log)/kills]); err != nil {
			t.Fatal(err)
		}
		kill := startWorker(t, env)
		eventually(t, "the worker gets on", func() bool { return committed() > at })
		kill()
		t.Logf("killed when %d records were committed, of %d and what logins forwarded", committed(), (n+1)*len(log)/kills)
	}
	startWorker(t, env)
	store, err := featurestore.Open(t.Context(), storeConfig(cfg), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	profiles := func(name string) []*freshet.Profile {
		ids := make([]string, people)
		for i := range ids {
			ids[i] = fmt.Sprintf("%s%d", name, i)
		}
		stored, err := store.Load(t.Context(), ids)
		if err != nil {
			t.Fatal(err)
		}
		out := make([]*freshet.Profile, people)
		for i, b := range stored {
			out[i] = &freshet.Profile{}
			if b != nil {
				if out[i], err = freshet.DecodeProfile(ids[i], b); err != nil {
					t.Fatal(err)
				}
			}
		}
		return out
	}
	whole := func(p *freshet.Profile) bool { return len(p.Window) >= behaviours }
	eventually(t, "everybody has all his behaviours", func() bool {
		return !slices.ContainsFunc(append(profiles("user"), profiles("twin")...), func(p *freshet.Profile) bool { return !whole(p) })
	})
	items := func(p *freshet.Profile) (ids []string) {
		for _, e := range p.Window {
			ids = append(ids, e.ItemID)
		}
		return ids
	}
	different, states := 0, 0
	users, twins := profiles("user"), profiles("twin")
	for i := range people {
		if !slices.Equal(items(users[i]), items(twins[i])) {
			different++
			t.Logf("person %d: %v, twin %v", i, items(users[i]), items(twins[i]))
		} else if !slices.Equal(users[i].State, twins[i].State) {
			states++
		}
	}
	t.Logf("%d logins: %d histories and %d states are not those of the twin", people, different, states)
	if different+states > 0 {
		t.Fail()
	}
}

// loginStream lets each person do things under an anonymous name and under his own, log in on the way, and go on under both; his twin does the same
// under one name.
func loginStream(random *rand.Rand, people, behaviours int) (log []freshet.Event) {
	start := time.Now().Add(-2 * time.Hour).UnixMilli()
	for k := range behaviours {
		for p := range people {
			at := start + int64(k)*60_000 + int64(p)
			name := fmt.Sprintf("user%d", p)
			if random.IntN(2) == 0 {
				name = fmt.Sprintf("anon%d", p)
			}
			item := []freshet.EventItem{{ItemID: fmt.Sprintf("o%04d", random.IntN(60)), Quantity: 1}}
			for _, who := range []string{name, fmt.Sprintf("twin%d", p)} {
				log = append(log, freshet.Event{ID: fmt.Sprintf("%s-%d", who, k), Type: "view", UserID: who, Items: item, Time: at})
			}
			if k == 5+p%(behaviours-10) {
				log = append(log, freshet.Event{ID: fmt.Sprintf("login-%d", p), Type: "login", UserID: fmt.Sprintf("anon%d", p), MergeInto: fmt.Sprintf("user%d", p), Time: at + 1})
			}
		}
	}
	return log
}
