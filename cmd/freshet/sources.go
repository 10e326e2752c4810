package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"freshet"
	"freshet/internal/candidate"
	"freshet/internal/recommend"
	"freshet/models"
	"freshet/stream"
)

// sources are the candidate sources of a process, and those of them that learn or have something to share.
type sources struct {
	popular  *candidate.Popular
	trending *candidate.Trending
	covisit  *candidate.Covisit
	fresh    *candidate.New
	all      []recommend.Source
}

// newSources makes what surfaces may name: sequence for the model's first task and sequence-<task> for the others; covisit, content,
// popular, trending, new, owned, recent; and covisit-last and content-last, for which the last item alone counts.
func newSources(cfg Config, bundle *models.Bundle, index *models.Index, now func() time.Time) *sources {
	s := &sources{
		popular:  candidate.NewPopular(cfg.Popular.HalfLife.D(), index),
		trending: candidate.NewTrending(cfg.Popular.Trending.D(), cfg.Popular.HalfLife.D(), index),
		covisit:  candidate.NewCovisit(covisitConfig(cfg.Covisit, index)),
		fresh:    candidate.NewNew(index, candidate.NewConfig{MaxAge: cfg.NewItems.MaxAge.D(), Budget: cfg.NewItems.Budget, Basis: fmt.Sprintf("%x", bundle.Fingerprint()), Now: now}),
	}
	for i, task := range bundle.Tasks() {
		name := "sequence"
		if i > 0 {
			name += "-" + task
		}
		s.all = append(s.all, candidate.NewSequence(name, i, index))
	}
	s.all = append(s.all, s.covisit, candidate.NewContent(index), s.popular, s.trending, s.fresh, candidate.Owned{}, candidate.Recent{},
		s.covisit.Last(), candidate.NewContentLast(index))
	return s
}

// covisitConfig is the block as the source takes it, which reads 0 as "the default".
func covisitConfig(b CovisitBlock, numbers candidate.Numbers) candidate.CovisitConfig {
	c := candidate.CovisitConfig{HalfLife: b.HalfLife.D(), Keep: b.Keep, MaxItems: b.MaxItems, Back: b.Back, Damp: b.Damp, Numbers: numbers}
	if b.Back == 0 {
		c.Back = -1
	}
	return c
}

// shareRest is how many times longer than a sharing of counts took the store is left alone after it: whatever the traffic and however
// busy the store, counts take a fifth of one of its cores at most from each lane, and a backlog that is worked off adds itself up meanwhile.
// A lane that catches up shares with nobody who is in a hurry: a twentieth, or live saves would wait for its counts.
const (
	shareRest        = 4
	shareRestCatchUp = 19
)

// shareSources keeps what the sources learn in the store: counts every second, lists for item pages and trends beside them. A store
// that does not answer costs nothing but age: what was counted waits.
func (l *lane) shareSources(ctx context.Context) {
	n, rested := -1, time.Time{}
	freshet.Repeat(ctx, time.Second, nil, func(ctx context.Context) error {
		n++
		if began := time.Now(); began.After(rested) {
			err := l.sources.covisit.Sync(ctx, l.store)
			rest := time.Duration(shareRest)
			if !l.caught.Load() && !l.live() {
				rest = shareRestCatchUp
			}
			rested = time.Now().Add(rest * time.Since(began))
			if err != nil {
				return err
			}
		}
		return l.shareOnce(ctx, n)
	}, func(err error) {
		if err != nil {
			l.log.Warn("counts cannot be shared; trying again every second", zap.Error(err))
		} else {
			l.log.Info("counts are shared again")
		}
	})
}

// Bounds of what is written for frontends in a second, and how often domains are.
const (
	similarPerSecond = 100
	similarKept      = 20
	domainsEvery     = 5
)

func (l *lane) shareOnce(ctx context.Context, n int) error {
	s := l.sources
	if err := l.engine.SyncWeights(ctx, l.store); err != nil {
		return err
	}
	if err := s.fresh.Sync(ctx, l.store); err != nil {
		return err
	}
	l.reportWeights()
	if !l.live() { // un-laned keys belong to the live lane
		return nil
	}
	similar := s.covisit.Similar(similarPerSecond, similarKept, l.mayShow)
	for _, item := range slices.Sorted(maps.Keys(similar)) {
		if err := l.store.SetSimilar(ctx, item, similar[item]); err != nil {
			return err
		}
	}
	if n%domainsEvery != 0 {
		return nil
	}
	s.trending.Refresh()
	var trends []freshet.Scored
	for _, c := range s.trending.Top(2 * popularKept) {
		if len(trends) < popularKept && l.mayShow(c.ItemID) {
			trends = append(trends, freshet.Scored{ItemID: c.ItemID, Score: float64(c.Score)})
		}
	}
	if err := l.store.SetTrending(ctx, trends); err != nil {
		return err
	}
	return l.shareDomains(ctx)
}

// reportWeights tells the metrics with which weights surfaces that adapt make their lists now.
func (l *lane) reportWeights() {
	for i := range l.cfg.Surfaces {
		s := &l.cfg.Surfaces[i]
		if s.Adapt == nil || s.Adapt.Mode == string(recommend.AdaptOff) {
			continue
		}
		for source, w := range l.engine.Weights(s.Name) {
			l.metrics.Weight(s.Name, source, w)
		}
	}
}

func (l *lane) mayShow(id string) bool { return !l.cfg.Catalogue.Only || l.w.items.Recommendable(id) }

// shareDomains writes the popular items of each domain.
func (l *lane) shareDomains(ctx context.Context) error {
	domains := map[string][]freshet.Scored{}
	for _, p := range l.popular.Weights(popularRanked) {
		item, ok := l.w.items.Item(p.ItemID)
		if ok && item.Domain != "" && len(domains[item.Domain]) < popularKept && l.mayShow(p.ItemID) {
			domains[item.Domain] = append(domains[item.Domain], p)
		}
	}
	for _, d := range slices.Sorted(maps.Keys(domains)) {
		if err := l.store.SetPopular(ctx, d, domains[d]); err != nil {
			return err
		}
	}
	return nil
}

// popularRanked is how deep the popular items are looked through for those of each domain.
const popularRanked = 20_000

// meetNew tells the source of new items what came lately, as far as it says when it was published: a worker that starts anew and a lane that
// opens later know what is new from their first list on.
func (l *lane) meetNew() {
	if !l.cfg.explores() {
		return
	}
	oldest := time.Now().Add(-l.cfg.NewItems.MaxAge.D())
	var came []*freshet.Item
	for _, id := range l.w.items.IDs(l.w.items.Len()) {
		if item, ok := l.w.items.Item(id); ok && item.PublishedAt != nil && item.PublishedAt.After(oldest) {
			came = append(came, item)
		}
	}
	slices.SortFunc(came, func(a, b *freshet.Item) int {
		return cmp.Or(a.PublishedAt.Compare(*b.PublishedAt), cmp.Compare(a.ItemID, b.ItemID))
	})
	for _, item := range came {
		l.sources.fresh.Arrive(item.ItemID, *item.PublishedAt)
	}
}

// warmSources reads the counts of the catalogue's items, so that the first lists are made with all that is known.
func (l *lane) warmSources(ctx context.Context) error {
	if !l.cfg.counts() {
		return nil
	}
	began := time.Now()
	if err := l.sources.covisit.Warm(ctx, l.store, l.w.items.IDs(l.cfg.Covisit.MaxItems)); err != nil {
		return err
	}
	l.log.Info("counts read", zap.Stringer("covisit", l.sources.covisit), zap.Duration("took", time.Since(began)))
	return nil
}

// arrivals are the items that nobody knew before, and since when they are new: since they were published or, where they do not say,
// since now, unless the topic is only being read again.
func (w *worker) arrivals(changes []stream.ItemChange) map[string]time.Time {
	out := map[string]time.Time{}
	reading := true
	select {
	case <-w.follower.Caught():
		reading = false
	default:
	}
	for _, c := range changes {
		if c.Item == nil {
			continue
		}
		_, known := w.items.Item(c.ItemID)
		switch {
		case known:
		case c.Item.PublishedAt != nil:
			out[c.ItemID] = *c.Item.PublishedAt
		case !reading:
			out[c.ItemID] = time.Now()
		}
	}
	return out
}
