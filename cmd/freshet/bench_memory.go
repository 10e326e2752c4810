package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"freshet"
	"freshet/featurestore"
	"freshet/internal/telemetry"
	"freshet/models"
)

type memoryOptions struct {
	users    int
	counts   bool
	estimate bool
	seed     uint64
}

func newBenchMemoryCommand(g *globals, asJSON *bool) *cobra.Command {
	o := memoryOptions{users: 20_000, counts: true, seed: 1}
	cmd := &cobra.Command{Use: "memory", Short: "Measure what users take in Redis and in the worker, beside an estimate",
		Long: "With --estimate no server is needed: the serving engine folds the histories of some users, what it would store is measured, and what\n" +
			"Redis adds to a key is worked out from its data structures. Without, as many users as are asked for are stored by a worker on a real\n" +
			"server: full histories, a list for each surface, counts of what follows what. Told are the server's own figures, its used memory\n" +
			"before and after and MEMORY USAGE of every key, and the heap of the worker's process: open, with the catalogue, with hot profiles.\n" +
			"Topics, group and keys have names of their own and stay behind: use servers that you can throw away. Only loopback addresses are taken.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, log, err := g.load()
			if err != nil {
				return err
			}
			if o.users < 1 {
				return errors.New("--users: at least 1")
			}
			if o.counts {
				cfg.Surfaces = slices.Clone(cfg.Surfaces)
				cfg.Surfaces[0].Weights = maps.Clone(cfg.Surfaces[0].Weights)
				cfg.Surfaces[0].Weights["covisit"] = .1
			}
			out := memoryResult{Users: o.users}
			if err := estimateMemory(cmd.Context(), cfg, o, log, &out); err != nil {
				return err
			}
			if !o.estimate {
				if err := measureMemory(cmd.Context(), cfg, o, log, &out); err != nil {
					return err
				}
			}
			return printMemory(cmd.OutOrStdout(), out, *asJSON)
		}}
	f := cmd.Flags()
	f.IntVar(&o.users, "users", o.users, "users with full histories and a list of each surface")
	f.BoolVar(&o.counts, "counts", o.counts, "also keep counts of what follows what: the source covisit joins the first list with a weight of 0.1")
	f.BoolVar(&o.estimate, "estimate", o.estimate, "only estimate; no server is needed")
	f.Uint64Var(&o.seed, "seed", o.seed, "seed of who meets what")
	return cmd
}

// memoryEstimate is worked out from encoded sizes; bytes.
type memoryEstimate struct {
	Profile   int     `json:"profile"`        // encoded
	Lists     int     `json:"lists"`          // encoded, all surfaces
	User      int     `json:"redis_user"`     // both with what Redis adds to their keys
	Counts    int     `json:"redis_item"`     // counts of one item that as many others followed as are kept
	Hot       int     `json:"heap_hot_user"`  // a profile held hot in the worker
	Redis     float64 `json:"redis_gb"`       // all users, and counts of all items
	HotUsers  int     `json:"hot_users"`      // of all, at most profile.hot_users a partition
	HeapUsers float64 `json:"heap_users_gb"`  // of all workers together
	Vectors   float64 `json:"heap_items_gb"`  // of each worker: the items' vectors, and as much again while they are rewritten
	AOF       int     `json:"aof_event_byte"` // what one event appends to Redis's log: profile and lists
}

// memoryResult is what scripts read; bytes.
type memoryResult struct {
	Users    int            `json:"users"`
	Items    int            `json:"items"`
	Estimate memoryEstimate `json:"estimate"`

	User    float64                       `json:"redis_user,omitempty"` // used memory that came with users, lists and counts, over users
	Ratio   float64                       `json:"redis_user_ratio,omitempty"`
	Profile float64                       `json:"redis_profile,omitempty"` // by MEMORY USAGE
	List    float64                       `json:"redis_list,omitempty"`
	Counts  float64                       `json:"redis_counts_item,omitempty"`
	Kinds   map[string]featurestore.Usage `json:"kinds,omitempty"`
	Heap    *memoryHeap                   `json:"heap,omitempty"`
}

// memoryHeap is the worker's process, bytes after collecting garbage.
type memoryHeap struct {
	Open      int64   `json:"open"`      // everything open, no item read
	Catalogue int64   `json:"catalogue"` // items read, counts learnt, no profile held
	Hot       int64   `json:"hot"`       // and every user's profile
	HotUser   float64 `json:"hot_user"`
	RSS       int64   `json:"rss"` // with the model's and the library's own memory
}

// Bytes that Redis 7 spends on a key beside its encoded value: MEMORY USAGE counts the first three.
const (
	redisObject  = 16 // header of a value
	redisEntry   = 24 // entry of the dictionary
	redisHead    = 6  // header and end of a string
	redisExpiry  = 32 // entry of the dictionary of lifetimes
	redisTables  = 24 // a key's share of both dictionaries' tables, whose sizes are powers of two: 8 to 16 bytes each
	redisElement = 48 + 16 + 24 + 12
)

// redisBlock is what the allocator gives for n bytes: four sizes between two powers of two, steps of 16 below 128.
func redisBlock(n int) int {
	step := 16
	for n > 8*step {
		step *= 2
	}
	return (n + step - 1) / step * step
}

// redisString is what a string under a key with a lifetime takes.
func redisString(key string, value int) int {
	return redisBlock(len(key)+redisHead) + redisBlock(value+redisHead) + redisObject + redisEntry + redisExpiry + redisTables
}

// estimateMemory folds some users' histories in memory and looks at what would be stored.
func estimateMemory(ctx context.Context, cfg Config, o memoryOptions, log *zap.Logger, out *memoryResult) (err error) {
	rt, err := models.NewRuntime(models.Config{Library: cfg.Model.Library, Device: cfg.Model.Device, Threads: cfg.Model.Threads, FallBack: cfg.Model.FallBack}, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rt.Close()) }()
	bundle, err := models.OpenBundle(rt, cfg.Model.Bundle)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bundle.Close()) }()
	index, err := models.OpenIndex(bundle, models.IndexConfig{Recommendable: models.All})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, index.Close()) }()
	types, err := cfg.EventTypes()
	if err != nil {
		return err
	}
	load := newBenchLoad(min(o.users, benchTemplates), bundle.Items(), types, 0, time.Now(), o.seed)
	before := heapNow()
	past, err := foldHistories(ctx, cfg, bundle, index, nil, types, load, cfg.Profile.MaxHistory)
	if err != nil {
		return err
	}
	held := heapNow() - before
	e, n := &out.Estimate, len(past.users)
	stored := 0
	for _, p := range past.profiles {
		e.Profile += len(p)
		stored += len(p)
	}
	e.Profile /= n
	e.User = redisString(cfg.Redis.Prefix+":live:profile:{"+benchUser(0)+"}", e.Profile)
	for _, s := range cfg.Surfaces {
		keys := make([]freshet.RecordKey, n)
		for i, u := range past.users {
			keys[i] = freshet.RecordKey{UserID: u, Surface: s.Name}
		}
		records, err := past.store.Records(ctx, keys)
		if err != nil {
			return err
		}
		size := 0
		for _, r := range records {
			size += len(r)
			stored += len(r)
		}
		e.Lists += size / n
		e.User += redisString(cfg.Redis.Prefix+":recs:{"+benchUser(0)+"}:"+s.Name, size/n)
	}
	out.Items = len(bundle.Items())
	if o.counts {
		e.Counts = redisBlock(len(cfg.Redis.Prefix)+len(bundle.Items()[0])+24) + redisObject + redisEntry + redisExpiry + redisTables + min(cfg.Covisit.Keep, out.Items)*redisElement
	}
	e.Hot = max(0, int(held)-stored) / n
	runtime.KeepAlive(past)
	e.HotUsers = min(o.users, cfg.Profile.HotUsers*cfg.Kafka.Partitions)
	gb := func(n float64) float64 { return round(n/1e9, 3) }
	e.Redis = gb(float64(e.User)*float64(o.users) + float64(e.Counts)*float64(out.Items))
	e.HeapUsers, e.Vectors, e.AOF = gb(float64(e.Hot)*float64(e.HotUsers)), gb(float64(out.Items*bundle.Dim()*4*2)), e.Profile+e.Lists
	return nil
}

// measureMemory stores the users by a worker on a real server, and asks the server and the process.
func measureMemory(ctx context.Context, cfg Config, o memoryOptions, log *zap.Logger, out *memoryResult) (err error) {
	cfg.Profile.HotUsers = max(cfg.Profile.HotUsers, o.users) // everybody is held, so that what one takes can be told
	b, err := newPipelineBench(cfg, pipelineOptions{users: o.users, rounds: 1, greet: true, events: max(1000, o.users/2), late: .01, seed: o.seed}, log)
	if err != nil {
		return err
	}
	w, err := openWorker(ctx, b.cfg, telemetry.NewMetrics(), log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	out.Heap = &memoryHeap{Open: heapNow()}
	before, err := usedMemory(ctx, w.store)
	if err != nil {
		return err
	}
	if err := b.prepare(ctx, w); err != nil {
		return err
	}
	defer b.send.Close()
	b.then = func(ctx context.Context) error {
		if err := b.await(ctx, int64(b.load.n)); err != nil {
			return err
		}
		out.Heap.Hot, out.Heap.RSS = heapNow(), residentNow()
		// Counts are shared every second.
		return sleep(ctx, 3*time.Second)
	}
	if err := b.serve(ctx, w, w.first().metrics); err != nil {
		return err
	}
	out.Heap.Catalogue = heapNow() // partitions that were given up take their profiles with them
	after, err := usedMemory(ctx, w.store)
	if err != nil {
		return err
	}
	if out.Kinds, err = w.store.Usage(ctx); err != nil {
		return err
	}
	mean := func(kind string) float64 {
		u := out.Kinds[kind]
		return round(float64(u.Bytes)/float64(max(u.Keys, 1)), 0)
	}
	out.Profile, out.List, out.Counts = mean("profile"), mean("recs"), mean("covisit")
	// Items are the catalogue's, however many users there are; counts are told apart.
	rest := out.Kinds["item"].Bytes + out.Kinds["similar"].Bytes + out.Kinds["covisit"].Bytes
	out.User = round(float64(after-before-rest)/float64(o.users), 0)
	out.Ratio = round(out.User/float64(out.Estimate.User), 3)
	out.Heap.HotUser = round(float64(out.Heap.Hot-out.Heap.Catalogue)/float64(o.users), 0)
	return nil
}

// heapNow is what the process's heap holds after garbage was collected.
func heapNow() int64 {
	runtime.GC()
	runtime.GC() // what the first one left to finalizers and pools
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// residentNow is the process's resident memory; 0 where the system does not say.
func residentNow() int64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b))
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}

func usedMemory(ctx context.Context, store *featurestore.Redis) (used int64, err error) {
	in, err := store.Inspect(ctx)
	for _, s := range in.Servers {
		used += s.UsedMemory
	}
	return used, err
}

func printMemory(w io.Writer, r memoryResult, asJSON bool) error {
	if asJSON {
		return printJSON(w, r)
	}
	e := r.Estimate
	fmt.Fprintf(w, "estimate: a profile of %d bytes and lists of %d: %d bytes in Redis a user; counts %d an item; a hot profile %d bytes of the worker's heap\n"+
		"%d users, %d items: Redis %.3f GB; hot profiles (%d) %.3f GB over all workers; item vectors %.3f GB in each; %d bytes to Redis's log an event\n",
		e.Profile, e.Lists, e.User, e.Counts, e.Hot, r.Users, r.Items, e.Redis, e.HotUsers, e.HeapUsers, e.Vectors, e.AOF)
	if r.Heap == nil {
		return nil
	}
	fmt.Fprintf(w, "measured: %.0f bytes in Redis a user (%.3f of the estimate); MEMORY USAGE of a profile %.0f, of a list %.0f, of an item's counts %.0f\n", r.User, r.Ratio, r.Profile, r.List, r.Counts)
	for _, kind := range slices.Sorted(maps.Keys(r.Kinds)) {
		fmt.Fprintf(w, "  %-10s %8d keys %12d bytes\n", kind, r.Kinds[kind].Keys, r.Kinds[kind].Bytes)
	}
	h := r.Heap
	_, err := fmt.Fprintf(w, "worker's heap: %.1f MB open, %.1f with %d items, %.1f with every profile held (%.0f bytes a user); resident %.1f MB\n", float64(h.Open)/1e6, float64(h.Catalogue)/1e6, r.Items,
		float64(h.Hot)/1e6, h.HotUser, float64(h.RSS)/1e6)
	return err
}
