package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"freshet/internal/chaos/proxy"
	"freshet/internal/chaos/topic"
)

// chaos is one run while the faults happen.
type chaos struct {
	o       options
	plan    *plan
	servers *servers
	team    *team
	sender  *sender
	report  *report
}

// class is a kind of fault.
type class struct {
	what    string
	lasts   time.Duration // about, of one
	forgets bool          // the store loses data
	run     func(ctx context.Context, c *chaos, s step) error
}

// classes are all faults; plan.go says how many of each.
var classes map[string]class

func init() {
	classes = map[string]class{
		"bounce":       {"SIGTERM and start again, every 250-700 ms", 1200 * time.Millisecond, false, bounce},
		"kill":         {"kill -9 at a random point", 2 * time.Second, false, kill},
		"stop":         {"SIGSTOP for longer than the session, SIGCONT", session + 4*time.Second, false, stop},
		"stop-save":    {"SIGSTOP with a save on its way, which arrives when others have gone on", session + 5*time.Second, false, stopSave},
		"stop-publish": {"SIGSTOP between save and publish; the old list arrives late", session + 5*time.Second, false, stopPublish},
		"kill-publish": {"kill -9 between save and publish", 3 * time.Second, false, killPublish},
		"broker":       {"Kafka killed and started again", 12 * time.Second, false, broker},
		"redis-kill":   {"Redis killed and started again", 4 * time.Second, false, redisKill},
		"rollback":     {"Redis killed and started with an older snapshot (1, 10, 60 s), workers go on", 6 * time.Second, true, rollback},
		"flushall":     {"FLUSHALL", time.Second, true, flushAll},
		"script-flush": {"SCRIPT FLUSH", time.Second, false, scriptFlush},
		"oom":          {"Redis out of memory for 3 s", 4 * time.Second, false, oom},
		"latency":      {"200 ms more to both servers, for 6 s", 7 * time.Second, false, latency},
		"partitions":   {"12 partitions become 16", 12 * time.Second, false, addPartitions},
	}
}

func classNames() []string { return sortedKeys(classes) }

// pause is between two faults, on average.
const pause = 1500 * time.Millisecond

// play does the plan's faults one after the other while the stream is sent. How long the workers take to catch up is watched on the
// side: the next fault does not wait for it.
func (c *chaos) play(ctx context.Context) error {
	if err := sleep(ctx, 2*time.Second); err != nil {
		return err
	}
	for i, s := range c.plan.steps {
		start := time.Now()
		if err := classes[s.class].run(ctx, c, s); err != nil {
			return errors.Join(fmt.Errorf("fault %s: %w", s.class, err), ctx.Err(), c.team.tail())
		}
		fmt.Printf("chaos: %3d/%d %-12s %5.1f s\n", i+1, len(c.plan.steps), s.class, time.Since(start).Seconds())
		c.report.did(s)
		c.report.watch(ctx, c.servers, s)
		rest := time.Duration(c.plan.rnd.Int64N(int64(2 * pause)))
		if c.plan.soak > 0 {
			rest = max(0, soakEvery-time.Since(start))
		}
		if err := sleep(ctx, rest); err != nil {
			return err
		}
	}
	return c.sender.finish()
}

// anybody is a member to be ended; in a soak the first one is spared, so that there is somebody whose memory can be watched.
func (c *chaos) anybody() *member {
	spared := 0
	if c.plan.soak > 0 {
		spared = 1
	}
	return c.team.members[spared+c.plan.rnd.IntN(len(c.team.members)-spared)]
}

func (c *chaos) between(low, high time.Duration) time.Duration {
	return low + time.Duration(c.plan.rnd.Int64N(int64(high-low)))
}

// gentle is how long a worker may take to leave. One that takes longer is killed, and the report says so.
const gentle = 15 * time.Second

func bounce(ctx context.Context, c *chaos, s step) error {
	for range s.times {
		m := c.anybody()
		if err := m.end(syscall.SIGTERM, gentle); err != nil {
			c.report.slow(err)
		}
		if err := m.start(); err != nil {
			return err
		}
		if err := sleep(ctx, c.between(250*time.Millisecond, 700*time.Millisecond)); err != nil {
			return err
		}
	}
	return nil
}

func kill(ctx context.Context, c *chaos, _ step) error {
	m := c.anybody()
	if err := sleep(ctx, c.between(0, time.Second)); err != nil {
		return err
	}
	if err := m.end(syscall.SIGKILL, gentle); err != nil {
		return err
	}
	if err := sleep(ctx, c.between(0, time.Second)); err != nil {
		return err
	}
	return m.start()
}

// longer than the session: the group has given the partitions to others, and they have worked on them.
func (c *chaos) longer() time.Duration { return session + c.between(2*time.Second, 4*time.Second) }

func stop(ctx context.Context, c *chaos, _ step) error {
	m := c.anybody()
	m.signal(syscall.SIGSTOP)
	defer m.signal(syscall.SIGCONT)
	return sleep(ctx, c.longer())
}

// holdWithin is how long a request that a fault waits for may take to come.
const holdWithin = 40 * time.Second

// saving matches a pipeline of saves of profiles.
func saving(request []byte) bool {
	return bytes.Contains(request, []byte("evalsha")) && bytes.Contains(request, []byte(":profile:{"))
}

// publishing matches a produce request (key 0) to the output topic.
func publishing(request []byte) bool {
	return len(request) > 8 && binary.BigEndian.Uint16(request[4:]) == 0 && bytes.Contains(request[:min(len(request), 256)], []byte(listsTopic))
}

// catch holds the next matching request back and tells whose it is. One whose sender is gone meanwhile is let go.
func (c *chaos) catch(p *proxy.Proxy, match func([]byte) bool) (*proxy.Held, *member, error) {
	for deadline := time.Now().Add(holdWithin); ; {
		h := p.Hold(match, time.Until(deadline))
		if h == nil {
			return nil, nil, fmt.Errorf("no such request of a member came within %v", holdWithin)
		}
		if m := c.team.of(h.Client); m != nil {
			return h, m, nil
		}
		h.Drop()
	}
}

func stopSave(ctx context.Context, c *chaos, _ step) error {
	return c.freeze(ctx, c.servers.redisProxy, saving)
}

func stopPublish(ctx context.Context, c *chaos, _ step) error {
	return c.freeze(ctx, c.servers.kafkaProxy, publishing)
}

// backlog is how many records are sent at once before a member is stopped in the middle of something: there is more of it, and
// whoever takes over goes on with the same users at once.
const backlog = 400

// freeze stops a member in the middle of a request and lets the request through when others have taken the partitions over.
func (c *chaos) freeze(ctx context.Context, p *proxy.Proxy, match func([]byte) bool) error {
	go c.sender.burst(ctx, backlog)
	h, m, err := c.catch(p, match)
	if err != nil {
		return err
	}
	m.signal(syscall.SIGSTOP)
	defer m.signal(syscall.SIGCONT)
	defer h.Release()
	return sleep(ctx, c.longer())
}

func killPublish(ctx context.Context, c *chaos, _ step) error {
	h, m, err := c.catch(c.servers.kafkaProxy, publishing)
	if err != nil {
		return err
	}
	err = m.end(syscall.SIGKILL, gentle)
	h.Drop()
	if err != nil {
		return err
	}
	if err := sleep(ctx, c.between(0, time.Second)); err != nil {
		return err
	}
	return m.start()
}

func broker(ctx context.Context, c *chaos, _ step) error {
	if err := c.servers.script(ctx, "kill", "kafka"); err != nil {
		return err
	}
	if err := sleep(ctx, c.between(500*time.Millisecond, 2*time.Second)); err != nil {
		return err
	}
	if err := c.servers.script(ctx, "up", "kafka"); err != nil {
		return err
	}
	return c.worksAgain(ctx, "broker")
}

// workWithin is how long to wait for the workers to save something once a server is back. They should need 2 s; what they need is
// printed, and a run on a machine that does other things as well does not fail for it.
const workWithin = time.Minute

// worksAgain waits until a worker saves something, and notes how long that took. A few events are sent so that there is something.
func (c *chaos) worksAgain(ctx context.Context, class string) error {
	began := time.Now()
	if c.sender.burst(ctx, 50) == 0 {
		return ctx.Err() // the whole stream is sent: perhaps there is nothing left to save
	}
	if h := c.servers.redisProxy.Hold(saving, workWithin); h != nil {
		h.Release()
	}
	c.report.worksAgain(class, time.Since(began))
	return ctx.Err()
}

func redisKill(ctx context.Context, c *chaos, _ step) error {
	if err := c.reviveRedis(ctx, nil); err != nil {
		return err
	}
	return c.worksAgain(ctx, "redis-kill")
}

// rollback starts Redis with what it held some time ago. No worker is restarted.
func rollback(ctx context.Context, c *chaos, s step) error {
	if err := c.servers.snapshot(); err != nil {
		return err
	}
	if err := sleep(ctx, s.age); err != nil {
		return err
	}
	if err := c.reviveRedis(ctx, c.servers.restore); err != nil {
		return err
	}
	return c.worksAgain(ctx, "rollback")
}

func (c *chaos) reviveRedis(ctx context.Context, meanwhile func() error) error {
	if err := c.servers.script(ctx, "kill", "redis"); err != nil {
		return err
	}
	if meanwhile != nil {
		if err := meanwhile(); err != nil {
			return err
		}
	}
	if err := sleep(ctx, c.between(100*time.Millisecond, time.Second)); err != nil {
		return err
	}
	if err := c.servers.script(ctx, "up", "redis"); err != nil {
		return err
	}
	return c.servers.steady(ctx)
}

func flushAll(ctx context.Context, c *chaos, _ step) error {
	return c.servers.redis.FlushAll(ctx).Err()
}

func scriptFlush(ctx context.Context, c *chaos, _ step) error {
	return c.servers.redis.ScriptFlush(ctx).Err()
}

func oom(ctx context.Context, c *chaos, _ step) error {
	if err := c.servers.redis.ConfigSet(ctx, "maxmemory", "1mb").Err(); err != nil {
		return err
	}
	if err := sleep(ctx, 3*time.Second); err != nil {
		return err
	}
	if err := c.servers.redis.ConfigSet(ctx, "maxmemory", "0").Err(); err != nil {
		return err
	}
	return c.worksAgain(ctx, "oom")
}

func latency(ctx context.Context, c *chaos, _ step) error {
	for _, p := range []*proxy.Proxy{c.servers.kafkaProxy, c.servers.redisProxy} {
		p.Delay(200 * time.Millisecond)
		defer p.Delay(0)
	}
	return sleep(ctx, 6*time.Second)
}

// addPartitions raises the number of partitions at a moment when nothing is under way: from then on some users' events lie in two
// partitions, and which of the two is read first would otherwise be left to chance. Members are bounced and killed again after it.
func addPartitions(ctx context.Context, c *chaos, _ step) error {
	return c.sender.paused(ctx, func() error {
		if err := c.servers.caughtUp(ctx, catchUp); err != nil {
			return err
		}
		req := kmsg.NewPtrCreatePartitionsRequest()
		req.TimeoutMillis = 10_000
		t := kmsg.NewCreatePartitionsRequestTopic()
		t.Topic, t.Count = eventsTopic, morePartitions
		req.Topics = append(req.Topics, t)
		res, err := req.RequestWith(ctx, c.servers.admin)
		if err != nil {
			return err
		}
		for _, t := range res.Topics {
			if err := kerr.ErrorForCode(t.ErrorCode); err != nil && !errors.Is(err, kerr.InvalidPartitions) {
				return err
			}
		}
		for n := 0; n != morePartitions; {
			if n, err = topic.Partitions(ctx, c.servers.admin, eventsTopic); err != nil {
				return err
			}
			if err := sleep(ctx, 100*time.Millisecond); err != nil {
				return err
			}
		}
		return sleep(ctx, 3*time.Second) // the sender's own knowledge of the topic is 2 s old at most
	})
}
