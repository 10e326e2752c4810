package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"freshet/stream"
)

// letterFilter selects dead letters.
type letterFilter struct {
	stage, contains string
	since           time.Duration
	partition       int
}

func (f *letterFilter) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.stage, "stage", "", "only letters of this stage (decode, handle)")
	cmd.Flags().StringVar(&f.contains, "contains", "", "only letters whose reason contains this")
	cmd.Flags().DurationVar(&f.since, "since", 0, "only letters of the last so long, e.g. 24h")
	cmd.Flags().IntVar(&f.partition, "partition", -1, "only letters from this partition of the input")
}

func (f *letterFilter) match(l *stream.DeadLetter) bool {
	return (f.stage == "" || l.Stage == f.stage) && strings.Contains(l.Message, f.contains) &&
		(f.since == 0 || time.Since(l.Attempted) <= f.since) && (f.partition < 0 || int(l.Partition) == f.partition)
}

func newDLQCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{Use: "dlq", Short: "List dead letters, or send them back"}
	var asJSON bool
	cmd.PersistentFlags().BoolVar(&asJSON, "json", false, "print one JSON object")
	list, redrive := &letterFilter{}, &letterFilter{}
	limit := 50
	l := &cobra.Command{Use: "list", Short: "Show what could not be used, and why", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, _, err := g.load()
			if err != nil {
				return err
			}
			return listLetters(cmd.Context(), cfg, list, limit, asJSON, cmd.OutOrStdout())
		}}
	l.Flags().IntVar(&limit, "limit", limit, "letters shown; all are counted")
	list.flags(l)
	var yes bool
	most := 3
	r := &cobra.Command{Use: "redrive", Short: "Send letters back to the topic they came from",
		Long: "Sends each distinct letter once, as it was received, with its own headers. A letter that came back --max times is left where it is.\n" +
			"Without --yes nothing is sent: the letters are counted.", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, log, err := g.load()
			if err != nil {
				return err
			}
			return redriveLetters(cmd.Context(), cfg, redrive, most, yes, asJSON, cmd.OutOrStdout(), log)
		}}
	r.Flags().BoolVar(&yes, "yes", false, "really send")
	r.Flags().IntVar(&most, "max", most, "how often one letter may be sent back")
	redrive.flags(r)
	cmd.AddCommand(l, r)
	return cmd
}

// origin is the record a letter was: letters are at-least-once, so distinct origins are counted.
type origin struct {
	topic     string
	partition int32
	offset    int64
}

// letters reads the dead-letter topic and hands each distinct letter over once.
func letters(ctx context.Context, cfg Config, f *letterFilter, use func(*stream.DeadLetter) error) (distinct, duplicates int, err error) {
	conn, err := connection(cfg)
	if err != nil {
		return 0, 0, err
	}
	known := map[origin]bool{}
	err = stream.Scan(ctx, conn, cfg.Kafka.Topics.DeadLetters, func(r stream.Record) error {
		l, err := stream.ParseDeadLetter(&r)
		if err != nil {
			return fmt.Errorf("offset %d: %w", r.Offset, err)
		}
		if !f.match(&l) {
			return nil
		}
		at := origin{l.Topic, l.Partition, l.Offset}
		if known[at] {
			duplicates++
			return nil
		}
		known[at] = true
		return use(&l)
	})
	return len(known), duplicates, err
}

func listLetters(ctx context.Context, cfg Config, f *letterFilter, limit int, asJSON bool, w io.Writer) error {
	type shown struct {
		Topic     string    `json:"topic"`
		Partition int32     `json:"partition"`
		Offset    int64     `json:"offset"`
		Stage     string    `json:"stage"`
		Reason    string    `json:"reason"`
		Attempted time.Time `json:"attempted"`
		Redriven  int       `json:"redriven"`
		Value     string    `json:"value"`
	}
	list := []shown{}
	distinct, duplicates, err := letters(ctx, cfg, f, func(l *stream.DeadLetter) error {
		if len(list) < limit {
			list = append(list, shown{l.Topic, l.Partition, l.Offset, l.Stage, l.Message, l.Attempted, l.Redriven, fmt.Sprintf("%.200s", l.Value)})
		}
		return nil
	})
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(w, map[string]any{"dead_letters": distinct, "dead_letter_duplicates": duplicates, "letters": list})
	}
	for _, l := range list {
		fmt.Fprintf(w, "%s %s-%d@%d %s: %s\n", l.Attempted.Format(time.RFC3339), l.Topic, l.Partition, l.Offset, l.Stage, l.Reason)
	}
	_, err = fmt.Fprintf(w, "%d dead letters, %d of them shown; %d duplicates\n", distinct, len(list), duplicates)
	return err
}

func redriveLetters(ctx context.Context, cfg Config, f *letterFilter, most int, yes, asJSON bool, w io.Writer, log *zap.Logger) error {
	conn, err := connection(cfg)
	if err != nil {
		return err
	}
	byTopic := map[string][]stream.Record{}
	sent, worn, cut := 0, 0, 0
	_, _, err = letters(ctx, cfg, f, func(l *stream.DeadLetter) error {
		if l.Redriven >= most {
			worn++
			return nil
		}
		r, err := l.Redrive()
		if err != nil {
			cut++
			return nil //nolint:nilerr // counted and shown: the letter's value was cut, it cannot go back
		}
		byTopic[l.Topic] = append(byTopic[l.Topic], r)
		sent++
		return nil
	})
	if err != nil {
		return err
	}
	if yes {
		p, err := stream.NewProducer(stream.ProducerConfig{Connection: conn}, log)
		if err != nil {
			return err
		}
		defer p.Close()
		for topic, records := range byTopic {
			if err := p.Publish(ctx, topic, records); err != nil {
				return fmt.Errorf("send %d letters back to %s: %w", len(records), topic, err)
			}
		}
	}
	if asJSON {
		return printJSON(w, map[string]any{"redriven": sent, "sent": yes, "left_worn_out": worn, "left_truncated": cut})
	}
	verb := "would be sent back (add --yes)"
	if yes {
		verb = "sent back"
	}
	_, err = fmt.Fprintf(w, "%d letters %s; %d came back too often, %d were cut\n", sent, verb, worn, cut)
	return err
}
