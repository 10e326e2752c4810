package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"freshet"
	"freshet/featurestore"
)

// Items that become unavailable leave a user's list at its next refresh, which may be far off. The sweep takes them out of every list
// that stands: one worker of the live lane goes through all of them, for at most a tenth of the time, and only after the catalogue lost an
// item or the worker started. A list is exchanged by compare-and-set, so that a worker's newer list is never touched, and published; it
// keeps its (cv, rev) and rec_id, being the same list that says less. Afterwards the stored lists are looked at again, and what is
// newer is published too: the output topic's last record equals the store's.
const (
	sweepLease = time.Minute      // a worker that dies while it sweeps keeps the others waiting for so long
	sweepPause = 20 * time.Second // at most, between two sweeps
	sweepRate  = 40_000           // lists a second, at most
	// catalogueLag is how far one worker's catalogue may be behind another's.
	catalogueLag = 5 * time.Second
)

// sweepStanding takes unavailable items out of standing lists until ctx ends. The catalogue has been read.
func (l *lane) sweepStanding(ctx context.Context) {
	if !l.cfg.Catalogue.Only {
		return
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	lost, failing := l.w.items.Lost(), false
	due := time.Now()
	var rested time.Time
	for {
		if now := l.w.items.Lost(); now != lost {
			lost, due = now, time.Now()
		}
		if began := time.Now(); l.live() && !due.IsZero() && began.After(rested) {
			swept, err := l.sweepOnce(ctx, due)
			if err != nil && !failing && ctx.Err() == nil {
				l.log.Warn("standing lists cannot be swept; trying again every second", zap.Error(err))
			}
			if failing = err != nil; swept {
				due, rested = time.Time{}, time.Now().Add(min(9*time.Since(began), sweepPause))
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// sweepOnce goes through all lists, unless another worker does: then it is called again. It tells whether a sweep that began when every
// worker knew what we knew at due is complete.
func (l *lane) sweepOnce(ctx context.Context, due time.Time) (swept bool, err error) {
	last, err := l.store.SweptAt(ctx)
	if err != nil || last.After(due.Add(catalogueLag)) {
		return err == nil, err
	}
	mine, err := l.store.Lease(ctx, "sweep", hostname(), sweepLease)
	if err != nil || !mine {
		return false, err
	}
	defer func() { err = errors.Join(err, l.store.EndLease(context.WithoutCancel(ctx), "sweep")) }()
	began, seen, changed := time.Now(), 0, 0
	err = l.store.EachRecord(ctx, func(records []featurestore.StoredRecord) error {
		seen += len(records)
		n, err := l.sweepRecords(ctx, records)
		if changed += n; err != nil {
			return err
		}
		due := began.Add(time.Duration(float64(seen) / sweepRate * float64(time.Second)))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Until(due)):
			return nil
		}
	})
	if err == nil && changed > 0 {
		l.log.Info("items that are not available any more left the standing lists", zap.Int("lists", seen), zap.Int("changed", changed), zap.Duration("took", time.Since(began)))
	}
	if err == nil {
		err = l.store.NoteSweep(ctx, began)
	}
	return err == nil, err
}

func (l *lane) sweepRecords(ctx context.Context, records []featurestore.StoredRecord) (changed int, err error) {
	var list []featurestore.Replacement
	var from []freshet.RecommendationFrom
	for _, s := range records {
		var r freshet.Recommendation
		if err := json.Unmarshal(s.Value, &r); err != nil {
			return 0, fmt.Errorf("read a list of surface %s: %w", s.Surface, err)
		}
		if r.Without(func(id string) bool { return !l.w.items.Recommendable(id) }) {
			list, from = append(list, featurestore.Replacement{RecordKey: s.RecordKey, Old: s.Value, New: r.AppendJSON(nil)}), append(from, r.Event)
		}
	}
	if len(list) == 0 {
		return 0, nil
	}
	done, err := l.store.ReplaceRecords(ctx, list)
	if err != nil {
		return 0, err
	}
	var due []freshet.Publication
	for i, ok := range done {
		if ok { // else its owner has made a newer one
			due = append(due, freshet.Publication{UserID: list[i].UserID, Surface: list[i].Surface, Record: list[i].New,
				From: freshet.Position{Source: freshet.Source{Topic: from[i].Topic, Partition: from[i].Partition}, Offset: from[i].Offset}})
		}
	}
	for changed = len(due); len(due) > 0; {
		if err := l.w.producer.PublishLists(ctx, due); err != nil {
			return changed, err
		}
		if due, err = l.engine.Recheck(ctx, due); err != nil {
			return changed, err
		}
	}
	return changed, nil
}
