package featurestore

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"
	"go.uber.org/zap"

	"freshet"
)

// Redis is a store on one Redis server or a Redis Cluster. It is safe for concurrent use.
type Redis struct {
	cfg    Config
	keys   keys
	client redis.UniversalClient
	log    *zap.Logger
	fence  fence
}

//go:embed scripts/transitions.lua
var transitionsLua string

//go:embed scripts/weights.lua
var weightsLua string

//go:embed scripts/lanes.lua
var lanesLua string

//go:embed scripts/sentinel.lua
var sentinelLua string

//go:embed scripts/join.lua
var joinLua string

//go:embed scripts/replace.lua
var replaceLua string

//go:embed scripts/lease.lua
var leaseLua string

var (
	saveScript        = redis.NewScript(saveLua)
	transitionsScript = redis.NewScript(transitionsLua)
	weightsScript     = redis.NewScript(weightsLua)
	lanesScript       = redis.NewScript(lanesLua)
	sentinelScript    = redis.NewScript(sentinelLua)
	joinScript        = redis.NewScript(joinLua)
	leaseScript       = redis.NewScript(leaseLua)
	replaceScript     = redis.NewScript(replaceLua)
)

// Open connects, checks that the servers are what the configuration says, and leaves the scripts on them. The error wraps
// freshet.ErrUnavailable when a server did not answer.
func Open(ctx context.Context, cfg Config, log *zap.Logger) (*Redis, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	tlsConfig, err := cfg.TLS.load()
	if err != nil {
		return nil, err
	}
	// The client's own logger writes to stderr for the whole process; whatever it would say reaches us as an error.
	redis.SetLogger(&logging.VoidLogger{})
	r := &Redis{cfg: cfg, keys: keysOf(cfg), log: log.Named("redis")}
	r.client = redis.NewUniversalClient(&redis.UniversalOptions{
		Addrs: cfg.Addrs, IsClusterMode: cfg.Cluster, DB: cfg.DB,
		Username: cfg.Username, Password: cfg.Password, TLSConfig: tlsConfig,
		Protocol:    2, // no pushed messages to look out for between replies
		DialTimeout: cfg.DialTimeout, ReadTimeout: cfg.ReadTimeout, WriteTimeout: cfg.WriteTimeout,
		ContextTimeoutEnabled: true,
		MaxRetries:            -1, // the caller waits and tries again, and knows what it repeats
		DialerRetries:         1,
		PoolSize:              cfg.PoolSize, PipelinePoolSize: cfg.PoolSize,
		OnConnect:                r.fence.admit,
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	if err := r.check(ctx); err != nil {
		return nil, errors.Join(err, r.client.Close())
	}
	return r, nil
}

// check finds out whether the servers answer and are of the kind that was configured, and loads the scripts.
func (r *Redis) check(ctx context.Context) error {
	act := "open " + strings.Join(r.cfg.Addrs, ", ")
	if err := r.client.Ping(ctx).Err(); err != nil {
		if strings.Contains(err.Error(), "cluster support disabled") {
			return fmt.Errorf("%s: the server is no Cluster; leave redis.cluster unset", act)
		}
		return r.failed(act, err)
	}
	if info, err := r.client.Info(ctx, "cluster").Result(); err == nil && !r.cfg.Cluster && strings.Contains(info, "cluster_enabled:1") {
		return fmt.Errorf("%s: the server is part of a Cluster; set redis.cluster", act)
	}
	if err := r.loadScripts(ctx); err != nil {
		return r.failed(act+": load scripts", err)
	}
	return nil
}

// Close ends all connections.
func (r *Redis) Close() error { return r.client.Close() }

// Config gives the configuration in effect, without the password.
func (r *Redis) Config() Config {
	c := r.cfg
	c.Password = ""
	return c
}

// eachMaster calls f for every server that takes writes, concurrently on a Cluster.
func (r *Redis) eachMaster(ctx context.Context, f func(context.Context, *redis.Client) error) error {
	if c, ok := r.client.(*redis.ClusterClient); ok {
		return c.ForEachMaster(ctx, f)
	}
	return f(ctx, r.client.(*redis.Client))
}

func (r *Redis) loadScripts(ctx context.Context) error {
	return r.eachMaster(ctx, func(ctx context.Context, c *redis.Client) error {
		for _, s := range []*redis.Script{saveScript, transitionsScript, weightsScript, lanesScript, sentinelScript, joinScript, replaceScript, sweepScript,
			adoptScript, leaseScript} {
			if err := s.Load(ctx, c).Err(); err != nil {
				return err
			}
		}
		return nil
	})
}

// call is a script call for a pipeline.
func call(ctx context.Context, s *redis.Script, keys []string, args ...any) *redis.Cmd {
	all := make([]any, 0, 3+len(keys)+len(args))
	all = append(all, "evalsha", s.Hash(), len(keys))
	for _, k := range keys {
		all = append(all, k)
	}
	return redis.NewCmd(ctx, append(all, args...)...)
}

// scriptAttempts bounds how often a call is sent that found its script missing. Twice is enough unless somebody flushes scripts
// in a loop; on a Cluster a failover in between may cost one more.
const scriptAttempts = 4

// run sends n commands in pipelines of at most size and gives them back; build makes the i-th anew each time it is sent. Each
// command holds its own result. A script that a server does not know (restart, failover, SCRIPT FLUSH) is loaded on all masters
// and only the calls that missed it are sent again.
func (r *Redis) run(ctx context.Context, n, size int, build func(i int) redis.Cmder) []redis.Cmder {
	cmds := make([]redis.Cmder, n)
	for start := 0; start < n; start += size {
		todo := make([]int, 0, size)
		for i := start; i < min(start+size, n); i++ {
			todo = append(todo, i)
		}
		for attempt := 0; len(todo) > 0 && attempt < scriptAttempts; attempt++ {
			if attempt > 0 && r.loadScripts(ctx) != nil {
				break // the commands hold NOSCRIPT, which is a reason to try again later
			}
			todo = r.exec(ctx, cmds, todo, build)
		}
	}
	return cmds
}

// exec sends the commands of todo as one pipeline and gives back those that missed their script.
func (r *Redis) exec(ctx context.Context, cmds []redis.Cmder, todo []int, build func(i int) redis.Cmder) []int {
	pipe := r.client.Pipeline()
	for _, i := range todo {
		cmds[i] = build(i)
		_ = pipe.Process(ctx, cmds[i]) // only queues
	}
	_, _ = pipe.Exec(ctx) // the first error of the commands, which are looked at one by one
	missed := todo[:0]
	for _, i := range todo {
		if redis.HasErrorPrefix(cmds[i].Err(), "NOSCRIPT") {
			missed = append(missed, i)
		}
	}
	return missed
}

// all is run for commands of which every one must succeed; a missing key is no failure.
func (r *Redis) all(ctx context.Context, act string, n, size int, build func(i int) redis.Cmder) ([]redis.Cmder, error) {
	cmds := r.run(ctx, n, size, build)
	for _, c := range cmds {
		if err := c.Err(); err != nil && !errors.Is(err, redis.Nil) {
			return nil, r.failed(act, err)
		}
	}
	return cmds, nil
}

// failed wraps what a server or the way to it answered. Whatever it is, it is not the event's fault: a wrong permission or a key
// of a foreign type stops the work too, until somebody mends it, and the error says so.
func (r *Redis) failed(act string, err error) error {
	if changed := r.fence.broken(); changed != nil {
		return fmt.Errorf("%s: %w", act, changed)
	}
	return fmt.Errorf("%s: %w: %w%s", act, freshet.ErrUnavailable, r.redact(err), advice(err))
}

// Passing tells errors that waiting mends (no server answers, or it is loading, failing over, busy) from those that somebody has to
// mend, as a wrong password. A running worker waits in either case; a start waits for the first kind alone.
func Passing(err error) bool {
	var answered redis.Error
	if !errors.Is(err, freshet.ErrUnavailable) || !errors.As(err, &answered) {
		return errors.Is(err, freshet.ErrUnavailable)
	}
	for _, p := range []string{"LOADING", "CLUSTERDOWN", "MASTERDOWN", "TRYAGAIN", "BUSY", "READONLY", "OOM", "MISCONF", "NOREPLICAS"} {
		if strings.HasPrefix(answered.Error(), p) {
			return true
		}
	}
	return false
}

// advice says what an operator can do about answers that do not go away by waiting.
func advice(err error) string {
	for prefix, text := range map[string]string{
		"OOM":       " (Redis is out of memory: raise maxmemory or remove other data)",
		"READONLY":  " (connected to a replica: name the master, or wait for the failover)",
		"MOVED":     " (the server is part of a Cluster: set redis.cluster)",
		"NOPERM":    " (the ACL user lacks a permission)",
		"WRONGTYPE": " (another program uses this key: choose another redis.prefix)",
	} {
		if strings.HasPrefix(err.Error(), prefix) || strings.Contains(err.Error(), "-"+prefix+" ") {
			return text
		}
	}
	return ""
}

// redact removes the password from an error: servers that do not know a command repeat its arguments.
func (r *Redis) redact(err error) error {
	if r.cfg.Password == "" || !strings.Contains(err.Error(), r.cfg.Password) {
		return err
	}
	return errors.New(strings.ReplaceAll(err.Error(), r.cfg.Password, "***"))
}
