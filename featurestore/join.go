package featurestore

import (
	"context"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"

	"freshet"
)

// The join of impressions and outcomes (package feedback) is one for all lanes: a user is shown one list, whichever lane made it.

// Joins reads users' joins, in their order; nil = none is stored.
func (r *Redis) Joins(ctx context.Context, users []string) ([][]byte, error) {
	return r.get(ctx, fmt.Sprintf("read %d joins", len(users)), len(users), func(i int) string { return r.keys.join(users[i]) })
}

// SaveJoins stores each join whose base is what is stored, and gives one result per update: Saved or Newer.
func (r *Redis) SaveJoins(ctx context.Context, updates []freshet.JoinUpdate) ([]freshet.SaveResult, error) {
	act := fmt.Sprintf("save %d joins", len(updates))
	if err := r.fence.broken(); err != nil {
		return nil, fmt.Errorf("%s: %w", act, err)
	}
	cmds, err := r.all(ctx, act, len(updates), r.cfg.Pipeline, func(i int) redis.Cmder {
		u := &updates[i]
		return call(ctx, joinScript, []string{r.keys.join(u.UserID)}, u.Base, u.Value, r.cfg.JoinTTL.Milliseconds())
	})
	if err != nil {
		return nil, err
	}
	results := make([]freshet.SaveResult, len(updates))
	for i, c := range cmds {
		code, err := c.(*redis.Cmd).Int()
		if err != nil {
			return nil, r.failed(act, err)
		}
		results[i] = freshet.SaveResult(code)
	}
	return results, nil
}

// OpenJoins lists the users of a partition whose exposures are due before a moment, the first due first, at most n (0 = all).
func (r *Redis) OpenJoins(ctx context.Context, source freshet.Source, before int64, n int) ([]freshet.JoinDue, error) {
	found, err := r.client.ZRangeByScoreWithScores(ctx, r.keys.open(source),
		&redis.ZRangeBy{Min: "-inf", Max: "(" + strconv.FormatInt(before, 10), Count: int64(n)}).Result()
	if err != nil {
		return nil, r.failed("list open exposures", err)
	}
	due := make([]freshet.JoinDue, len(found))
	for i, z := range found {
		due[i].UserID, _ = z.Member.(string)
		due[i].At = int64(z.Score)
	}
	return due, nil
}

// PutOpenJoins notes when users' exposures are due; a moment of 0 takes the user off the list.
func (r *Redis) PutOpenJoins(ctx context.Context, source freshet.Source, due []freshet.JoinDue) error {
	key := r.keys.open(source)
	_, err := r.all(ctx, fmt.Sprintf("note %d open exposures", len(due)), len(due), bulkPipeline, func(i int) redis.Cmder {
		if due[i].At == 0 {
			return redis.NewIntCmd(ctx, "zrem", key, due[i].UserID)
		}
		return redis.NewIntCmd(ctx, "zadd", key, due[i].At, due[i].UserID)
	})
	return err
}
