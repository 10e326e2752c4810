package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"freshet"
	"freshet/featurestore"
	"freshet/internal/embedded"
	"freshet/internal/shop"
	"freshet/stream"
)

// localRedis is a Redis, or a Cluster, of deployments/local.
type localRedis struct {
	name    string
	masters int
	addrs   []string
}

// startRedis starts one of the test's own, or skips the test where there is no redis-server. It ends with the test.
func startRedis(t *testing.T, masters int) *localRedis {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		unavailable(t, "redis-server is not installed")
	}
	r := &localRedis{name: fmt.Sprintf("gotest-%d-%d", os.Getpid(), masters), masters: masters}
	t.Cleanup(func() { r.script(t, "down", "--wipe") })
	r.script(t, "up", "redis")
	env, err := os.ReadFile(filepath.Join(r.folder(), "env"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(env)) {
		if list, ok := strings.CutPrefix(strings.TrimSpace(line), "REDIS_ADDR="); ok {
			r.addrs = strings.Split(list, ",")
		}
	}
	if len(r.addrs) != masters {
		t.Fatalf("%d masters were asked for, up says\n%s", masters, env)
	}
	return r
}

func (r *localRedis) folder() string { return filepath.Join("../../.freshet/local", r.name) }

// script runs one of deployments/local.
func (r *localRedis) script(t *testing.T, name string, args ...string) {
	t.Helper()
	c := exec.Command(filepath.Join("../../deployments/local", name), args...)
	c.Env = append(os.Environ(), "FRESHET_LOCAL_NAME="+r.name, fmt.Sprintf("FRESHET_LOCAL_REDIS_MASTERS=%d", r.masters))
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("deployments/local/%s %v: %v\n%s", name, args, err, out)
	}
}

// env is what tells a process where this Redis is.
func (r *localRedis) env() []string {
	return []string{"FRESHET_REDIS_ADDRS=" + strings.Join(r.addrs, ","), fmt.Sprintf("FRESHET_REDIS_CLUSTER=%v", r.masters > 1)}
}

// onCluster is one log of events at work twice: by a worker on a Cluster of three masters, and by one on a single Redis.
type onCluster struct {
	redis    *localRedis
	env      []string // of processes on the Cluster
	cfg      Config
	store    *featurestore.Redis
	single   *featurestore.Redis
	groups   []string
	conn     stream.Connection
	producer *stream.Producer
	users    []string
	log      []freshet.Event
	sent     int
	items    []string
}

func startOnCluster(t *testing.T) *onCluster {
	t.Helper()
	broker := os.Getenv("FRESHET_TEST_KAFKA")
	if broker == "" {
		servers, err := embedded.Start(t.Context(), embedded.Config{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(servers.Close)
		broker = servers.KafkaAddr()
	}
	c := &onCluster{redis: startRedis(t, 3)}
	common := []string{"FRESHET_KAFKA_BROKERS=" + broker, "FRESHET_KAFKA_PARTITIONS=4", "FRESHET_KAFKA_LOSS_WINDOW=2s"}
	c.cfg, c.env = serversAt(t, slices.Concat(common, c.redis.env())...)
	topics := c.cfg.Kafka.Topics
	single, env := serversAt(t, slices.Concat(common, startRedis(t, 1).env(),
		[]string{"FRESHET_KAFKA_TOPICS_EVENTS=" + topics.Events, "FRESHET_KAFKA_TOPICS_ITEMS=" + topics.Items})...)
	c.groups = []string{c.cfg.Kafka.Group, single.Kafka.Group}
	var err error
	if c.conn, err = connection(c.cfg); err != nil {
		t.Fatal(err)
	}
	if c.producer, err = stream.NewProducer(stream.ProducerConfig{Connection: c.conn, Events: topics.Events, Items: topics.Items}, zap.NewNop()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.producer.Close)
	items := shop.New(7, shop.Config{Shoppers: 1, Start: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}).Items()[:200]
	changes := make([]stream.ItemChange, len(items))
	for i := range items {
		changes[i] = stream.ItemChange{ItemID: items[i].ItemID, Item: &items[i]}
	}
	if err := c.producer.PublishItems(t.Context(), changes); err != nil {
		t.Fatal(err)
	}
	for i := range items {
		c.items = append(c.items, items[i].ItemID)
	}
	c.makeLog(items)
	startWorker(t, c.env)
	startWorker(t, env)
	c.store, c.single = openStore(t, c.cfg), openStore(t, single)
	return c
}

func openStore(t *testing.T, cfg Config) *featurestore.Redis {
	t.Helper()
	s, err := featurestore.Open(t.Context(), storeConfig(cfg), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// makeLog lets 300 users do ten things each; some are told late, some take back what was done before.
func (c *onCluster) makeLog(items []freshet.Item) {
	random := rand.New(rand.NewPCG(9, 4))
	start := time.Now().Add(-2 * time.Hour).UnixMilli()
	for i := range 300 {
		c.users = append(c.users, fmt.Sprintf("user{%d", i)) // a brace in an id must not move him to another slot than his list
	}
	for n := range 10 * len(c.users) {
		late := random.Int64N(2) * random.Int64N(2) * random.Int64N(1_200_000)
		c.log = append(c.log, freshet.Event{ID: fmt.Sprintf("e%d", n), UserID: c.users[n%len(c.users)], Time: start + int64(n)*1000 - late,
			Type:  []string{"view", "view", "cart", "purchase", "remove", "dislike"}[random.IntN(6)],
			Items: []freshet.EventItem{{ItemID: items[random.IntN(len(items))].ItemID, Quantity: 1}}})
	}
}

// send publishes the next n events.
func (c *onCluster) send(t *testing.T, n int) {
	t.Helper()
	if err := c.producer.PublishEvents(t.Context(), c.log[c.sent:c.sent+n]); err != nil {
		t.Fatal(err)
	}
	c.sent += n
}

// committed is how many events a group has committed.
func (c *onCluster) committed(t *testing.T, group string) (n int64) {
	t.Helper()
	offsets, err := stream.Committed(t.Context(), c.conn, group, c.cfg.Kafka.Topics.Events)
	if err != nil {
		return 0 // the coordinator is being looked for
	}
	for _, at := range offsets {
		n += at
	}
	return n
}

// settle waits until both workers have committed everything that was sent.
func (c *onCluster) settle(t *testing.T) {
	t.Helper()
	for _, group := range c.groups {
		eventually(t, "everything is committed", func() bool { return c.committed(t, group) == int64(c.sent) })
	}
}

// freshet runs a command beside the worker on the Cluster.
func (c *onCluster) freshet(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "freshet", args...)
	var says bytes.Buffer
	cmd.Env, cmd.Stderr = c.env, &says
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("freshet %v: %v\n%s%s", args, err, out, says.Bytes())
	}
	return out
}

// expectTheSame compares every user's profile with the single Redis's, byte for byte, and his list with his profile.
func (c *onCluster) expectTheSame(t *testing.T) {
	t.Helper()
	profiles, err := c.store.Load(t.Context(), c.users)
	if err != nil {
		t.Fatal(err)
	}
	want, err := c.single.Load(t.Context(), c.users)
	if err != nil {
		t.Fatal(err)
	}
	keys := make([]freshet.RecordKey, len(c.users))
	for i, u := range c.users {
		keys[i] = freshet.RecordKey{UserID: u, Surface: freshet.HomeSurface, Place: freshet.PlacePublic}
	}
	lists, err := c.store.Records(t.Context(), keys)
	if err != nil {
		t.Fatal(err)
	}
	missing, different, stale := 0, 0, 0
	for i, u := range c.users {
		if profiles[i] == nil || lists[i] == nil {
			missing++
			continue
		}
		if !bytes.Equal(profiles[i], want[i]) {
			different++
		}
		p, err := freshet.DecodeProfile(u, profiles[i])
		var r freshet.Recommendation
		if err != nil || json.Unmarshal(lists[i], &r) != nil || r.Rev != p.Rev || len(r.Items) == 0 {
			stale++
		}
	}
	t.Logf("%d users: %d without profile or list, %d profiles are not those of a single Redis, %d lists are not their profile's", len(c.users), missing, different, stale)
	if missing+different+stale > 0 {
		t.Fail()
	}
}

// The whole product on three masters: each user's keys lie on one of them, all three have their part, a master that is killed and comes back
// costs nobody anything, and an operator's commands work.
func TestTheWholeProductOnACluster(t *testing.T) {
	c := startOnCluster(t)
	third := len(c.log) / 3
	c.send(t, third)
	c.settle(t)

	c.redis.script(t, "kill", "redis-2")
	c.send(t, third)
	eventually(t, "the worker on the single Redis gets on", func() bool { return c.committed(t, c.groups[1]) == int64(c.sent) })
	if n := c.committed(t, c.groups[0]); n >= int64(c.sent) {
		t.Errorf("%d of %d events were worked off without a third of the users", n, c.sent)
	}
	c.redis.script(t, "up", "redis")
	c.send(t, len(c.log)-c.sent)
	c.settle(t)
	c.expectTheSame(t)
	c.expectSpread(t)
	c.expectCommands(t)
	c.expectLanes(t)
}

// expectSpread looks from outside: a frontend's key, its slot, and how much each master holds.
func (c *onCluster) expectSpread(t *testing.T) {
	t.Helper()
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: c.redis.addrs})
	defer client.Close()
	prefix := c.cfg.Redis.Prefix
	for _, u := range c.users {
		public := prefix + ":recs:{" + freshet.EscapeID(u) + "}"
		if n, err := client.StrLen(t.Context(), public).Result(); err != nil || n == 0 {
			t.Errorf("%s: %d bytes, %v", public, n, err)
		}
		a, err1 := client.ClusterKeySlot(t.Context(), public).Result()
		b, err2 := client.ClusterKeySlot(t.Context(), prefix+":live:profile:{"+freshet.EscapeID(u)+"}").Result()
		if err1 != nil || err2 != nil || a != b {
			t.Errorf("user %s: list in slot %d (%v), profile in slot %d (%v)", u, a, err1, b, err2)
		}
	}
	in, err := c.store.Inspect(t.Context())
	if err != nil || len(in.Servers) != 3 {
		t.Fatalf("%+v, %v", in, err)
	}
	for i, share := range keyShares(in.Servers) {
		if share < .2 || share > .5 {
			t.Errorf("%s holds %v of the keys", in.Servers[i].Address, share)
		}
	}
}

// expectCommands runs what an operator would.
func (c *onCluster) expectCommands(t *testing.T) {
	t.Helper()
	var shown shownUser
	if err := json.Unmarshal(c.freshet(t, "user", "show", c.users[1], "--json"), &shown); err != nil || shown.Rev == 0 || len(shown.Lists) == 0 || len(shown.Reasons) == 0 {
		t.Errorf("user show: %v, rev %d, %d lists, %d reasons", err, shown.Rev, len(shown.Lists), len(shown.Reasons))
	}
	for _, addr := range c.redis.addrs {
		if out := c.freshet(t, "doctor"); !bytes.Contains(out, []byte("redis "+addr)) {
			t.Errorf("doctor says nothing of %s:\n%s", addr, out)
		}
	}
	var topic outputs
	if err := json.Unmarshal(c.freshet(t, "doctor", "outputs", "--json"), &topic); err != nil || topic.UsersWithList != len(c.users) || topic.Mismatches != 0 {
		t.Errorf("doctor outputs: %v, %+v", err, topic)
	}
	var past outcome
	if err := json.Unmarshal(c.freshet(t, "replay", "--lane", "past", "--to", "latest", "--yes", "--json"), &past); err != nil || past.Events != int64(len(c.log)) {
		t.Errorf("replay: %v, %+v", err, past)
	}
	o := &operator{cfg: c.cfg, log: zap.NewNop()}
	again, err := o.open(t.Context(), "past")
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	live, err1 := c.store.Load(t.Context(), c.users)
	replayed, err2 := again.Load(t.Context(), c.users)
	if err1 != nil || err2 != nil || !slices.EqualFunc(live, replayed, bytes.Equal) {
		t.Errorf("a replay comes to other profiles (%v, %v)", err1, err2)
	}
	c.freshet(t, "lanes", "drop", "past", "--rate", "10000")
	if left, err := c.store.Namespaces(t.Context()); err != nil || left["past"] != 0 || left["live"] == 0 {
		t.Errorf("after the drop %v, %v", left, err)
	}
}

// expectLanes brings a second lane up and makes it live: profiles are taken over and lists exchanged on every master.
func (c *onCluster) expectLanes(t *testing.T) {
	t.Helper()
	c.freshet(t, "lanes", "add", "v2")
	eventually(t, "the new lane has caught up", func() bool {
		table, err := c.store.Lanes(t.Context())
		return err == nil && table.Lanes["v2"].Caught
	})
	c.freshet(t, "lanes", "promote", "v2")
	behind := 0
	err := c.store.EachRecord(t.Context(), func(records []featurestore.StoredRecord) error {
		for _, s := range records {
			var r freshet.Recommendation
			if err := json.Unmarshal(s.Value, &r); err != nil || r.Lane != "v2" {
				behind++
			}
		}
		return nil
	})
	if err != nil || behind > 0 {
		t.Errorf("%d lists are still the former lane's, %v", behind, err)
	}
}

// A master that comes back with nothing takes a third of everything with it: its users are read again from the log, its items are written again,
// and the table of lanes, which is on one of them, comes back as it was.
func TestAMasterOfAClusterThatComesBackEmpty(t *testing.T) {
	c := startOnCluster(t)
	c.send(t, len(c.log)/2)
	c.settle(t)
	table, err := c.store.Lanes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	holder := c.holderOf(t, c.cfg.Redis.Prefix+":lanes")
	c.redis.script(t, "kill", holder)
	if err := os.RemoveAll(filepath.Join(c.redis.folder(), holder, "appendonlydir")); err != nil {
		t.Fatal(err)
	}
	c.redis.script(t, "up", "redis")
	c.send(t, len(c.log)-c.sent)
	c.settle(t)
	eventually(t, "everybody is back", func() bool {
		profiles, err1 := c.store.Load(t.Context(), c.users)
		want, err2 := c.single.Load(t.Context(), c.users)
		return err1 == nil && err2 == nil && slices.EqualFunc(profiles, want, bytes.Equal)
	})
	eventually(t, "every item is back", func() bool {
		items, err := c.store.Items(t.Context(), c.items)
		return err == nil && !slices.Contains(items, nil)
	})
	c.expectTheSame(t)
	if now, err := c.store.Lanes(t.Context()); err != nil || !reflect.DeepEqual(now, table) {
		t.Errorf("the table of lanes was %+v and is %+v, %v", table, now, err)
	}
}

// holderOf names the master that has a key.
func (c *onCluster) holderOf(t *testing.T, key string) string {
	t.Helper()
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: c.redis.addrs})
	defer client.Close()
	master, err := client.MasterForKey(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("redis-%d", 1+slices.Index(c.redis.addrs, master.Options().Addr))
}

// A master is added while events come, and takes a quarter of the slots over, one after the other: nobody loses anything. It has no marks, so that
// the log is read again, as it would be if it had had them and lost them.
func TestAMasterThatIsAddedToACluster(t *testing.T) {
	c := startOnCluster(t)
	c.send(t, len(c.log)/3)
	c.settle(t)
	to := c.redis.add(t)
	for n, from := 0, c.redis.client(t, c.redis.addrs[0]); n < 4; n++ {
		c.send(t, len(c.log)/12)
		moveSlots(t, from, to, n*1024, (n+1)*1024)
	}
	c.send(t, len(c.log)-c.sent)
	c.settle(t)
	c.expectTheSame(t)
	in, err := c.store.Inspect(t.Context())
	if err != nil || len(in.Servers) != 4 {
		t.Fatalf("%+v, %v", in, err)
	}
	if share := keyShares(in.Servers); slices.Min(share) == 0 {
		t.Errorf("shares of the keys: %v", share)
	}
}

func (r *localRedis) client(t *testing.T, addr string) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: addr})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// add starts one more master, which has no slots yet.
func (r *localRedis) add(t *testing.T) *redis.Client {
	t.Helper()
	port, bus := freePort(t), freePort(t)
	c := exec.Command("redis-server", "--bind", "127.0.0.1", "--port", port, "--cluster-enabled", "yes", "--cluster-port", bus, "--dir", t.TempDir(), "--save", "")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	more, first := r.client(t, "127.0.0.1:"+port), r.client(t, r.addrs[0])
	eventually(t, "the new server answers", func() bool { return more.Ping(t.Context()).Err() == nil })
	if err := first.Do(t.Context(), "cluster", "meet", "127.0.0.1", port, bus).Err(); err != nil {
		t.Fatal(err)
	}
	for _, addr := range append(slices.Clone(r.addrs), "127.0.0.1:"+port) {
		eventually(t, "all know it", func() bool {
			info, err := r.client(t, addr).ClusterInfo(t.Context()).Result()
			return err == nil && strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_known_nodes:4")
		})
	}
	return more
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// moveSlots hands a range of slots over with what is in them, as redis-cli --cluster reshard does.
func moveSlots(t *testing.T, from, to *redis.Client, first, end int) {
	t.Helper()
	do := func(c *redis.Client, args ...any) *redis.Cmd {
		t.Helper()
		cmd := c.Do(t.Context(), args...)
		if err := cmd.Err(); err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		return cmd
	}
	here, there := do(from, "cluster", "myid").Val(), do(to, "cluster", "myid").Val()
	host, port, _ := net.SplitHostPort(to.Options().Addr)
	for slot := first; slot < end; slot++ {
		do(to, "cluster", "setslot", slot, "importing", here)
		do(from, "cluster", "setslot", slot, "migrating", there)
		for {
			keys, err := from.ClusterGetKeysInSlot(t.Context(), slot, 100).Result()
			if err != nil {
				t.Fatal(err)
			}
			if len(keys) == 0 {
				break
			}
			args := []any{"migrate", host, port, "", 0, 5000, "keys"}
			for _, k := range keys {
				args = append(args, k)
			}
			do(from, args...)
		}
		do(to, "cluster", "setslot", slot, "node", there)
		do(from, "cluster", "setslot", slot, "node", there)
	}
}
