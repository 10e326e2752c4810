package featurestore_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"freshet"
	"freshet/featurestore"
	"freshet/featurestore/storetest"
)

func first(user, body string) freshet.Update {
	return freshet.Update{UserID: user, Profile: storetest.Profile(1, body),
		Records: []freshet.Record{{Surface: freshet.HomeSurface, Value: storetest.Record(7, 1, body)}}}
}

func next(u freshet.Update, body string) freshet.Update {
	v := freshet.VersionOf(u.Profile)
	return freshet.Update{UserID: u.UserID, Base: v, Profile: storetest.Profile(v.Rev()+1, body),
		Records: []freshet.Record{{Surface: freshet.HomeSurface, Value: storetest.Record(7, v.Rev()+1, body)}}}
}

func mustSave(t testing.TB, r *featurestore.Redis, updates ...freshet.Update) {
	t.Helper()
	results, err := r.Save(t.Context(), updates)
	if err != nil {
		t.Fatal(err)
	}
	for i, got := range results {
		if got != freshet.Saved {
			t.Fatalf("update of %q: %v", updates[i].UserID, got)
		}
	}
}

// expectRetry saves and wants a refusal that is worth waiting for and that names what an operator reads in the server's answer.
func expectRetry(t testing.TB, r *featurestore.Redis, u freshet.Update, says string) {
	t.Helper()
	results, err := r.Save(t.Context(), []freshet.Update{u})
	if len(results) != 1 || results[0] != freshet.Retry || !errors.Is(err, freshet.ErrUnavailable) || !strings.Contains(err.Error(), says) {
		t.Fatalf("got %v, %v; want retry with %q", results, err, says)
	}
}

func expectProfile(t testing.TB, r *featurestore.Redis, u freshet.Update) {
	t.Helper()
	found, err := r.Load(t.Context(), []string{u.UserID})
	if err != nil || !bytes.Equal(found[0], u.Profile) {
		t.Fatalf("stored profile of %q: %d bytes, %v; want that of rev %d", u.UserID, len(found[0]), err, freshet.VersionOf(u.Profile).Rev())
	}
}

func TestScriptsComeBackAfterAFlushInTheMiddle(t *testing.T) {
	s := startServer(t)
	r, admin := open(t, storetest.Config(featurestore.Config{Addrs: []string{s.addr}})), s.admin(t)
	var batch []freshet.Update
	for i := range 200 {
		batch = append(batch, first(fmt.Sprint("u", i), "a"))
	}
	for round := range 5 {
		if err := admin.ScriptFlush(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		mustSave(t, r, batch...)
		for i := range batch {
			batch[i] = next(batch[i], fmt.Sprint(round))
		}
	}
	flushes := make(chan struct{})
	stop := make(chan struct{})
	go func() { // flushes as fast as the server lets it, while saves run
		defer close(flushes)
		for {
			select {
			case <-stop:
				return
			default:
				admin.ScriptFlush(context.Background())
			}
		}
	}()
	saved, retried := 0, 0
	for saved < len(batch) {
		results, err := r.Save(t.Context(), batch)
		if err != nil && !errors.Is(err, freshet.ErrUnavailable) {
			t.Fatal(err)
		}
		for i, got := range results {
			switch got {
			case freshet.Saved:
				saved++
				batch[i] = next(batch[i], "more")
			case freshet.Retry:
				retried++
			default:
				t.Fatalf("user %d: %v", i, got)
			}
		}
	}
	close(stop)
	<-flushes
	t.Logf("%d saves, %d to be repeated, under constant flushing", saved, retried)
}

func TestOutOfMemoryIsARetryAndChangesNothing(t *testing.T) {
	s := startServer(t, "--maxmemory-policy", "noeviction")
	r, admin := open(t, storetest.Config(featurestore.Config{Addrs: []string{s.addr}})), s.admin(t)
	u := first("u", "a")
	mustSave(t, r, u)
	if err := admin.ConfigSet(t.Context(), "maxmemory", "1mb").Err(); err != nil {
		t.Fatal(err)
	}
	after := next(u, strings.Repeat("b", 5000))
	expectRetry(t, r, after, "OOM")
	gone := next(u, "")
	gone.Records[0].Value = nil
	expectRetry(t, r, gone, "OOM")
	expectProfile(t, r, u)
	if list, err := r.Records(t.Context(), []featurestore.RecordKey{{UserID: "u", Surface: freshet.HomeSurface}}); err != nil || list[0] == nil {
		t.Errorf("the list went away with a refused erasure: %v", err)
	}
	if err := admin.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	mustSave(t, r, after)
}

func TestAReplicaIsARetryUntilItIsAMaster(t *testing.T) {
	s := startServer(t)
	r, admin := open(t, storetest.Config(featurestore.Config{Addrs: []string{s.addr}})), s.admin(t)
	u := first("u", "a")
	mustSave(t, r, u)
	if err := admin.Do(t.Context(), "replicaof", "127.0.0.1", freePort(t)).Err(); err != nil {
		t.Fatal(err)
	}
	expectRetry(t, r, next(u, "b"), "READONLY")
	expectProfile(t, r, u)
	if err := admin.Do(t.Context(), "replicaof", "no", "one").Err(); err != nil {
		t.Fatal(err)
	}
	mustSave(t, r, next(u, "b"))
}

func TestABusyServerIsARetry(t *testing.T) {
	s := startServer(t, "--busy-reply-threshold", "10")
	cfg := storetest.Config(featurestore.Config{Addrs: []string{s.addr}})
	r, admin, killer := open(t, cfg), s.admin(t), s.admin(t)
	u := first("u", "a")
	mustSave(t, r, u)
	ended := make(chan error, 1)
	go func() { ended <- admin.Eval(context.Background(), "while true do end", nil).Err() }()
	for killer.Ping(t.Context()).Err() == nil { // until the script is noticed
		if t.Context().Err() != nil {
			t.Fatal("the script never made the server busy")
		}
	}
	expectRetry(t, r, next(u, "b"), "BUSY")
	if err := killer.Do(t.Context(), "script", "kill").Err(); err != nil {
		t.Fatal(err)
	}
	<-ended
	mustSave(t, r, next(u, "b"))
}

func TestAServerThatIsAwayIsARetryAndComesBack(t *testing.T) {
	s := startServer(t, "--appendonly", "yes", "--appendfsync", "always")
	r := open(t, storetest.Config(featurestore.Config{Addrs: []string{s.addr}}))
	u := first("u", "a")
	mustSave(t, r, u)
	s.kill(t)
	if _, err := r.Load(t.Context(), []string{"u"}); !errors.Is(err, freshet.ErrUnavailable) {
		t.Errorf("load without a server: %v", err)
	}
	expectRetry(t, r, next(u, "b"), "")
	s.start(t)
	mustSave(t, r, next(u, "b")) // the pool throws its dead connections away by itself
}

func TestASlowServerIsARetryWithinTheTimeout(t *testing.T) {
	s := startServer(t)
	cfg := storetest.Config(featurestore.Config{Addrs: []string{s.addr}, ReadTimeout: 50 * time.Millisecond})
	r, admin := open(t, cfg), s.admin(t)
	u := first("u", "a")
	mustSave(t, r, u)
	if err := admin.Do(t.Context(), "client", "pause", "60000", "write").Err(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	expectRetry(t, r, next(u, "b"), "timeout")
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %v with a timeout of 50ms", took)
	}
	if err := admin.Do(t.Context(), "client", "unpause").Err(); err != nil {
		t.Fatal(err)
	}
	// Whether the save got through is unknown. Both answers lead to the same profile.
	results, err := r.Save(t.Context(), []freshet.Update{next(u, "b")})
	if err != nil || (results[0] != freshet.Saved && results[0] != freshet.Newer) {
		t.Fatalf("repeated save: %v, %v", results, err)
	}
	expectProfile(t, r, next(u, "b"))
}

func TestOneRefusedUserLeavesTheOthersSaved(t *testing.T) {
	s := startServer(t)
	r, admin := open(t, storetest.Config(featurestore.Config{Addrs: []string{s.addr}})), s.admin(t)
	if err := admin.SAdd(t.Context(), "freshet:live:profile:{bad}", "foreign").Err(); err != nil {
		t.Fatal(err)
	}
	for _, order := range [][]string{{"bad", "a", "b"}, {"c", "bad", "d"}} {
		var batch []freshet.Update
		for _, user := range order {
			batch = append(batch, first(user, user))
		}
		results, err := r.Save(t.Context(), batch)
		if !errors.Is(err, freshet.ErrUnavailable) || !strings.Contains(err.Error(), "redis.prefix") {
			t.Errorf("error %v, want the way out", err)
		}
		for i, user := range order {
			if want := map[bool]freshet.SaveResult{true: freshet.Retry, false: freshet.Saved}[user == "bad"]; results[i] != want {
				t.Errorf("%s: %v, want %v", user, results[i], want)
			}
		}
	}
}

func TestFlushAllIsLost(t *testing.T) {
	s := startServer(t)
	r, admin := open(t, storetest.Config(featurestore.Config{Addrs: []string{s.addr}})), s.admin(t)
	u := first("u", "a")
	mustSave(t, r, u)
	if err := admin.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	results, err := r.Save(t.Context(), []freshet.Update{next(u, "b"), first("v", "a")})
	if err != nil || results[0] != freshet.Lost || results[1] != freshet.Saved {
		t.Errorf("got %v, %v; want lost for the one and saved for the other", results, err)
	}
}

func TestAnOlderSnapshotIsLost(t *testing.T) {
	s := startServer(t)
	r, admin := open(t, storetest.Config(featurestore.Config{Addrs: []string{s.addr}})), s.admin(t)
	u := first("u", "a")
	mustSave(t, r, u)
	if err := admin.Save(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	u2 := next(u, "b")
	mustSave(t, r, u2)
	s.kill(t)
	s.start(t)
	results, err := r.Save(t.Context(), []freshet.Update{next(u2, "c")})
	if err != nil || results[0] != freshet.Lost {
		t.Errorf("got %v, %v; want lost", results, err)
	}
	expectProfile(t, r, u)
}

func TestAClusterOpenedAsASingleServerIsRefused(t *testing.T) {
	nodes := startCluster(t)
	_, err := featurestore.Open(t.Context(), featurestore.Config{Addrs: []string{nodes[0].addr}}, nop())
	if err == nil || !strings.Contains(err.Error(), "redis.cluster") {
		t.Errorf("error %v, want one that names redis.cluster", err)
	}
	single := startServer(t)
	_, err = featurestore.Open(t.Context(), featurestore.Config{Addrs: []string{single.addr}, Cluster: true}, nop())
	if err == nil {
		t.Error("a single server was opened as a Cluster")
	}
}

func TestThePasswordStaysSecret(t *testing.T) {
	const password = "s3cret-Passw0rd"
	s := startServer(t, "--requirepass", password)
	for name, cfg := range map[string]featurestore.Config{
		"wrong user": {Addrs: []string{s.addr}, Username: "nobody", Password: password},
		"no server":  {Addrs: []string{fmt.Sprintf("127.0.0.1:%d", freePort(t))}, Password: password},
	} {
		if _, err := featurestore.Open(t.Context(), cfg, nop()); err == nil || strings.Contains(err.Error(), password) {
			t.Errorf("%s: %v", name, err)
		}
	}
	r := open(t, featurestore.Config{Addrs: []string{s.addr}, Password: password})
	given := featurestore.Config{Addrs: []string{s.addr}, Password: password}
	marshalled, err := json.Marshal(given)
	if err != nil {
		t.Fatal(err)
	}
	for _, shown := range []string{fmt.Sprintf("%+v", r.Config()), fmt.Sprint(given), fmt.Sprintf("%+v", given), string(marshalled)} {
		if strings.Contains(shown, password) || !strings.Contains(shown, s.addr) {
			t.Errorf("the configuration shows %s", shown)
		}
	}
	mustSave(t, r, first("u", "a"))
}
