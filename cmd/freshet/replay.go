package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"freshet"
	"freshet/stream"
)

// replayOptions are the flags of `freshet replay`.
type replayOptions struct {
	newLane
	from, to, user string
	all, emit, yes bool
}

func newReplayCommand(g *globals) *cobra.Command {
	o := replayOptions{from: stream.StartEarliest}
	var asJSON bool
	cmd := &cobra.Command{Use: "replay", Short: "Read the events again: into a new lane that stays, or into a throw-away namespace",
		Long: "With --lane alone the events become a new lane: its consumer group starts at --from in an empty namespace, the workers work it off\n" +
			"beside live traffic, and it stays. This command shows how far it is; stopping it stops nothing.\n\n" +
			"With --to or --user this process reads that part of the log into a namespace of its own, which nobody serves: what would have\n" +
			"been recommended, or what was recommended and why. Killed in the middle, the same command goes on where it was.\n\n" +
			"Places in the log: earliest, latest, ts=2026-11-24T10:00:00Z, last=24h, offset=1000 or offset=0:1000,1:900. Times are those of\n" +
			"the records. Without --yes nothing is read: the plan is printed.", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withOperator(cmd, g, asJSON, func(ctx context.Context, op *operator) error { return op.replay(ctx, o) })
		}}
	f := cmd.Flags()
	f.BoolVar(&asJSON, "json", false, "print one JSON object")
	f.StringVar(&o.name, "lane", "", "name of the new lane, or of the throw-away namespace")
	f.StringVar(&o.from, "from", o.from, "where to begin")
	f.StringVar(&o.to, "to", "", "where to end (default: nowhere, the lane stays)")
	f.StringVar(&o.user, "user", "", "only this user's events; only his partition is read")
	f.BoolVar(&o.all, "all-partitions", false, "with --user: read every partition, where producers have misrouted events")
	f.BoolVar(&o.emit, "emit", false, "with --to or --user: write the lists to the output topic, too")
	f.BoolVar(&o.yes, "yes", false, "do it")
	o.flags(cmd)
	return cmd
}

// plan is what a replay would do.
type plan struct {
	Lane       string         `json:"lane"`
	Stays      bool           `json:"stays"` // a lane that catches up and stays, worked off by the workers
	User       string         `json:"user,omitempty"`
	Partitions []stream.Range `json:"partitions"`
	Records    int64          `json:"records"`
	Gap        int64          `json:"gap_records"`
	Seconds    float64        `json:"estimated_seconds"`
	Pace       int            `json:"at_events_per_s"`
	DryRun     bool           `json:"dry_run"`
}

// assumedPace stands in a plan where no --rate is given: events per second of one worker on two cores that drains (README, measured).
const assumedPace = 5000

func (o *operator) replay(ctx context.Context, r replayOptions) error {
	p, err := o.plan(ctx, &r)
	if err != nil {
		return err
	}
	p.DryRun = !r.yes
	if !r.yes || !o.json {
		if err := o.show(p); err != nil || !r.yes {
			return err
		}
	}
	if p.Stays {
		return o.rebuild(ctx, r, p)
	}
	return o.replayAway(ctx, r, p)
}

func (o *operator) plan(ctx context.Context, r *replayOptions) (*plan, error) {
	away := r.to != "" || r.user != ""
	switch {
	case !away && r.name == "":
		return nil, errors.New("--lane: name the new lane; or give --to or --user for a replay that is thrown away")
	case !away && r.emit:
		return nil, errors.New("--emit: a lane that stays publishes when it is given users: freshet lanes share, freshet lanes promote")
	case r.to == "":
		r.to = stream.StartLatest
	}
	from, err := stream.ParsePoint(r.from)
	if err != nil {
		return nil, fmt.Errorf("--from: %w", err)
	}
	to, err := stream.ParsePoint(r.to)
	if err != nil {
		return nil, fmt.Errorf("--to: %w", err)
	}
	conn, err := connection(o.cfg)
	if err != nil {
		return nil, err
	}
	p := &plan{Lane: r.name, Stays: !away, User: r.user, Pace: assumedPace}
	if p.Lane == "" {
		p.Lane = "replay-" + strconv.FormatUint(freshet.HashID(r.from+"\x00"+r.to+"\x00"+r.user+"\x00"+r.bundle), 36)
	}
	if r.rate > 0 {
		p.Pace = r.rate
	}
	if p.Partitions, err = stream.Ranges(ctx, conn, o.cfg.Kafka.Topics.Events, from, to, time.Now()); err != nil {
		return nil, err
	}
	if r.user != "" && !r.all {
		his := stream.PartitionOf(r.user, len(p.Partitions))
		p.Partitions = slices.DeleteFunc(p.Partitions, func(part stream.Range) bool { return part.Partition != his })
	}
	for _, part := range p.Partitions {
		p.Records += part.Records()
		p.Gap += part.Gap
	}
	p.Seconds = float64(p.Records) / float64(p.Pace)
	return p, nil
}

func (o *operator) show(p *plan) error {
	if o.json {
		return printJSON(o.out, p)
	}
	what := "into the namespace " + p.Lane + ", which nobody serves"
	if p.Stays {
		what = "as the new lane " + p.Lane + ", which catches up and stays"
	}
	fmt.Fprintf(o.out, "replay of %s %s\n", o.cfg.Kafka.Topics.Events, what)
	for _, part := range p.Partitions {
		fmt.Fprintf(o.out, "  partition %-3d from %-10d to %-10d %10d records", part.Partition, part.From, part.To, part.Records())
		if part.Gap > 0 {
			fmt.Fprintf(o.out, ", %d before it are deleted from the log", part.Gap)
		}
		fmt.Fprintln(o.out)
	}
	fmt.Fprintf(o.out, "%d records, about %s at %d events/s\n", p.Records, time.Duration(p.Seconds*float64(time.Second)).Round(time.Second), p.Pace)
	if p.DryRun {
		fmt.Fprintln(o.out, "nothing was done; --yes does it")
	}
	return nil
}

// rebuild adds a lane that reads its profiles from the log, and follows it until it has caught up.
func (o *operator) rebuild(ctx context.Context, r replayOptions, p *plan) error {
	table, err := o.store.Lanes(ctx)
	if err != nil {
		return err
	}
	row, exists := table.Lanes[r.name]
	switch {
	case exists && (row.Caught || row.Seed != "" || row.Dropping):
		return fmt.Errorf("lane %s exists and its group is at work: %w; choose another name, or drop it first", r.name, stream.ErrGroupLive)
	case !exists:
		if row, err = o.row(&table, r.newLane); err != nil {
			return err
		}
		offsets := map[int32]int64{}
		for _, part := range p.Partitions {
			offsets[part.Partition] = part.From
		}
		if _, err = o.begin(ctx, row, offsets); err != nil {
			return err
		}
	}
	return o.followLane(ctx, r.name)
}

// followLane shows how far a lane is until it has caught up.
func (o *operator) followLane(ctx context.Context, name string) error {
	t := newTicker(os.Stderr)
	for {
		table, err := o.store.Lanes(ctx)
		if err != nil {
			return err
		}
		row, ok := table.Lanes[name]
		if !ok || row.Dropping {
			return fmt.Errorf("lane %s is gone", name)
		}
		c, err := o.progress(ctx, name)
		if err != nil {
			return err
		}
		if row.Caught {
			t.end(c.done0)
			if o.json {
				return printJSON(o.out, map[string]any{"lane": name, "caught_up": true, "records": c.done0, "seconds": time.Since(c.began).Seconds()})
			}
			_, err = fmt.Fprintf(o.out, "lane %s has caught up: %d records\n", name, c.done0)
			return err
		}
		t.show(c.done0, c.done0+c.behind)
		if err := sleep(ctx, 500*time.Millisecond); err != nil {
			return nil // a person has stopped watching
		}
	}
}

// ticker shows how far a replay is: a bar in a terminal, lines of JSON elsewhere.
type ticker struct {
	bar   *progress
	out   io.Writer
	began time.Time
	first int64
	shown time.Time
	lines bool
}

func newTicker(out *os.File) *ticker {
	return &ticker{bar: newProgress(out, "records"), out: out, began: time.Now(), first: -1, lines: !term.IsTerminal(int(out.Fd()))}
}

func (t *ticker) show(done, all int64) {
	if t.first < 0 {
		t.first = done
	}
	if !t.lines {
		t.bar.show(int(done), float64(done)/max(1, float64(all)))
		return
	}
	if time.Since(t.shown) < time.Second {
		return
	}
	t.shown = time.Now()
	took := time.Since(t.began).Seconds()
	pace := float64(done-t.first) / max(took, 1e-3)
	line := map[string]any{"records": done, "of": all, "events_per_s": int(pace)}
	if pace > 0 {
		line["eta_s"] = int(float64(all-done) / pace)
	}
	_ = printJSON(t.out, line) // a progress line that cannot be written is no reason to stop
}

func (t *ticker) end(done int64) {
	if t.lines {
		_ = printJSON(t.out, map[string]any{"records": done, "of": done, "finished": true})
		return
	}
	t.bar.finish(int(done))
}
