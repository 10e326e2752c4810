package featurestore_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"freshet/featurestore"
)

// server is a redis-server of the test's own, on loopback, in its own folder.
type server struct {
	addr string
	dir  string
	args []string
	cmd  *exec.Cmd
}

// startServer starts one, or skips the test where there is no redis-server. It ends with the test.
func startServer(t testing.TB, args ...string) *server {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		unavailable(t, "redis-server is not installed")
	}
	s := &server{dir: t.TempDir(), args: args}
	s.addr = fmt.Sprintf("127.0.0.1:%d", freePort(t))
	s.start(t)
	t.Cleanup(func() { s.kill(t) })
	return s
}

// unavailable skips a test for want of a server, which continuous integration must have.
func unavailable(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(reason)
	}
	t.Skip(reason)
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func (s *server) start(t testing.TB) {
	t.Helper()
	_, port, _ := net.SplitHostPort(s.addr)
	args := append([]string{"--port", port, "--bind", "127.0.0.1", "--dir", s.dir, "--save", "", "--logfile", filepath.Join(s.dir, "log"),
		"--daemonize", "no"}, s.args...)
	s.cmd = exec.Command("redis-server", args...)
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.await(t)
}

// await returns once the server answers.
func (s *server) await(t testing.TB) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for time.Now().Before(deadline) {
		if conn, err := net.Dial("tcp", s.addr); err == nil {
			_, _ = conn.Write([]byte("PING\r\n"))
			_ = conn.SetReadDeadline(time.Now().Add(time.Second))
			answer := make([]byte, 64)
			n, _ := conn.Read(answer)
			_ = conn.Close()
			if text := string(answer[:n]); strings.HasPrefix(text, "+PONG") || strings.HasPrefix(text, "-NOAUTH") {
				return
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	t.Fatalf("redis-server at %s did not answer within 20 s:\n%s", s.addr, log)
}

func (s *server) kill(t testing.TB) {
	t.Helper()
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait() // "signal: killed"
}

// admin is a plain client beside the store under test.
func (s *server) admin(t testing.TB) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: s.addr})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// open opens a store and closes it with the test.
func open(t testing.TB, cfg featurestore.Config) *featurestore.Redis {
	t.Helper()
	r, err := featurestore.Open(t.Context(), cfg, zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// realAddr is a server that the environment names, or one of the test's own.
func realAddr(t testing.TB) string {
	t.Helper()
	if addr := os.Getenv("FRESHET_TEST_REDIS"); addr != "" {
		return addr
	}
	return startServer(t).addr
}

// startCluster starts three masters that share the slots, without replicas.
func startCluster(t testing.TB) []*server {
	t.Helper()
	var nodes []*server
	for range 3 {
		nodes = append(nodes, startServer(t, "--cluster-enabled", "yes", "--cluster-port", fmt.Sprint(freePort(t)),
			"--cluster-node-timeout", "2000", "--appendonly", "no"))
	}
	ctx := context.Background()
	for i, n := range nodes {
		admin := n.admin(t)
		if err := admin.ClusterAddSlotsRange(ctx, i*16384/3, (i+1)*16384/3-1).Err(); err != nil {
			t.Fatal(err)
		}
		if err := admin.Do(ctx, "config", "set", "cluster-require-full-coverage", "yes").Err(); err != nil {
			t.Fatal(err)
		}
		host, port, _ := net.SplitHostPort(nodes[0].addr)
		if i > 0 {
			bus := nodes[0].args[3]
			if err := admin.Do(ctx, "cluster", "meet", host, port, bus).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, n := range nodes {
		awaitCluster(t, n.admin(t))
	}
	return nodes
}

func awaitCluster(t testing.TB, admin *redis.Client) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		info, err := admin.ClusterInfo(context.Background()).Result()
		if err == nil && strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_known_nodes:3") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the cluster did not form within 30 s: %v\n%s", err, info)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func addrs(nodes []*server) []string {
	var list []string
	for _, n := range nodes {
		list = append(list, n.addr)
	}
	return list
}

func nop() *zap.Logger { return zap.NewNop() }

// repoFile is a file of the repository by its path from the root.
func repoFile(t testing.TB, path string) string {
	t.Helper()
	full, err := filepath.Abs(filepath.Join("..", path))
	if err != nil {
		t.Fatal(err)
	}
	return full
}
