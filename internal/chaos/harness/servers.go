package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kgo"

	"freshet/internal/chaos/proxy"
	"freshet/internal/chaos/topic"
)

const (
	eventsTopic  = "events"
	listsTopic   = "recommendations"
	lettersTopic = "events.dlq"
	group        = "freshet"
)

// servers are the real Kafka and Redis, each behind a proxy that the workers go through; the harness itself goes past them.
type servers struct {
	o           options
	folder      string // of the pair of servers
	kafka       string // the harness' own way
	redisAddr   string
	kafkaProxy  *proxy.Proxy
	redisProxy  *proxy.Proxy
	admin       *kgo.Client
	redis       *redis.Client
	snapshotted string
}

func startServers(ctx context.Context, o options) (s *servers, err error) {
	s = &servers{o: o, folder: filepath.Join(o.root, ".freshet", "local", o.name)}
	defer func() {
		if err != nil {
			s.stop(false)
		}
	}()
	if s.kafkaProxy, err = proxy.Listen(); err != nil {
		return s, err
	}
	if s.redisProxy, err = proxy.Listen(); err != nil {
		return s, err
	}
	if err := s.script(ctx, "down", "--wipe"); err != nil {
		return s, err
	}
	if err := s.script(ctx, "up"); err != nil {
		return s, err
	}
	ports, err := readPorts(filepath.Join(s.folder, "ports"))
	if err != nil {
		return s, err
	}
	s.kafka, s.redisAddr = "127.0.0.1:"+ports["kafka"], "127.0.0.1:"+ports["redis"]
	s.kafkaProxy.To("127.0.0.1:" + ports["kafka_proxied"])
	s.redisProxy.To(s.redisAddr)
	s.redis = redis.NewClient(&redis.Options{Addr: s.redisAddr, Protocol: 2, DisableIdentity: true})
	if s.admin, err = kgo.NewClient(kgo.SeedBrokers(s.kafka), kgo.RetryTimeout(10*time.Second)); err != nil {
		return s, err
	}
	return s, s.steady(ctx)
}

// steady keeps Redis from rewriting its log, so that a copy of the file taken meanwhile is what it was at that moment.
// A soak takes no copies and writes far more.
func (s *servers) steady(ctx context.Context) error {
	if s.o.soak > 0 {
		return nil
	}
	return s.redis.ConfigSet(ctx, "auto-aof-rewrite-percentage", "0").Err()
}

// script runs one of deployments/local.
func (s *servers) script(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, filepath.Join(s.o.root, "deployments", "local", name), args...)
	cmd.Env = append(os.Environ(), "FRESHET_LOCAL_NAME="+s.o.name, "FRESHET_LOCAL_KAFKA_PROXY="+s.kafkaProxy.Addr())
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("deployments/local/%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

func readPorts(name string) (map[string]string, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	ports := map[string]string{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if server, port, ok := strings.Cut(lines.Text(), "="); ok {
			ports[server] = port
		}
	}
	return ports, nil
}

func (s *servers) stop(keep bool) {
	if s.admin != nil {
		s.admin.Close()
	}
	if s.redis != nil {
		_ = s.redis.Close()
	}
	if !keep {
		// The run's context may be over; what was started is ended all the same.
		if err := s.script(context.Background(), "down", "--wipe"); err != nil {
			fmt.Fprintln(os.Stderr, "chaos:", err)
		}
	}
	for _, p := range []*proxy.Proxy{s.kafkaProxy, s.redisProxy} {
		if p != nil {
			p.Close()
		}
	}
}

// snapshot copies Redis' data aside.
func (s *servers) snapshot() error {
	s.snapshotted = filepath.Join(s.o.work, "snapshot")
	if err := os.RemoveAll(s.snapshotted); err != nil {
		return err
	}
	return os.CopyFS(s.snapshotted, os.DirFS(filepath.Join(s.folder, "redis")))
}

// restore puts the copy back; Redis must not be running.
func (s *servers) restore() error {
	dir := filepath.Join(s.folder, "redis")
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.CopyFS(dir, os.DirFS(s.snapshotted))
}

// lag is how many records of the log are not committed.
func (s *servers) lag(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	ends, err := topic.Ends(ctx, s.admin, eventsTopic)
	if err != nil {
		return 0, err
	}
	return s.behind(ctx, ends)
}

// behind is how many records below those ends are not committed.
func (s *servers) behind(ctx context.Context, ends map[int32]int64) (int64, error) {
	committed, err := topic.Committed(ctx, s.admin, group, eventsTopic, len(ends))
	sum := int64(0)
	for p, end := range ends {
		sum += max(0, end-committed[p])
	}
	return sum, err
}

// caughtUp waits until everything sent is committed.
func (s *servers) caughtUp(ctx context.Context, within time.Duration) error {
	deadline := time.Now().Add(within)
	for {
		lag, err := s.lag(ctx)
		if err == nil && lag == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the workers are still %d records behind after %v: %w", lag, within, err)
		}
		if err := sleep(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
