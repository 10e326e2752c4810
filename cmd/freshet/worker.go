package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
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

// worker is one process of a lane: it consumes its share of the events, keeps profiles, and writes lists. `serve` runs it against
// real servers, `demo` against embedded ones; there is no other difference.
type worker struct {
	cfg     Config
	log     *zap.Logger
	metrics *telemetry.Metrics
	types   *freshet.EventTypes

	runtime  *models.Runtime
	bundle   *models.Bundle
	index    *models.Index
	texts    *models.TextEncoder // nil: no text is read
	store    *featurestore.Redis
	popular  *candidate.Popular
	items    *catalogue.Catalogue
	engine   *recommend.Engine
	producer *stream.Producer
	follower *stream.Follower
	consumer *stream.Consumer
	recovery *recovery

	// watch, when set before Run, hears every batch after its lists became visible.
	watch   func(events []freshet.Event, lists []freshet.Publication)
	closers []func() error // in order of opening
}

// openWorker opens every part, or says which one could not be opened; then nothing stays open.
func openWorker(ctx context.Context, cfg Config, metrics *telemetry.Metrics, log *zap.Logger) (w *worker, err error) {
	w = &worker{cfg: cfg, log: log, metrics: metrics}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.Close())
		}
	}()
	if w.types, err = cfg.EventTypes(); err != nil {
		return w, err
	}
	for _, open := range []func(context.Context) error{w.openModel, w.openStore, w.openTopics, w.openEngine, w.openStream} {
		if err = open(ctx); err != nil {
			return w, err
		}
	}
	return w, nil
}

// Close closes everything in reverse order of opening.
func (w *worker) Close() error {
	var errs []error
	for i := len(w.closers) - 1; i >= 0; i-- {
		errs = append(errs, w.closers[i]())
	}
	w.closers = nil
	return errors.Join(errs...)
}

func (w *worker) onClose(f func() error) { w.closers = append(w.closers, f) }

func (w *worker) openModel(context.Context) (err error) {
	m := w.cfg.Model
	if m.Library == "" {
		return errors.New("model.library: ONNX Runtime was not found: run `make setup`, or name libonnxruntime.so in FRESHET_ONNXRUNTIME")
	}
	w.runtime, err = models.NewRuntime(models.Config{Library: m.Library, Device: m.Device, Threads: m.Threads, FallBack: m.FallBack}, w.log)
	if err != nil {
		return err
	}
	w.onClose(w.runtime.Close)
	if w.bundle, err = models.OpenBundle(w.runtime, m.Bundle); err != nil {
		return err
	}
	w.onClose(w.bundle.Close)
	w.metrics.Device(w.bundle.Device())
	known := models.Catalogue
	if !w.cfg.Catalogue.Only {
		known = models.All
	}
	if w.index, err = models.OpenIndex(w.bundle, models.IndexConfig{Recommendable: known}); err != nil {
		return err
	}
	w.onClose(w.index.Close)
	if m.Encoder != "" && w.bundle.TextDim() > 0 {
		if w.texts, err = models.OpenTextEncoder(w.runtime, models.TextConfig{Dir: m.Encoder, Workers: 1}); err != nil {
			return err
		}
		w.onClose(w.texts.Close)
	}
	return nil
}

func (w *worker) openStore(ctx context.Context) (err error) {
	cfg := storeConfig(w.cfg)
	if w.store, err = featurestore.Open(ctx, cfg, w.log); err != nil {
		return err
	}
	w.onClose(func() error { return w.store.Close() })
	table, err := w.store.Lanes(ctx)
	if err != nil {
		return err
	}
	if len(table.Lanes) == 0 { // before the table is written: a refused start must leave nothing behind
		if err := w.refuseEmptyStore(ctx); err != nil {
			return err
		}
	}
	lane, _, err := w.store.JoinLane(ctx, w.cfg.Lane, fmt.Sprintf("%016x", w.bundle.Fingerprint()))
	if err != nil {
		return err
	}
	if lane.CV == cfg.CV {
		return nil
	}
	if err := w.store.Close(); err != nil {
		return err
	}
	cfg.CV = lane.CV
	w.store, err = featurestore.Open(ctx, cfg, w.log)
	return err
}

// refuseEmptyStore stops a worker whose store is empty although its group has committed offsets: going on would forget everybody.
func (w *worker) refuseEmptyStore(ctx context.Context) error {
	conn, err := connection(w.cfg)
	if err != nil {
		return err
	}
	committed, err := stream.Committed(ctx, conn, w.cfg.GroupOf(), w.cfg.Kafka.Topics.Events)
	if err != nil || len(committed) == 0 {
		return nil // no broker yet, no topic yet, or nothing committed: a first run
	}
	if w.cfg.Bootstrap != "auto" {
		return fmt.Errorf("the store at %s is empty, but group %s has committed offsets: profiles would be lost. Check redis.addrs and redis.prefix; "+
			"to rebuild them from what the log still holds, start with --set bootstrap=auto",
			strings.Join(w.cfg.Redis.Addrs, ","), w.cfg.GroupOf())
	}
	w.log.Warn("the store is empty although offsets are committed: reading the log from its beginning, as bootstrap: auto says")
	return nil
}

func storeConfig(c Config) featurestore.Config {
	r := c.Redis
	return featurestore.Config{Addrs: r.Addrs, Cluster: r.Cluster, Username: r.Username, Password: string(r.Password), DB: r.DB,
		TLS:    featurestore.TLS{Enabled: r.TLS.Enabled, CAFile: r.TLS.CAFile, CertFile: r.TLS.CertFile, KeyFile: r.TLS.KeyFile, ServerName: r.TLS.ServerName},
		Prefix: r.Prefix, Lane: c.Lane, Owner: c.Lane == freshet.LiveLane, CV: 1, TTL: r.TTL.D()}
}

// connection says how to reach Kafka.
func connection(c Config) (stream.Connection, error) {
	k := c.Kafka
	conn := stream.Connection{Brokers: k.Brokers, ClientID: "freshet",
		SASL: stream.SASL{Mechanism: strings.ToLower(k.SASL.Mechanism), Username: k.SASL.Username, Password: string(k.SASL.Password)}}
	if k.TLS.Enabled {
		t, err := tlsConfig(k.TLS)
		if err != nil {
			return conn, fmt.Errorf("kafka.tls: %w", err)
		}
		conn.TLS = t
	}
	return conn, conn.Validate()
}

func tlsConfig(t TLSConfig) (*tls.Config, error) {
	out := &tls.Config{ServerName: t.ServerName, MinVersion: tls.VersionTLS12}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("ca_file: %w", err)
		}
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca_file: no certificate in %s", t.CAFile)
		}
	}
	if t.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("cert_file, key_file: %w", err)
		}
		out.Certificates = []tls.Certificate{pair}
	}
	return out, nil
}

// topicsOf are the topics as they are created where they are missing.
func topicsOf(c Config) []stream.Topic {
	k := c.Kafka
	return []stream.Topic{
		{Name: k.Topics.Events, Partitions: k.Partitions, Replicas: k.Replication, Retention: k.Retention.D(), MaxMessageBytes: freshet.MaxEventBytes + 64<<10},
		{Name: k.Topics.Items, Partitions: k.Partitions, Replicas: k.Replication, Compact: true},
		{Name: k.Topics.Recommendations, Partitions: k.Partitions, Replicas: k.Replication, Compact: true},
		{Name: k.Topics.DeadLetters, Partitions: k.Partitions, Replicas: k.Replication, Retention: 4 * k.Retention.D(), MaxMessageBytes: deadLetterBytes},
	}
}

// deadLetterBytes is the input's largest message and 128 KiB, for what is added to it.
const deadLetterBytes = freshet.MaxEventBytes + 64<<10 + 128<<10

func (w *worker) openTopics(ctx context.Context) error {
	if !w.cfg.Kafka.Create {
		return nil
	}
	conn, err := connection(w.cfg)
	if err != nil {
		return err
	}
	created, err := stream.EnsureTopics(ctx, conn, topicsOf(w.cfg)...)
	if len(created) > 0 {
		w.log.Info("created topics", zap.Strings("topics", created))
	}
	return err
}

func (w *worker) openEngine(ctx context.Context) (err error) {
	var encoder catalogue.Encoder
	var tower catalogue.Tower
	if w.texts != nil {
		encoder, tower = w.texts, w.bundle
	}
	w.items = catalogue.New(w.index, encoder, tower, w.store, time.Now, w.log)
	w.popular = candidate.NewPopular(popularHalfLife)
	left, err := w.store.Popular(ctx, "", popularKept)
	if err != nil {
		return err
	}
	w.popular.Seed(left)
	cfg, err := engineConfig(w.cfg, w.types)
	if err != nil {
		return err
	}
	cfg.CV = w.store.Config().CV
	if w.cfg.Catalogue.Only {
		cfg.Available = w.items.Recommendable
	}
	w.engine, err = recommend.New(cfg, guarded{w.store, w}, w.bundle, w.index, sourcesOf(w.bundle, w.index, w.popular), w.metrics, w.log)
	return err
}

// engineConfig is the part of the configuration that serving and evaluation share.
func engineConfig(cfg Config, types *freshet.EventTypes) (recommend.Config, error) {
	late, err := freshet.ParseLatePolicy(cfg.Profile.Late)
	if err != nil {
		return recommend.Config{}, err
	}
	out := recommend.Config{Lane: cfg.Lane, CV: 1, Types: types, MaxHistory: cfg.Profile.MaxHistory, Late: late, Half: cfg.Model.State == "fp16",
		HotFor: min(cfg.Profile.HotFor.D(), cfg.Redis.TTL.D()/4), HotUsers: cfg.Profile.HotUsers}
	for _, s := range cfg.Surfaces {
		out.Surfaces = append(out.Surfaces, recommend.Surface{Name: s.Name, K: s.K, Weights: s.Weights, Fill: s.Fill, Exclude: s.Exclude})
	}
	return out, nil
}

func (w *worker) openStream(context.Context) (err error) {
	conn, err := connection(w.cfg)
	if err != nil {
		return err
	}
	k := w.cfg.Kafka
	w.producer, err = stream.NewProducer(stream.ProducerConfig{Connection: conn, Lists: k.Topics.Recommendations, Events: k.Topics.Events, Items: k.Topics.Items}, w.log)
	if err != nil {
		return err
	}
	w.onClose(func() error { w.producer.Close(); return nil })
	letters, err := stream.NewDeadLetters(w.producer, k.Topics.DeadLetters, deadLetterBytes)
	if err != nil {
		return err
	}
	w.follower, err = stream.NewFollower(stream.FollowerConfig{Connection: conn, Topic: k.Topics.Items}, w.applyItems,
		func(ctx context.Context, l stream.DeadLetter) error { return letters.Put(ctx, l) }, w.log)
	if err != nil {
		return err
	}
	w.recovery = newRecovery(w)
	decoder, err := stream.NewDecoder(stream.DecoderConfig{Types: w.types, MinTime: w.cfg.MinTime(), TypePrefix: w.cfg.Ingest.TypePrefix})
	if err != nil {
		return err
	}
	w.consumer, err = stream.NewConsumer(stream.ConsumerConfig{Connection: conn, Group: w.cfg.GroupOf(), Topic: k.Topics.Events,
		TopicIncarnation: int32(k.Incarnation), Start: k.Start, BatchEvents: k.BatchMax, Linger: k.Linger.D(), LossWindow: k.LossWindow.D(),
		SessionTimeout: k.Session.D(), RebalanceTimeout: k.Session.D()}, decoder, w.recovery, w.producer, letters, observer{w.metrics}, w.log)
	return err
}

// observer lets the stream report to the metrics.
type observer struct{ *telemetry.Metrics }

func (o observer) Moved(s freshet.Source, p stream.Progress) {
	o.Metrics.Moved(s, p.Applied, p.Committed, p.Records(), p.Lag)
}

func (w *worker) applyItems(ctx context.Context, changes []stream.ItemChange) error {
	out := make([]catalogue.Change, len(changes))
	for i, c := range changes {
		out[i] = catalogue.Change{ItemID: c.ItemID, Item: c.Item}
	}
	err := w.items.Apply(ctx, out)
	w.metrics.Catalogue(w.index.Len())
	return err
}

// checks are what health answers.
func (w *worker) checks() []telemetry.Check {
	return []telemetry.Check{
		{Name: "partitions", Liveness: true, Probe: func(context.Context) error {
			if stuck := w.consumer.Stuck(time.Minute); len(stuck) > 0 {
				return fmt.Errorf("stuck for a minute: %v", stuck)
			}
			return nil
		}},
		{Name: "store", Probe: func(ctx context.Context) error {
			_, err := w.store.Load(ctx, []string{"freshet-health"})
			return err
		}},
		{Name: "catalogue", Probe: func(context.Context) error {
			select {
			case <-w.follower.Caught():
				return nil
			default:
				return errors.New("the items topic is still being read")
			}
		}},
	}
}

// Run works until ctx ends. The catalogue is read first: a list computed without it would be empty.
func (w *worker) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return w.follower.Run(ctx) })
	g.Go(func() error { w.items.Run(ctx); return nil })
	g.Go(func() error { w.publishDefaults(ctx); return nil })
	g.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case <-w.follower.Caught():
		}
		w.log.Info("catalogue read", zap.Int("items", w.items.Len()), zap.Int("recommendable", w.index.Len()))
		if w.index.Len() == 0 {
			w.log.Warn("nothing can be recommended: no item on the topic is known to the model or has a text it can read; publish items, or set catalogue.only: false",
				zap.String("topic", w.cfg.Kafka.Topics.Items))
		}
		if err := w.recovery.Open(ctx); err != nil {
			return err
		}
		g.Go(func() error { return w.recovery.Run(ctx) })
		return w.consumer.Run(ctx)
	})
	return g.Wait()
}

// publishDefaults refreshes the lists of users who have none, every second.
func (w *worker) publishDefaults(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		w.popular.Refresh()
		if err := w.putDefaults(ctx); err != nil && ctx.Err() == nil {
			w.log.Debug("default lists not stored; trying again in a second", zap.Error(err))
		}
	}
}

// popularKept is how many popular items frontends find in Redis.
const popularKept = 200

func (w *worker) putDefaults(ctx context.Context) error {
	var popular []freshet.Scored
	for _, p := range w.popular.Weights(2 * popularKept) {
		if len(popular) < popularKept && (!w.cfg.Catalogue.Only || w.items.Recommendable(p.ItemID)) {
			popular = append(popular, p)
		}
	}
	if len(popular) == 0 {
		return nil
	}
	for _, s := range w.cfg.Surfaces {
		if err := w.store.SetDefault(ctx, s.Name, w.engine.DefaultRecord(s.Name, popular)); err != nil {
			return err
		}
	}
	return w.store.SetPopular(ctx, "", popular)
}
