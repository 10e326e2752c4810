package featurestore_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"freshet"
	"freshet/featurestore"
	"freshet/featurestore/storetest"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func at(partition int32, offset int64) freshet.Position {
	return freshet.Position{Source: freshet.Source{Topic: "events", Incarnation: 1, Partition: partition}, Offset: offset}
}

func accept(t *testing.T, s *featurestore.Sentinels) []featurestore.Sentinel {
	t.Helper()
	found, err := s.Accept(t.Context(), noon.Add(-time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func mark(t *testing.T, s *featurestore.Sentinels, now time.Time, saved ...freshet.Position) {
	t.Helper()
	if err := s.Mark(t.Context(), now, saved); err != nil {
		t.Fatal(err)
	}
}

func TestSentinelsRememberWhatIsSaved(t *testing.T) {
	s := startServer(t)
	r := open(t, featurestore.Config{Addrs: []string{s.addr}})
	one, two := r.Sentinels("freshet", "one"), r.Sentinels("freshet", "two")
	if found := accept(t, one); len(found) != 1 || !found[0].Time.IsZero() || len(found[0].Saved) != 0 || found[0].RunID == "" {
		t.Fatalf("a new server remembers %+v", found)
	}
	mark(t, one, noon, at(0, 10), at(1, 20))
	mark(t, two, noon.Add(time.Second), at(2, 30))
	mark(t, one, noon.Add(2*time.Second), at(0, 15)) // partition 1 went elsewhere; what was saved of it stands
	found := accept(t, r.Sentinels("freshet", "three"))
	want := []freshet.Position{at(0, 15), at(1, 20), at(2, 30)}
	if !reflect.DeepEqual(found[0].Saved, want) || !found[0].Time.Equal(noon.Add(2*time.Second)) {
		t.Errorf("remembers %v of %v, want %v", found[0].Saved, found[0].Time, want)
	}
	if found := accept(t, r.Sentinels("another group", "one")); len(found[0].Saved) != 0 {
		t.Errorf("another group sees %v", found[0].Saved)
	}
}

func TestSentinelHistoryIsAnHourOfMinutes(t *testing.T) {
	s := startServer(t)
	r := open(t, featurestore.Config{Addrs: []string{s.addr}})
	w := r.Sentinels("freshet", "one")
	accept(t, w)
	for minute := range 90 {
		for second := range 3 {
			mark(t, w, noon.Add(time.Duration(minute)*time.Minute+time.Duration(second)*time.Second), at(0, int64(minute*10+second)))
		}
	}
	history, err := w.History(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(history) != 60 {
		t.Fatalf("%d entries, want 60", len(history))
	}
	for i, entry := range history {
		minute := 30 + i
		// The first mark of a minute keeps what stood before it: the last of the minute before.
		if want := []freshet.Position{at(0, int64((minute-1)*10+2))}; !entry.Time.Equal(noon.Add(time.Duration(minute)*time.Minute)) || !reflect.DeepEqual(entry.Saved, want) {
			t.Fatalf("entry %d: %v at %v, want %v", i, entry.Saved, entry.Time, want)
		}
	}
}

func TestStartAtIsTheOldestThatAnyMasterHolds(t *testing.T) {
	found := []featurestore.Sentinel{{Saved: []freshet.Position{at(0, 99), at(1, 49)}}, {Saved: []freshet.Position{at(0, 79)}}}
	for _, row := range []struct {
		partition                 int32
		committed, start, unknown int64
	}{
		{0, 100, 80, 0}, // one master went back to 79
		{0, 60, 60, 0},  // both hold more than was committed
		{1, 50, 50, 1},
		{2, 10, 10, 2},
	} {
		start, unknown := featurestore.StartAt(found, at(row.partition, 0).Source, row.committed)
		if start != row.start || int64(unknown) != row.unknown {
			t.Errorf("partition %d, committed %d: start at %d with %d unknown, want %d and %d", row.partition, row.committed, start, unknown, row.start, row.unknown)
		}
	}
}

// The story that sentinels are there for: Redis comes back without its last seconds while the worker lives.
func TestARestartedServerIsClosedUntilItIsAccepted(t *testing.T) {
	s := startServer(t)
	r, admin := open(t, storetest.Config(featurestore.Config{Addrs: []string{s.addr}})), s.admin(t)
	w := r.Sentinels("freshet", "one")
	accept(t, w)
	u := first("u", "a")
	mustSave(t, r, u)
	mark(t, w, noon, at(0, 10))
	if err := admin.Save(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	u2 := next(u, "b")
	mustSave(t, r, u2)
	mark(t, w, noon.Add(time.Second), at(0, 20))
	s.kill(t)
	s.start(t)

	// Nothing may be read from the past: v's gap would be covered by his next position for ever.
	if _, err := r.Load(t.Context(), []string{"v"}); !errors.Is(err, freshet.ErrLost) {
		t.Fatalf("load from a restarted server: %v, want lost", err)
	}
	results, err := r.Save(t.Context(), []freshet.Update{next(u2, "c")})
	if !errors.Is(err, freshet.ErrLost) || results[0] != freshet.Lost {
		t.Fatalf("save to a restarted server: %v, %v, want lost", results, err)
	}
	if err := w.Mark(t.Context(), noon.Add(2*time.Second), []freshet.Position{at(0, 30)}); !errors.Is(err, freshet.ErrLost) {
		t.Fatalf("mark on a restarted server: %v, want lost", err)
	}
	found := accept(t, w)
	if start, unknown := featurestore.StartAt(found, at(0, 0).Source, 18); start != 11 || unknown != 0 {
		t.Errorf("start at %d with %d unknown, want 11: what the snapshot held", start, unknown)
	}
	mustSave(t, r, next(u, "b again"))
	mark(t, w, noon.Add(3*time.Second), at(0, 20))
}

// A server that is still loading its data cannot be accepted; until it can, nothing may pass.
func TestAnAcceptanceThatFailsLeavesTheStoreClosed(t *testing.T) {
	s := startServer(t)
	r := open(t, featurestore.Config{Addrs: []string{s.addr}})
	w := r.Sentinels("freshet", "one")
	accept(t, w)
	mark(t, w, noon, at(0, 10))
	s.kill(t)
	s.start(t)
	if _, err := r.Load(t.Context(), []string{"u"}); !errors.Is(err, freshet.ErrLost) {
		t.Fatalf("load from a restarted server: %v, want lost", err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := w.Accept(ended, noon); err == nil {
		t.Fatal("accepted a server that was not asked")
	}
	if _, err := r.Load(t.Context(), []string{"u"}); !errors.Is(err, freshet.ErrLost) {
		t.Errorf("load after a failed acceptance: %v, want lost", err)
	}
	if err := w.Mark(t.Context(), noon, nil); !errors.Is(err, freshet.ErrLost) {
		t.Errorf("mark after a failed acceptance: %v, want lost", err)
	}
	accept(t, w)
	if _, err := r.Load(t.Context(), []string{"u"}); err != nil {
		t.Errorf("load after an acceptance: %v", err)
	}
}

func TestAServerThatForgetsInPlaceIsNoticedByItsMarks(t *testing.T) {
	s := startServer(t)
	r, admin := open(t, storetest.Config(featurestore.Config{Addrs: []string{s.addr}})), s.admin(t)
	w := r.Sentinels("freshet", "one")
	accept(t, w)
	mark(t, w, noon, at(0, 10))
	if err := w.Hold(t.Context()); err != nil {
		t.Fatalf("hold on a whole server: %v", err)
	}
	if err := admin.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if err := w.Hold(t.Context()); !errors.Is(err, freshet.ErrLost) {
		t.Fatalf("hold after FLUSHALL: %v, want lost", err)
	}
	if err := w.Mark(t.Context(), noon.Add(time.Second), []freshet.Position{at(0, 20)}); !errors.Is(err, freshet.ErrLost) {
		t.Fatalf("mark after FLUSHALL: %v, want lost", err)
	}
	if _, err := r.Load(t.Context(), []string{"u"}); !errors.Is(err, freshet.ErrLost) {
		t.Errorf("load after a lost mark: %v, want lost", err)
	}
	found := accept(t, w)
	if start, unknown := featurestore.StartAt(found, at(0, 0).Source, 15); start != 15 || unknown != 1 || !found[0].Time.IsZero() {
		t.Errorf("start at %d with %d unknown; a wiped server knows nothing", start, unknown)
	}
}

func TestAPromotedReplicaIsClosedUntilItIsAccepted(t *testing.T) {
	s := startServer(t)
	r, admin := open(t, storetest.Config(featurestore.Config{Addrs: []string{s.addr}})), s.admin(t)
	w := r.Sentinels("freshet", "one")
	accept(t, w)
	for _, master := range [][]any{{"127.0.0.1", freePort(t)}, {"no", "one"}} {
		if err := admin.Do(t.Context(), append([]any{"replicaof"}, master...)...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Mark(t.Context(), noon, nil); !errors.Is(err, freshet.ErrLost) {
		t.Errorf("mark after the data changed hands: %v, want lost", err)
	}
}

func TestARestartWithoutSentinelsIsNotClosed(t *testing.T) {
	s := startServer(t, "--appendonly", "yes", "--appendfsync", "always")
	r := open(t, storetest.Config(featurestore.Config{Addrs: []string{s.addr}}))
	u := first("u", "a")
	mustSave(t, r, u)
	s.kill(t)
	s.start(t)
	expectProfile(t, r, u)
}

func TestEveryMasterOfAClusterHasASentinel(t *testing.T) {
	nodes := startCluster(t)
	r := open(t, storetest.Config(featurestore.Config{Addrs: addrs(nodes), Cluster: true}))
	w := r.Sentinels("freshet", "one")
	if found := accept(t, w); len(found) != 3 {
		t.Fatalf("%d sentinels, want 3", len(found))
	}
	mark(t, w, noon, at(0, 10))
	if err := nodes[1].admin(t).FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if err := w.Mark(t.Context(), noon.Add(time.Second), []freshet.Position{at(0, 20)}); !errors.Is(err, freshet.ErrLost) {
		t.Fatalf("mark after one of three masters forgot: %v, want lost", err)
	}
	found := accept(t, w)
	if _, unknown := featurestore.StartAt(found, at(0, 0).Source, 15); unknown != 1 {
		t.Errorf("%d masters know nothing, want 1", unknown)
	}
	nodes[2].kill(t)
	nodes[2].start(t)
	awaitCluster(t, nodes[2].admin(t))
	var batch []string
	for i := range 100 { // users on every master
		batch = append(batch, fmt.Sprint("u", i))
	}
	if _, err := r.Load(t.Context(), batch); !errors.Is(err, freshet.ErrLost) {
		t.Errorf("load after one of three masters came back: %v, want lost", err)
	}
}

func TestTheFrontendReadsListsAndNothingElse(t *testing.T) {
	s := startServer(t, "--include", repoFile(t, "deployments/redis-frontend.acl"))
	r, admin := open(t, storetest.Config(featurestore.Config{Addrs: []string{s.addr}})), s.admin(t)
	ctx := t.Context()
	mustSave(t, r, first("u1", "a"))
	shadow := storetest.Config(featurestore.Config{Addrs: []string{s.addr}, Lane: "shadow"})
	shadow.Owner = false
	mustSave(t, open(t, shadow), first("u1", "a"))
	scored := []featurestore.Scored{{ItemID: "i9", Score: 1}}
	for _, err := range []error{
		r.PutItems(ctx, []freshet.Item{{ItemID: "i9", Title: "Tea"}}),
		r.PutVectors(ctx, []featurestore.ItemVector{{ItemID: "i9", Vector: []float32{1}}}),
		r.SetPopular(ctx, "", scored), r.SetPopular(ctx, "shop", scored), r.SetTrending(ctx, scored), r.SetSimilar(ctx, "i9", scored),
		r.SetDefault(ctx, freshet.HomeSurface, []byte("{}")), r.SetDefault(ctx, "video", []byte("{}")),
		r.AddTransitions(ctx, []featurestore.Transition{{From: "i9", To: "i8", Weight: 1, Time: noon.UnixMilli()}}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := r.JoinLane(ctx, "live", "f1"); err != nil {
		t.Fatal(err)
	}
	anybody := redis.NewClient(&redis.Options{Addr: s.addr, Username: "freshet-frontend", Password: "guess", MaxRetries: -1})
	defer anybody.Close()
	if err := anybody.Get(ctx, "freshet:recs:{u1}").Err(); err == nil {
		t.Error("the shipped user takes any password")
	}
	if err := admin.Do(ctx, "acl", "setuser", "freshet-frontend", ">secret").Err(); err != nil {
		t.Fatal(err)
	}
	frontend := redis.NewClient(&redis.Options{Addr: s.addr, Username: "freshet-frontend", Password: "secret", MaxRetries: -1})
	defer frontend.Close()
	for _, allowed := range [][]any{
		{"get", "freshet:recs:{u1}"}, {"get", "freshet:recs:default"}, {"get", "freshet:recs:default:video"},
		{"mget", "freshet:recs:{u1}", "freshet:recs:{u1}:video"}, {"zrevrange", "freshet:popular", 0, 9, "withscores"},
		{"zrange", "freshet:popular:shop", 0, 9, "rev"}, {"zrevrange", "freshet:trending", 0, 9}, {"zrevrange", "freshet:similar:{i9}", 0, 9},
		{"hgetall", "freshet:item:{i9}"}, {"hmget", "freshet:item:{i9}", "title", "available"}, {"ping"},
	} {
		if err := frontend.Do(ctx, allowed...).Err(); err != nil {
			t.Errorf("%v: %v", allowed, err)
		}
	}
	keys, err := admin.Keys(ctx, "*").Result()
	if err != nil || len(keys) < 12 {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	for _, denied := range [][]any{
		{"get", "freshet:live:profile:{u1}"}, {"get", "freshet:shadow:profile:{u1}"}, {"get", "freshet:shadow:recs:{u1}"},
		{"get", "freshet:itemvec:{i9}"}, {"hgetall", "freshet:lanes"}, {"zrange", "freshet:live:covisit:{i9}", 0, 1}, {"get", "other"},
		{"set", "freshet:recs:{u1}", "x"}, {"del", "freshet:recs:{u1}"}, {"expire", "freshet:recs:{u1}", 1}, {"zadd", "freshet:popular", 1, "x"},
		{"hset", "freshet:item:{i9}", "title", "x"}, {"keys", "*"}, {"scan", 0}, {"info"}, {"config", "get", "*"}, {"flushall"},
		{"eval", "return 1", 0}, {"publish", "c", "x"}, {"subscribe", "c"}, {"acl", "list"}, {"client", "list"}, {"monitor"},
	} {
		if err := frontend.Do(ctx, denied...).Err(); err == nil || !redis.HasErrorPrefix(err, "NOPERM") {
			t.Errorf("%v: %v, want a refusal", denied, err)
		}
	}
}

func TestLanes(t *testing.T) {
	s := startServer(t)
	r := open(t, featurestore.Config{Addrs: []string{s.addr}})
	ctx := t.Context()
	lane, created, err := r.JoinLane(ctx, "live", "f1")
	if err != nil || !created || lane.Fingerprint != "f1" || lane.CV != 1 || lane.Share != 1 {
		t.Fatalf("first run: %+v, %v, %v", lane, created, err)
	}
	if again, created, err := r.JoinLane(ctx, "live", "f1"); err != nil || created || again != lane {
		t.Errorf("second worker: %+v, %v, %v", again, created, err)
	}
	for name, fingerprint := range map[string]string{"live": "f2", "canary": "f2"} {
		if _, _, err := r.JoinLane(ctx, name, fingerprint); !errors.Is(err, featurestore.ErrLaneRefused) {
			t.Errorf("joining %s with %s: %v, want a refusal", name, fingerprint, err)
		}
	}
	table, err := r.ChangeLanes(ctx, func(l *featurestore.LaneTable) error {
		l.Lanes["canary"] = featurestore.Lane{Fingerprint: "f2", Share: .05, CV: l.Version, Group: "freshet-canary"}
		return nil
	})
	if err != nil || table.Version != 2 {
		t.Fatalf("add a lane: %+v, %v", table, err)
	}
	if lane, _, err := r.JoinLane(ctx, "canary", "f2"); err != nil || lane.CV != 2 || lane.Name != "canary" {
		t.Errorf("joining the new lane: %+v, %v", lane, err)
	}
	no := errors.New("no")
	if _, err := r.ChangeLanes(ctx, func(l *featurestore.LaneTable) error { clear(l.Lanes); return no }); !errors.Is(err, no) {
		t.Errorf("a change that gives up: %v", err)
	}
	if _, err := r.ChangeLanes(ctx, func(l *featurestore.LaneTable) error { l.Lanes["recs"] = featurestore.Lane{}; return nil }); err == nil {
		t.Error("a lane with the name of a shared key was stored")
	}
	changes := make(chan error, 20)
	for range 20 {
		go func() {
			_, err := r.ChangeLanes(context.Background(), func(l *featurestore.LaneTable) error {
				c := l.Lanes["canary"]
				c.Share += .01
				l.Lanes["canary"] = c
				return nil
			})
			changes <- err
		}()
	}
	for range 20 {
		if err := <-changes; err != nil {
			t.Fatal(err)
		}
	}
	if table, err = r.Lanes(ctx); err != nil || table.Version != 22 || fmt.Sprintf("%.2f", table.Lanes["canary"].Share) != "0.25" || len(table.Lanes) != 2 {
		t.Errorf("after 20 concurrent changes: %+v, %v", table, err)
	}
	if _, err := r.ChangeLanes(ctx, func(l *featurestore.LaneTable) error { delete(l.Lanes, "canary"); return nil }); err != nil {
		t.Fatal(err)
	}
	if table, err = r.Lanes(ctx); err != nil || len(table.Lanes) != 1 {
		t.Errorf("after a lane was dropped: %+v, %v", table, err)
	}
	if put, err := r.RestoreLanes(ctx, featurestore.LaneTable{Version: 7}); err != nil || put {
		t.Errorf("a table was restored over another: %v, %v", put, err)
	}
	if err := s.admin(t).Del(ctx, "freshet:lanes").Err(); err != nil {
		t.Fatal(err)
	}
	if put, err := r.RestoreLanes(ctx, table); err != nil || !put {
		t.Errorf("the table that is gone was not restored: %v, %v", put, err)
	}
	if again, err := r.Lanes(ctx); err != nil || !reflect.DeepEqual(again, table) {
		t.Errorf("restored %+v, %v; it was %+v", again, err, table)
	}
}
