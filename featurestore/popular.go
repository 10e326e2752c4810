package featurestore

import (
	"context"
	"fmt"
	"math"

	"github.com/redis/go-redis/v9"

	"freshet"
)

// Scored is an item and its score, the higher the better.
type Scored = freshet.Scored

// SetPopular replaces the popular items of a domain ("" = of all) at once: no reader sees a half of it. An empty list removes it.
func (r *Redis) SetPopular(ctx context.Context, domain string, items []Scored) error {
	return r.replace(ctx, "replace popular items", r.keys.popular(domain), items)
}

// SetTrending replaces the trending items at once.
func (r *Redis) SetTrending(ctx context.Context, items []Scored) error {
	return r.replace(ctx, "replace trending items", r.keys.trending(), items)
}

// SetSimilar replaces the items similar to one at once.
func (r *Redis) SetSimilar(ctx context.Context, item string, similar []Scored) error {
	return r.replace(ctx, fmt.Sprintf("replace items similar to %q", item), r.keys.similar(item), similar)
}

// Popular reads the n best of a domain ("" = of all), best first.
func (r *Redis) Popular(ctx context.Context, domain string, n int) ([]Scored, error) {
	return r.best(ctx, "read popular items", r.keys.popular(domain), n)
}

// Trending reads the n best, best first.
func (r *Redis) Trending(ctx context.Context, n int) ([]Scored, error) {
	return r.best(ctx, "read trending items", r.keys.trending(), n)
}

// Similar reads the n items most similar to one, best first.
func (r *Redis) Similar(ctx context.Context, item string, n int) ([]Scored, error) {
	return r.best(ctx, fmt.Sprintf("read items similar to %q", item), r.keys.similar(item), n)
}

// SetDefault stores the record for users without one of their own. It does not expire: an old one is better than none.
func (r *Redis) SetDefault(ctx context.Context, surface string, record []byte) error {
	if err := r.client.Set(ctx, r.keys.fallback(surface), record, 0).Err(); err != nil {
		return r.failed("store the default record", err)
	}
	return nil
}

// Default reads the record for users without one of their own; nil = none.
func (r *Redis) Default(ctx context.Context, surface string) ([]byte, error) {
	values, err := r.get(ctx, "read the default record", 1, func(int) string { return r.keys.fallback(surface) })
	if err != nil {
		return nil, err
	}
	return values[0], nil
}

// replace swaps a sorted set within one transaction.
func (r *Redis) replace(ctx context.Context, act, key string, items []Scored) error {
	if err := finite(items); err != nil {
		return fmt.Errorf("%s: %w", act, err)
	}
	_, err := r.client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.Del(ctx, key)
		if len(items) > 0 {
			members := make([]redis.Z, len(items))
			for i := range items {
				members[i] = redis.Z{Score: items[i].Score, Member: items[i].ItemID}
			}
			p.ZAdd(ctx, key, members...)
		}
		return nil
	})
	if err != nil {
		return r.failed(act, err)
	}
	return nil
}

func finite(items []Scored) error {
	for _, s := range items {
		if math.IsNaN(s.Score) || math.IsInf(s.Score, 0) {
			return fmt.Errorf("item %q: score %v is not finite", s.ItemID, s.Score)
		}
	}
	return nil
}

func (r *Redis) best(ctx context.Context, act, key string, n int) ([]Scored, error) {
	if n <= 0 {
		return nil, nil
	}
	found, err := r.client.ZRevRangeWithScores(ctx, key, 0, int64(n-1)).Result()
	if err != nil {
		return nil, r.failed(act, err)
	}
	return scoredOf(found), nil
}

func scoredOf(list []redis.Z) []Scored {
	items := make([]Scored, len(list))
	for i, z := range list {
		items[i].ItemID, _ = z.Member.(string)
		items[i].Score = z.Score
	}
	return items
}
