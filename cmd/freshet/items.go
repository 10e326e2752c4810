package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"

	"freshet"
	"freshet/featurestore"
	"freshet/internal/catalogue"
	"freshet/stream"
)

// itemKeeper says which partitions of the items topic this worker keeps in the store: each is written by one worker, who holds its lease.
// What it has written it notes, so that whoever keeps the partition next, be it this worker after a restart, writes only the rest. Every worker
// reads all items into its own memory all the same.
type itemKeeper struct {
	store  *featurestore.Redis
	holder string
	again  func(partition int, from int64) // has a partition applied once more
	log    *zap.Logger

	mu    sync.Mutex
	parts map[freshet.Source]*keptPart
}

type keptPart struct {
	mine    bool
	written int64 // everything below has been written, by whomever
	read    int64 // everything below has been applied here
	owed    bool  // it is to be applied once more from its beginning, which has not begun
}

// keeperLease is for how long nobody keeps a partition whose keeper has died.
const keeperLease = 5 * time.Second

func newItemKeeper(store *featurestore.Redis, again func(int, int64), log *zap.Logger) *itemKeeper {
	return &itemKeeper{store: store, holder: fmt.Sprintf("%s-%d-%s", hostname(), os.Getpid(), strconv.FormatInt(time.Now().UnixNano(), 36)),
		again: again, log: log, parts: map[freshet.Source]*keptPart{}}
}

func keeperTask(s freshet.Source) string {
	return fmt.Sprintf("items-%s-%d-%d", freshet.EscapeID(s.Topic), s.Incarnation, s.Partition)
}

// part gives what is known of a partition, and tries to become its keeper when it is met first.
func (k *itemKeeper) part(ctx context.Context, s freshet.Source) (*keptPart, error) {
	k.mu.Lock()
	p := k.parts[s]
	k.mu.Unlock()
	if p != nil {
		return p, nil
	}
	mine, written, err := k.claim(ctx, s)
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	p = &keptPart{mine: mine, written: written}
	k.parts[s] = p
	return p, nil
}

func (k *itemKeeper) claim(ctx context.Context, s freshet.Source) (mine bool, written int64, err error) {
	if mine, err = k.store.KeepLease(ctx, keeperTask(s), k.holder, keeperLease); err == nil && mine {
		written, err = k.store.Noted(ctx, keeperTask(s))
	}
	return mine, written, err
}

// changes are the changes of one partition as the catalogue takes them.
func (k *itemKeeper) changes(ctx context.Context, changes []stream.ItemChange) ([]catalogue.Change, error) {
	p, err := k.part(ctx, changes[0].Position.Source)
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if changes[0].Position.Offset < p.read {
		p.owed = false
	}
	out := make([]catalogue.Change, len(changes))
	for i, c := range changes {
		out[i] = catalogue.Change{ItemID: c.ItemID, Item: c.Item, Foreign: !p.mine, Kept: c.Position.Offset < p.written}
	}
	return out, nil
}

// applied notes what has been taken in and, where this worker is the keeper, written.
func (k *itemKeeper) applied(ctx context.Context, changes []stream.ItemChange) error {
	s, next := changes[0].Position.Source, changes[len(changes)-1].Position.Offset+1
	k.mu.Lock()
	p := k.parts[s]
	p.read = max(p.read, next)
	due := p.mine && next > p.written && !p.owed // what was under way when the store forgot does not stand for what lies before it
	if due {
		p.written = next
	}
	k.mu.Unlock()
	if !due {
		return nil
	}
	return k.store.Note(ctx, keeperTask(s), next)
}

// writeAgain has all items of this worker's partitions written once more, to a store that forgot some of them.
func (k *itemKeeper) writeAgain(ctx context.Context) error {
	for s, p := range k.all() {
		if !p.mine || p.read == 0 {
			continue
		}
		if err := k.store.Note(ctx, keeperTask(s), 0); err != nil { // first: whoever keeps the partition next must write them, too
			return err
		}
		k.mu.Lock()
		k.parts[s].written, k.parts[s].owed = 0, true
		k.mu.Unlock()
		k.again(int(s.Partition), 0)
	}
	return nil
}

// run renews the leases until ctx ends, and takes over what nobody keeps any more.
func (k *itemKeeper) run(ctx context.Context) {
	freshet.Repeat(ctx, time.Second, nil, k.renew, func(err error) {
		if err != nil {
			k.log.Warn("the leases of the items' partitions cannot be renewed; trying again every second", zap.Error(err))
		} else {
			k.log.Info("the leases of the items' partitions are renewed again")
		}
	})
	// The next worker need not wait for what this one gives up.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	for s, p := range k.all() {
		if p.mine {
			_ = k.store.LeaveLease(ctx, keeperTask(s), k.holder)
		}
	}
}

func (k *itemKeeper) all() map[freshet.Source]keptPart {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := make(map[freshet.Source]keptPart, len(k.parts))
	for s, p := range k.parts {
		out[s] = *p
	}
	return out
}

func (k *itemKeeper) renew(ctx context.Context) error {
	for s, before := range k.all() {
		mine, written, err := k.claim(ctx, s)
		if err != nil {
			return err
		}
		k.mu.Lock()
		p := k.parts[s]
		p.mine = mine
		behind := mine && !before.mine && written < p.read
		if mine && !before.mine {
			p.written = written
		}
		k.mu.Unlock()
		if behind { // its former keeper has not written everything that was read here
			k.log.Info("keeping the items of a partition from now on", zap.Int32("partition", s.Partition), zap.Int64("from", written), zap.Int64("read", before.read))
			k.again(int(s.Partition), written)
		}
	}
	return nil
}

// reportCatalogue says how far the catalogue is being read, until it has been.
func (w *worker) reportCatalogue(ctx context.Context) {
	began := time.Now()
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.follower.Caught():
			took := time.Since(began)
			w.log.Info("catalogue loaded", append(w.catalogueFigures(took), zap.Int("items", w.items.Len()), zap.Duration("took", took.Round(time.Millisecond)))...)
			return
		case <-tick.C:
			read, of := w.follower.Progress()
			w.log.Info("reading the catalogue", append(w.catalogueFigures(time.Since(began)), zap.Int64("records", read), zap.Int64("of", of))...)
		}
	}
}

func (w *worker) catalogueFigures(took time.Duration) []zap.Field {
	read, _ := w.follower.Progress()
	fields := []zap.Field{zap.Float64("records_per_second", round(float64(read)/took.Seconds(), 0))}
	return append(fields, w.textFigures()...)
}

// textFigures are empty while every text's vector was stored.
func (w *worker) textFigures() []zap.Field {
	n, took := w.items.Encodings()
	if n == 0 {
		return nil
	}
	return []zap.Field{zap.Int64("texts_encoded", n), zap.Float64("texts_per_second", round(float64(n)/took.Seconds(), 1))}
}

// reportTexts says how far the texts are that are read in the background, every few seconds while there are some to encode.
func (w *worker) reportTexts() func(done, total int) {
	shown, before := time.Now(), int64(0)
	return func(done, total int) {
		n, _ := w.items.Encodings()
		if n == before || time.Since(shown) < 5*time.Second {
			return
		}
		shown, before = time.Now(), n
		w.log.Info("reading item texts", append(w.textFigures(), zap.Int("done", done), zap.Int("of", total))...)
	}
}
