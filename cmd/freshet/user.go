package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"freshet"
	"freshet/featurestore"
	"freshet/internal/recommend"
	"freshet/stream"
)

func newUserCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{Use: "user", Short: "Look at one user, at what he does next, or have him forgotten"}
	var asJSON, stored bool
	cmd.PersistentFlags().BoolVar(&asJSON, "json", false, "print one JSON object")
	show := &cobra.Command{Use: "show ID", Short: "Sequence, state and lists of one user, with exact reasons and what rules kept out", Args: cobra.ExactArgs(1),
		Long: "Reads the user's profile and lists, and explains the lists exactly: each item of the history is left out in turn, the state is folded\n" +
			"anew without it, and the one whose absence costs a recommendation most is what it stands there for. The records themselves carry an\n" +
			"estimate. Rules are asked as of now. --stored opens no model and shows only what is stored.",
		RunE: func(cmd *cobra.Command, args []string) error {
			return withStore(cmd.Context(), g, func(cfg Config, s *featurestore.Redis, log *zap.Logger) error {
				return showUser(cmd.Context(), cfg, s, args[0], showOptions{stored: stored, json: asJSON, log: log}, cmd.OutOrStdout())
			})
		}}
	show.Flags().BoolVar(&stored, "stored", false, "only what is stored: no model is opened, no reason is worked out")
	cmd.AddCommand(
		newForecastCommand(g, &asJSON),
		show,
		&cobra.Command{Use: "forget ID", Short: "Erase a user everywhere: produce the erase event and wait for the tombstone", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				return withStore(cmd.Context(), g, func(cfg Config, s *featurestore.Redis, _ *zap.Logger) error {
					return forgetUser(cmd.Context(), cfg, s, args[0], cmd.OutOrStdout())
				})
			}},
	)
	return cmd
}

func withStore(ctx context.Context, g *globals, do func(Config, *featurestore.Redis, *zap.Logger) error) error {
	cfg, log, err := g.load()
	if err != nil {
		return err
	}
	store, err := featurestore.Open(ctx, storeConfig(cfg), log)
	if err != nil {
		return err
	}
	defer store.Close()
	return do(cfg, store, log)
}

// shownUser is what an operator sees of a user.
type shownUser struct {
	UserID    string                   `json:"user_id"`
	Rev       uint64                   `json:"rev"`
	Bytes     int                      `json:"profile_bytes"`
	SHA256    string                   `json:"profile_sha256"`
	Erased    string                   `json:"erased_at,omitempty"`
	Alias     string                   `json:"alias,omitempty"` // the user that this anonymous one turned out to be
	Positions []string                 `json:"positions"`
	Sequence  []shownEntry             `json:"sequence"`
	StateSize int                      `json:"state_floats"`
	Purchases []string                 `json:"purchases,omitempty"`
	Dismissed []string                 `json:"dismissed,omitempty"`
	Lists     []freshet.Recommendation `json:"lists"`
	Reasons   []recommend.Grounds      `json:"reasons,omitempty"`
	Removed   []recommend.Removal      `json:"removed,omitempty"`
}

type showOptions struct {
	stored, json bool
	log          *zap.Logger // of the model's runtime; unused with stored
}

type shownEntry struct {
	ItemID string `json:"item_id"`
	Title  string `json:"title,omitempty"`
	Type   string `json:"type"`
	Time   string `json:"timestamp"`
}

var errNoProfile = errors.New("the store holds no profile of this user")

func readProfile(ctx context.Context, s *featurestore.Redis, user string) ([]byte, *freshet.Profile, error) {
	stored, err := s.Load(ctx, []string{user})
	if err != nil {
		return nil, nil, err
	}
	if stored[0] == nil {
		return nil, nil, errNoProfile
	}
	p, err := freshet.DecodeProfile(user, stored[0])
	return stored[0], p, err
}

func showUser(ctx context.Context, cfg Config, s *featurestore.Redis, user string, o showOptions, w io.Writer) error {
	raw, p, err := readProfile(ctx, s, user)
	if err != nil {
		return fmt.Errorf("%s: %w", user, err)
	}
	sum := sha256.Sum256(raw)
	out := shownUser{UserID: user, Rev: p.Rev, Bytes: len(raw), SHA256: hex.EncodeToString(sum[:]), StateSize: len(p.State), Lists: []freshet.Recommendation{}}
	out.Alias = p.Alias
	if p.ErasedAt > 0 {
		out.Erased = freshet.FormatTime(p.ErasedAt)
	}
	for _, at := range p.Positions {
		out.Positions = append(out.Positions, at.String())
	}
	ids := map[string]bool{}
	for _, e := range p.Window {
		ids[e.ItemID] = true
	}
	for _, d := range p.Owned {
		out.Purchases = append(out.Purchases, d.ItemID)
	}
	for _, d := range p.Dismissed {
		out.Dismissed = append(out.Dismissed, d.ItemID)
	}
	keys := make([]freshet.RecordKey, len(cfg.Surfaces))
	for i, sf := range cfg.Surfaces {
		keys[i] = freshet.RecordKey{UserID: user, Surface: sf.Name}
	}
	records, err := s.Records(ctx, keys)
	if err != nil {
		return err
	}
	for i, b := range records {
		if b == nil {
			continue
		}
		var r freshet.Recommendation
		if err := json.Unmarshal(b, &r); err != nil {
			return fmt.Errorf("list of surface %s: %w", keys[i].Surface, err)
		}
		out.Lists = append(out.Lists, r)
		for _, it := range r.Items {
			ids[it.ItemID] = true
		}
	}
	titles, err := titlesOf(ctx, s, ids)
	if err != nil {
		return err
	}
	for _, e := range p.Window {
		out.Sequence = append(out.Sequence, shownEntry{e.ItemID, titles[e.ItemID], e.Type, freshet.FormatTime(e.Time)})
	}
	if !o.stored {
		if err := account(ctx, cfg, s, o.log, &out); err != nil {
			return fmt.Errorf("explain the lists of %s (--stored shows them without): %w", user, err)
		}
		for _, r := range out.Removed {
			titles[r.ItemID] = r.Title
		}
	}
	if o.json {
		return printJSON(w, out)
	}
	return printUser(w, &out, titles)
}

func titlesOf(ctx context.Context, s *featurestore.Redis, ids map[string]bool) (map[string]string, error) {
	list := make([]string, 0, len(ids))
	for id := range ids {
		list = append(list, id)
	}
	items, err := s.Items(ctx, list)
	if err != nil {
		return nil, err
	}
	titles := make(map[string]string, len(items))
	for i, item := range items {
		if item != nil {
			titles[list[i]] = item.Title
		}
	}
	return titles, nil
}

func printUser(w io.Writer, u *shownUser, titles map[string]string) error {
	fmt.Fprintf(w, "user %s: %d events applied, profile of %d bytes, positions %v\n", u.UserID, u.Rev, u.Bytes, u.Positions)
	if u.Erased != "" {
		fmt.Fprintf(w, "erased at %s\n", u.Erased)
	}
	if u.Alias != "" {
		fmt.Fprintf(w, "has turned out to be %s\n", u.Alias)
	}
	fmt.Fprintln(w, "\nsequence, oldest first:")
	for _, e := range u.Sequence {
		fmt.Fprintf(w, "  %s  %-10s %-14s %s\n", e.Time, e.Type, e.ItemID, e.Title)
	}
	for _, l := range u.Lists {
		fmt.Fprintf(w, "\nlist %s, %s by %s:\n", l.Surface, l.RecID, l.Model)
		for n, it := range l.Items {
			fmt.Fprintf(w, "  %2d. %-14s %-50.50s %.3f", n+1, it.ItemID, titles[it.ItemID], it.Score)
			if g := u.exactly(l.Surface, it.ItemID); g != nil {
				printGrounds(w, g, titles)
				continue
			}
			for _, r := range it.Reasons {
				printReason(w, r.Source, r.Share, titleOr(titles, r.Because))
			}
			fmt.Fprintln(w)
		}
		printRemoved(w, u.Removed, l.Surface, titles)
	}
	return nil
}

func printReason(w io.Writer, source string, share float64, because string) {
	fmt.Fprintf(w, "  %s %.0f %%", source, 100*share)
	if because != "" {
		fmt.Fprintf(w, " (after %s)", because)
	}
}

// printGrounds ends an item's line with the exact reasons.
func printGrounds(w io.Writer, g *recommend.Grounds, titles map[string]string) {
	for _, s := range g.Sources {
		printReason(w, s.Source, s.Share, titleOr(titles, s.Because))
	}
	if g.Because != "" {
		fmt.Fprintf(w, "\n      %.0f %% less likely without %s", 100*g.LowersBy, titleOr(titles, g.Because))
	}
	if g.Text != "" {
		fmt.Fprintf(w, "\n      %q", g.Text)
	}
	fmt.Fprintln(w)
}

func printRemoved(w io.Writer, all []recommend.Removal, surface string, titles map[string]string) {
	for _, r := range all {
		if r.Surface == surface {
			fmt.Fprintf(w, "   -  %-14s %-50.50s %s\n", r.ItemID, titles[r.ItemID], r.Rule)
		}
	}
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// forgetUser produces an erase event and waits until the profile is a tombstone.
func forgetUser(ctx context.Context, cfg Config, s *featurestore.Redis, user string, w io.Writer) error {
	conn, err := connection(cfg)
	if err != nil {
		return err
	}
	now := time.Now()
	p, err := stream.NewProducer(stream.ProducerConfig{Connection: conn, Events: cfg.Kafka.Topics.Events}, zap.NewNop())
	if err != nil {
		return err
	}
	defer p.Close()
	erase := freshet.Event{ID: fmt.Sprintf("forget-%d", now.UnixNano()), Type: "erase", UserID: user, Time: now.UnixMilli()}
	if err := p.PublishEvents(ctx, []freshet.Event{erase}); err != nil {
		return fmt.Errorf("produce the erase event: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		_, profile, err := readProfile(ctx, s, user)
		if err == nil && profile.ErasedAt >= erase.Time {
			break
		}
		if err != nil && !errors.Is(err, errNoProfile) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.New("the erase event is on the topic, but no worker has applied it within a minute: is one running?")
		case <-tick.C:
		}
	}
	_, err = fmt.Fprintf(w, "user %s is erased: the profile is a tombstone, the lists are deleted, a null was published for each.\n"+
		"What the log still holds expires by retention: events after %s (kafka.retention), dead letters after %s.\n",
		user, cfg.Kafka.Retention, 4*cfg.Kafka.Retention)
	return err
}
