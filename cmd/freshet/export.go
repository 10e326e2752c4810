package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"freshet"
	"freshet/internal/dataset"
	"freshet/internal/feedback"
	"freshet/stream"
)

func newExportCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{Use: "export", Short: "Write a training set from the topics: a file of .parquet, .jsonl or .jsonl.zst"}
	var asJSON bool
	cmd.PersistentFlags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.AddCommand(
		&cobra.Command{Use: "events FILE", Short: "What users did, as the trainer reads it (.jsonl): each event once, bad records, impressions and erased users left out",
			Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
				cfg, _, err := g.load()
				if err != nil {
					return err
				}
				return exportEvents(cmd.Context(), cfg, args[0], asJSON, cmd.OutOrStdout())
			}},
		&cobra.Command{Use: "examples FILE", Short: "What users were shown, a row an item, with what they did with it; each example once, erased users left out",
			Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
				cfg, _, err := g.load()
				if err != nil {
					return err
				}
				return exportExamples(cmd.Context(), cfg, args[0], asJSON, cmd.OutOrStdout())
			}},
	)
	return cmd
}

// exportEvents reads the events topic twice: once for the erasures, which reach back, and once for the rows.
func exportEvents(ctx context.Context, cfg Config, path string, asJSON bool, w io.Writer) error {
	conn, err := connection(cfg)
	if err != nil {
		return err
	}
	types, err := cfg.EventTypes()
	if err != nil {
		return err
	}
	decoder, err := stream.NewDecoder(stream.DecoderConfig{Types: types, MinTime: cfg.MinTime(), TypePrefix: cfg.Ingest.TypePrefix})
	if err != nil {
		return err
	}
	out, err := dataset.CreateRows[dataset.EventRow](path)
	if err != nil {
		return err
	}
	x := eventExport{types: types, out: out, erased: map[string]int64{}, known: map[uint64]bool{}}
	for _, take := range []func(*freshet.Event) error{x.erasure, x.row} {
		err = errors.Join(err, stream.Scan(ctx, conn, cfg.Kafka.Topics.Events, func(r stream.Record) error {
			e, err := decoder.Decode(&r, freshet.Position{})
			if err != nil {
				x.bad++
				return nil //nolint:nilerr // a bad record is in the dead letters, not in a training set
			}
			return take(&e)
		}))
		if err != nil {
			return errors.Join(err, out.Discard())
		}
	}
	if err := out.Close(); err != nil {
		return err
	}
	if asJSON {
		return printJSON(w, map[string]any{"file": path, "rows": out.Rows(), "duplicates": x.twice, "erased": x.gone, "bad": x.bad / 2})
	}
	_, err = fmt.Fprintf(w, "%s: %d rows; left out: %d events that came twice, %d of erased users, %d bad records\n", path, out.Rows(), x.twice, x.gone, x.bad/2)
	return err
}

type eventExport struct {
	types            *freshet.EventTypes
	out              *dataset.RowWriter[dataset.EventRow]
	erased           map[string]int64
	known            map[uint64]bool // events by user and id
	twice, gone, bad int
}

func (x *eventExport) erasure(e *freshet.Event) error {
	if t, _ := x.types.Lookup(e.Type); t.Effect == freshet.Erase {
		x.erased[e.UserID] = max(x.erased[e.UserID], e.Time)
	}
	return nil
}

func (x *eventExport) row(e *freshet.Event) error {
	t, _ := x.types.Lookup(e.Type)
	if effect := t.EffectOf(e); effect != freshet.Extend && effect != freshet.Reject {
		return nil
	}
	id := freshet.HashID(e.UserID + "\x00" + e.ID)
	switch {
	case e.Time <= x.erased[e.UserID]:
		x.gone++
		return nil
	case x.known[id]:
		x.twice++
		return nil
	}
	x.known[id] = true
	for _, item := range e.Items {
		row := dataset.EventRow{EventID: e.ID, Type: e.Type, UserID: e.UserID, ItemID: item.ItemID, Timestamp: e.Time, Value: e.Value,
			SessionID: e.SessionID, Surface: e.Surface, RecID: e.RecID}
		if err := x.out.Write(&row); err != nil {
			return err
		}
	}
	return nil
}

func exportExamples(ctx context.Context, cfg Config, path string, asJSON bool, w io.Writer) error {
	all, err := readExamples(ctx, cfg)
	if err != nil {
		return err
	}
	out, err := dataset.CreateRows[dataset.ExampleRow](path)
	if err != nil {
		return err
	}
	withOutcome := 0
	for i := range all.Examples {
		n, err := writeExample(out, &all.Examples[i])
		if err != nil {
			return errors.Join(err, out.Discard())
		}
		withOutcome += n
	}
	if err := out.Close(); err != nil {
		return err
	}
	if asJSON {
		return printJSON(w, map[string]any{"file": path, "examples": len(all.Examples), "rows": out.Rows(), "with_outcome": withOutcome,
			"duplicates": all.Twice, "erased": all.Erased})
	}
	_, err = fmt.Fprintf(w, "%s: %d rows of %d examples, %d rows with an outcome; left out: %d copies, %d examples of erased users\n",
		path, out.Rows(), len(all.Examples), withOutcome, all.Twice, all.Erased)
	return err
}

// readExamples reads the topic of training examples to its end.
func readExamples(ctx context.Context, cfg Config) (feedback.Collection, error) {
	conn, err := connection(cfg)
	if err != nil {
		return feedback.Collection{}, err
	}
	var c feedback.Collect
	unread := 0
	err = stream.Scan(ctx, conn, cfg.Kafka.Topics.Examples, func(r stream.Record) error {
		if err := c.Add(r.Value); err != nil {
			if unread++; unread == 1 {
				fmt.Fprintf(os.Stderr, "left out: %s-%d-%d: %v\n", r.Topic, r.Partition, r.Offset, err)
			}
		}
		return nil
	})
	return c.Result(), err
}

// writeExample writes a row for each item that was shown, and tells how many of them have an outcome.
func writeExample(out *dataset.RowWriter[dataset.ExampleRow], x *feedback.Example) (withOutcome int, err error) {
	for i, item := range x.Items {
		row := dataset.ExampleRow{ExampleID: x.ID, UserID: x.UserID, RecID: x.RecID, Surface: firstOf(x.Surface, freshet.HomeSurface), Lane: x.Lane, Model: x.Model,
			ItemID: item.ItemID, ShownAt: item.ShownAt, Shown: int32(i + 1), Place: int32(item.Place), Score: item.Score, Source: item.Source,
			Arm: x.Arm, ArmP: x.ArmP, Drawn: item.Propensity, Outcomes: int32(len(item.Outcomes))}
		if len(item.Outcomes) > 0 {
			first := item.Outcomes[0]
			row.Outcome, row.EventID, row.After = first.Type, first.EventID, first.Time-item.ShownAt
			withOutcome++
		}
		if err := out.Write(&row); err != nil {
			return withOutcome, err
		}
	}
	return withOutcome, nil
}
