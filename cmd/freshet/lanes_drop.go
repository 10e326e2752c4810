package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"freshet"
	"freshet/featurestore"
	rules "freshet/internal/lane"
	"freshet/stream"
)

func newLanesDrop(g *globals, asJSON *bool) *cobra.Command {
	d := dropping{rate: dropRate}
	cmd := &cobra.Command{Use: "drop NAME", Short: "Delete a lane that owns nobody, its keys at a bounded rate",
		Long: "Workers stop running the lane within a second; then its keys go, then its consumer group and its row. When this command is stopped\n" +
			"in the middle, or told not to wait, a worker of the live lane does the rest. It also deletes what is left of a lane or a replay that the\n" +
			"table does not know.", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withOperator(cmd, g, *asJSON, func(ctx context.Context, o *operator) error {
				d.name = args[0]
				return o.drop(ctx, d)
			})
		}}
	cmd.Flags().IntVar(&d.rate, "rate", d.rate, "keys deleted per second")
	cmd.Flags().BoolVar(&d.background, "background", false, "leave it to the workers, at their own rate")
	return cmd
}

// dropping is what is asked for.
type dropping struct {
	name       string
	rate       int
	background bool
}

const (
	dropRate  = 5000            // keys deleted per second
	dropLook  = 5 * time.Second // how often a worker looks for lanes that were dropped and left
	dropLease = time.Minute     // a worker or a command that dies while it deletes keeps the others waiting for so long
	dropPiece = 40 * time.Second
)

// stopped is how long workers may take to follow the table.
const stopped = 3 * time.Second

func (o *operator) drop(ctx context.Context, d dropping) error {
	if d.rate < 1 {
		return errors.New("--rate: at least 1")
	}
	table, err := o.store.Lanes(ctx)
	if err != nil {
		return err
	}
	conn, err := connection(o.cfg)
	if err != nil {
		return err
	}
	_, known := table.Lanes[d.name]
	if d.background && !known {
		return fmt.Errorf("--background: the workers know of no lane %s; without it, what is left of one is deleted here", d.name)
	}
	if known {
		if !d.background { // a worker that looks meanwhile leaves it to us
			if _, err := o.store.Lease(ctx, dropTask(d.name), hostname(), dropLease); err != nil {
				return err
			}
			defer func() { _ = o.store.EndLease(context.WithoutCancel(ctx), dropTask(d.name)) }()
		}
		if _, err := o.change(ctx, func(t *freshet.LaneTable) error { return rules.Drop(t, d.name) }); err != nil {
			return err
		}
		if d.background {
			return o.dropped(d.name, -1)
		}
		if err := o.awaitEmpty(ctx, conn, o.groupOf(d.name)); err != nil {
			return err
		}
	}
	bar, began := newProgress(os.Stderr, "keys deleted"), time.Now()
	deleted, err := o.store.DropLane(ctx, d.name, func(n int) error {
		bar.show(n, 0)
		return paced(ctx, began, n, d.rate)
	})
	if err != nil {
		return err
	}
	if known {
		if err := forgetLane(ctx, o.store, conn, d.name, o.groupOf(d.name)); err != nil {
			return err
		}
	} else if deleted == 0 {
		return fmt.Errorf("there is no lane %s, and no keys of one", d.name)
	}
	return o.dropped(d.name, deleted)
}

func (o *operator) dropped(name string, keys int) error {
	switch {
	case o.json && keys < 0:
		return printJSON(o.out, map[string]any{"dropping": name})
	case o.json:
		return printJSON(o.out, map[string]any{"dropped": name, "keys": keys})
	case keys < 0:
		_, err := fmt.Fprintf(o.out, "lane %s is being dropped: a worker of the live lane deletes its keys; freshet lanes list shows it until it is gone\n", name)
		return err
	}
	_, err := fmt.Fprintf(o.out, "lane %s is dropped: %d keys deleted\n", name, keys)
	return err
}

// dropTask names the lease of whoever deletes a lane.
func dropTask(lane string) string { return "drop-" + lane }

// paced waits until n keys are due since a moment.
func paced(ctx context.Context, began time.Time, n, rate int) error {
	return sleep(ctx, time.Until(began.Add(time.Duration(float64(n)/float64(rate)*float64(time.Second)))))
}

// forgetLane deletes a lane's group and its row, once its keys are gone. Somebody else may have done it.
func forgetLane(ctx context.Context, store *featurestore.Redis, conn stream.Connection, name, group string) error {
	gone := errors.New("the row is gone")
	if err := stream.DeleteGroup(ctx, conn, group); err != nil {
		return err
	}
	_, err := store.ChangeLanes(ctx, func(t *freshet.LaneTable) error {
		if _, there := t.Lanes[name]; !there {
			return gone
		}
		return rules.Forget(t, name)
	})
	if errors.Is(err, gone) {
		return nil
	}
	return err
}

// awaitEmpty waits until no worker runs the lane any more. A worker that is dead stays a member for its session.
func (o *operator) awaitEmpty(ctx context.Context, conn stream.Connection, group string) error {
	end := time.Now().Add(o.cfg.Kafka.Session.D() + 2*stopped)
	for {
		if err := sleep(ctx, stopped/3); err != nil {
			return err
		}
		n, err := stream.GroupMembers(ctx, conn, group)
		switch {
		case err != nil:
			return err
		case n == 0:
			return nil
		case time.Now().After(end):
			return fmt.Errorf("group %s still has %d members: is a worker of an older version running the lane?", group, n)
		}
	}
}

// clearDropped deletes what is left of lanes that were dropped, as long as this lane is live and nobody else does.
func (l *lane) clearDropped(ctx context.Context) {
	freshet.Repeat(ctx, dropLook, nil, func(ctx context.Context) (failed error) {
		table := l.w.table.Load()
		for name, row := range table.Lanes {
			if row.Dropping && table.Live == l.name {
				failed = errors.Join(failed, l.clearLane(ctx, name))
			}
		}
		return failed
	}, func(err error) {
		if err != nil {
			l.log.Warn("dropped lanes cannot be cleared; trying again", zap.Error(err))
		} else {
			l.log.Info("dropped lanes are cleared again")
		}
	})
}

// errEnough ends a piece of the work, so that the lease never runs out under it.
var errEnough = errors.New("more is left to delete")

func (l *lane) clearLane(ctx context.Context, name string) error {
	mine, err := l.w.store.Lease(ctx, dropTask(name), hostname(), dropLease)
	if err != nil || !mine {
		return err
	}
	defer func() { _ = l.w.store.EndLease(context.WithoutCancel(ctx), dropTask(name)) }()
	conn, err := connection(l.cfg)
	if err != nil {
		return err
	}
	c := l.cfg
	c.Lane = name
	group := stream.ConsumerConfig{Group: c.GroupOf(), TopicIncarnation: int32(c.Kafka.Incarnation)}.GroupID()
	if n, err := stream.GroupMembers(ctx, conn, group); err != nil || n > 0 {
		return err // its workers are still stopping: next time
	}
	began := time.Now()
	deleted, err := l.store.DropLane(ctx, name, func(n int) error {
		if time.Since(began) > dropPiece {
			return errEnough
		}
		return paced(ctx, began, n, dropRate)
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	if err == nil {
		err = forgetLane(ctx, l.store, conn, name, group)
	}
	if err == nil {
		l.log.Info("a dropped lane is cleared", zap.String("dropped", name), zap.Int("keys", deleted), zap.Duration("took", time.Since(began)))
	}
	return err
}
