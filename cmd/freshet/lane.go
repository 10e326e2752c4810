package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"freshet"
	"freshet/featurestore"
	"freshet/internal/candidate"
	"freshet/internal/catalogue"
	"freshet/internal/recommend"
	"freshet/internal/telemetry"
	"freshet/models"
	"freshet/stream"
)

// lane is one deployment of a bundle at work in this process: it consumes its share of the events under its own group, keeps
// profiles in its own namespace, and writes lists. Several share a process, its device, its catalogue and its texts.
type lane struct {
	w       *worker
	row     freshet.Lane // as it was when the lane was opened
	name    string
	cfg     Config // the process's, for this lane
	log     *zap.Logger
	metrics *telemetry.Metrics

	bundle   *models.Bundle
	index    *models.Index
	store    *featurestore.Redis // a connection of its own: what one lane has not accepted must not be read by it through another
	sources  *sources
	popular  *candidate.Popular
	engine   *recommend.Engine
	consumer *stream.Consumer
	recovery *recovery
	feedback *feedbackPart // nil: this lane does not join impressions
	caught   atomic.Bool   // the table says that it has caught up
	listing  atomic.Bool   // lists are made with every event: the lane is close to its topic's end, or a replay wants them all
	inHand   sync.RWMutex  // held for reading while a batch is handled: what began before listing ends before its scan
	pace     pace
	closers  []func() error // in order of opening
}

// openLane opens every part of a lane, or says which one could not be opened; then nothing stays open.
func (w *worker) openLane(ctx context.Context, row freshet.Lane) (l *lane, err error) {
	l = &lane{w: w, row: row, name: row.Name, log: w.log, metrics: w.metrics.Lane(row.Name)}
	l.caught.Store(row.Caught)
	if row.Name != freshet.LiveLane {
		l.log = w.log.With(zap.String("lane", row.Name))
	}
	if l.cfg, err = w.cfg.forLane(row); err != nil {
		return nil, fmt.Errorf("lane %s: %w", row.Name, err)
	}
	for _, open := range []func(context.Context) error{l.openModel, l.openStore, l.openEngine, l.openConsumer} {
		if err = open(ctx); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	return l, nil
}

// Close closes everything in reverse order of opening.
func (l *lane) Close() error {
	var errs []error
	for i := len(l.closers) - 1; i >= 0; i-- {
		errs = append(errs, l.closers[i]())
	}
	l.closers = nil
	return errors.Join(errs...)
}

func (l *lane) onClose(f func() error) { l.closers = append(l.closers, f) }

func (l *lane) openModel(context.Context) (err error) {
	if l.bundle, err = models.OpenBundle(l.w.runtime, l.cfg.Model.Bundle); err != nil {
		return err
	}
	l.onClose(l.bundle.Close)
	if got := fingerprintOf(l.bundle); l.row.Fingerprint != "" && l.row.Fingerprint != got {
		return fmt.Errorf("join lane %q: %w: it serves the bundle with fingerprint %s, %s has %s; start the worker with the lane's bundle, "+
			"or add a lane for the new one: freshet lanes add NAME --bundle DIR", l.name, featurestore.ErrLaneRefused, l.row.Fingerprint, l.cfg.Model.Bundle, got)
	}
	known := models.Catalogue
	if !l.cfg.Catalogue.Only {
		known = models.All
	}
	if l.index, err = models.OpenIndex(l.bundle, models.IndexConfig{Recommendable: known}); err != nil {
		return err
	}
	l.onClose(l.index.Close)
	l.index.Hold() // until catalogueRead
	return l.w.openTexts(l.bundle)
}

// fingerprintOf is how the table of lanes names a bundle.
func fingerprintOf(b *models.Bundle) string { return fmt.Sprintf("%016x", b.Fingerprint()) }

func (l *lane) openStore(ctx context.Context) (err error) {
	if l.store, err = featurestore.Open(ctx, storeConfig(l.cfg), l.log); err != nil {
		return err
	}
	l.onClose(l.store.Close)
	return nil
}

// openEngine begins with the catalogue: a bundle that is younger than the process is brought what the process knows.
func (l *lane) openEngine(ctx context.Context) (err error) {
	var tower catalogue.Tower
	if l.bundle.TextDim() > 0 {
		tower = l.bundle
	}
	if err := l.w.items.Attach(ctx, l.index, tower); err != nil {
		return err
	}
	l.onClose(func() error { l.w.items.Detach(l.index); return nil })
	l.sources = newSources(l.cfg, l.bundle, l.index, time.Now)
	l.popular = l.sources.popular
	if !l.cfg.counts() {
		l.sources.covisit.Idle()
	}
	if !l.cfg.explores() {
		l.sources.fresh.Idle()
	}
	left, err := l.store.Popular(ctx, "", popularKept)
	if err != nil {
		return err
	}
	l.popular.Seed(left)
	cfg, err := engineConfig(l.cfg, l.w.types)
	if err != nil {
		return err
	}
	cfg.Table, cfg.Item, cfg.ItemsVersion, cfg.Forward, cfg.Owes = l.w.table.Load, l.w.items.Item, l.w.items.Version, l.forward, l.owes
	if l.cfg.Catalogue.Only {
		cfg.Available = l.w.items.Recommendable
	}
	l.engine, err = recommend.New(cfg, guarded{l.store, l}, stepper{l.bundle, l}, l.index, l.sources.all, judging{l.metrics, l}, l.log)
	return err
}

func (l *lane) openConsumer(context.Context) (err error) {
	conn, err := connection(l.cfg)
	if err != nil {
		return err
	}
	l.recovery = newRecovery(l)
	k, letters := l.cfg.Kafka, l.w.letters.While(l.live)
	l.consumer, err = stream.NewConsumer(stream.ConsumerConfig{Connection: conn, Group: l.cfg.GroupOf(), Topic: k.Topics.Events,
		TopicIncarnation: int32(k.Incarnation), Start: k.Start, BatchEvents: k.BatchMax, BatchNow: l.batch, Joined: true, Linger: k.Linger.D(), LossWindow: k.LossWindow.D(),
		SessionTimeout: k.Session.D(), RebalanceTimeout: k.Session.D()}, l.w.decoder, l.recovery, l.w.producer, letters, observer{l.metrics}, l.log)
	if err != nil {
		return err
	}
	l.feedback, err = openFeedback(l.cfg, l.store, l.w.producer, l.w.decoder, l.w.types, l.w.metrics, l.w.arms, l.w.knows, l.sources.fresh.Shown, l.log)
	return err
}

// observer lets the stream report to the metrics.
type observer struct{ *telemetry.Metrics }

func (o observer) Moved(s freshet.Source, p stream.Progress) {
	o.Metrics.Moved(s, p.Applied, p.Committed, p.Records(), p.Lag)
}

// Run works until ctx ends. The catalogue is read first: a list computed without it would be empty.
func (l *lane) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { l.publishDefaults(ctx); return nil })
	g.Go(func() error { l.shareSources(ctx); return nil })
	g.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case <-l.w.follower.Caught():
		}
		began := time.Now()
		if err := l.catalogueRead(ctx); err != nil {
			return err
		}
		l.log.Info("catalogue read", zap.Int("items", l.w.items.Len()), zap.Int("recommendable", l.index.Len()), zap.Duration("index_took", time.Since(began).Round(time.Millisecond)))
		if l.index.Len() == 0 {
			l.log.Warn("nothing can be recommended: no item on the topic is known to the model or has a text it can read; publish items, or set catalogue.only: false",
				zap.String("topic", l.cfg.Kafka.Topics.Items))
		}
		l.meetNew()
		if err := l.warmSources(ctx); err != nil {
			return err
		}
		if err := l.recovery.Open(ctx); err != nil {
			return err
		}
		g.Go(func() error { return l.recovery.Run(ctx) })
		g.Go(func() error { l.sweepStanding(ctx); return nil })
		g.Go(func() error { l.clearDropped(ctx); return nil })
		if l.feedback != nil {
			g.Go(func() error { return l.feedback.whileLive(ctx, l.live) })
		}
		g.Go(func() error { l.catchUp(ctx); return nil })
		return l.consumer.Run(ctx)
	})
	return g.Wait()
}

// catalogueRead builds the index of what has been loaded. From then on it follows the catalogue by itself.
func (l *lane) catalogueRead(ctx context.Context) error {
	l.index.Release()
	return l.index.Settle(ctx)
}

// live tells whether this is the lane that writes what is not one user's: dead letters, popular items, default lists.
func (l *lane) live() bool { return l.w.table.Load().Live == l.name }

// knows tells whether there is a lane of that name.
func (w *worker) knows(lane string) bool {
	_, ok := w.table.Load().Lanes[lane]
	return ok
}

// forward publishes what logins bring; the lanes that are not live find it in the log.
func (l *lane) forward(ctx context.Context, merged []freshet.Event) error {
	if !l.live() {
		return nil
	}
	return l.w.producer.PublishEvents(ctx, merged)
}

// publishDefaults refreshes the lists of users who have none, every second. Only the live lane's are shown.
func (l *lane) publishDefaults(ctx context.Context) {
	freshet.Repeat(ctx, time.Second, nil, func(ctx context.Context) error {
		l.popular.Refresh()
		if !l.live() {
			return nil
		}
		return l.putDefaults(ctx)
	}, func(err error) {
		if err != nil {
			l.log.Warn("the lists of users without one cannot be refreshed; trying again every second", zap.Error(err))
		} else {
			l.log.Info("the lists of users without one are refreshed again")
		}
	})
}

// popularKept is how many popular items frontends find in Redis.
const popularKept = 200

func (l *lane) putDefaults(ctx context.Context) error {
	var popular []freshet.Scored
	for _, p := range l.popular.Weights(2 * popularKept) {
		if len(popular) < popularKept && (!l.cfg.Catalogue.Only || l.w.items.Recommendable(p.ItemID)) {
			popular = append(popular, p)
		}
	}
	lists, err := l.engine.Defaults(ctx)
	if err != nil {
		return err
	}
	for _, d := range lists {
		if err := l.store.SetDefault(ctx, d.Surface, d.Record); err != nil {
			return err
		}
	}
	if len(popular) == 0 {
		return nil
	}
	return l.store.SetPopular(ctx, "", popular)
}

// engineConfig is the part of the configuration that serving and evaluation share.
func engineConfig(cfg Config, types *freshet.EventTypes) (recommend.Config, error) {
	late, err := freshet.ParseLatePolicy(cfg.Profile.Late)
	if err != nil {
		return recommend.Config{}, err
	}
	out := recommend.Config{Lane: cfg.Lane, CV: 1, Types: types, MaxHistory: cfg.Profile.MaxHistory, Late: late, Half: cfg.Model.State == "fp16",
		HotFor: min(cfg.Profile.HotFor.D(), cfg.Redis.TTL.D()/4), HotUsers: cfg.Profile.HotUsers,
		Temperatures: cfg.Fusion.Temperatures}
	if cfg.Reasons.Records {
		if out.Texts, err = cfg.texts(); err != nil {
			return out, err
		}
	}
	for _, s := range cfg.Surfaces {
		out.Surfaces = append(out.Surfaces, s.surface())
	}
	return out, nil
}
