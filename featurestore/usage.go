package featurestore

import (
	"context"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Usage is what the keys of one kind take.
type Usage struct {
	Keys  int64
	Bytes int64 // by MEMORY USAGE: key, value and dictionary entry, but neither the dictionaries' tables nor the entries of lifetimes
}

// Usage adds up what every key under the prefix takes, by kind: profile, recs, covisit, item, itemvec, ... It asks for each key, so it
// is a measurement and not for a server at work.
func (r *Redis) Usage(ctx context.Context) (map[string]Usage, error) {
	out := map[string]Usage{}
	const act, piece = "measure what keys take", 512
	err := r.scan(ctx, act, r.keys.prefix, func(keys []string) error {
		for part := range slices.Chunk(keys, piece) {
			cmds, err := r.all(ctx, act, len(part), piece, func(i int) redis.Cmder {
				return redis.NewIntCmd(ctx, "memory", "usage", part[i], "samples", 0)
			})
			if err != nil {
				return err
			}
			for i, c := range cmds {
				if c.Err() != nil {
					continue // gone meanwhile
				}
				kind := kindOf(strings.TrimPrefix(part[i], r.keys.prefix))
				u := out[kind]
				u.Keys, u.Bytes = u.Keys+1, u.Bytes+c.(*redis.IntCmd).Val()
				out[kind] = u
			}
		}
		return nil
	})
	return out, err
}

// kindOf is the word of a key, without prefix, that says what it holds: the first one, or the one after a lane's name.
func kindOf(key string) string {
	kind, rest, more := strings.Cut(key, ":")
	if more && kind != "lease" && !slices.Contains(reserved, kind) {
		kind, _, _ = strings.Cut(rest, ":")
	}
	return kind
}
