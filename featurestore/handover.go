package featurestore

import (
	"context"
	_ "embed"
	"fmt"

	"github.com/redis/go-redis/v9"

	"freshet"
)

//go:embed scripts/sweep.lua
var sweepLua string

//go:embed scripts/adopt.lua
var adoptLua string

var sweepScript, adoptScript = redis.NewScript(sweepLua), redis.NewScript(adoptLua)

// Moved is one list of a user who has a new owner, this store's lane.
type Moved struct {
	UserID  string
	Surface string
	CV      uint64 // table version at which the lane became his owner
	Was     string // his owner before; "" = unknown
}

// Swept is what became of it.
type Swept struct {
	Record    []byte // the public list as it is now; nil = there is none
	Exchanged bool   // it was the former owner's until now
	Kept      bool   // it stays the former owner's: this lane has none
}

// Sweep makes this lane's own lists of users public that have moved to it, each at once, and gives what is public now.
func (r *Redis) Sweep(ctx context.Context, list []Moved) ([]Swept, error) {
	act := fmt.Sprintf("sweep %d lists", len(list))
	cmds, err := r.all(ctx, act, len(list), r.cfg.Pipeline, func(i int) redis.Cmder {
		m := &list[i]
		names := []string{r.keys.record(freshet.PlaceOwn, m.UserID, m.Surface), r.keys.record(freshet.PlacePublic, m.UserID, m.Surface)}
		if m.Was != "" {
			names = append(names, r.keys.of(m.Was).record(freshet.PlaceOwn, m.UserID, m.Surface))
		}
		return call(ctx, sweepScript, names, m.CV, m.Was)
	})
	if err != nil {
		return nil, err
	}
	out := make([]Swept, len(list))
	for i, c := range cmds {
		answer, err := c.(*redis.Cmd).Slice()
		if err != nil || len(answer) != 2 {
			return nil, r.failed(act, fmt.Errorf("answer %v: %w", answer, err))
		}
		out[i].Kept, out[i].Exchanged = answer[0] == int64(0), answer[0] == int64(1)
		if value, _ := answer[1].(string); value != "" {
			out[i].Record = []byte(value)
		}
	}
	return out, nil
}

// Adopt copies the profiles of another lane of users whom this lane has not met. It tells how many were copied.
func (r *Redis) Adopt(ctx context.Context, from string, users []string) (int, error) {
	if err := r.fence.broken(); err != nil {
		return 0, fmt.Errorf("adopt %d profiles: %w", len(users), err)
	}
	cmds, err := r.all(ctx, fmt.Sprintf("adopt %d profiles", len(users)), len(users), r.cfg.Pipeline, func(i int) redis.Cmder {
		return call(ctx, adoptScript, []string{r.keys.profile(users[i]), r.keys.of(from).profile(users[i])})
	})
	if err != nil {
		return 0, err
	}
	n := 0
	for _, c := range cmds {
		taken, _ := c.(*redis.Cmd).Int()
		n += taken
	}
	return n, nil
}
