package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"freshet"
	"freshet/featurestore"
	"freshet/internal/recommend"
)

// account works out the exact reasons of a user's lists, and what rules kept out of them, with the model, the catalogue and the counts
// as the store has them. Trends and what is new are not stored whole: they take no part.
func account(ctx context.Context, cfg Config, s *featurestore.Redis, log *zap.Logger, u *shownUser) error {
	table, err := s.Lanes(ctx)
	if err != nil {
		return err
	}
	row, listed := table.Lanes[cfg.Lane]
	if listed { // its bundle and its surfaces, not this machine's
		if cfg, err = cfg.forLane(row); err != nil {
			return fmt.Errorf("lane %s: %w", row.Name, err)
		}
	}
	f, err := openForecaster(ctx, cfg, log.WithOptions(zap.IncreaseLevel(zap.WarnLevel)))
	if err != nil {
		return errors.Join(err, f.close())
	}
	if got := fingerprintOf(f.bundle); listed && row.Fingerprint != "" && got != row.Fingerprint {
		return errors.Join(fmt.Errorf("lane %s serves the bundle with fingerprint %s, %s has %s: name the lane's bundle with --set model.bundle=DIR",
			row.Name, row.Fingerprint, cfg.Model.Bundle, got), f.close())
	}
	a, err := f.account(ctx, cfg, u)
	if err := errors.Join(err, f.close()); err != nil {
		return err
	}
	texts, err := cfg.texts()
	if err != nil {
		return err
	}
	did := map[string]string{}
	for _, e := range u.Sequence {
		did[e.ItemID] = e.Type // the last that he did with it
	}
	for i := range a.Reasons {
		g := &a.Reasons[i]
		g.Title, g.LowersBy = f.titles[g.ItemID], round(g.LowersBy, 4)
		for n := range g.Sources {
			s := &g.Sources[n]
			s.LowersBy = round(s.LowersBy, 4)
			if g.Text == "" {
				g.Text = texts.Text(s.Source, titleOr(f.titles, s.Because), did[s.Because], f.items[g.ItemID])
			}
		}
	}
	for i := range a.Removed {
		a.Removed[i].Title = f.titles[a.Removed[i].ItemID]
	}
	u.Reasons, u.Removed = a.Reasons, a.Removed
	return nil
}

func titleOr(titles map[string]string, id string) string { return firstOf(titles[id], id) }

// account asks an engine with the configured surfaces.
func (f *forecaster) account(ctx context.Context, cfg Config, u *shownUser) (*recommend.Account, error) {
	types, err := cfg.EventTypes()
	if err != nil {
		return nil, err
	}
	engine, err := engineConfig(cfg, types)
	if err != nil {
		return nil, err
	}
	engine.Item = func(id string) (*freshet.Item, bool) { i, ok := f.items[id]; return i, ok }
	if cfg.Catalogue.Only {
		engine.Available = func(id string) bool { i, ok := f.items[id]; return ok && i.Recommendable(time.Now()) }
	}
	src := newSources(cfg, f.bundle, f.index, time.Now)
	left, err := f.store.Popular(ctx, "", popularKept)
	if err != nil {
		return nil, err
	}
	src.popular.Seed(left)
	if cfg.counts() {
		ids := make([]string, 0, min(len(f.items), cfg.Covisit.MaxItems))
		for id := range f.items {
			if ids = append(ids, id); len(ids) == cap(ids) {
				break
			}
		}
		if err := src.covisit.Warm(ctx, f.store, ids); err != nil {
			return nil, err
		}
	}
	e, err := recommend.New(engine, f.store, f.bundle, f.index, src.all, unobserved{}, zap.NewNop())
	if err != nil {
		return nil, err
	}
	a, err := e.Account(ctx, u.UserID, u.Lists)
	if errors.Is(err, recommend.ErrNoProfile) { // erased, or nothing but rejections: nothing to explain
		return &recommend.Account{}, nil
	}
	return a, err
}

// exactly adds what printUser shows of the exact reasons of one item; nil = they were not asked for.
func (u *shownUser) exactly(surface, item string) *recommend.Grounds {
	for i := range u.Reasons {
		if g := &u.Reasons[i]; g.Surface == surface && g.ItemID == item {
			return g
		}
	}
	return nil
}
