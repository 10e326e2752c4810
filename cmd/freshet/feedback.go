package main

import (
	"context"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"freshet"
	"freshet/featurestore"
	"freshet/internal/feedback"
	rules "freshet/internal/lane"
	"freshet/internal/telemetry"
	"freshet/stream"
)

// feedbackPart joins impressions with what users did next, beside the lists: a consumer group of its own over the same events, so that
// no list waits for it. The workers of whichever lane is live run it, whichever lane made the lists; what it remembers belongs to no lane.
type feedbackPart struct {
	joiner   *feedback.Joiner
	consumer *stream.Consumer
	log      *zap.Logger
}

// feedbackGroup is the consumer group of the join.
func feedbackGroup(c Config) string { return c.Kafka.Group + "-feedback" }

// openFeedback opens the join, or gives nil where none is configured.
func openFeedback(cfg Config, store *featurestore.Redis, producer *stream.Producer, decoder *stream.Decoder, types *freshet.EventTypes,
	metrics *telemetry.Metrics, arms *arms, known func(lane string) bool, shown func(item string), log *zap.Logger) (*feedbackPart, error) {
	if !cfg.Feedback.Enabled {
		return nil, nil
	}
	conn, err := connection(cfg)
	if err != nil {
		return nil, err
	}
	f := &feedbackPart{log: log.Named("feedback")}
	publish := func(ctx context.Context, examples []feedback.Record) error {
		records := make([]stream.Record, len(examples))
		for i, e := range examples {
			records[i] = stream.Record{Key: []byte(e.UserID), Value: e.Value}
		}
		return producer.Publish(ctx, cfg.Kafka.Topics.Examples, records)
	}
	seen := &seenBy{Metrics: metrics, arms: arms, known: known, shown: shown, surfaces: map[string]bool{}}
	for _, s := range cfg.Surfaces {
		seen.surfaces[s.Name] = true
	}
	rules := feedback.Rules{Types: types, Window: cfg.Feedback.Window.D(), Grace: cfg.Feedback.Grace.D()}
	if f.joiner, err = feedback.NewJoiner(rules, store, publish, seen, f.log); err != nil {
		return nil, err
	}
	k := cfg.Kafka
	f.consumer, err = stream.NewConsumer(stream.ConsumerConfig{Connection: conn, Group: feedbackGroup(cfg), Topic: k.Topics.Events,
		TopicIncarnation: int32(k.Incarnation), Start: k.Start, BatchEvents: 1024, Linger: -1, LossWindow: k.LossWindow.D(),
		SessionTimeout: k.Session.D(), RebalanceTimeout: k.Session.D()}, decoder, f.joiner, nil, nil, feedbackObserver{metrics: metrics}, f.log)
	return f, err
}

// seenBy counts what users were shown. An impression may name any surface and, by its rec_id, any lane; those that there are not are counted
// together.
type seenBy struct {
	*telemetry.Metrics
	arms     *arms
	known    func(lane string) bool
	shown    func(item string)
	surfaces map[string]bool
}

func (s *seenBy) lane(name string) string {
	if s.known(name) {
		return name
	}
	return ""
}

func (s *seenBy) surface(name string) string {
	switch {
	case name == "":
		return freshet.HomeSurface
	case s.surfaces[name]:
		return name
	}
	return "other"
}

func (s *seenBy) Shown(user, item, lane, surface, source string) {
	s.shown(item)
	lane = s.lane(lane)
	s.arms.add(lane, user, rules.Shown)
	s.Metrics.Shown(firstOf(lane, "unknown"), s.surface(surface), firstOf(source, "unknown"))
}

func (s *seenBy) Clicked(user, lane, surface, source string) {
	lane = s.lane(lane)
	s.arms.add(lane, user, rules.Clicked)
	s.Metrics.Clicked(firstOf(lane, "unknown"), s.surface(surface), firstOf(source, "unknown"))
}

// feedbackObserver reports how far the join is behind; everything else of the stream's figures belongs to the lists.
type feedbackObserver struct {
	stream.Unobserved
	metrics *telemetry.Metrics
}

func (o feedbackObserver) Left(s freshet.Source) { o.metrics.FeedbackLeft(s) }

func (o feedbackObserver) Moved(s freshet.Source, p stream.Progress) {
	o.metrics.FeedbackLag(s, p.Records())
}

// Run joins until ctx ends.
func (f *feedbackPart) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return f.consumer.Run(ctx) })
	g.Go(func() error { f.sweep(ctx); return nil })
	return g.Wait()
}

// whileLive runs the join as long as a lane is the live one, again after a roll-back.
func (f *feedbackPart) whileLive(ctx context.Context, live func() bool) error {
	tick := time.NewTicker(followTable)
	defer tick.Stop()
	for {
		if live() {
			if err := f.runUntil(ctx, tick.C, func() bool { return !live() }); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// runUntil joins until something holds.
func (f *feedbackPart) runUntil(ctx context.Context, look <-chan time.Time, over func() bool) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	for {
		select {
		case err := <-ended:
			return err
		case <-look:
			if over() {
				stop()
				return <-ended
			}
		}
	}
}

// sweep closes the exposures of users who do nothing more, once a second, where the log has been read to its end: by then the clock is
// the log's time.
func (f *feedbackPart) sweep(ctx context.Context) {
	freshet.Repeat(ctx, time.Second, nil, func(ctx context.Context) (failed error) {
		for _, p := range f.consumer.Status() {
			if p.State != stream.StateRunning || p.Records() > 0 {
				continue
			}
			if err := f.joiner.Sweep(ctx, p.Source, time.Now().UnixMilli()); err != nil {
				failed = err
			}
		}
		return failed
	}, func(err error) {
		if err != nil {
			f.log.Warn("exposures that are over cannot be closed; trying again every second", zap.Error(err))
		} else {
			f.log.Info("exposures that are over are closed again")
		}
	})
}

// rewind reads again what the store may have forgotten; nil is no part.
func (f *feedbackPart) rewind() {
	if f != nil {
		f.consumer.Rewind(nil)
	}
}
