package featurestore

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"freshet"
)

// RecordKey names one stored list.
type RecordKey = freshet.RecordKey

// loadPipeline bounds the replies of one read: 512 profiles of 5 KB are 2.5 MB.
const loadPipeline = 512

// Load reads the profiles of users as bytes, in their order; nil = none is stored. The error wraps freshet.ErrUnavailable, or
// freshet.ErrLost when a server came back as another and nobody accepted it yet.
func (r *Redis) Load(ctx context.Context, users []string) ([][]byte, error) {
	return r.get(ctx, fmt.Sprintf("load %d profiles", len(users)), len(users), func(i int) string { return r.keys.profile(users[i]) })
}

// Records reads the lists that this lane wrote, in the order of the keys; nil = none is stored.
func (r *Redis) Records(ctx context.Context, list []RecordKey) ([][]byte, error) {
	return r.get(ctx, fmt.Sprintf("read %d records", len(list)), len(list),
		func(i int) string { return r.keys.record(list[i].Place, list[i].UserID, list[i].Surface) })
}

func (r *Redis) get(ctx context.Context, act string, n int, key func(i int) string) ([][]byte, error) {
	if err := r.fence.broken(); err != nil {
		return nil, fmt.Errorf("%s: %w", act, err)
	}
	cmds, err := r.all(ctx, act, n, loadPipeline, func(i int) redis.Cmder { return redis.NewStringCmd(ctx, "get", key(i)) })
	if err != nil {
		return nil, err
	}
	values := make([][]byte, n)
	for i, c := range cmds {
		if c.Err() == nil {
			values[i], _ = c.(*redis.StringCmd).Bytes()
		}
	}
	return values, nil
}

// Save stores each update as a whole or not at all, and gives one result per update, in their order. An update whose records are
// all nil is an erasure and lives for TombstoneTTL.
//
// A result other than Saved is no error. The error is the first reason of a Retry (or of a Lost that a changed server caused) and
// wraps freshet.ErrUnavailable (or freshet.ErrLost); the results beside it stand. Outranked says that the profile was saved, which is
// the lane's own, and that a public record of a higher (cv, rev) stands.
func (r *Redis) Save(ctx context.Context, updates []freshet.Update) ([]freshet.SaveResult, error) {
	results := make([]freshet.SaveResult, len(updates))
	for i := range updates {
		if err := checkUpdate(&updates[i]); err != nil {
			return nil, fmt.Errorf("save %d profiles: %w", len(updates), err)
		}
		results[i] = freshet.Retry
	}
	if err := r.fence.broken(); err != nil {
		return lost(results), fmt.Errorf("save %d profiles: %w", len(updates), err)
	}
	cmds := r.run(ctx, len(updates), r.cfg.Pipeline, func(i int) redis.Cmder { return r.saveCall(ctx, &updates[i]) })
	var first error
	for i, c := range cmds {
		code, err := c.(*redis.Cmd).Int()
		if err != nil {
			if first == nil {
				first = err
			}
			continue
		}
		results[i] = freshet.SaveResult(code)
	}
	if first == nil {
		return results, nil
	}
	err := r.failed(fmt.Sprintf("save %d profiles", len(updates)), first)
	if r.fence.broken() != nil {
		lost(results)
	}
	return results, err
}

// lost turns what was refused because a server changed into Lost: to repeat it would be refused again.
func lost(results []freshet.SaveResult) []freshet.SaveResult {
	for i := range results {
		if results[i] == freshet.Retry {
			results[i] = freshet.Lost
		}
	}
	return results
}

// saveCall is one call of scripts/save.lua.
func (r *Redis) saveCall(ctx context.Context, u *freshet.Update) *redis.Cmd {
	names := make([]string, 1, 1+2*len(u.Records))
	names[0] = r.keys.profile(u.UserID)
	place, cv := r.keys.place(u.Place), any("")
	if place != freshet.PlaceOwn {
		cv = r.cfg.cvOf(u)
	}
	args := make([]any, 4, 4+len(u.Records))
	args[0], args[1], args[2], args[3] = string(u.Base), u.Profile, r.cfg.lifetime(u).Milliseconds(), cv
	for i := range u.Records {
		names = append(names, r.keys.record(place, u.UserID, u.Records[i].Surface))
		args = append(args, u.Records[i].Value)
	}
	if place == freshet.PlaceBoth {
		for i := range u.Records {
			names = append(names, r.keys.record(freshet.PlaceOwn, u.UserID, u.Records[i].Surface))
		}
	}
	return call(ctx, saveScript, names, args...)
}
