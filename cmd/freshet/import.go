package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"freshet"
	"freshet/internal/dataset"
	"freshet/internal/shop"
	"freshet/stream"
)

// importOptions are the flags of `freshet import`.
type importOptions struct {
	rate     int
	strict   bool
	order    string
	typeName string
	json     bool
	plant    int
}

// importBatch is how many records are acknowledged together.
const importBatch = 500

func newImportCommand(g *globals) *cobra.Command {
	o := &importOptions{}
	cmd := &cobra.Command{
		Use:   "import",
		Short: "Write a file's events or items to their topic",
		Long: "Reads csv, tsv, jsonl and parquet files (plain, .gz or .zst) and the layouts of MovieLens, RecBole, Yoochoose, Otto and Amazon.\n" +
			"Rows that cannot be read are reported and left out, unless --strict.",
	}
	cmd.PersistentFlags().IntVar(&o.rate, "rate", 0, "records per second (0 = as fast as they are acknowledged)")
	cmd.PersistentFlags().BoolVar(&o.strict, "strict", false, "stop at the first row that cannot be read")
	cmd.PersistentFlags().BoolVar(&o.json, "json", false, "print the result as one JSON object")
	events := &cobra.Command{Use: "events FILE", Short: "Write behaviours to the events topic", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return importEvents(cmd.Context(), g, o, args[0]) }}
	events.Flags().StringVar(&o.order, "order", "time", "time (sort by timestamp, ties by row; holds the file in memory) or file")
	events.Flags().StringVar(&o.typeName, "type", "", "event type of rows that name none")
	events.Flags().IntVar(&o.plant, "plant-bad", 0, "write so many broken records among the events, to see them in the dead letters")
	items := &cobra.Command{Use: "items FILE", Short: "Write the catalogue to the items topic", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return importItems(cmd.Context(), g, o, args[0]) }}
	cmd.AddCommand(events, items)
	return cmd
}

// importer is what both kinds share: a producer, a bar, a limit, and the count of bad rows.
type importer struct {
	producer *stream.Producer
	bar      *progress
	began    time.Time
	rate     int
	bad      int
	done     int
	planted  int
}

func newImporter(ctx context.Context, g *globals, o *importOptions, what string) (*importer, Config, error) {
	cfg, log, err := g.load()
	if err != nil {
		return nil, cfg, err
	}
	conn, err := connection(cfg)
	if err != nil {
		return nil, cfg, err
	}
	if cfg.Kafka.Create {
		if _, err := stream.EnsureTopics(ctx, conn, topicsOf(cfg)...); err != nil {
			return nil, cfg, err
		}
	}
	t := cfg.Kafka.Topics
	p, err := stream.NewProducer(stream.ProducerConfig{Connection: conn, Events: t.Events, Items: t.Items, Lists: t.Recommendations}, log)
	if err != nil {
		return nil, cfg, err
	}
	log.Debug("importing", zap.String("what", what))
	return &importer{producer: p, bar: newProgress(os.Stderr, what), began: time.Now(), rate: o.rate}, cfg, nil
}

func (i *importer) onBad(e *dataset.RowError) {
	if i.bad++; i.bad <= 10 {
		fmt.Fprintln(os.Stderr, "left out:", e)
	} else if i.bad == 11 {
		fmt.Fprintln(os.Stderr, "left out: more such rows; only their number is reported")
	}
}

// wait keeps to the rate: the n-th record is due at began + n/rate.
func (i *importer) wait(ctx context.Context) error {
	if i.rate <= 0 {
		return ctx.Err()
	}
	due := i.began.Add(time.Duration(float64(i.done) / float64(i.rate) * float64(time.Second)))
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Until(due)):
		return nil
	}
}

func (i *importer) batch() int {
	if i.rate > 0 {
		return max(1, min(importBatch, i.rate/20))
	}
	return importBatch
}

// report is the last line.
func (i *importer) report(w io.Writer, what string, asJSON bool) error {
	i.producer.Close()
	took := time.Since(i.began).Seconds()
	if asJSON {
		return printJSON(w, map[string]any{what: i.done, "bad_rows": i.bad, "bad_planted": i.planted, "seconds": took, "per_second": float64(i.done) / took})
	}
	_, err := fmt.Fprintf(w, "%d %s written in %.1f s, %d rows left out\n", i.done, what, took, i.bad)
	return err
}

func importEvents(ctx context.Context, g *globals, o *importOptions, path string) error {
	if o.order != "time" && o.order != "file" {
		return fmt.Errorf("--order %s: use time or file", o.order)
	}
	i, cfg, err := newImporter(ctx, g, o, "events")
	if err != nil {
		return err
	}
	types, err := cfg.EventTypes()
	if err != nil {
		return err
	}
	r, err := dataset.OpenEvents(path, dataset.Options{Strict: o.strict, OnBad: i.onBad, Type: o.typeName, Types: types, MinTime: cfg.MinTime()})
	if err != nil {
		return err
	}
	defer r.Close()
	next := r.Next
	total := 0
	if o.order == "time" && r.Timed() {
		all, err := readAll(r)
		if err != nil {
			return err
		}
		dataset.SortByTime(all)
		total = len(all)
		next = func() (e freshet.Event, err error) {
			if len(all) == 0 {
				return e, io.EOF
			}
			e, all = all[0], all[1:]
			return e, nil
		}
	}
	fraction := func() float64 {
		if total > 0 {
			return float64(i.done) / float64(total)
		}
		read, size := r.Progress()
		return float64(read) / float64(max(size, 1))
	}
	write := i.producer.PublishEvents
	if o.plant > 0 {
		write = i.planting(cfg.Kafka.Topics.Events, o.plant, fraction)
	}
	if err := pump(ctx, i, next, fraction, write); err != nil {
		return err
	}
	return i.report(os.Stdout, "events", o.json)
}

// planting writes events with broken ones spread evenly among them, n in all. They break in every way that the shop knows.
func (i *importer) planting(topic string, n int, fraction func() float64) func(context.Context, []freshet.Event) error {
	return func(ctx context.Context, events []freshet.Event) error {
		if err := i.producer.PublishEvents(ctx, events); err != nil {
			return err
		}
		var bad []stream.Record
		for ; i.planted < n && (float64(i.planted) <= fraction()*float64(n) || fraction() >= 1); i.planted++ {
			e := events[len(events)-1]
			e.ID = fmt.Sprintf("planted-%d", i.planted)
			d := shop.Spoil(e, i.planted)
			bad = append(bad, stream.Record{Key: d.Key, Value: d.Value})
		}
		return i.producer.Publish(ctx, topic, bad)
	}
}

func readAll(r *dataset.EventReader) ([]freshet.Event, error) {
	var all []freshet.Event
	for e, err := range r.All() {
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, nil
}

func importItems(ctx context.Context, g *globals, o *importOptions, path string) error {
	i, _, err := newImporter(ctx, g, o, "items")
	if err != nil {
		return err
	}
	r, err := dataset.OpenItems(path, dataset.Options{Strict: o.strict, OnBad: i.onBad})
	if err != nil {
		return err
	}
	defer r.Close()
	fraction := func() float64 { read, size := r.Progress(); return float64(read) / float64(max(size, 1)) }
	next := func() (stream.ItemChange, error) {
		item, err := r.Next()
		return stream.ItemChange{ItemID: item.ItemID, Item: &item}, err
	}
	if err := pump(ctx, i, next, fraction, i.producer.PublishItems); err != nil {
		return err
	}
	return i.report(os.Stdout, "items", o.json)
}

// pump reads until the end and writes in batches.
func pump[T any](ctx context.Context, i *importer, next func() (T, error), fraction func() float64, write func(context.Context, []T) error) error {
	batch := make([]T, 0, importBatch)
	for ended := false; !ended; {
		x, err := next()
		switch {
		case err == io.EOF:
			ended = true
		case err != nil:
			return err
		default:
			batch = append(batch, x)
		}
		if len(batch) == 0 || (len(batch) < i.batch() && !ended) {
			continue
		}
		if err := i.wait(ctx); err != nil {
			return err
		}
		i.done += len(batch)
		if err := write(ctx, batch); err != nil {
			return err
		}
		batch = batch[:0]
		i.bar.show(i.done, fraction())
	}
	i.bar.finish(i.done)
	return nil
}
