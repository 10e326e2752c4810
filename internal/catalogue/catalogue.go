// Package catalogue keeps what may be recommended up to date: it takes the changes of the items topic in, holds the items in
// memory, gives those the model never saw a vector from their text, tells the index what may stand in a list, and has the text
// of every item encoded in the background. Titles and rules read from it; Kafka and Redis are behind small interfaces.
package catalogue

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"freshet"
)

// Index is the part of the top-K index that a catalogue changes.
type Index interface {
	// Upsert gives an item that the bundle does not know a vector; it is found from then on, if recommendable.
	Upsert(itemID string, vector []float32, bias float32) error
	// SetRecommendable tells whether the index knows the item.
	SetRecommendable(itemID string, on bool) bool
	Remove(itemID string) bool
	Vector(itemID string) ([]float32, freshet.VectorKind)
}

// Encoder reads texts. Hash changes when its vectors do.
type Encoder interface {
	Encode(ctx context.Context, texts []string) ([][]float32, error)
	Hash() string
}

// Tower makes item vectors of text vectors.
type Tower interface {
	ItemVectors(ctx context.Context, texts [][]float32) ([][]float32, error)
}

// Store keeps items for frontends and text vectors for the next start.
type Store interface {
	PutItems(ctx context.Context, items []freshet.Item) error
	DeleteItems(ctx context.Context, ids []string) error
	PutVectors(ctx context.Context, vectors []freshet.ItemVector) error
	Vectors(ctx context.Context, ids []string) ([]freshet.ItemVector, error)
}

// Change is one record of the items topic: the whole item, or nil for its removal.
type Change struct {
	ItemID string
	Item   *freshet.Item
	// Foreign says that another worker keeps the store's copy of the item and of its vector; Kept that the store has the item already.
	Foreign, Kept bool
}

// Catalogue is safe for concurrent use. The changes of one item must come in order, which a partition gives.
type Catalogue struct {
	store Store
	now   func() time.Time
	log   *zap.Logger

	// joining is held for reading while changes are taken in, and for writing while the list of shelves changes: a change is on
	// all shelves or was there before the shelf came.
	joining sync.RWMutex
	shelves []shelf
	encoder Encoder // nil: no texts are read

	mu       sync.RWMutex
	items    map[string]*freshet.Item
	changes  atomic.Uint64 // of items
	expiring map[string]time.Time
	foreign  map[string]struct{} // items of which another worker keeps the store's copy
	backlog  []string            // items whose text has not been read yet
	wake     chan struct{}
	progress func(done, total int)
	encoded  int

	encodings atomic.Int64 // texts that the encoder read
	encoding  atomic.Int64 // nanoseconds of it
	lost      uint64       // times that an item ceased to be recommendable
}

// New makes an empty catalogue without a shelf.
func New(store Store, now func() time.Time, log *zap.Logger) *Catalogue {
	return &Catalogue{store: store, now: now, log: log.Named("catalogue"),
		items: map[string]*freshet.Item{}, expiring: map[string]time.Time{}, foreign: map[string]struct{}{}, wake: make(chan struct{}, 1), progress: func(int, int) {}}
}

// OnProgress sets what hears how many texts have been encoded of how many; call it before Run.
func (c *Catalogue) OnProgress(f func(done, total int)) { c.progress = f }

// Item gives an item, read only.
func (c *Catalogue) Item(id string) (*freshet.Item, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	i, ok := c.items[id]
	return i, ok
}

// Version is another number, from 1, after any item has changed.
func (c *Catalogue) Version() uint64 { return 1 + c.changes.Load() }

// Recommendable tells whether an item may stand in a list now. An item that nobody published may not.
func (c *Catalogue) Recommendable(id string) bool {
	i, ok := c.Item(id)
	return ok && i.Recommendable(c.now())
}

// IDs lists at most n items, in no order.
func (c *Catalogue) IDs(n int) []string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	ids := make([]string, 0, min(n, len(c.items)))
	for id := range c.items {
		if len(ids) == n {
			break
		}
		ids = append(ids, id)
	}
	return ids
}

// Len is the number of items.
func (c *Catalogue) Len() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.items)
}

// Lost counts how often an item that might stand in a list ceased to: removed, unavailable or expired.
func (c *Catalogue) Lost() uint64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.lost
}

// Backlog is how many items wait for their text to be read.
func (c *Catalogue) Backlog() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.backlog)
}

// Apply takes changes in. Later changes of one item win. Items the bundle does not know are encoded at once, so that they can be
// recommended when Apply returns; the texts of the others are read in the background.
func (c *Catalogue) Apply(ctx context.Context, changes []Change) error {
	c.joining.RLock()
	defer c.joining.RUnlock()
	last := make(map[string]*Change, len(changes))
	latest := make(map[string]*freshet.Item, len(changes))
	order := make([]string, 0, len(changes))
	for i := range changes {
		ch := &changes[i]
		if _, again := latest[ch.ItemID]; !again {
			order = append(order, ch.ItemID)
		}
		last[ch.ItemID], latest[ch.ItemID] = ch, ch.Item
	}
	c.assign(last)
	var put []freshet.Item
	var gone, there []string
	for _, id := range order {
		item, ours := latest[id], !last[id].Foreign && !last[id].Kept
		switch {
		case item == nil && ours:
			gone = append(gone, id)
		case item != nil:
			if there = append(there, id); ours {
				put = append(put, *item)
			}
		}
	}
	for _, s := range c.shelves {
		err := c.vectors(ctx, s, there, latest, func(id string, v []float32) error { return s.index.Upsert(id, v, 0) })
		if err != nil {
			return err
		}
	}
	c.take(order, latest)
	if err := c.store.PutItems(ctx, put); err != nil {
		return fmt.Errorf("store %d items: %w", len(put), err)
	}
	if err := c.store.DeleteItems(ctx, gone); err != nil {
		return fmt.Errorf("delete %d items: %w", len(gone), err)
	}
	return nil
}

// assign notes which items are another worker's to keep.
func (c *Catalogue) assign(last map[string]*Change) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, ch := range last {
		if ch.Foreign && ch.Item != nil {
			c.foreign[id] = struct{}{}
		} else {
			delete(c.foreign, id)
		}
	}
}

// take makes the changes visible: in memory, in the index, in the backlog of texts.
func (c *Catalogue) take(order []string, latest map[string]*freshet.Item) {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changes.Add(1) // whoever reads it now waits for the items behind the lock
	for _, id := range order {
		item := latest[id]
		_, awaited := c.expiring[id] // else its expiry has been noticed
		before := c.items[id]
		if before != nil && (before.Recommendable(now) || awaited) && (item == nil || !item.Recommendable(now)) {
			c.lost++
		}
		delete(c.expiring, id)
		if item == nil {
			delete(c.items, id)
			for _, s := range c.shelves {
				s.index.Remove(id)
			}
			continue
		}
		c.items[id] = item
		if item.ExpiresAt != nil && item.ExpiresAt.After(now) {
			c.expiring[id] = *item.ExpiresAt
		}
		for _, s := range c.shelves {
			s.index.SetRecommendable(id, item.Recommendable(now))
		}
		if _, foreign := c.foreign[id]; !foreign {
			c.backlog = append(c.backlog, id)
		}
	}
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// encodeBatch is how many texts are read between two looks at the context and the progress, backlogBatch how many stored vectors are
// looked at at once for them.
const (
	encodeBatch  = 32
	backlogBatch = 512
)

// vectors makes vectors of the items that a shelf's bundle does not know, from their texts.
func (c *Catalogue) vectors(ctx context.Context, s shelf, ids []string, items map[string]*freshet.Item, put func(id string, v []float32) error) error {
	if s.tower == nil || c.encoder == nil {
		return nil
	}
	var todo []string
	for _, id := range ids {
		if _, kind := s.index.Vector(id); kind != freshet.Trained {
			todo = append(todo, id)
		}
	}
	texts, err := c.textVectors(ctx, c.encoder, todo, items)
	if err != nil {
		return err
	}
	vectors, err := s.tower.ItemVectors(ctx, texts)
	if err != nil {
		return fmt.Errorf("make %d item vectors: %w", len(todo), err)
	}
	for i, v := range vectors {
		if err := put(todo[i], v); err != nil {
			return fmt.Errorf("index item %s: %w", todo[i], err)
		}
	}
	return nil
}

// textVectors reads the texts of items, or takes what is stored where text and encoder are still the same.
func (c *Catalogue) textVectors(ctx context.Context, encoder Encoder, ids []string, items map[string]*freshet.Item) ([][]float32, error) {
	stored, err := c.store.Vectors(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("read %d stored vectors: %w", len(ids), err)
	}
	reader := freshet.HashID(encoder.Hash())
	out := make([][]float32, len(ids))
	var todo []int
	var texts []string
	for i, id := range ids {
		text := items[id].Text()
		if s := stored[i]; s.Vector != nil && s.Text == freshet.HashID(text) && s.Encoder == reader {
			out[i] = s.Vector
			continue
		}
		todo, texts = append(todo, i), append(texts, text)
	}
	for len(todo) > 0 {
		n := min(encodeBatch, len(todo))
		began := time.Now()
		vectors, err := encoder.Encode(ctx, texts[:n])
		if err != nil {
			return nil, fmt.Errorf("encode %d texts: %w", n, err)
		}
		c.encoding.Add(int64(time.Since(began)))
		fresh := make([]freshet.ItemVector, n)
		for k, i := range todo[:n] {
			out[i] = vectors[k]
			fresh[k] = freshet.ItemVector{ItemID: ids[i], Text: freshet.HashID(texts[k]), Encoder: reader, Vector: vectors[k]}
		}
		if fresh = c.ours(fresh); len(fresh) > 0 {
			if err := c.store.PutVectors(ctx, fresh); err != nil {
				return nil, fmt.Errorf("store %d vectors: %w", len(fresh), err)
			}
		}
		c.encodings.Add(int64(n))
		todo, texts = todo[n:], texts[n:]
	}
	return out, nil
}

// ours leaves the vectors out that another worker keeps.
func (c *Catalogue) ours(vectors []freshet.ItemVector) []freshet.ItemVector {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return slices.DeleteFunc(vectors, func(v freshet.ItemVector) bool { _, foreign := c.foreign[v.ItemID]; return foreign })
}

// Encodings is how many texts the encoder has read, rather than the store had vectors of, and how long that took.
func (c *Catalogue) Encodings() (texts int64, took time.Duration) {
	return c.encodings.Load(), time.Duration(c.encoding.Load())
}

// Run reads the texts of the backlog and takes expired items out of the lists, until ctx ends. A failure is logged and tried
// again: recommendations do not wait for it.
func (c *Catalogue) Run(ctx context.Context) {
	freshet.Repeat(ctx, time.Second, c.wake, func(ctx context.Context) error {
		c.Expire()
		return c.drain(ctx)
	}, func(err error) {
		if err != nil {
			c.log.Warn("item texts cannot be read; trying again every second", zap.Error(err))
		} else {
			c.log.Info("item texts are read again")
		}
	})
}

// Expire takes items out of the lists whose time is over.
func (c *Catalogue) Expire() {
	now := c.now()
	c.joining.RLock()
	defer c.joining.RUnlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, at := range c.expiring {
		if !now.Before(at) {
			delete(c.expiring, id)
			c.lost++
			for _, s := range c.shelves {
				s.index.SetRecommendable(id, false)
			}
		}
	}
}

// drain reads the backlog in batches; what fails stays in it.
func (c *Catalogue) drain(ctx context.Context) error {
	for encoder := c.reader(); encoder != nil && ctx.Err() == nil; {
		ids, items, total := c.nextTexts()
		if len(ids) == 0 {
			return nil
		}
		if _, err := c.textVectors(ctx, encoder, ids, items); err != nil {
			return err
		}
		c.mu.Lock()
		c.backlog = c.backlog[min(len(c.backlog), backlogBatch):]
		c.encoded += len(ids)
		done := c.encoded
		c.mu.Unlock()
		c.progress(done, total)
	}
	return nil
}

func (c *Catalogue) nextTexts() (ids []string, items map[string]*freshet.Item, total int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	items = make(map[string]*freshet.Item, backlogBatch)
	for len(c.backlog) > 0 && len(ids) == 0 {
		for _, id := range c.backlog[:min(len(c.backlog), backlogBatch)] {
			if item, ok := c.items[id]; ok && items[id] == nil {
				ids, items[id] = append(ids, id), item
			}
		}
		if len(ids) == 0 { // all of them were removed again
			c.backlog = c.backlog[min(len(c.backlog), backlogBatch):]
		}
	}
	return ids, items, c.encoded + len(c.backlog)
}
