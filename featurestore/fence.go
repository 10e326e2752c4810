package featurestore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"freshet"
)

// fence refuses connections to servers whose identity was not accepted. A restarted process has a new run id; a promoted replica,
// or a server that was given other data, has a new replication id. Either may hold less than what was saved, and nothing may be
// read from it or written to it before the caller has rewound. Unarmed, it lets everything pass.
type fence struct {
	mu sync.Mutex
	fenceState
}

type fenceState struct {
	armed bool
	known map[identity]bool
	cause error // wraps freshet.ErrLost; nil = whole
}

// identity of a server and of the data it holds. Its zero value stands for servers that do not say (a permission is missing, or it
// is no real Redis).
type identity struct{ run, replication string }

// admit is called for each new connection before it carries anything else.
func (f *fence) admit(ctx context.Context, cn *redis.Conn) error {
	f.mu.Lock()
	armed := f.armed
	f.mu.Unlock()
	if !armed {
		return nil
	}
	id, master, err := identify(ctx, cn)
	if err != nil || !master {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.armed && !f.known[id] && f.cause == nil {
		f.cause = fmt.Errorf("%w: a server came back as another process or with other data (run id %s, replication id %s)",
			freshet.ErrLost, id.run, id.replication)
	}
	return f.cause
}

// trip breaks the fence for a reason found elsewhere.
func (f *fence) trip(cause error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.armed && f.cause == nil {
		f.cause = cause
	}
}

// broken is why nothing may pass, or nil.
func (f *fence) broken() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cause
}

// open lets everything pass until close. It gives what was before, for restore.
func (f *fence) open() (before fenceState) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before, f.fenceState = f.fenceState, fenceState{}
	return before
}

// restore undoes open.
func (f *fence) restore(before fenceState) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fenceState = before
}

// close lets only these servers pass.
func (f *fence) close(known map[identity]bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.armed, f.known = true, known
}

func (f *fence) knows(id identity) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.armed || f.known[id]
}

type informer interface {
	Info(ctx context.Context, section ...string) *redis.StringCmd
}

// identify asks a server who it is and whether it takes writes. A server that refuses to say is taken for a master without name.
func identify(ctx context.Context, c informer) (identity, bool, error) {
	var id identity
	server, err := c.Info(ctx, "server").Result()
	if err == nil {
		var replication string
		replication, err = c.Info(ctx, "replication").Result()
		id = identity{run: field(server, "run_id"), replication: field(replication, "master_replid")}
		if field(replication, "role") == "slave" {
			return id, false, err
		}
	}
	var refused redis.Error
	if errors.As(err, &refused) {
		return identity{}, true, nil
	}
	return id, true, err
}

// field reads one line of INFO's answer.
func field(info, name string) string {
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
