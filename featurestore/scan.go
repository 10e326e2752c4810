package featurestore

import (
	"context"
	"strings"

	"freshet"
)

// EachItem hands every item of the catalogue over, some hundred at a time, in no order, by one call of f at a time. Items that come or go
// meanwhile may be missed or seen. It walks through all keys of every master: operators' tools use it, a worker never does.
func (r *Redis) EachItem(ctx context.Context, f func(items []*freshet.Item) error) error {
	head := r.keys.prefix + "item:{"
	return r.scan(ctx, "list the items", head, func(keys []string) error {
		ids := make([]string, len(keys))
		for i, key := range keys {
			ids[i] = freshet.UnescapeID(strings.TrimSuffix(strings.TrimPrefix(key, head), "}"))
		}
		items, err := r.Items(ctx, ids)
		if err != nil {
			return err
		}
		return f(items)
	})
}

// globEscaped writes a text so that SCAN's pattern means just that text.
func globEscaped(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(s)
}
