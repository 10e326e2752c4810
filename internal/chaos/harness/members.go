package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"freshet/internal/chaos/topic"
)

// surfaces are the lists every user gets in this suite: of the sequence model alone, so that they are a function of the profile.
var surfaces = []struct {
	name string
	k    int
}{{"home", 10}, {"side", 5}}

// hotFor are how long the members trust their local copies of profiles: one keeps none, one keeps them for ever.
var hotFor = []string{"0s", "2s", "10m"}

// team is the worker processes.
type team struct {
	members []*member
	spawn   chan func()
}

// member is one worker; when its process ends unasked it is started again, as an orchestrator would.
type member struct {
	id     int
	binary string
	config string
	log    string
	spawn  chan<- func()

	mu      sync.Mutex
	process *exec.Cmd
	ended   chan struct{} // closed when the process is gone
	wanted  bool          // shall run
	crashed int
}

func startMembers(ctx context.Context, o options, s *servers) (*team, error) {
	t := &team{spawn: make(chan func())}
	// A process is told to die with the thread that started it: one thread starts them all, and lives as long as the harness.
	go func() {
		runtime.LockOSThread()
		for f := range t.spawn {
			f()
		}
	}()
	for i := range o.members {
		m := &member{id: i, binary: o.freshet, spawn: t.spawn, config: filepath.Join(o.work, fmt.Sprintf("member-%d.yaml", i)), log: filepath.Join(o.work, fmt.Sprintf("member-%d.log", i))}
		if err := os.WriteFile(m.config, []byte(configOf(o, s, i)), 0o600); err != nil {
			return nil, err
		}
		t.members = append(t.members, m)
		if err := m.start(); err != nil {
			return nil, err
		}
	}
	return t, t.awaitTopic(ctx, s)
}

// awaitTopic waits until a worker has created the topics.
func (t *team) awaitTopic(ctx context.Context, s *servers) error {
	for deadline := time.Now().Add(time.Minute); ; {
		n, err := topic.Partitions(ctx, s.admin, eventsTopic)
		if err == nil && n == partitions {
			return nil
		}
		if time.Now().After(deadline) {
			return errors.Join(fmt.Errorf("no worker created the events topic with %d partitions (%d): %w", partitions, n, err), t.tail())
		}
		if err := sleep(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
}

func configOf(o options, s *servers, i int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "kafka:\n  brokers: [%q]\n  partitions: %d\n  session: %s\n  loss_window: %s\n  group: %s\n", s.kafkaProxy.Addr(), partitions, session, lossWindow, group)
	fmt.Fprintf(&b, "redis:\n  addrs: [%q]\n", s.redisProxy.Addr())
	fmt.Fprintf(&b, "model:\n  bundle: %q\n  device: cpu\n  encoder: none\ncatalogue:\n  only: false\nbootstrap: auto\n", o.bundle)
	fmt.Fprintf(&b, "profile:\n  hot_for: %s\nhttp:\n  listen: 127.0.0.1:0\nlog:\n  format: json\nsurfaces:\n", hotFor[i%len(hotFor)])
	for _, x := range surfaces {
		fmt.Fprintf(&b, "  - name: %s\n    k: %d\n    weights: {sequence: 1}\n    exclude: [purchased, dismissed]\n", x.name, x.k)
	}
	return b.String()
}

// start starts the process and watches it.
func (m *member) start() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wanted = true
	return m.launch()
}

// launch is start for whoever holds mu.
func (m *member) launch() error {
	log, err := os.OpenFile(m.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	cmd := exec.Command(m.binary, "serve", "--config", m.config)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	m.spawn <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		return errors.Join(fmt.Errorf("start member %d: %w", m.id, err), log.Close())
	}
	m.process, m.ended = cmd, make(chan struct{})
	go m.watch(cmd, log, m.ended)
	return nil
}

// restartAfter is how long an orchestrator takes to notice.
const restartAfter = 300 * time.Millisecond

func (m *member) watch(cmd *exec.Cmd, log *os.File, ended chan struct{}) {
	_ = cmd.Wait() // why it ended is in its log
	_ = log.Close()
	close(ended)
	m.mu.Lock()
	unasked := m.wanted && m.process == cmd
	if unasked {
		m.crashed++
	}
	m.mu.Unlock()
	if !unasked {
		return
	}
	time.Sleep(restartAfter)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.wanted && m.process == cmd {
		if err := m.launch(); err != nil {
			fmt.Fprintln(os.Stderr, "chaos:", err)
		}
	}
}

// end sends a signal and waits until the process is gone.
func (m *member) end(sig syscall.Signal, within time.Duration) error {
	m.mu.Lock()
	m.wanted = false
	cmd, ended := m.process, m.ended
	m.mu.Unlock()
	_ = cmd.Process.Signal(sig) // it may have ended by itself
	select {
	case <-ended:
		return nil
	case <-time.After(within):
	}
	_ = cmd.Process.Kill()
	<-ended
	return fmt.Errorf("member %d had not ended %v after %v", m.id, within, sig)
}

func (m *member) signal(sig syscall.Signal) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_ = m.process.Process.Signal(sig) // it may have ended by itself
}

func (m *member) pid() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.process.Process.Pid
}

// stop ends all processes, gently at first.
func (t *team) stop() {
	var all sync.WaitGroup
	for _, m := range t.members {
		all.Go(func() {
			m.signal(syscall.SIGCONT)
			if err := m.end(syscall.SIGTERM, 20*time.Second); err != nil {
				fmt.Fprintln(os.Stderr, "chaos:", err)
			}
		})
	}
	all.Wait()
}

// crashes counts processes that ended unasked.
func (t *team) crashes() int {
	sum := 0
	for _, m := range t.members {
		m.mu.Lock()
		sum += m.crashed
		m.mu.Unlock()
	}
	return sum
}

// tail is what the members said last, as an error to show.
func (t *team) tail() error {
	var errs []error
	for _, m := range t.members {
		raw, err := os.ReadFile(m.log)
		lines := bytes.Split(bytes.TrimSpace(raw), []byte("\n"))
		errs = append(errs, err, fmt.Errorf("member %d: %s", m.id, bytes.Join(lines[max(0, len(lines)-5):], []byte("\n  "))))
	}
	return errors.Join(errs...)
}

// of finds the member whose process has that end of a connection.
func (t *team) of(client net.Addr) *member {
	_, port, err := net.SplitHostPort(client.String())
	if err != nil {
		return nil
	}
	inode := inodeOf(port)
	if inode == "" {
		return nil
	}
	for _, m := range t.members {
		dir := filepath.Join("/proc", strconv.Itoa(m.pid()), "fd")
		list, _ := os.ReadDir(dir) // the process may just have ended
		for _, f := range list {
			if to, err := os.Readlink(filepath.Join(dir, f.Name())); err == nil && to == "socket:["+inode+"]" {
				return m
			}
		}
	}
	return nil
}

// inodeOf finds the socket that is bound to a local port and connected, in the kernel's table.
func inodeOf(port string) string {
	f, err := os.Open("/proc/net/tcp")
	if err != nil {
		return ""
	}
	defer f.Close()
	n, err := strconv.Atoi(port)
	if err != nil {
		return ""
	}
	want := fmt.Sprintf("0100007F:%04X", n)
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 9 && fields[1] == want {
			return fields[9]
		}
	}
	return ""
}
