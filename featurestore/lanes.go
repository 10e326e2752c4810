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

// Lane and LaneTable are what the table holds.
type (
	Lane      = freshet.Lane
	LaneTable = freshet.LaneTable
)

// ErrLaneRefused is returned (wrapped) when a worker may not join a lane.
var ErrLaneRefused = errors.New("lane refused")

// fitsLane refuses a bundle that is not the lane's.
func fitsLane(l Lane, fingerprint string) error {
	if l.Fingerprint == fingerprint {
		return nil
	}
	return fmt.Errorf("join lane %q: %w: it serves the bundle with fingerprint %s, this worker holds %s; start the worker "+
		"with the lane's bundle, or add a lane for the new one: freshet lanes add NAME --bundle DIR", l.Name, ErrLaneRefused, l.Fingerprint, fingerprint)
}

// Fields of the table's hash.
const (
	laneField    = "lane:"
	versionField = "version"
	liveField    = "live"
	ownersField  = "owners"
	sweepField   = "sweep"
)

// Lanes reads the table.
func (r *Redis) Lanes(ctx context.Context) (LaneTable, error) {
	t := LaneTable{Live: freshet.LiveLane, Lanes: map[string]Lane{}}
	fields, err := r.client.HGetAll(ctx, r.keys.lanes()).Result()
	if err != nil {
		return t, r.failed("read lanes", err)
	}
	for name, value := range fields {
		var err error
		switch name {
		case versionField:
			t.Version, err = strconv.ParseUint(value, 10, 64)
		case sweepField:
			t.Sweep, err = strconv.ParseUint(value, 10, 64)
		case liveField:
			t.Live = value
		case ownersField:
			err = json.Unmarshal([]byte(value), &t.Owners)
		default:
			lane := Lane{Name: strings.TrimPrefix(name, laneField)}
			err = json.Unmarshal([]byte(value), &lane)
			t.Lanes[lane.Name] = lane
		}
		if err != nil {
			return t, fmt.Errorf("read lanes: field %q: %w", name, err)
		}
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

// RestoreLanes stores a table as it was known where there is none any more; false = there is one, which stays.
func (r *Redis) RestoreLanes(ctx context.Context, known LaneTable) (bool, error) {
	return r.putLanes(ctx, 0, known)
}

func (r *Redis) putLanes(ctx context.Context, base uint64, t LaneTable) (bool, error) {
	owners, err := json.Marshal(t.Owners)
	if err != nil {
		return false, fmt.Errorf("store the lanes' owners: %w", err)
	}
	args := []any{base, versionField, t.Version, liveField, t.Live, ownersField, owners, sweepField, t.Sweep}
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
		t.Lanes[name] = Lane{Name: name, Fingerprint: fingerprint, Share: 1, CV: t.Version, Since: t.Version, Caught: true}
		return nil
	})
	if err != nil && !errors.Is(err, known) {
		return lane, false, fmt.Errorf("join lane %q: %w", name, err)
	}
	lane, ok := t.Lanes[name]
	if !ok {
		return lane, false, fmt.Errorf("join lane %q: %w: no such lane is known to this store", name, ErrLaneRefused)
	}
	return lane, created, fitsLane(lane, fingerprint)
}

// PutProgress stores what a worker knows of a lane's partitions, one small value each.
func (r *Redis) PutProgress(ctx context.Context, byPartition map[int32][]byte) error {
	if len(byPartition) == 0 {
		return nil
	}
	args := make([]any, 0, 2*len(byPartition))
	for p, value := range byPartition {
		args = append(args, strconv.Itoa(int(p)), value)
	}
	if err := r.client.HSet(ctx, r.keys.progress(), args...).Err(); err != nil {
		return r.failed("store progress", err)
	}
	return nil
}

// Progress reads what the workers of a lane have stored last.
func (r *Redis) Progress(ctx context.Context, lane string) (map[int32][]byte, error) {
	fields, err := r.client.HGetAll(ctx, r.keys.of(lane).progress()).Result()
	if err != nil {
		return nil, r.failed("read progress of lane "+lane, err)
	}
	out := make(map[int32][]byte, len(fields))
	for name, value := range fields {
		p, err := strconv.ParseInt(name, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("read progress of lane %s: partition %q: %w", lane, name, err)
		}
		out[int32(p)] = []byte(value)
	}
	return out, nil
}
