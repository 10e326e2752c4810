package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"freshet"
	"freshet/featurestore"
	"freshet/internal/telemetry"
	"freshet/stream"
)

// fillOptions say what a deployment is filled with.
type fillOptions struct {
	users, events int
	late, hot     float64
	seed          uint64
	profiles      bool
}

func newBenchFillCommand(g *globals, asJSON *bool) *cobra.Command {
	o := fillOptions{users: 10_000, late: .01, seed: 1, profiles: true}
	cmd := &cobra.Command{Use: "fill", Short: "Fill a deployment with made-up users and events, for something else to measure",
		Long: "Writes the bundle's items to the items topic, gives users full histories, and writes events: first one of each user, so that each gets\n" +
			"a list, then of random ones. Run it before the worker. It takes servers on this machine only, and wants them empty.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, log, err := g.load()
			if err != nil {
				return err
			}
			if o.users < 1 || o.events < 0 || o.late < 0 || o.late > .5 || o.hot < 0 || o.hot > 1 {
				return errors.New("--users: at least 1; --events: not negative; --late: 0 to 0.5; --hot: 0 to 1")
			}
			if err := onThisMachine(cfg); err != nil {
				return err
			}
			return benchFill(cmd.Context(), cfg, o, log, *asJSON, cmd.OutOrStdout())
		}}
	f := cmd.Flags()
	f.IntVar(&o.users, "users", o.users, "users with full histories")
	f.IntVar(&o.events, "events", o.events, "events after the first of each user")
	f.Float64Var(&o.late, "late", o.late, "share of events that come late, by up to ten minutes")
	f.Float64Var(&o.hot, "hot", o.hot, "share of the events that one user has, and with him his partition")
	f.BoolVar(&o.profiles, "profiles", o.profiles, "write items and profiles; false: only more events (take another --seed)")
	f.Uint64Var(&o.seed, "seed", o.seed, "seed of who meets what")
	return cmd
}

// onThisMachine refuses servers elsewhere: what writes made-up events by the hundred thousand must not meet a real deployment.
func onThisMachine(cfg Config) error {
	for _, a := range append(append([]string(nil), cfg.Kafka.Brokers...), cfg.Redis.Addrs...) {
		if err := loopback(a); err != nil {
			return err
		}
	}
	return nil
}

// mastersOnThisMachine refuses a Cluster of which only the addresses that were given are on this machine.
func mastersOnThisMachine(ctx context.Context, store *featurestore.Redis) error {
	in, err := store.Inspect(ctx)
	if err != nil {
		return err
	}
	for _, s := range in.Servers {
		if err := loopback(s.Address); err != nil {
			return err
		}
	}
	return nil
}

func loopback(address string) error {
	host, _, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("%s: this writes hundreds of thousands of made-up events; it takes servers on this machine only", address)
	}
	return nil
}

func benchFill(ctx context.Context, cfg Config, o fillOptions, log *zap.Logger, asJSON bool, out io.Writer) (err error) {
	w, err := openWorker(ctx, cfg, telemetry.NewMetrics(), log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	if err := mastersOnThisMachine(ctx, w.store); err != nil {
		return err
	}
	items := w.first().bundle.Items()
	load := newBenchLoad(o.users, items, w.types, o.late, time.Now().Add(-time.Hour), o.seed)
	load.hot = o.hot
	events := o.events
	if o.profiles {
		if err := publishBareItems(ctx, w.producer, items); err != nil {
			return err
		}
		if err := seedProfiles(ctx, w.first(), load, cfg.Profile.MaxHistory); err != nil {
			return fmt.Errorf("seed profiles: %w", err)
		}
		if err := load.greet(ctx, w.producer); err != nil {
			return err
		}
		events += o.users
	}
	if err := load.publish(ctx, w.producer, o.events); err != nil {
		return err
	}
	if asJSON {
		return printJSON(out, map[string]any{"users": o.users, "items": len(items), "events": events})
	}
	_, err = fmt.Fprintf(out, "%d users, %d items, %d events\n", o.users, len(items), events)
	return err
}

// publishBareItems puts items on their topic that say nothing but who they are.
func publishBareItems(ctx context.Context, p *stream.Producer, items []string) error {
	changes := make([]stream.ItemChange, len(items))
	for i, id := range items {
		changes[i] = stream.ItemChange{ItemID: id, Item: &freshet.Item{ItemID: id}}
	}
	return p.PublishItems(ctx, changes)
}

// greet writes one event of each user.
func (l *benchLoad) greet(ctx context.Context, p *stream.Producer) error {
	for from := 0; from < l.users; from += publishPiece {
		batch := make([]freshet.Event, min(publishPiece, l.users-from))
		for i := range batch {
			batch[i] = l.of(from + i)
		}
		if err := p.PublishEvents(ctx, batch); err != nil {
			return err
		}
	}
	return nil
}
