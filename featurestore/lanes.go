package featurestore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"freshet"
)

// Lane is one row of the table of lanes: what its workers must agree on.
type Lane struct {
	Name        string  `json:"-"`
	Fingerprint string  `json:"fingerprint"`        // of the bundle
	Bundle      string  `json:"bundle,omitempty"`   // folder that workers find it in; empty = their model.bundle
	Settings    string  `json:"settings,omitempty"` // configuration of its own, as YAML, over the worker's
	Group       string  `json:"group,omitempty"`    // consumer group
	Share       float64 `json:"share"`              // of the users, 0..1
	CV          uint64  `json:"cv"`                 // table version at which it came to own its users
}

// LaneTable is freshet:lanes as it was read. Version counts its changes; 0 = there is none.
type LaneTable struct {
	Version uint64
	Lanes   map[string]Lane
}

// Other tells whether a lane that was opened as before must be opened anew.
func (l Lane) Other(before Lane) bool {
	return l.Fingerprint != before.Fingerprint || l.Bundle != before.Bundle || l.Settings != before.Settings || l.Group != before.Group || l.CV != before.CV
}

// Fits refuses a bundle that is not the lane's.
func (l Lane) Fits(fingerprint string) error {
	if l.Fingerprint == "" || l.Fingerprint == fingerprint {
		return nil
	}
	return fmt.Errorf("join lane %q: %w: it serves the bundle with fingerprint %s, this worker holds %s; start the worker "+
		"with the lane's bundle, or add a lane for the new one: freshet lanes add NAME --bundle DIR", l.Name, ErrLaneRefused, l.Fingerprint, fingerprint)
}

// ErrLaneRefused is returned (wrapped) when a worker may not join a lane.
var ErrLaneRefused = errors.New("lane refused")

const laneField = "lane:"

// Lanes reads the table.
func (r *Redis) Lanes(ctx context.Context) (LaneTable, error) {
	t := LaneTable{Lanes: map[string]Lane{}}
	fields, err := r.client.HGetAll(ctx, r.keys.lanes()).Result()
	if err != nil {
		return t, r.failed("read lanes", err)
	}
	for name, value := range fields {
		if name == "version" {
			if t.Version, err = strconv.ParseUint(value, 10, 64); err != nil {
				return t, fmt.Errorf("read lanes: version %q: %w", value, err)
			}
			continue
		}
		lane := Lane{Name: strings.TrimPrefix(name, laneField)}
		if err := json.Unmarshal([]byte(value), &lane); err != nil {
			return t, fmt.Errorf("read lane %q: %w", lane.Name, err)
		}
		t.Lanes[lane.Name] = lane
	}
	return t, nil
}

// ChangeLanes lets change edit the table and stores it under the next version. When somebody else changed it meanwhile, it is read
// again and change is called once more, so change must do nothing else. An error of change is given back and nothing is stored.
func (r *Redis) ChangeLanes(ctx context.Context, change func(*LaneTable) error) (LaneTable, error) {
	for {
		t, err := r.Lanes(ctx)
		if err != nil {
			return t, err
		}
		base := t.Version
		t.Version++
		if err := change(&t); err != nil {
			return t, err
		}
		done, err := r.putLanes(ctx, base, t)
		if err != nil || done {
			return t, err
		}
	}
}

func (r *Redis) putLanes(ctx context.Context, base uint64, t LaneTable) (bool, error) {
	args := []any{base, "version", t.Version}
	for _, name := range slices.Sorted(maps.Keys(t.Lanes)) {
		if err := ValidLane(name); err != nil {
			return false, err
		}
		b, err := json.Marshal(t.Lanes[name])
		if err != nil {
			return false, fmt.Errorf("store lane %q: %w", name, err)
		}
		args = append(args, laneField+name, b)
	}
	cmds, err := r.all(ctx, "store lanes", 1, 1, func(int) redis.Cmder {
		return call(ctx, lanesScript, []string{r.keys.lanes()}, args...)
	})
	if err != nil {
		return false, err
	}
	code, err := cmds[0].(*redis.Cmd).Int()
	return code == 1, err
}

// JoinLane gives the row of a lane to a worker that holds its bundle. The live lane is created where there is no table: created
// tells that this store was empty, which a worker with committed offsets should not take lightly. Everything else that does not fit
// is refused with ErrLaneRefused.
func (r *Redis) JoinLane(ctx context.Context, name, fingerprint string) (lane Lane, created bool, err error) {
	known := errors.New("the lane is known")
	t, err := r.ChangeLanes(ctx, func(t *LaneTable) error {
		if created = t.Version == 1 && name == freshet.LiveLane; !created {
			return known
		}
		t.Lanes[name] = Lane{Name: name, Fingerprint: fingerprint, Share: 1, CV: t.Version}
		return nil
	})
	if err != nil && !errors.Is(err, known) {
		return lane, false, fmt.Errorf("join lane %q: %w", name, err)
	}
	lane, ok := t.Lanes[name]
	if !ok {
		return lane, false, fmt.Errorf("join lane %q: %w: no such lane is known to this store", name, ErrLaneRefused)
	}
	return lane, created, lane.Fits(fingerprint)
}
