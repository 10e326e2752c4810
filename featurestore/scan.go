package featurestore

import (
	"context"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"freshet"
)

// EachItem hands every item of the catalogue over, some hundred at a time, in no order, by one call of f at a time. Items that come or go
// meanwhile may be missed or seen. It walks through all keys of every master: operators' tools use it, a worker never does.
func (r *Redis) EachItem(ctx context.Context, f func(items []*freshet.Item) error) error {
	var one sync.Mutex
	head := r.keys.prefix + "item:{"
	return r.eachMaster(ctx, func(ctx context.Context, c *redis.Client) error {
		for cursor := uint64(0); ; {
			found, next, err := c.Scan(ctx, cursor, globEscaped(head)+"*", 2000).Result()
			if err != nil {
				return r.failed("list the items", err)
			}
			ids := make([]string, 0, len(found))
			for _, key := range found {
				ids = append(ids, freshet.UnescapeID(strings.TrimSuffix(strings.TrimPrefix(key, head), "}")))
			}
			items, err := r.Items(ctx, ids)
			if err != nil {
				return err
			}
			one.Lock()
			err = f(items)
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

// globEscaped writes a text so that SCAN's pattern means just that text.
func globEscaped(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(s)
}
