package catalogue

import (
	"context"
	"slices"

	"freshet"
)

// shelf is one bundle's view of the catalogue: each lane's items have vectors of its own bundle. Texts are read once for all of them.
type shelf struct {
	index Index
	tower Tower // nil: items the bundle does not know cannot be recommended
}

// Read sets who reads texts; nil = nobody.
func (c *Catalogue) Read(encoder Encoder) {
	c.joining.Lock()
	defer c.joining.Unlock()
	c.encoder = encoder
}

func (c *Catalogue) reader() Encoder {
	c.joining.RLock()
	defer c.joining.RUnlock()
	return c.encoder
}

// Attach keeps an index up to date from now on, and brings it what the catalogue knows already before it returns. The tower may be
// nil. On an error the index is not attached.
func (c *Catalogue) Attach(ctx context.Context, index Index, tower Tower) error {
	s := shelf{index: index, tower: tower}
	c.joining.Lock()
	c.shelves = append(slices.Clip(c.shelves), s)
	c.joining.Unlock()
	if err := c.fill(ctx, s); err != nil {
		c.Detach(index)
		return err
	}
	return nil
}

// Detach leaves an index as it is from now on.
func (c *Catalogue) Detach(index Index) {
	c.joining.Lock()
	defer c.joining.Unlock()
	c.shelves = slices.DeleteFunc(slices.Clone(c.shelves), func(s shelf) bool { return s.index == index })
}

// fill brings a new shelf every item of this moment. What changes meanwhile, Apply brings too, and an item that has changed is left
// to it.
func (c *Catalogue) fill(ctx context.Context, s shelf) error {
	c.mu.RLock()
	items := make(map[string]*freshet.Item, len(c.items))
	ids := make([]string, 0, len(c.items))
	for id, item := range c.items {
		items[id], ids = item, append(ids, id)
	}
	c.mu.RUnlock()
	slices.Sort(ids) // rows of a matrix do not depend on a map's order
	as := func(id string, do func() error) error {
		c.mu.RLock()
		defer c.mu.RUnlock()
		if c.items[id] != items[id] {
			return nil
		}
		return do()
	}
	c.joining.RLock()
	defer c.joining.RUnlock()
	err := c.vectors(ctx, s, ids, items, func(id string, v []float32) error {
		return as(id, func() error { return s.index.Upsert(id, v, 0) })
	})
	if err != nil {
		return err
	}
	now := c.now()
	for _, id := range ids {
		_ = as(id, func() error { s.index.SetRecommendable(id, items[id].Recommendable(now)); return nil })
	}
	return nil
}
