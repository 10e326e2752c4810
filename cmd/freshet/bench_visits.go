package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"freshet"
	"freshet/internal/dataset"
	"freshet/stream"
)

func newBenchVisitsCommand(g *globals, asJSON *bool) *cobra.Command {
	v := visits{rate: 500, look: 10, dwell: 500 * time.Millisecond}
	cmd := &cobra.Command{Use: "visits FILE", Short: "Play a file of events as users who look at their list before each",
		Long: "Before each event, in order of time, its user's home list is read from the store, and an impression of its first items is sent; the event\n" +
			"follows when he has looked at them. So lanes can be judged by what users really did next, and by whether they did something with what they were shown.", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withOperator(cmd, g, *asJSON, func(ctx context.Context, o *operator) error { return v.run(ctx, o, args[0]) })
		}}
	cmd.Flags().IntVar(&v.rate, "rate", v.rate, "visits per second")
	cmd.Flags().IntVar(&v.look, "look", v.look, "items that a user sees of his list")
	cmd.Flags().DurationVar(&v.dwell, "dwell", v.dwell, "how long he looks")
	return cmd
}

// visits are events to come, each after a look at the list.
type visits struct {
	rate, look int
	dwell      time.Duration

	shown, clicked int
}

func (v *visits) run(ctx context.Context, o *operator, path string) error {
	if v.rate < 1 || v.look < 1 {
		return errors.New("--rate, --look: at least 1")
	}
	types, err := o.cfg.EventTypes()
	if err != nil {
		return err
	}
	seen := ""
	for _, name := range types.Names() {
		if t, _ := types.Lookup(name); t.Effect == freshet.Observe && seen == "" {
			seen = name
		}
	}
	if seen == "" {
		return errors.New("events.types: none observes, so nothing can be told of what users are shown; add one: {name: impression, effect: observe}")
	}
	r, err := dataset.OpenEvents(path, dataset.Options{Types: types, MinTime: o.cfg.MinTime()})
	if err != nil {
		return err
	}
	events, err := readAll(r)
	r.Close()
	if err != nil {
		return err
	}
	dataset.SortByTime(events)
	conn, err := connection(o.cfg)
	if err != nil {
		return err
	}
	p, err := stream.NewProducer(stream.ProducerConfig{Connection: conn, Events: o.cfg.Kafka.Topics.Events}, o.log)
	if err != nil {
		return err
	}
	defer p.Close()
	bar, began := newProgress(os.Stderr, "visits"), time.Now()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	due := func(at time.Duration) int { return max(0, min(int(at.Seconds()*float64(v.rate)), len(events))) }
	for looked, done := 0, 0; done < len(events); {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		now := time.Since(began)
		look, do := due(now), due(now-v.dwell)
		batch, err := v.impressions(ctx, o, events[looked:look], seen)
		if err != nil {
			return err
		}
		if batch = append(batch, events[done:do]...); len(batch) == 0 {
			continue
		}
		if err := p.PublishEvents(ctx, batch); err != nil {
			return err
		}
		looked, done = look, do
		bar.show(done, float64(done)/float64(len(events)))
	}
	bar.finish(len(events))
	if o.json {
		return printJSON(o.out, map[string]any{"visits": len(events), "impressions": v.shown, "next_item_was_seen": v.clicked, "seconds": time.Since(began).Seconds()})
	}
	_, err = fmt.Fprintf(o.out, "%d visits, %d of them with a list; %d times the next item was among what the user saw\n", len(events), v.shown, v.clicked)
	return err
}

// impressions read the lists of the visitors, and note in each event which one its user saw.
func (v *visits) impressions(ctx context.Context, o *operator, events []freshet.Event, seen string) (out []freshet.Event, err error) {
	keys := make([]freshet.RecordKey, len(events))
	for i := range events {
		keys[i] = freshet.RecordKey{UserID: events[i].UserID, Surface: freshet.HomeSurface, Place: freshet.PlacePublic}
	}
	lists, err := o.store.Records(ctx, keys)
	if err != nil {
		return nil, err
	}
	for i := range events {
		e := &events[i]
		var list freshet.Recommendation
		if lists[i] == nil {
			continue
		}
		if err := json.Unmarshal(lists[i], &list); err != nil {
			return nil, fmt.Errorf("the list of user %s: %w", e.UserID, err)
		}
		e.RecID = list.RecID
		s := freshet.Event{ID: "seen-" + e.ID, Type: seen, UserID: e.UserID, Time: e.Time, RecID: list.RecID}
		for _, item := range list.Items[:min(v.look, len(list.Items))] {
			s.Items = append(s.Items, freshet.EventItem{ItemID: item.ItemID})
			if item.ItemID == e.Items[0].ItemID {
				v.clicked++
			}
		}
		if len(s.Items) > 0 {
			v.shown++
			out = append(out, s)
		}
	}
	return out, nil
}
