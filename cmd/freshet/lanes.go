package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"freshet"
	"freshet/featurestore"
	rules "freshet/internal/lane"
	"freshet/models"
	"freshet/stream"
)

func newLanesCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{Use: "lanes", Short: "Deployments side by side: add, compare, give users to, promote, drop",
		Long: "A lane is a bundle with its ranking, a consumer group and a key namespace. Every lane reads every event; only the lane that owns a\n" +
			"user writes his public lists. Workers follow changes within a second."}
	var asJSON bool
	cmd.PersistentFlags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.AddCommand(newLanesList(g, &asJSON), newLanesAdd(g, &asJSON), newLanesShare(g, &asJSON), newLanesPromote(g, &asJSON),
		newLanesDrop(g, &asJSON), newLanesDiff(g, &asJSON))
	return cmd
}

// operator is what a verb of lanes works with.
type operator struct {
	cfg    Config
	log    *zap.Logger
	store  *featurestore.Redis
	file   string // --config, when it was given
	stores map[string]*featurestore.Redis
	json   bool
	out    io.Writer
}

func withOperator(cmd *cobra.Command, g *globals, asJSON bool, do func(context.Context, *operator) error) error {
	cfg, log, err := g.load()
	if err != nil {
		return err
	}
	store, err := featurestore.Open(cmd.Context(), storeConfig(cfg), log)
	if err != nil {
		return err
	}
	defer store.Close()
	o := &operator{cfg: cfg, log: log, store: store, file: g.config, json: asJSON, out: cmd.OutOrStdout(), stores: map[string]*featurestore.Redis{}}
	defer func() {
		for _, s := range o.stores {
			s.Close()
		}
	}()
	return do(cmd.Context(), o)
}

// change stores what edit makes of the table.
func (o *operator) change(ctx context.Context, edit func(*freshet.LaneTable) error) (freshet.LaneTable, error) {
	return o.store.ChangeLanes(ctx, func(t *freshet.LaneTable) error { return edit(t) })
}

// open gives a store for a lane of its own.
func (o *operator) open(ctx context.Context, lane string) (*featurestore.Redis, error) {
	cfg := storeConfig(o.cfg)
	cfg.Lane = lane
	return featurestore.Open(ctx, cfg, o.log)
}

// at is a store for a lane, opened once and closed with the operator's own.
func (o *operator) at(ctx context.Context, lane string) (*featurestore.Redis, error) {
	if s := o.stores[lane]; s != nil {
		return s, nil
	}
	s, err := o.open(ctx, lane)
	if err == nil {
		o.stores[lane] = s
	}
	return s, err
}

// shownLane is a row as `lanes list` prints it.
type shownLane struct {
	Name        string  `json:"name"`
	State       string  `json:"state"` // live, share, shadow, catching up, dropping
	Share       float64 `json:"share"`
	CV          uint64  `json:"cv"`
	Fingerprint string  `json:"fingerprint"`
	Bundle      string  `json:"bundle,omitempty"`
	Seed        string  `json:"seed,omitempty"`
	Behind      int64   `json:"behind_records"`
	Done        float64 `json:"done"` // of catching up, 0..1
	ETA         string  `json:"eta,omitempty"`
}

func newLanesList(g *globals, asJSON *bool) *cobra.Command {
	return &cobra.Command{Use: "list", Short: "Show the lanes, their users, and how far new ones are", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withOperator(cmd, g, *asJSON, func(ctx context.Context, o *operator) error { return o.list(ctx) })
		}}
}

func (o *operator) list(ctx context.Context) error {
	table, err := o.store.Lanes(ctx)
	if err != nil {
		return err
	}
	shown := []shownLane{}
	for _, name := range slices.Sorted(maps.Keys(table.Lanes)) {
		l := table.Lanes[name]
		p, err := o.progress(ctx, name)
		if err != nil {
			return err
		}
		row := shownLane{Name: name, State: stateOf(&table, l), Share: l.Share, CV: l.CV, Fingerprint: l.Fingerprint, Bundle: l.Bundle, Seed: l.Seed,
			Behind: p.behind, Done: 1}
		if !l.Caught {
			row.Done, row.ETA = p.done(), p.eta()
		}
		shown = append(shown, row)
	}
	if o.json {
		return printJSON(o.out, map[string]any{"version": table.Version, "live": table.Live, "sweep_pending": table.Sweep > 0, "lanes": shown})
	}
	for _, l := range shown {
		fmt.Fprintf(o.out, "%-16s %-12s %6.2f%%  cv %-4d bundle %s", l.Name, l.State, 100*l.Share, l.CV, l.Fingerprint)
		if l.State == "catching up" {
			fmt.Fprintf(o.out, "  %.0f%% done, %d records behind, %s left", 100*l.Done, l.Behind, firstOf(l.ETA, "?"))
		}
		fmt.Fprintln(o.out)
	}
	if table.Sweep > 0 {
		fmt.Fprintln(o.out, "some users who changed lanes still have their former lane's list: run the last promote or share again")
	}
	return nil
}

func stateOf(t *freshet.LaneTable, l freshet.Lane) string {
	switch {
	case l.Dropping:
		return "dropping"
	case l.Name == t.Live:
		return "live"
	case l.Share > 0:
		return "share"
	case !l.Caught:
		return "catching up"
	}
	return "shadow"
}

func newLanesAdd(g *globals, asJSON *bool) *cobra.Command {
	var o newLane
	cmd := &cobra.Command{Use: "add NAME --bundle DIR", Short: "Add a lane that begins with the live lane's profiles",
		Long: "The new lane reads from where the live lane's commits are, takes over each user's profile on his first event or by a scan in the\n" +
			"background, and folds its window with the new bundle. `freshet lanes list` shows how far it is. To have the lane read its\n" +
			"profiles from the log instead, see `freshet replay`. DIR must be readable by the workers under the same name.\n" +
			"What the file of --config says of surfaces and profiles becomes the lane's own; without one they are the live lane's.", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withOperator(cmd, g, *asJSON, func(ctx context.Context, op *operator) error {
				o.name = args[0]
				return op.add(ctx, o)
			})
		}}
	o.flags(cmd)
	return cmd
}

// newLane is what a lane is made of.
type newLane struct {
	name, bundle string
	rate         int
}

func (n *newLane) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&n.bundle, "bundle", "", "folder of its bundle (default: the live lane's)")
	cmd.Flags().IntVar(&n.rate, "rate", 0, "events per second and worker while it catches up (default: what live traffic leaves)")
}

// row checks what the lane is made of and gives its row.
func (o *operator) row(table *freshet.LaneTable, n newLane) (freshet.Lane, error) {
	l := freshet.Lane{Name: n.name, Rate: n.rate}
	if err := featurestore.ValidLane(n.name); err != nil {
		return l, err
	}
	live := table.Lanes[table.Live]
	l.Bundle, l.Fingerprint, l.Settings = live.Bundle, live.Fingerprint, live.Settings
	if n.bundle != "" {
		dir, err := filepath.Abs(n.bundle)
		if err != nil {
			return l, err
		}
		raw, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
		if err != nil {
			return l, fmt.Errorf("--bundle: %w", err)
		}
		m, err := models.ParseManifest(raw)
		if err != nil {
			return l, fmt.Errorf("--bundle %s: %w", n.bundle, err)
		}
		l.Bundle, l.Fingerprint = dir, m.Fingerprint[:16]
	}
	if o.file != "" {
		var err error
		if l.Settings, err = settingsOf(o.file); err != nil {
			return l, err
		}
		if _, err := o.cfg.forLane(l); err != nil {
			return l, fmt.Errorf("--config %s: %w", o.file, err)
		}
	}
	return l, nil
}

// laneSections are the parts of the configuration that a lane may have of its own.
var laneSections = []string{"surfaces", "profile", "covisit", "fusion", "new_items"}

// settingsOf takes a lane's own sections out of a file of the configuration; "" = it has none.
func settingsOf(path string) (string, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("--config: %w", err)
	}
	var all map[string]any
	if err := yaml.Unmarshal(raw, &all); err != nil {
		return "", fmt.Errorf("--config %s: %w", path, plainYAML(err))
	}
	maps.DeleteFunc(all, func(name string, _ any) bool { return !slices.Contains(laneSections, name) })
	if len(all) == 0 {
		return "", nil
	}
	out, err := yaml.Marshal(all)
	return string(out), err
}

func (o *operator) add(ctx context.Context, n newLane) error {
	table, err := o.store.Lanes(ctx)
	if err != nil {
		return err
	}
	l, err := o.row(&table, n)
	if err != nil {
		return err
	}
	l.Seed = table.Live
	offsets, err := o.committedBy(ctx, table.Live)
	if err != nil {
		return err
	}
	if table, err = o.begin(ctx, l, offsets); err != nil {
		return err
	}
	if o.json {
		return printJSON(o.out, map[string]any{"added": l.Name, "version": table.Version, "fingerprint": l.Fingerprint, "seed": l.Seed})
	}
	_, err = fmt.Fprintf(o.out, "lane %s is added and takes over the profiles of lane %s; freshet lanes list shows how far it is\n", l.Name, l.Seed)
	return err
}

// committedBy is where a lane's group will go on, for every partition of the topic.
func (o *operator) committedBy(ctx context.Context, lane string) (map[int32]int64, error) {
	conn, err := connection(o.cfg)
	if err != nil {
		return nil, err
	}
	earliest, err := stream.ParsePoint(stream.StartEarliest)
	if err != nil {
		return nil, err
	}
	ranges, err := stream.Ranges(ctx, conn, o.cfg.Kafka.Topics.Events, earliest, earliest, time.Now())
	if err != nil {
		return nil, err
	}
	committed, err := stream.Committed(ctx, conn, o.groupOf(lane), o.cfg.Kafka.Topics.Events)
	if err != nil {
		return nil, err
	}
	out := map[int32]int64{}
	for _, r := range ranges {
		if out[r.Partition] = r.From; committed[r.Partition] > r.From {
			out[r.Partition] = committed[r.Partition]
		}
	}
	return out, nil
}

// groupOf is a lane's group as the brokers know it.
func (o *operator) groupOf(lane string) string {
	c := o.cfg
	c.Lane = lane
	return stream.ConsumerConfig{Group: c.GroupOf(), TopicIncarnation: int32(c.Kafka.Incarnation)}.GroupID()
}

// begin adds a lane whose group starts at these offsets, in an empty namespace. Marks go first, then commits, then the row: a
// worker sees the lane when everything else stands.
func (o *operator) begin(ctx context.Context, l freshet.Lane, offsets map[int32]int64) (freshet.LaneTable, error) {
	var none freshet.LaneTable
	table, err := o.store.Lanes(ctx)
	if err != nil {
		return none, err
	}
	if err := rules.Add(table.Clone(), l); err != nil {
		return none, err
	}
	left := 0
	if err := o.store.EachProfile(ctx, l.Name, func(users []string) error { left += len(users); return nil }); err != nil {
		return none, err
	}
	if left > 0 {
		return none, fmt.Errorf("lane %s: %d profiles of an earlier lane of that name are left: freshet lanes drop %s, or choose another name", l.Name, left, l.Name)
	}
	conn, err := connection(o.cfg)
	if err != nil {
		return none, err
	}
	if err := stream.SetCommitted(ctx, conn, o.groupOf(l.Name), o.cfg.Kafka.Topics.Events, offsets); err != nil {
		return none, err
	}
	if err := o.mark(ctx, l.Name, offsets); err != nil {
		return none, err
	}
	return o.change(ctx, func(t *freshet.LaneTable) error { return rules.Add(t, l) })
}

// mark notes in Redis that everything below the offsets is no business of the lane's: without a mark a committed offset would mean
// that the store has lost what was saved.
func (o *operator) mark(ctx context.Context, lane string, offsets map[int32]int64) error {
	store, err := o.open(ctx, lane)
	if err != nil {
		return err
	}
	defer store.Close()
	c := o.cfg
	c.Lane = lane
	marks := store.Sentinels(c.GroupOf(), fmt.Sprintf("lanes-%d", time.Now().UnixNano()))
	if _, err := marks.Accept(ctx, time.Now()); err != nil {
		return err
	}
	var saved []freshet.Position
	for p, at := range offsets {
		if at > 0 {
			saved = append(saved, freshet.Position{Source: freshet.Source{Topic: c.Kafka.Topics.Events, Incarnation: int32(c.Kafka.Incarnation), Partition: p}, Offset: at - 1})
		}
	}
	return marks.Mark(ctx, time.Now(), saved)
}

func newLanesShare(g *globals, asJSON *bool) *cobra.Command {
	var force bool
	cmd := &cobra.Command{Use: "share NAME 5%", Short: "Give a lane that share of the users, and bring them its lists", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			share, err := rules.Share(args[1])
			if err != nil {
				return err
			}
			return withOperator(cmd, g, *asJSON, func(ctx context.Context, o *operator) error {
				return o.handOver(ctx, args[0], func(t *freshet.LaneTable) error { return rules.SetShare(t, args[0], share, force) })
			})
		}}
	cmd.Flags().BoolVar(&force, "force", false, "also to a lane that has not caught up")
	return cmd
}

func newLanesPromote(g *globals, asJSON *bool) *cobra.Command {
	var force bool
	cmd := &cobra.Command{Use: "promote NAME", Short: "Make a lane the live one, and bring every user its list",
		Long: "For one user the lane that he reads changes at most once. The lane that was live is kept and goes on: promoting it again is the way\n" +
			"back. When this command is stopped in the middle, run it again: it goes on with the users who still have the old lane's list.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withOperator(cmd, g, *asJSON, func(ctx context.Context, o *operator) error {
				return o.handOver(ctx, args[0], func(t *freshet.LaneTable) error {
					if t.Live == args[0] && t.Sweep > 0 {
						return errSweepOnly
					}
					return rules.Promote(t, args[0], force)
				})
			})
		}}
	cmd.Flags().BoolVar(&force, "force", false, "also a lane that has not caught up")
	return cmd
}

// errSweepOnly says that the table is as it shall be and that only the lists are behind.
var errSweepOnly = errors.New("the table stands, the sweep does not")

// sleep waits, or gives the context's error.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
