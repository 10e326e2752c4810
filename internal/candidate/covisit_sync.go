package candidate

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"freshet"
)

// Counts is where workers share what they counted; featurestore.Redis is one.
type Counts interface {
	// AddTransitions adds counts. After an error some of them may have been added.
	AddTransitions(ctx context.Context, deltas []freshet.Transition) error
	// Transitions reads the n strongest successors of each item with their weights as of now; the item "" counts the item itself.
	Transitions(ctx context.Context, items []string, n int, now time.Time) ([][]freshet.Scored, error)
}

// Bounds of one Sync: what a worker writes and reads in a second, whatever the traffic. What does not fit waits, added up, for the
// next one.
const (
	flushLinks = 16_000
	readRows   = 2_000
	turnSyncs  = 30 // a small catalogue is read again in so many syncs, not in every one: a row costs the store 0.1 ms
)

// Sync gives the store what was counted here and reads what others counted; its owner calls it about once a second, from one
// goroutine. Rows that are new here come first, then all others in turn. What was counted here shows in lists at once, what others
// counted when its row is read again.
func (c *Covisit) Sync(ctx context.Context, store Counts) error {
	if err := c.flush(ctx, store); err != nil {
		return err
	}
	if err := c.read(ctx, store); err != nil {
		return err
	}
	c.compact()
	c.identifyAll()
	return nil
}

// identifySome is how many rows without a Number are looked at in one Sync.
const identifySome = 5_000

// identifyAll looks again for the Numbers of items that the index did not know when they were first met.
func (c *Covisit) identifyAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	looked := 0
	for tried := 0; c.unknown > 0 && looked < identifySome && tried < len(c.items); tried++ {
		c.identified = (c.identified + 1) % len(c.items)
		if c.items[c.identified].Number == 0 {
			c.identify(int32(c.identified))
			looked++
		}
	}
}

// owedRow is what one row owed when it was taken, to be given back if the store does not take it.
type owedRow struct {
	id    string
	n     float32
	links []link
}

func (c *Covisit) flush(ctx context.Context, store Counts) error {
	taken, deltas := c.takeOwed()
	if len(deltas) == 0 {
		return nil
	}
	if err := store.AddTransitions(ctx, deltas); err != nil {
		c.giveBack(taken)
		return fmt.Errorf("flush counts of %d items: %w", len(taken), err)
	}
	return nil
}

func (c *Covisit) takeOwed() ([]owedRow, []freshet.Transition) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var taken []owedRow
	var deltas []freshet.Transition
	for len(c.dirty) > 0 && len(deltas) < flushLinks {
		n := c.dirty[0]
		c.dirty = c.dirty[1:]
		r := &c.rows[n]
		r.flags &^= rowDirty
		deltas = append(deltas, freshet.Transition{From: c.items[n].ItemID, Weight: max(float64(r.owedN), 1e-12), Time: c.landmark})
		for _, l := range r.owed {
			deltas = append(deltas, freshet.Transition{From: c.items[n].ItemID, To: c.items[l.item].ItemID, Weight: float64(l.weight), Time: c.landmark})
		}
		taken = append(taken, owedRow{c.items[n].ItemID, r.owedN, r.owed})
		r.owed, r.owedN = nil, 0
		c.outdate(n)
	}
	return taken, deltas
}

// outdate notes that an item's similar list is to be written again.
func (c *Covisit) outdate(n int32) {
	if r := &c.rows[n]; r.flags&rowSimilar == 0 && len(c.stale) < c.cfg.MaxItems {
		r.flags |= rowSimilar
		c.stale = append(c.stale, c.items[n].ItemID)
	}
}

// giveBack owes again what the store did not take. Some of it may have arrived: counts are not exact after a failure.
func (c *Covisit) giveBack(taken []owedRow) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range taken {
		n, ok := c.number[t.id]
		if !ok {
			continue
		}
		r := &c.rows[n]
		r.owedN += t.n
		for _, l := range t.links {
			r.owed = addLink(r.owed, l, c.cfg.Keep)
		}
		c.mark(n)
	}
}

func (c *Covisit) read(ctx context.Context, store Counts) error {
	ids, now := c.toRead()
	if len(ids) == 0 {
		return nil
	}
	lists, err := store.Transitions(ctx, ids, c.cfg.Keep+1, time.UnixMilli(now))
	if err != nil {
		c.want(ids)
		return fmt.Errorf("read counts of %d items: %w", len(ids), err)
	}
	c.install(ids, lists, now)
	return nil
}

func (c *Covisit) toRead() (ids []string, now int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.wanted) > 0 && len(ids) < readRows {
		n := c.wanted[0]
		c.wanted = c.wanted[1:]
		c.rows[n].flags &^= rowWanted
		ids = append(ids, c.items[n].ItemID)
	}
	most := min(len(ids)+(len(c.rows)+turnSyncs-1)/turnSyncs, readRows)
	for tried := 0; tried < len(c.rows) && len(ids) < most; tried++ {
		c.rotate = (c.rotate + 1) % len(c.rows)
		if r := &c.rows[c.rotate]; r.flags&rowLoaded != 0 && r.flags&rowDirty == 0 {
			ids = append(ids, c.items[c.rotate].ItemID)
		}
	}
	if c.landmark == 0 {
		return ids, time.Now().UnixMilli()
	}
	return ids, c.latest
}

func (c *Covisit) want(ids []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range ids {
		if n, ok := c.number[id]; ok && c.rows[n].flags&(rowWanted|rowLoaded) == 0 {
			c.rows[n].flags |= rowWanted
			c.wanted = append(c.wanted, n)
		}
	}
}

// install replaces rows by what the store has, and what is still owed to it.
func (c *Covisit) install(ids []string, lists [][]freshet.Scored, now int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.landmark == 0 {
		c.landmark, c.latest = now, now
	}
	scale := math.Exp2(c.halfLives(now))
	for i, id := range ids {
		n, ok := c.number[id]
		if !ok {
			continue
		}
		next, count := make([]link, 0, len(lists[i])), float32(0)
		for _, s := range lists[i] {
			weight := float32(s.Score * scale)
			if s.ItemID == "" {
				count = weight
			} else if j, ok := c.intern(s.ItemID); ok && weight > 0 {
				next = append(next, link{j, weight})
			}
		}
		r := &c.rows[n]
		for _, l := range r.owed {
			next = addLink(next, l, c.cfg.Keep)
		}
		r.next, r.n = next, count+r.owedN
		r.flags |= rowLoaded
		c.redamp(n)
	}
}

// Warm makes room for items and reads their rows, as many as fit, so that the first lists are made with all that is known.
func (c *Covisit) Warm(ctx context.Context, store Counts, ids []string) error {
	c.mu.Lock()
	for _, id := range ids {
		if _, ok := c.intern(id); !ok {
			break
		}
	}
	c.mu.Unlock()
	for {
		c.mu.RLock()
		left := len(c.wanted)
		c.mu.RUnlock()
		if left == 0 {
			return nil
		}
		if err := c.read(ctx, store); err != nil {
			return err
		}
	}
}

// compact makes room once memory is full: the least met quarter of the items goes, with all that points to it. The store keeps
// their rows.
func (c *Covisit) compact() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.full {
		return
	}
	c.full = false
	order := make([]int32, len(c.rows))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int {
		switch {
		case c.rows[a].n > c.rows[b].n:
			return -1
		case c.rows[a].n < c.rows[b].n:
			return 1
		}
		return int(a - b)
	})
	order = order[:len(order)-len(order)/4]
	slices.Sort(order)
	renamed := make(map[int32]int32, len(order))
	for to, from := range order {
		renamed[from] = int32(to)
	}
	c.renumber(order, renamed)
}

func (c *Covisit) renumber(order []int32, renamed map[int32]int32) {
	point := func(list []link) []link {
		kept := list[:0]
		for _, l := range list {
			if to, ok := renamed[l.item]; ok {
				kept = append(kept, link{to, l.weight})
			}
		}
		return kept
	}
	rows, items, number := make([]covisitRow, len(order)), make([]freshet.Ref, len(order)), make(map[string]int32, len(order))
	clear(c.rowOf)
	c.unknown = 0
	for to, from := range order {
		rows[to], items[to] = c.rows[from], c.items[from]
		if n := items[to].Number; n > 0 {
			c.rowOf[n] = int32(to) + 1
		} else {
			c.unknown++
		}
		rows[to].next, rows[to].owed = point(rows[to].next), point(rows[to].owed)
		number[items[to].ItemID] = int32(to)
	}
	queue := func(list []int32) []int32 {
		var kept []int32
		for _, n := range list {
			if to, ok := renamed[n]; ok {
				kept = append(kept, to)
			}
		}
		return kept
	}
	c.dirty, c.wanted = queue(c.dirty), queue(c.wanted)
	c.rows, c.items, c.number, c.cursor, c.rotate = rows, items, number, 0, 0
}

// Similar gives up to most items whose similar list is out of date, each with its n strongest successors, best first: what item
// pages show. keep says which items may be shown.
func (c *Covisit) Similar(most, n int, keep func(itemID string) bool) map[string][]freshet.Scored {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make(map[string][]freshet.Scored, min(most, len(c.stale)))
	one := float32(math.Exp2(c.halfLives(c.latest)))
	for len(c.stale) > 0 && len(out) < most {
		id := c.stale[0]
		c.stale = c.stale[1:]
		at, ok := c.number[id]
		if !ok {
			continue
		}
		r := &c.rows[at]
		r.flags &^= rowSimilar
		list := make([]freshet.Scored, 0, len(r.next))
		for _, l := range r.next {
			if l.item != at && keep(c.items[l.item].ItemID) {
				list = append(list, freshet.Scored{ItemID: c.items[l.item].ItemID, Score: float64(l.weight / (r.n + one) * c.rows[l.item].damp)})
			}
		}
		freshet.BestFirst(list, func(s *freshet.Scored) float64 { return s.Score })
		out[id] = list[:min(n, len(list))]
	}
	return out
}
