package main

import (
	"context"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"freshet"
	"freshet/internal/demo"
	"freshet/internal/embedded"
	"freshet/internal/shop"
	"freshet/internal/telemetry"
	"freshet/stream"
)

// demoOptions are the flags of `freshet demo`.
type demoOptions struct {
	length   time.Duration
	json     bool
	rate     int
	seed     int64
	shoppers int
	export   string
	events   int
}

func newDemoCommand(g *globals) *cobra.Command {
	o := demoOptions{rate: 250, seed: 7, shoppers: 400, events: 120_000}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Everything in one process, no server needed: a generated shop, its shoppers, the worker, and what one of them sees",
		Long: "Starts a Kafka-protocol broker and a Redis-protocol store inside the process, publishes a generated catalogue, streams the\n" +
			"behaviour of shoppers (with duplicates, late events and broken records), and runs the same worker as `freshet serve` on it.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.export != "" {
				return shop.New(shop.TrainingSeed, shop.Training()).Write(o.export, o.events)
			}
			return runDemo(cmd.Context(), g, o)
		},
	}
	cmd.Flags().DurationVar(&o.length, "for", 0, "stop after so much of the stream (0 = until interrupted)")
	cmd.Flags().BoolVar(&o.json, "json", false, "show nothing; print the figures as one JSON object at the end")
	cmd.Flags().IntVar(&o.rate, "rate", o.rate, "events per second")
	cmd.Flags().Int64Var(&o.seed, "seed", o.seed, "seed of the shoppers: the same seed gives the same events")
	cmd.Flags().IntVar(&o.shoppers, "shoppers", o.shoppers, "shoppers active at the same time")
	cmd.Flags().StringVar(&o.export, "export", "", "write the shop's training history (items.jsonl, events.jsonl) to this folder and stop")
	cmd.Flags().IntVar(&o.events, "events", o.events, "events of the exported history")
	return cmd
}

// The stream's imperfections, as shares of all records.
var demoFeed = shop.FeedConfig{Repeats: 0.01, Late: 0.02, Bad: 0.002}

// demoYears is how far back the shop's clock starts: at 250 events a second it runs a virtual year in half an hour.
const demoYears = 10

// followEvery is the pace at which the followed shopper clicks, so that a person can read along.
const followEvery = 2500 * time.Millisecond

func runDemo(ctx context.Context, g *globals, o demoOptions) error {
	cfg, log, err := g.load()
	if err != nil {
		return err
	}
	if g.config == "" && os.Getenv("FRESHET_LOG_LEVEL") == "" {
		log = log.WithOptions(zap.IncreaseLevel(zap.WarnLevel))
	}
	view := demo.Open(os.Stdout, o.json)
	defer view.Close()
	d := &demonstration{o: o, view: view, tally: demo.NewTally(time.Now), started: time.Now()}
	if err := d.open(ctx, cfg, log); err != nil {
		return errors.Join(err, d.close())
	}
	err = d.run(ctx)
	result := d.tally.Result(d.bad)
	if closeErr := d.close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return view.Finish(result)
}

// demonstration is the demo while it runs.
type demonstration struct {
	o       demoOptions
	view    demo.View
	tally   *demo.Tally
	story   *demo.Story
	started time.Time

	servers  *embedded.Servers
	worker   *worker
	shop     *shop.Shop
	items    []freshet.Item
	follow   string
	feed     *shop.Feed
	produced int64
	bad      int64
}

// step tells the view of one piece of set-up.
func (d *demonstration) step(name string, do func() (detail string, err error)) error {
	began := time.Now()
	d.view.Step(demo.Step{Name: name})
	detail, err := do()
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	d.view.Step(demo.Step{Name: name, Detail: detail, Took: time.Since(began), Finished: true})
	return nil
}

func (d *demonstration) open(ctx context.Context, cfg Config, log *zap.Logger) error {
	err := d.step("start a broker and a store in this process", func() (string, error) {
		var err error
		d.servers, err = embedded.Start(ctx, embedded.Config{})
		if err != nil {
			return "", err
		}
		cfg.Kafka.Brokers, cfg.Redis.Addrs = []string{d.servers.KafkaAddr()}, []string{d.servers.RedisAddr()}
		cfg.Redis.Cluster, cfg.Kafka.TLS.Enabled, cfg.Redis.TLS.Enabled, cfg.Kafka.SASL = false, false, false, SASLConfig{}
		return "kafka " + d.servers.KafkaAddr() + ", redis " + d.servers.RedisAddr(), nil
	})
	if err != nil {
		return err
	}
	err = d.step("open the model", func() (string, error) {
		var err error
		d.worker, err = openWorker(ctx, cfg, telemetry.NewMetrics(), log)
		if err != nil {
			return "", err
		}
		d.worker.watch = d.batch
		bundle := d.worker.first().bundle
		d.tally.Runs(bundle.Device(), bundle.ID())
		return bundle.ID() + " on " + bundle.Device(), nil
	})
	if err != nil {
		return err
	}
	return d.step("publish the catalogue", func() (string, error) {
		d.shop = shop.New(d.o.seed, shop.Config{Shoppers: d.o.shoppers, Start: time.Now().AddDate(-demoYears, 0, 0)})
		d.items = d.shop.Items()
		d.follow = d.shop.Follow()
		d.story = demo.NewStory(d.follow, d.items)
		var err error
		if d.feed, err = shop.NewFeed(d.shop, d.o.seed, demoFeed); err != nil {
			return "", err
		}
		changes := make([]stream.ItemChange, len(d.items))
		for i := range d.items {
			changes[i] = stream.ItemChange{ItemID: d.items[i].ItemID, Item: &d.items[i]}
		}
		return fmt.Sprintf("%d items", len(changes)), d.worker.producer.PublishItems(ctx, changes)
	})
}

// batch hears what the worker did with a batch.
func (d *demonstration) batch(events []freshet.Event, lists []freshet.Publication) {
	now := time.Now()
	oldest := map[string]int64{}
	for i := range events {
		e := &events[i]
		if at, ok := oldest[e.UserID]; !ok || e.RecordTime < at {
			oldest[e.UserID] = e.RecordTime
		}
	}
	for _, l := range lists {
		if l.Stored || l.Record == nil {
			continue
		}
		fresh := now.Sub(time.UnixMilli(oldest[l.UserID]))
		d.tally.Listed(l.UserID, fresh)
		if l.UserID == d.follow {
			var r freshet.Recommendation
			if json.Unmarshal(l.Record, &r) == nil {
				d.story.Listed(r, fresh)
			}
		}
	}
}

func (d *demonstration) run(ctx context.Context) error {
	stop, cancel := context.WithCancel(ctx)
	defer cancel()
	d.worker.metrics.Applied = func() { d.tally.Applied(1) }
	g, work := errgroup.WithContext(stop)
	g.Go(func() error { return d.worker.Run(work) })
	g.Go(func() error { return d.countLetters(work) })
	g.Go(func() error {
		defer cancel()
		if err := d.readTexts(work); err != nil {
			return err
		}
		if err := d.join(work); err != nil {
			return err
		}
		return d.stream(ctx, work)
	})
	return g.Wait()
}

// readTexts waits for the text encoder to have read the catalogue. What it made is kept for the next demo: the store in this
// process forgets.
func (d *demonstration) readTexts(ctx context.Context) error {
	if d.worker.texts == nil {
		return nil
	}
	return d.step("read titles and descriptions", func() (string, error) {
		kept, err := d.keptVectors()
		if err != nil {
			return "", err
		}
		if err := d.worker.store.PutVectors(ctx, kept); err != nil {
			return "", err
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-d.worker.follower.Caught():
		}
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for total := len(d.items); ; {
			left := d.worker.items.Backlog()
			if left == 0 {
				break
			}
			d.view.Step(demo.Step{Name: "read titles and descriptions", Done: total - min(left, total), Total: total})
			select {
			case <-ctx.Done():
				return "", ctx.Err()
			case <-tick.C:
			}
		}
		detail := fmt.Sprintf("%d texts through the encoder", len(d.items)-len(kept))
		if len(kept) == len(d.items) {
			return "vectors kept from an earlier run", nil
		}
		return detail, d.keepVectors(ctx)
	})
}

// join waits until the worker reads every partition: the first events would otherwise wait for the group, not for the worker.
func (d *demonstration) join(ctx context.Context) error {
	return d.step("join the consumer group", func() (string, error) {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			running := 0
			for _, p := range d.worker.status() {
				if p.State == stream.StateRunning {
					running++
				}
			}
			if running == d.worker.cfg.Kafka.Partitions {
				return fmt.Sprintf("%d partitions", running), nil
			}
			select {
			case <-ctx.Done():
				return "", ctx.Err()
			case <-tick.C:
			}
		}
	})
}

func vectorFile() string { return filepath.Join(".freshet", "cache", "demo-vectors.gob") }

func (d *demonstration) keptVectors() ([]freshet.ItemVector, error) {
	f, err := os.Open(vectorFile())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var kept []freshet.ItemVector
	if err := gob.NewDecoder(f).Decode(&kept); err != nil {
		return nil, nil //nolint:nilerr // a damaged cache is as good as none: the texts are read again
	}
	return kept, nil
}

func (d *demonstration) keepVectors(ctx context.Context) error {
	if !exists(".freshet") {
		return nil
	}
	ids := make([]string, len(d.items))
	for i := range d.items {
		ids[i] = d.items[i].ItemID
	}
	vectors, err := d.worker.store.Vectors(ctx, ids)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(vectorFile()), 0o755); err != nil {
		return err
	}
	part := vectorFile() + ".part"
	f, err := os.Create(part)
	if err != nil {
		return err
	}
	if err := errors.Join(gob.NewEncoder(f).Encode(vectors), f.Close()); err != nil {
		return err
	}
	return os.Rename(part, vectorFile())
}

// stream produces until the time is over, then waits until everything was applied and every bad record was buried.
func (d *demonstration) stream(ctx, work context.Context) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	var end <-chan time.Time
	if d.o.length > 0 {
		end = time.After(d.o.length)
	}
	d.tally.Begin()
	began, followed, shown := time.Now(), time.Now(), time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil // interrupted by a person: the figures so far are shown
		case <-work.Done():
			return work.Err()
		case <-end:
			return d.settle(work)
		case now := <-tick.C:
			due := int64(now.Sub(began).Seconds()*float64(d.o.rate)) - d.produced
			var batch []shop.Delivery
			for range due {
				if d.shop.Now().After(now) {
					return fmt.Errorf("the shop's clock has caught up with ours after %d events: start again", d.produced)
				}
				batch = append(batch, d.feed.Next())
			}
			if now.Sub(followed) >= followEvery {
				followed = now
				e := d.shop.NextFollowed()
				d.story.Happened(e)
				batch = append(batch, shop.Deliver(e))
			}
			if err := d.produce(work, batch); err != nil {
				return err
			}
			if now.Sub(shown) >= 200*time.Millisecond {
				shown = now
				d.view.Show(d.tally.Frame(d.story))
			}
		}
	}
}

func (d *demonstration) produce(ctx context.Context, batch []shop.Delivery) error {
	records := make([]stream.Record, len(batch))
	for i, b := range batch {
		records[i] = stream.Record{Key: b.Key, Value: b.Value}
		if b.Sort == shop.Bad {
			d.bad++
		}
	}
	d.produced += int64(len(batch))
	return d.worker.producer.Publish(ctx, d.worker.cfg.Kafka.Topics.Events, records)
}

// settleFor bounds the wait for the last events.
const settleFor = 15 * time.Second

func (d *demonstration) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleFor)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var applied int64
		for _, p := range d.worker.status() {
			applied += p.Applied
		}
		f := d.tally.Frame(d.story)
		if applied == d.produced && f.DeadLetters >= d.bad {
			d.view.Show(f)
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d records were worked off and %d of %d bad ones buried within %s", applied, d.produced, f.DeadLetters, d.bad, settleFor)
		case <-tick.C:
		}
	}
}

// countLetters counts the distinct dead letters as they come.
func (d *demonstration) countLetters(ctx context.Context) error {
	conn, err := connection(d.worker.cfg)
	if err != nil {
		return err
	}
	known := map[origin]bool{}
	return stream.Tail(ctx, conn, d.worker.cfg.Kafka.Topics.DeadLetters, make(chan struct{}), func(r stream.Record) error {
		l, err := stream.ParseDeadLetter(&r)
		if err != nil {
			return err
		}
		if at := (origin{l.Topic, l.Partition, l.Offset}); !known[at] {
			known[at] = true
			d.tally.Dead(1)
		}
		return nil
	})
}

func (d *demonstration) close() error {
	var err error
	if d.worker != nil {
		err = d.worker.Close()
	}
	if d.servers != nil {
		d.servers.Close()
	}
	return err
}
