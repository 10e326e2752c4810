package featurestore

import (
	"context"
	"fmt"
	"sort"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Inspection is what an operator should know about the servers. What a server does not tell (a permission is missing, or a
// provider hides it) is empty.
type Inspection struct {
	Servers      []Server // masters, by address
	Cluster      bool
	TTL          time.Duration // of profiles and records
	TombstoneTTL time.Duration
}

// Server is one master.
type Server struct {
	Address      string
	Version      string
	Mode         string // standalone, cluster, sentinel
	RunID        string
	Uptime       time.Duration
	UsedMemory   int64  // bytes
	MaxMemory    int64  // bytes; 0 = no limit
	Policy       string // maxmemory-policy; noeviction is the right one: others drop profiles silently
	AppendOnly   string // yes or no
	AppendFsync  string // always, everysec or no
	Replicas     int    // connected
	Keys         int64
	WithoutTTL   int64 // keys that never expire
	LastSaveOK   bool  // of the AOF, or of the snapshot where there is no AOF
	ScriptsKnown bool  // freshet's scripts are loaded
	Rewriting    bool  // a second process writes the AOF anew, or a snapshot: it takes a core and the disk
	Rewrites     int64 // of the AOF since the server started; 0 before Redis 7
}

// Inspect asks every master about itself.
func (r *Redis) Inspect(ctx context.Context) (Inspection, error) {
	in := Inspection{Cluster: r.cfg.Cluster, TTL: r.cfg.TTL, TombstoneTTL: r.cfg.TombstoneTTL}
	var mu sync.Mutex
	err := r.eachMaster(ctx, func(ctx context.Context, c *redis.Client) error {
		s, err := inspect(ctx, c)
		if err != nil {
			return fmt.Errorf("%s: %w", c.Options().Addr, err)
		}
		mu.Lock()
		defer mu.Unlock()
		in.Servers = append(in.Servers, s)
		return nil
	})
	if err != nil {
		return in, r.failed("inspect servers", err)
	}
	sort.Slice(in.Servers, func(a, b int) bool { return in.Servers[a].Address < in.Servers[b].Address })
	return in, nil
}

func inspect(ctx context.Context, c *redis.Client) (Server, error) {
	s := Server{Address: c.Options().Addr}
	if err := c.Ping(ctx).Err(); err != nil {
		return s, err
	}
	info := func(section string) func(name string) string {
		text := c.Info(ctx, section).Val() // empty where the server refuses
		return func(name string) string { return field(text, name) }
	}
	server, memory, persistence := info("server"), info("memory"), info("persistence")
	s.Version, s.Mode, s.RunID = server("redis_version"), server("redis_mode"), server("run_id")
	s.Uptime = time.Duration(number(server("uptime_in_seconds"))) * time.Second
	s.UsedMemory, s.MaxMemory, s.Policy = number(memory("used_memory")), number(memory("maxmemory")), memory("maxmemory_policy")
	s.Replicas = int(number(info("replication")("connected_slaves")))
	s.AppendOnly = map[string]string{"0": "no", "1": "yes"}[persistence("aof_enabled")]
	s.LastSaveOK = persistence("aof_last_write_status") == "ok" && persistence("rdb_last_bgsave_status") == "ok"
	s.Rewriting = persistence("aof_rewrite_in_progress") == "1" || persistence("rdb_bgsave_in_progress") == "1"
	s.Rewrites = number(persistence("aof_rewrites"))
	s.AppendFsync = c.ConfigGet(ctx, "appendfsync").Val()["appendfsync"]
	s.Keys, s.WithoutTTL = keyspace(info("keyspace")("db" + strconv.Itoa(c.Options().DB)))
	known, err := c.ScriptExists(ctx, saveScript.Hash()).Result()
	s.ScriptsKnown = err == nil && len(known) == 1 && known[0]
	return s, nil
}

func number(s string) int64 {
	n, _ := strconv.ParseInt(s, 10, 64)
	return n
}

// keyspace reads "keys=3,expires=1,avg_ttl=0".
func keyspace(line string) (keys, lasting int64) {
	var expires int64
	if _, err := fmt.Sscanf(line, "keys=%d,expires=%d", &keys, &expires); err != nil {
		return 0, 0
	}
	return keys, keys - expires
}

// MemoryUsage gives the bytes that Redis spends on a user's profile, key and overhead included; 0 = none is stored.
func (r *Redis) MemoryUsage(ctx context.Context, user string) (int64, error) {
	n, err := r.client.MemoryUsage(ctx, r.keys.profile(user)).Result()
	if err != nil && err != redis.Nil {
		return 0, r.failed("memory usage of a profile", err)
	}
	return n, nil
}
