package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"freshet"
	"freshet/featurestore"
	"freshet/internal/catalogue"
	"freshet/internal/telemetry"
	"freshet/models"
	"freshet/stream"
)

// worker is one process: what it has once, and the lanes at work in it. `serve` runs it against real servers, `demo` against
// embedded ones; there is no other difference.
type worker struct {
	cfg     Config
	log     *zap.Logger
	metrics *telemetry.Metrics
	types   *freshet.EventTypes

	runtime  *models.Runtime
	texts    *models.TextEncoder // nil: no text is read
	store    *featurestore.Redis // the table of lanes, items and their vectors; each lane has a connection of its own
	items    *catalogue.Catalogue
	producer *stream.Producer
	letters  *stream.DeadLetters
	decoder  *stream.Decoder
	follower *stream.Follower
	keeper   *itemKeeper

	table atomic.Pointer[freshet.LaneTable] // as it was last read; set before the first lane runs
	mu    sync.Mutex
	lanes map[string]*lane // open now
	lag   lagSeen          // of the live lane
	arms  *arms            // how well each lane's users are served

	background *background // nil = lanes that catch up take what there is

	// watch, when set before Run, hears every batch of the configured lane after its lists became visible.
	watch func(events []freshet.Event, lists []freshet.Publication)
	// held, when set before openAll, hears why a part cannot be opened yet; openAll then waits for a server that is away instead of
	// giving up.
	held    func(error)
	closers []func() error // in order of opening
}

func newWorker(cfg Config, metrics *telemetry.Metrics, log *zap.Logger) *worker {
	return &worker{cfg: cfg, log: log, metrics: metrics, lanes: map[string]*lane{}, arms: newArms(), background: newBackground()}
}

// openWorker opens every part and the configured lane, or says which one could not be opened; then nothing stays open.
func openWorker(ctx context.Context, cfg Config, metrics *telemetry.Metrics, log *zap.Logger) (*worker, error) {
	w := newWorker(cfg, metrics, log)
	if err := w.openAll(ctx); err != nil {
		return w, errors.Join(err, w.Close())
	}
	return w, nil
}

// openAll opens every part and the configured lane. What was opened before a failure is closed by Close.
func (w *worker) openAll(ctx context.Context) (err error) {
	if w.types, err = w.cfg.EventTypes(); err != nil {
		return err
	}
	for _, open := range []func(context.Context) error{w.openRuntime, w.openStore, w.openStream, w.openFirstLane, w.openTopics} {
		if err = w.patiently(ctx, open); err != nil {
			return err
		}
	}
	return nil
}

// openAgain is how long a start waits before it asks a server again that was away.
const openAgain = 500 * time.Millisecond

// patiently opens a part, again and again while a server that it needs is away. What waiting does not mend, as a wrong password or a
// file that is missing, it gives back at once.
func (w *worker) patiently(ctx context.Context, open func(context.Context) error) error {
	for told := ""; ; {
		err := open(ctx)
		if err == nil || w.held == nil || !featurestore.Passing(err) {
			return err
		}
		w.held(err)
		if why := err.Error(); why != told {
			told = why
			w.log.Warn("a server is away or not ready; the worker waits for it", zap.Error(err))
		}
		if err := sleep(ctx, openAgain); err != nil {
			return err
		}
	}
}

// Close closes everything in reverse order of opening, lanes first.
func (w *worker) Close() error {
	var errs []error
	for _, l := range w.running() {
		errs = append(errs, l.Close())
	}
	for i := len(w.closers) - 1; i >= 0; i-- {
		errs = append(errs, w.closers[i]())
	}
	w.closers = nil
	return errors.Join(errs...)
}

func (w *worker) onClose(f func() error) { w.closers = append(w.closers, f) }

func (w *worker) openRuntime(context.Context) (err error) {
	m := w.cfg.Model
	if m.Library == "" {
		return errors.New("model.library: ONNX Runtime was not found: run `make setup`, or name libonnxruntime.so in FRESHET_ONNXRUNTIME")
	}
	w.runtime, err = models.NewRuntime(models.Config{Library: m.Library, Device: m.Device, Threads: m.Threads, FallBack: m.FallBack}, w.log)
	if err != nil {
		return err
	}
	w.onClose(w.runtime.Close)
	w.metrics.Device(w.runtime.Device())
	return nil
}

func (w *worker) openStore(ctx context.Context) (err error) {
	if w.store, err = featurestore.Open(ctx, storeConfig(w.cfg), w.log); err != nil {
		return err
	}
	w.onClose(w.store.Close)
	w.items = catalogue.New(w.store, time.Now, w.log)
	return nil
}

func (w *worker) openTopics(ctx context.Context) error {
	if !w.cfg.Kafka.Create {
		return nil
	}
	conn, err := connection(w.cfg)
	if err != nil {
		return err
	}
	late := time.AfterFunc(5*time.Second, func() {
		err := fmt.Errorf("no answer from Kafka at %s", strings.Join(conn.Brokers, ","))
		w.log.Warn("the worker waits for Kafka", zap.Error(err))
		if w.held != nil {
			w.held(err)
		}
	})
	defer late.Stop()
	created, err := stream.EnsureTopics(ctx, conn, topicsOf(w.cfg)...)
	if len(created) > 0 {
		w.log.Info("created topics", zap.Strings("topics", created))
	}
	return err
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
	if w.letters, err = stream.NewDeadLetters(w.producer, k.Topics.DeadLetters, deadLetterBytes); err != nil {
		return err
	}
	w.decoder, err = stream.NewDecoder(stream.DecoderConfig{Types: w.types, MinTime: w.cfg.MinTime(), TypePrefix: w.cfg.Ingest.TypePrefix})
	if err != nil {
		return err
	}
	w.follower, err = stream.NewFollower(stream.FollowerConfig{Connection: conn, Topic: k.Topics.Items}, w.applyItems,
		func(ctx context.Context, l stream.DeadLetter) error { return w.letters.Put(ctx, l) }, w.log)
	if err != nil {
		return err
	}
	w.keeper = newItemKeeper(w.store, w.follower.Again, w.log.Named("catalogue"))
	w.items.OnProgress(w.reportTexts())
	return nil
}

// openTexts opens the text encoder when the first bundle with texts comes; the others share it.
func (w *worker) openTexts(bundle *models.Bundle) (err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.texts != nil || w.cfg.Model.Encoder == "" || bundle.TextDim() == 0 {
		return nil
	}
	if w.texts, err = models.OpenTextEncoder(w.runtime, models.TextConfig{Dir: w.cfg.Model.Encoder, Workers: 1}); err != nil {
		return err
	}
	w.onClose(w.texts.Close)
	w.items.Read(w.texts)
	return nil
}

func (w *worker) applyItems(ctx context.Context, changes []stream.ItemChange) error {
	out, err := w.keeper.changes(ctx, changes)
	if err != nil {
		return err
	}
	arrivals := w.arrivals(changes)
	if err = w.items.Apply(ctx, out); err == nil {
		err = w.keeper.applied(ctx, changes)
	}
	if err == nil {
		for _, l := range w.running() {
			for id, since := range arrivals {
				l.sources.fresh.Arrive(id, since)
			}
		}
	}
	if l := w.first(); l != nil {
		w.metrics.Catalogue(l.index.Len())
	}
	return err
}

// putBack stores again what the events do not bring back to a store of which a server has forgotten everything: the table of lanes, where
// it was there as this worker knew it (at most half a second old), and the items.
func (w *worker) putBack(ctx context.Context) error {
	there, err := w.store.RestoreLanes(ctx, *w.table.Load())
	if err != nil {
		return err
	}
	w.log.Warn("a server of the store is new, or came back empty: the log is read again for what it had, the items are written again", zap.Bool("lanes_restored", there))
	return w.keeper.writeAgain(ctx)
}

// checks are what health answers.
func (w *worker) checks() []telemetry.Check {
	return []telemetry.Check{
		{Name: "partitions", Liveness: true, Probe: func(context.Context) error {
			for _, l := range w.running() {
				if stuck := l.consumer.Stuck(time.Minute); len(stuck) > 0 {
					return fmt.Errorf("lane %s is stuck for a minute: %v", l.name, stuck)
				}
			}
			return nil
		}},
		{Name: "model", Degrades: true, Probe: func(context.Context) error {
			for _, l := range w.running() {
				if err := l.engine.Degraded(); err != nil {
					return fmt.Errorf("lane %s computes nothing, its events wait and the lists of before stay: %w", l.name, err)
				}
			}
			if why := w.runtime.FellBack(); why != "" {
				return errors.New(why)
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

// Run works until ctx ends.
func (w *worker) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return w.follower.Run(ctx) })
	g.Go(func() error { w.items.Run(ctx); return nil })
	g.Go(func() error { w.shareArms(ctx); return nil })
	g.Go(func() error { w.keeper.run(ctx); return nil })
	g.Go(func() error { w.reportCatalogue(ctx); return nil })
	g.Go(func() error { return w.runLanes(ctx) })
	return g.Wait()
}
