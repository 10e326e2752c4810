package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	probeUsers = 24          // enough to lie in nearly every partition
	probeEvery = time.Second // between two events of each
)

// probes are users who do one thing every second and whose lists are looked at all the time: a list may be as old as the lag of its
// partition explains, and no older.
type probes struct {
	sender *sender
	team   *team
	redis  *redis.Client

	mu     sync.Mutex
	sent   []map[int32][]sending // by user, partition; offsets rise
	looks  int                   // at one list
	oldest time.Duration         // an event had been in the log for so long when it was in no list yet
	stale  []string              // lists that the lag does not explain
}

// sending is one event of a probe.
type sending struct {
	offset int64
	at     time.Time
}

func newProbes(s *sender, t *team, r *redis.Client) *probes {
	p := &probes{sender: s, team: t, redis: r, sent: make([]map[int32][]sending, probeUsers)}
	for i := range p.sent {
		p.sent[i] = map[int32][]sending{}
	}
	return p
}

func probeName(i int) string { return fmt.Sprintf("probe-%d", i) }

// run sends and looks until it is told to stop.
func (p *probes) run(ctx context.Context) {
	for sleep(ctx, probeEvery) == nil {
		for i := range probeUsers {
			p.sender.probe(ctx, i, func(partition int32, offset int64) {
				p.mu.Lock()
				defer p.mu.Unlock()
				p.sent[i][partition] = append(p.sent[i][partition], sending{offset, time.Now()})
			})
		}
		applied := p.applied(ctx)
		for i := range probeUsers {
			p.look(ctx, i, applied)
		}
	}
}

// applied is the next offset to apply of each partition, as the workers tell it. Of two who tell it of the same partition one has
// lost it.
func (p *probes) applied(ctx context.Context) map[int32]int64 {
	out := map[int32]int64{}
	for _, m := range p.team.members {
		now, err := m.scrape(ctx)
		if err != nil {
			continue // stopped or away; whoever takes over will tell
		}
		for name, value := range now {
			var partition int32
			if n, _ := fmt.Sscanf(name, "freshet_applied_offset{partition=\"%d\"", &partition); n == 1 && strings.Contains(name, `topic="`+eventsTopic+`"`) {
				out[partition] = max(out[partition], int64(value))
			}
		}
	}
	return out
}

// look compares a probe's list with what was applied before the list was read.
func (p *probes) look(ctx context.Context, i int, applied map[int32]int64) {
	raw, err := p.redis.Get(ctx, "freshet:recs:{"+probeName(i)+"}").Bytes()
	if err != nil && !errors.Is(err, redis.Nil) {
		return // Redis is away
	}
	var list struct {
		Event struct {
			Partition int32 `json:"partition"`
			Offset    int64 `json:"offset"`
		} `json:"event"`
	}
	list.Event.Offset = -1
	if raw != nil && json.Unmarshal(raw, &list) != nil {
		return // the verdict compares bytes
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.looks++
	for partition, events := range p.sent[i] {
		have := int64(-1)
		if list.Event.Partition == partition {
			have = list.Event.Offset
		}
		for _, e := range events {
			if e.offset <= have {
				continue
			}
			p.oldest = max(p.oldest, time.Since(e.at))
			if e.offset < applied[partition] {
				p.stale = append(p.stale, fmt.Sprintf("%s has the list of %d-%d, while %d was applied", probeName(i), partition, have, e.offset))
			}
		}
		for len(events) > 1 && events[0].offset < have {
			events = events[1:]
		}
		p.sent[i][partition] = events
	}
}

func (p *probes) verdict() (text string, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	text = fmt.Sprintf("lists: %d looks at those of %d users, %d older than the lag explains; an event was at most %.1f s in the log before its list was there",
		p.looks, probeUsers, len(p.stale), p.oldest.Seconds())
	for _, line := range p.stale[:min(10, len(p.stale))] {
		text += "\nSTALE " + line
	}
	return text, p.looks > 0 && len(p.stale) == 0
}
