package featurestore

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"freshet"
)

// Sentinels are small marks that travel with the data: one hash per Redis master for a lane and consumer group, in which each
// worker notes every second up to which offset its partitions are saved there. A server that loses its last seconds loses its last
// marks with them, so what the marks say after a restart is what the data holds.
//
// The use, in the order of a worker's life:
//
//  1. Accept, while no partition is being read: takes the servers as they are now, arms the fence and tells what they remember.
//  2. StartAt for each partition assigned: the committed offset, or an older one where a master remembers less.
//  3. Mark every second, with positions whose saves were answered. Hold after each Load that did not find everybody.
//  4. When Load, Save, Mark or Hold fails with freshet.ErrLost: stop all partitions, drop what is in memory, count a rollback, go to 1.
//
// Any of these may be told by a false alarm (a restart that lost nothing): it costs reading the last seconds again, which every
// profile skips.
type Sentinels struct {
	r      *Redis
	group  string
	worker string

	mu   sync.Mutex
	last map[string]int64 // tag -> time of this worker's last mark, Unix milliseconds
}

// Sentinel is what one master remembers.
type Sentinel struct {
	Master        string // address
	RunID         string
	ReplicationID string
	Time          time.Time          // of the newest mark; zero = it holds none: new, or wiped
	Saved         []freshet.Position // per source, everything at or below is saved there
}

// Sentinels prepares the marks of one worker. The worker's name must differ from that of every other one in the group; a new name
// at each start is best.
func (r *Redis) Sentinels(group, worker string) *Sentinels {
	return &Sentinels{r: r, group: group, worker: worker, last: map[string]int64{}}
}

// Accept takes the servers as they are and gives back what each remembers. From then on a connection to any other process, or to
// other data, fails with freshet.ErrLost until Accept is called again. Nothing else may use the store meanwhile. When it fails, the
// store is as closed as it was before.
func (s *Sentinels) Accept(ctx context.Context, now time.Time) ([]Sentinel, error) {
	before := s.r.fence.open()
	s.mu.Lock()
	s.last = map[string]int64{}
	s.mu.Unlock()
	found, known, err := s.look(ctx, now)
	if err != nil {
		s.r.fence.restore(before)
		return nil, err
	}
	s.r.fence.close(known)
	return found, nil
}

// look asks every master who it is and what it remembers. It leaves a mark first: what is lost from then on is noticed.
func (s *Sentinels) look(ctx context.Context, now time.Time) ([]Sentinel, map[identity]bool, error) {
	masters, err := s.masters(ctx)
	if err != nil {
		return nil, nil, err
	}
	known := map[identity]bool{}
	var found []Sentinel
	for _, m := range masters {
		id, master, err := identify(ctx, m.client)
		if err != nil {
			return nil, nil, s.r.failed("identify "+m.address, err)
		}
		if !master {
			return nil, nil, fmt.Errorf("identify %s: %w: it is a replica", m.address, freshet.ErrUnavailable)
		}
		if id == (identity{}) {
			s.r.log.Debug("the server does not say who it is; a restart is noticed by lost marks only", zap.String("server", m.address))
		}
		known[id] = true
		if err := s.mark(ctx, m, now, nil); err != nil {
			return nil, nil, err
		}
		marks, err := s.read(ctx, m, id)
		if err != nil {
			return nil, nil, err
		}
		found = append(found, marks)
	}
	return found, known, nil
}

// Read tells what each master remembers now, without accepting anybody: where a partition that has just been assigned must begin.
func (s *Sentinels) Read(ctx context.Context) ([]Sentinel, error) {
	masters, err := s.masters(ctx)
	if err != nil {
		return nil, err
	}
	found := make([]Sentinel, len(masters))
	for i, m := range masters {
		if found[i], err = s.read(ctx, m, identity{}); err != nil {
			return nil, err
		}
	}
	return found, nil
}

func (s *Sentinels) read(ctx context.Context, m master, id identity) (Sentinel, error) {
	marks, err := s.r.client.HGetAll(ctx, m.marks).Result()
	if err != nil {
		return Sentinel{}, s.r.failed("read sentinel of "+m.address, err)
	}
	return sentinelOf(m.address, id, marks), nil
}

// Mark notes on every master that everything at or below these positions is saved, as of now. It fails with freshet.ErrLost, and
// closes the store for loads and saves, when a master forgot the mark before or is not the one that was accepted.
func (s *Sentinels) Mark(ctx context.Context, now time.Time, saved []freshet.Position) error {
	masters, err := s.masters(ctx)
	if err != nil {
		return err
	}
	for _, m := range masters {
		id, master, err := identify(ctx, m.client)
		switch {
		case err != nil:
			return s.r.failed("identify "+m.address, err)
		case master && !s.r.fence.knows(id):
			return s.lost("%s is another process or holds other data than was accepted", m.address)
		}
		if err := s.mark(ctx, m, now, saved); err != nil {
			return err
		}
	}
	return nil
}

func (s *Sentinels) mark(ctx context.Context, m master, now time.Time, saved []freshet.Position) error {
	s.mu.Lock()
	before := s.last[m.tag]
	s.mu.Unlock()
	at := max(now.UnixMilli(), before+1) // a clock that steps back must not make two marks look alike
	args := []any{s.worker, before, at}
	for _, p := range saved {
		args = append(args, sourceName(p.Source), p.Offset)
	}
	cmds, err := s.r.all(ctx, "write sentinel on "+m.address, 1, 1, func(int) redis.Cmder {
		return call(ctx, sentinelScript, []string{m.marks, m.history}, args...)
	})
	if err != nil {
		return err // it may have been written all the same; the next one does not take that for a loss
	}
	if written, _ := cmds[0].(*redis.Cmd).Int(); written == 0 {
		return s.lost("%s forgot the mark of %s", m.address, time.UnixMilli(before).UTC().Format(time.RFC3339Nano))
	}
	s.mu.Lock()
	s.last[m.tag] = max(s.last[m.tag], at)
	s.mu.Unlock()
	return nil
}

// Hold fails with freshet.ErrLost, and closes the store, unless every master still has this worker's last mark. It tells a user who
// was never there from one whom a master has just forgotten (FLUSHALL restarts nothing): ask it after a load that found nothing,
// before something is saved on the strength of that.
func (s *Sentinels) Hold(ctx context.Context) error {
	masters, err := s.masters(ctx)
	if err != nil {
		return err
	}
	for _, m := range masters {
		s.mu.Lock()
		before := s.last[m.tag]
		s.mu.Unlock()
		stored, err := s.r.client.HGet(ctx, m.marks, "w "+s.worker).Int64()
		if err != nil && !errors.Is(err, redis.Nil) {
			return s.r.failed("read sentinel of "+m.address, err)
		}
		if stored < before {
			return s.lost("%s forgot the mark of %s", m.address, time.UnixMilli(before).UTC().Format(time.RFC3339Nano))
		}
	}
	return nil
}

func (s *Sentinels) lost(format string, args ...any) error {
	err := fmt.Errorf("%w: %s", freshet.ErrLost, fmt.Sprintf(format, args...))
	s.r.fence.trip(err)
	return err
}

// History gives what each master remembered at the first mark of each minute of the last hour, oldest first.
func (s *Sentinels) History(ctx context.Context) ([]Sentinel, error) {
	masters, err := s.masters(ctx)
	if err != nil {
		return nil, err
	}
	var list []Sentinel
	for _, m := range masters {
		minutes, err := s.r.client.HGetAll(ctx, m.history).Result()
		if err != nil {
			return nil, s.r.failed("read sentinel history of "+m.address, err)
		}
		for minute, lines := range minutes {
			marks := map[string]string{}
			for line := range strings.Lines(lines) {
				if source, mark, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
					marks["p "+source] = mark
				}
			}
			entry := sentinelOf(m.address, identity{}, marks)
			n, _ := strconv.ParseInt(minute, 10, 64)
			entry.Time = time.Unix(n*60, 0).UTC()
			list = append(list, entry)
		}
	}
	sort.SliceStable(list, func(a, b int) bool { return list[a].Time.Before(list[b].Time) })
	return list, nil
}

// StartAt is the offset to read a partition from: the committed one (the next to read), or an older one where a master remembers
// less. unknown counts masters without any mark for the partition: where something was committed they are new, or were wiped.
func StartAt(found []Sentinel, source freshet.Source, committed int64) (start int64, unknown int) {
	start = committed
	for _, s := range found {
		known := false
		for _, p := range s.Saved {
			if p.Source == source {
				start, known = min(start, p.Offset+1), true
			}
		}
		if !known {
			unknown++
		}
	}
	return start, unknown
}

// master is a server and the keys of its marks; the tag is one that hashes to the server.
type master struct {
	client         *redis.Client
	address, tag   string
	marks, history string
}

// masters finds for every master of a Cluster the first small number whose slot it holds. A single server holds them all.
func (s *Sentinels) masters(ctx context.Context) ([]master, error) {
	var mu sync.Mutex
	missing := map[string]bool{}
	err := s.r.eachMaster(ctx, func(_ context.Context, c *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		missing[c.Options().Addr] = true
		return nil
	})
	if err != nil {
		return nil, s.r.failed("list masters", err)
	}
	var list []master
	for i := 0; len(missing) > 0 && i < 1<<13; i++ {
		tag := strconv.Itoa(i)
		key := s.r.keys.sentinel(s.group, tag)
		c, err := s.r.masterFor(ctx, key)
		if err != nil {
			return nil, s.r.failed("list masters", err)
		}
		if address := c.Options().Addr; missing[address] {
			delete(missing, address)
			list = append(list, master{client: c, address: address, tag: tag, marks: key, history: key + ":history"})
		}
	}
	return list, nil // a master that holds no slot holds no data either
}

func (r *Redis) masterFor(ctx context.Context, key string) (*redis.Client, error) {
	if c, ok := r.client.(*redis.ClusterClient); ok {
		return c.MasterForKey(ctx, key)
	}
	return r.client.(*redis.Client), nil
}

// sentinelOf reads the fields of a marks hash.
func sentinelOf(address string, id identity, marks map[string]string) Sentinel {
	s := Sentinel{Master: address, RunID: id.run, ReplicationID: id.replication}
	for name, mark := range marks {
		source, ok := strings.CutPrefix(name, "p ")
		if !ok {
			continue
		}
		var p freshet.Position
		var at int64
		if p.Source, ok = parseSource(source); !ok {
			continue
		}
		if n, err := fmt.Sscanf(mark, "%d %d", &p.Offset, &at); n != 2 || err != nil {
			continue
		}
		s.Saved = append(s.Saved, p)
		if t := time.UnixMilli(at).UTC(); t.After(s.Time) {
			s.Time = t
		}
	}
	sort.Slice(s.Saved, func(a, b int) bool { return sourceName(s.Saved[a].Source) < sourceName(s.Saved[b].Source) })
	return s
}

// sourceName puts the topic last: it may hold any character but a slash or a space.
func sourceName(s freshet.Source) string {
	return fmt.Sprintf("%d/%d/%s", s.Partition, s.Incarnation, s.Topic)
}

func parseSource(name string) (s freshet.Source, ok bool) {
	parts := strings.SplitN(name, "/", 3)
	if len(parts) != 3 {
		return s, false
	}
	partition, err1 := strconv.ParseInt(parts[0], 10, 32)
	incarnation, err2 := strconv.ParseInt(parts[1], 10, 32)
	return freshet.Source{Topic: parts[2], Incarnation: int32(incarnation), Partition: int32(partition)}, err1 == nil && err2 == nil
}
