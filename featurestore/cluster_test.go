package featurestore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"freshet"
	"freshet/featurestore"
	"freshet/featurestore/storetest"
)

func TestClusterScriptsComeBackOnEveryMaster(t *testing.T) {
	nodes := startCluster(t)
	r := open(t, storetest.Config(featurestore.Config{Addrs: addrs(nodes), Cluster: true}))
	var batch []freshet.Update
	for i := range 200 {
		batch = append(batch, first(fmt.Sprint("u", i), "a"))
	}
	for _, n := range nodes {
		if err := n.admin(t).ScriptFlush(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
	}
	mustSave(t, r, batch...)
	for _, n := range nodes {
		if keys, err := n.admin(t).DBSize(t.Context()).Result(); err != nil || keys == 0 {
			t.Errorf("%s holds %d keys, %v", n.addr, keys, err)
		}
	}
}

func TestASlotThatMovesLosesNothing(t *testing.T) {
	nodes := startCluster(t)
	r := open(t, storetest.Config(featurestore.Config{Addrs: addrs(nodes), Cluster: true}))
	u := first("u", "a")
	mustSave(t, r, u)
	m := migrate(t, nodes, "freshet:live:profile:{u}")
	// Halfway some keys of a user are here and some there: the servers refuse what needs both, or send us on.
	for step, keys := range [][]string{nil, {"freshet:live:profile:{u}"}, m.keys()} {
		m.move(keys...)
		found, err := r.Load(t.Context(), []string{"u"})
		if err != nil || string(found[0]) != string(u.Profile) {
			t.Fatalf("step %d: loaded %d bytes, %v", step, len(found[0]), err)
		}
		after := next(u, fmt.Sprint(step))
		results, err := r.Save(t.Context(), []freshet.Update{after})
		switch results[0] {
		case freshet.Saved:
			u = after
		case freshet.Retry:
			if !errors.Is(err, freshet.ErrUnavailable) {
				t.Fatalf("step %d: %v", step, err)
			}
		default:
			t.Fatalf("step %d: %v, %v", step, results, err)
		}
	}
	m.finish()
	after := next(u, "b")
	mustSave(t, r, after)
	expectProfile(t, r, after)
}

// migration hands the slot of a key over to the next master.
type migration struct {
	t        *testing.T
	slot     int
	from, to *server
	id       string // of to
}

func migrate(t *testing.T, nodes []*server, key string) *migration {
	t.Helper()
	slot, err := nodes[0].admin(t).ClusterKeySlot(t.Context(), key).Result()
	if err != nil {
		t.Fatal(err)
	}
	at := int(slot) * 3 / 16384
	m := &migration{t: t, slot: int(slot), from: nodes[at], to: nodes[(at+1)%3]}
	id := func(n *server) string {
		v, err := n.admin(t).Do(t.Context(), "cluster", "myid").Text()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	m.id = id(m.to)
	m.do(m.to, "cluster", "setslot", m.slot, "importing", id(m.from))
	m.do(m.from, "cluster", "setslot", m.slot, "migrating", m.id)
	return m
}

func (m *migration) do(n *server, args ...any) {
	m.t.Helper()
	if err := n.admin(m.t).Do(m.t.Context(), args...).Err(); err != nil {
		m.t.Fatalf("%v: %v", args, err)
	}
}

// keys are those that are still to move.
func (m *migration) keys() []string {
	m.t.Helper()
	keys, err := m.from.admin(m.t).ClusterGetKeysInSlot(m.t.Context(), m.slot, 1000).Result()
	if err != nil || len(keys) == 0 {
		m.t.Fatalf("keys of slot %d: %v, %v", m.slot, keys, err)
	}
	return keys
}

func (m *migration) move(keys ...string) {
	m.t.Helper()
	host, port, _ := strings.Cut(m.to.addr, ":")
	for _, k := range keys {
		m.do(m.from, "migrate", host, port, k, 0, 5000)
	}
}

func (m *migration) finish() {
	m.t.Helper()
	for _, n := range []*server{m.to, m.from} {
		m.do(n, "cluster", "setslot", m.slot, "node", m.id)
	}
}

// A Cluster that lacks one of its masters refuses everything (CLUSTERDOWN); that passes, and nothing of the other masters is lost.
func TestAClusterThatLacksAMasterIsARetryUntilItIsWhole(t *testing.T) {
	nodes := startCluster(t)
	r := open(t, storetest.Config(featurestore.Config{Addrs: addrs(nodes), Cluster: true}))
	u := userOn(t, nodes[0])
	mustSave(t, r, u)
	nodes[1].kill(t)
	deadline := time.Now().Add(60 * time.Second)
	for down := false; !down; {
		after := next(u, "b")
		results, err := r.Save(t.Context(), []freshet.Update{after})
		switch {
		case results[0] == freshet.Saved:
			u = after // the others have not missed it yet
		case results[0] != freshet.Retry || !errors.Is(err, freshet.ErrUnavailable):
			t.Fatalf("%v, %v", results, err)
		}
		down = err != nil && strings.Contains(err.Error(), "CLUSTERDOWN")
		if time.Now().After(deadline) {
			t.Fatal("nobody missed the master")
		}
		time.Sleep(10 * time.Millisecond)
	}
	if _, err := r.Load(t.Context(), []string{u.UserID}); !errors.Is(err, freshet.ErrUnavailable) {
		t.Errorf("load: %v, want unavailable", err)
	}
	nodes[1].start(t)
	for _, n := range nodes {
		awaitCluster(t, n.admin(t))
	}
	expectProfile(t, r, u)
	mustSave(t, r, next(u, "c"))
}

// userOn gives the first save of a user whose keys lie on a master.
func userOn(t *testing.T, n *server) freshet.Update {
	t.Helper()
	for i := range 1000 {
		u := first(fmt.Sprint("u", i), "a")
		err := n.admin(t).Get(context.Background(), "freshet:live:profile:{"+u.UserID+"}").Err()
		if errors.Is(err, redis.Nil) {
			return u
		}
	}
	t.Fatal("no user of a thousand lies there")
	return freshet.Update{}
}
