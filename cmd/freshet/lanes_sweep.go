package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"freshet"
	"freshet/featurestore"
	"freshet/stream"
)

// handover counts what became of the lists of users who changed lanes.
type handover struct {
	Version   uint64  `json:"version"`
	Live      string  `json:"live"`
	Users     int     `json:"lists"`     // of users who changed lanes
	Exchanged int     `json:"exchanged"` // by the sweep
	Kept      int     `json:"kept"`      // the new lane has none yet: the old one's stays until the user's next event
	Seconds   float64 `json:"seconds"`
}

// handOver changes who owns whom, and sweeps: users who do nothing get the new owner's list, too. The order makes it safe. The table
// goes first. Workers follow it within a second; until then a former owner's saves are outranked where the new owner has written.
// When they have, each list is exchanged by one script and published; what was published meanwhile by a worker that had not heard is
// followed by the record that stands, so that the last record on the topic is the right one, too.
func (o *operator) handOver(ctx context.Context, name string, edit func(*freshet.LaneTable) error) error {
	began := time.Now()
	table, err := o.change(ctx, edit)
	switch {
	case errors.Is(err, errSweepOnly):
		if table, err = o.store.Lanes(ctx); err != nil {
			return err
		}
	case err != nil:
		return err
	}
	if _, ok := table.Lanes[name]; !ok {
		return fmt.Errorf("lane %s is gone", name)
	}
	if err := sleep(ctx, stopped/2); err != nil {
		return err
	}
	out, err := o.sweep(ctx)
	if err != nil {
		return fmt.Errorf("the table is changed, but some users may still have their former lane's list; run this again: %w", err)
	}
	out.Seconds = time.Since(began).Seconds()
	if o.json {
		return printJSON(o.out, out)
	}
	_, err = fmt.Fprintf(o.out, "lane %s has %.2f%% of the users; %d lists moved, %d of them by the sweep, %d still to come with the user's next event\n",
		name, 100*table.Lanes[name].Share, out.Users, out.Exchanged, out.Kept)
	return err
}

// sweep brings every list up to date whose user has changed lanes since the table says that lists may be behind.
func (o *operator) sweep(ctx context.Context) (out handover, err error) {
	conn, err := connection(o.cfg)
	if err != nil {
		return out, err
	}
	p, err := stream.NewProducer(stream.ProducerConfig{Connection: conn, Lists: o.cfg.Kafka.Topics.Recommendations}, o.log)
	if err != nil {
		return out, err
	}
	defer p.Close()
	for {
		table, err := o.store.Lanes(ctx)
		if err != nil {
			return out, err
		}
		out.Version, out.Live = table.Version, table.Live
		if table.Sweep == 0 {
			return out, nil
		}
		owners := map[string]bool{}
		for _, run := range table.Owners {
			if run.CV >= table.Sweep {
				owners[run.Lane] = true
			}
		}
		for lane := range owners {
			if err := o.sweepLane(ctx, &table, lane, p, &out); err != nil {
				return out, err
			}
		}
		_, err = o.change(ctx, func(t *freshet.LaneTable) error {
			if t.Sweep != table.Sweep {
				return errMoved
			}
			t.Sweep = 0
			for _, run := range t.Owners {
				if run.CV > table.Version { // somebody changed lanes while we swept
					t.Sweep = table.Version + 1
				}
			}
			return nil
		})
		if err != nil && !errors.Is(err, errMoved) {
			return out, err
		}
	}
}

var errMoved = errors.New("the table has changed")

// sweepBatch is how many lists are exchanged, and published, at once.
const sweepBatch = 128

func (o *operator) sweepLane(ctx context.Context, table *freshet.LaneTable, lane string, p *stream.Producer, out *handover) error {
	store, err := o.open(ctx, lane)
	if err != nil {
		return err
	}
	defer store.Close()
	bar := newProgress(os.Stderr, "lists swept")
	var batch []featurestore.Moved
	flush := func() error {
		swept, err := store.Sweep(ctx, batch)
		if err != nil {
			return err
		}
		var due []freshet.Publication
		for i, s := range swept {
			out.Users++
			switch {
			case s.Exchanged:
				out.Exchanged++
			case s.Kept:
				out.Kept++
			}
			if s.Record != nil && !s.Kept {
				due = append(due, freshet.Publication{UserID: batch[i].UserID, Surface: batch[i].Surface, Record: s.Record})
			}
		}
		batch = batch[:0]
		bar.show(out.Users, 0)
		return publishUntilEqual(ctx, store, p, due)
	}
	err = store.EachOwnRecord(ctx, lane, func(list []freshet.RecordKey) error {
		for _, key := range list {
			run := table.OwnerOf(key.UserID)
			if run.Lane != lane || run.CV < table.Sweep {
				continue
			}
			if batch = append(batch, featurestore.Moved{UserID: key.UserID, Surface: key.Surface, CV: run.CV, Was: run.Was}); len(batch) == sweepBatch {
				if err := flush(); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err == nil && len(batch) > 0 {
		err = flush()
	}
	return err
}

// publishUntilEqual publishes public records, and what is newer by the time they are acknowledged, until nothing is.
func publishUntilEqual(ctx context.Context, store *featurestore.Redis, p *stream.Producer, due []freshet.Publication) error {
	for len(due) > 0 {
		if err := p.PublishLists(ctx, due); err != nil {
			return err
		}
		keys := make([]freshet.RecordKey, len(due))
		for i := range due {
			keys[i] = freshet.RecordKey{UserID: due[i].UserID, Surface: due[i].Surface, Place: freshet.PlacePublic}
		}
		now, err := store.Records(ctx, keys)
		if err != nil {
			return err
		}
		var again []freshet.Publication
		for i := range due {
			if !bytes.Equal(now[i], due[i].Record) {
				due[i].Record = now[i]
				again = append(again, due[i])
			}
		}
		due = again
	}
	return nil
}
