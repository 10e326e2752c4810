package featurestore_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"freshet"
	"freshet/featurestore"
	"freshet/featurestore/storetest"
)

func TestMemoryKeepsTheContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Subject {
		cfg := storetest.Config(featurestore.Config{})
		m, err := featurestore.NewMemory(cfg, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		return storetest.Subject{
			Store:  m,
			Forget: func(*testing.T) { m.Clear() },
			Lane: func(t *testing.T, name string, cv uint64) storetest.Store {
				c := cfg
				c.Lane, c.CV, c.Owner = name, cv, cv > 0
				other, err := m.Share(c)
				if err != nil {
					t.Fatal(err)
				}
				return other
			},
			TTLs: func(_ *testing.T, user string, surfaces ...string) []time.Duration { return m.TTLs(user, surfaces...) },
		}
	})
}

func TestMiniredisKeepsTheContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Subject {
		return subject(t, featurestore.Config{Addrs: []string{miniredis.RunT(t).Addr()}})
	})
}

// Servers are shared by the subtests, so each has a prefix of its own.
var prefixes atomic.Int64

func freshPrefix() string { return fmt.Sprintf("t%d-%d", time.Now().UnixNano(), prefixes.Add(1)) }

func TestRedisKeepsTheContract(t *testing.T) {
	addr := realAddr(t)
	storetest.Run(t, func(t *testing.T) storetest.Subject {
		return subject(t, featurestore.Config{Addrs: []string{addr}, Prefix: freshPrefix()})
	})
}

func TestRedisClusterKeepsTheContract(t *testing.T) {
	nodes := startCluster(t)
	storetest.Run(t, func(t *testing.T) storetest.Subject {
		return subject(t, featurestore.Config{Addrs: addrs(nodes), Cluster: true, Prefix: freshPrefix()})
	})
}

// subject opens a store on a server, with a plain client beside it that sees the keys.
func subject(t *testing.T, cfg featurestore.Config) storetest.Subject {
	cfg = storetest.Config(cfg)
	r := open(t, cfg)
	prefix := r.Config().Prefix
	plain := redis.NewUniversalClient(&redis.UniversalOptions{Addrs: cfg.Addrs, IsClusterMode: cfg.Cluster})
	t.Cleanup(func() {
		deleteAll(t, plain, prefix)
		_ = plain.Close()
	})
	return storetest.Subject{
		Store:  r,
		Forget: func(t *testing.T) { deleteAll(t, plain, prefix) },
		Lane: func(t *testing.T, name string, cv uint64) storetest.Store {
			c := cfg
			c.Lane, c.CV, c.Owner = name, cv, cv > 0
			return open(t, c)
		},
		TTLs: func(t *testing.T, user string, surfaces ...string) []time.Duration {
			id := freshet.EscapeID(user)
			keys := []string{prefix + ":live:profile:{" + id + "}"}
			for _, s := range surfaces {
				key := prefix + ":recs:{" + id + "}"
				if s != freshet.HomeSurface {
					key += ":" + s
				}
				keys = append(keys, key)
			}
			var ttls []time.Duration
			for _, key := range keys {
				ttl, err := plain.PTTL(t.Context(), key).Result()
				if err != nil {
					t.Fatal(err)
				}
				ttls = append(ttls, ttl)
			}
			return ttls
		},
	}
}

// deleteAll removes what a test wrote; the server may be somebody else's.
func deleteAll(t testing.TB, c redis.UniversalClient, prefix string) {
	t.Helper()
	ctx := context.Background()
	one := func(ctx context.Context, c *redis.Client) error {
		iter := c.Scan(ctx, 0, prefix+":*", 1000).Iterator()
		for iter.Next(ctx) {
			if err := c.Del(ctx, iter.Val()).Err(); err != nil {
				return err
			}
		}
		return iter.Err()
	}
	var err error
	if cluster, ok := c.(*redis.ClusterClient); ok {
		err = cluster.ForEachMaster(ctx, one)
	} else {
		err = one(ctx, c.(*redis.Client))
	}
	if err != nil {
		t.Errorf("delete %s:*: %v", prefix, err)
	}
}
