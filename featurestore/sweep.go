package featurestore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"freshet"
)

// StoredRecord is a list as it stands.
type StoredRecord struct {
	freshet.RecordKey
	Value []byte
}

// EachRecord hands over every public list, some hundred at a time, in no order, by one call of f at a time. Lists
// that come or go meanwhile may be missed or seen. It walks through all keys of every master.
func (r *Redis) EachRecord(ctx context.Context, f func(records []StoredRecord) error) error {
	var one sync.Mutex
	head := strings.TrimSuffix(r.keys.record(freshet.PlacePublic, "", freshet.HomeSurface), "}")
	return r.eachMaster(ctx, func(ctx context.Context, c *redis.Client) error {
		for cursor := uint64(0); ; {
			found, next, err := c.Scan(ctx, cursor, globEscaped(head)+"*", 2000).Result()
			if err != nil {
				return r.failed("list the records", err)
			}
			records := make([]StoredRecord, 0, len(found))
			keys := make([]freshet.RecordKey, 0, len(found))
			for _, key := range found {
				user, surface, ok := strings.Cut(strings.TrimPrefix(key, head), "}")
				if surface = strings.TrimPrefix(surface, ":"); surface == "" {
					surface = freshet.HomeSurface
				}
				if ok {
					keys = append(keys, freshet.RecordKey{UserID: freshet.UnescapeID(user), Surface: freshet.UnescapeID(surface), Place: freshet.PlacePublic})
				}
			}
			values, err := r.Records(ctx, keys)
			if err != nil {
				return err
			}
			for i, v := range values {
				if v != nil {
					records = append(records, StoredRecord{keys[i], v})
				}
			}
			one.Lock()
			err = f(records)
			one.Unlock()
			if err != nil {
				return err
			}
			if cursor = next; cursor == 0 {
				return nil
			}
		}
	})
}

// Replacement exchanges a list for another that says less.
type Replacement struct {
	freshet.RecordKey
	Old, New []byte
}

// ReplaceRecords exchanges each list that still is what it was, keeps its time to live, and tells which were.
func (r *Redis) ReplaceRecords(ctx context.Context, list []Replacement) ([]bool, error) {
	act := fmt.Sprintf("replace %d records", len(list))
	if err := r.fence.broken(); err != nil {
		return nil, fmt.Errorf("%s: %w", act, err)
	}
	cmds, err := r.all(ctx, act, len(list), r.cfg.Pipeline, func(i int) redis.Cmder {
		return call(ctx, replaceScript, []string{r.keys.record(list[i].Place, list[i].UserID, list[i].Surface)}, list[i].Old, list[i].New)
	})
	if err != nil {
		return nil, err
	}
	done := make([]bool, len(list))
	for i, c := range cmds {
		code, err := c.(*redis.Cmd).Int()
		if err != nil {
			return nil, r.failed(act, err)
		}
		done[i] = code == 1
	}
	return done, nil
}

// Lease takes a task for a while; false = somebody else has it.
func (r *Redis) Lease(ctx context.Context, task, holder string, length time.Duration) (bool, error) {
	err := r.client.SetArgs(ctx, r.keys.lease(task), holder, redis.SetArgs{Mode: "NX", TTL: length}).Err()
	if errors.Is(err, redis.Nil) {
		return false, nil
	}
	if err != nil {
		return false, r.failed("take the lease of "+task, err)
	}
	return true, nil
}

// KeepLease takes a task that all lanes share for a while, or goes on with it; false = somebody else has it.
func (r *Redis) KeepLease(ctx context.Context, task, holder string, length time.Duration) (bool, error) {
	cmds := r.run(ctx, 1, 1, func(int) redis.Cmder {
		return call(ctx, leaseScript, []string{r.keys.keeper(task)}, holder, length.Milliseconds())
	})
	kept, err := cmds[0].(*redis.Cmd).Int()
	if err != nil {
		return false, r.failed("keep the lease of "+task, err)
	}
	return kept == 1, nil
}

// Note leaves a number beside a task's lease for whoever does it next, Noted reads it; 0 = none.
func (r *Redis) Note(ctx context.Context, task string, n int64) error {
	if err := r.client.Set(ctx, r.keys.keeper(task)+":note", n, 0).Err(); err != nil {
		return r.failed("note how far "+task+" is", err)
	}
	return nil
}

// Noted is the other half of Note.
func (r *Redis) Noted(ctx context.Context, task string) (int64, error) {
	n, err := r.client.Get(ctx, r.keys.keeper(task)+":note").Int64()
	if err != nil && !errors.Is(err, redis.Nil) {
		return 0, r.failed("read how far "+task+" is", err)
	}
	return n, nil
}

// LeaveLease gives a shared task back before its time, if it is the holder's.
func (r *Redis) LeaveLease(ctx context.Context, task, holder string) error {
	if mine, err := r.KeepLease(ctx, task, holder, time.Second); err != nil || !mine {
		return err
	}
	if err := r.client.Del(ctx, r.keys.keeper(task)).Err(); err != nil {
		return r.failed("leave the lease of "+task, err)
	}
	return nil
}

// EndLease gives a task back before its time.
func (r *Redis) EndLease(ctx context.Context, task string) error {
	if err := r.client.Del(ctx, r.keys.lease(task)).Err(); err != nil {
		return r.failed("end the lease of "+task, err)
	}
	return nil
}

// NoteSweep says when the last complete sweep of standing lists began, SweptAt reads it; zero = never.
func (r *Redis) NoteSweep(ctx context.Context, began time.Time) error {
	if err := r.client.Set(ctx, r.keys.lease("swept"), began.UnixMilli(), 0).Err(); err != nil {
		return r.failed("note a sweep", err)
	}
	return nil
}

// SweptAt is the other half of NoteSweep.
func (r *Redis) SweptAt(ctx context.Context) (time.Time, error) {
	ms, err := r.client.Get(ctx, r.keys.lease("swept")).Int64()
	if errors.Is(err, redis.Nil) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, r.failed("read the last sweep", err)
	}
	return time.UnixMilli(ms), nil
}
