package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"freshet"
	"freshet/stream"
)

// laneDiff is what two lanes make of the same users.
type laneDiff struct {
	A              string             `json:"a"`
	B              string             `json:"b"`
	Surface        string             `json:"surface"`
	Users          int                `json:"users"`            // with a list or a profile in either lane
	WithLists      int                `json:"users_with_lists"` // with a list in both: what the means are over
	OverlapAt10    float64            `json:"overlap_at_10"`
	K              int                `json:"k"`
	OverlapAtK     float64            `json:"overlap_at_k"`
	RankShift      float64            `json:"rank_shift"`      // places that an item which both lists have stands apart, on average
	ListsIdentical int                `json:"lists_identical"` // the same items with the same scores
	Segments       map[string]segment `json:"segments"`        // by how much is known of the user
	Worst          []userDiff         `json:"worst"`           // the users whose lists have least in common

	Online *armDiff `json:"online,omitempty"` // how well each did with its own users; nil = they never had users at the same time

	State      bool            `json:"state_compared"`
	Identical  int             `json:"profiles_identical"`
	Differs    int             `json:"state_differs"`
	DifferWho  []string        `json:"state_differs_users,omitempty"` // the first of them
	Partitions []partitionDiff `json:"partitions,omitempty"`
}

type segment struct {
	Users       int     `json:"users"`
	OverlapAt10 float64 `json:"overlap_at_10"`
}

type userDiff struct {
	UserID      string  `json:"user_id"`
	OverlapAt10 float64 `json:"overlap_at_10"`
}

// partitionDiff has a checksum over the profiles of each lane, in order of the users.
type partitionDiff struct {
	Partition int32  `json:"partition"`
	Users     int    `json:"users"`
	A         string `json:"sha256_a"`
	B         string `json:"sha256_b"`
	Differs   int    `json:"differs"`
}

func newLanesDiff(g *globals, asJSON *bool) *cobra.Command {
	k, surface, state, worst := 10, freshet.HomeSurface, false, 5
	cmd := &cobra.Command{Use: "diff A B", Short: "Compare the lists of two lanes, and with --state their profiles", Args: cobra.ExactArgs(2),
		Long: "Overlap@k is the share of the first k places that both lists have, in any order. --state compares profiles byte for byte, by a\n" +
			"checksum per partition: two lanes of one bundle that have read the same events hold the same bytes (on a CPU; a GPU's agree\n" +
			"within 1e-4). Where both lanes have had users at the same time, it also says how well each did with its own: the hit ratio and NDCG\n" +
			"at 10 of what they did next, and click-through, with 95 % intervals. A lane's list is its own; where it was alone and kept none of its own, the public one that it wrote.",
		RunE: func(cmd *cobra.Command, args []string) error {
			return withOperator(cmd, g, *asJSON, func(ctx context.Context, o *operator) error {
				d := &laneDiff{A: args[0], B: args[1], Surface: surface, K: k, State: state}
				return o.diff(ctx, d, worst)
			})
		}}
	cmd.Flags().IntVar(&k, "k", k, "places compared, beside the first 10")
	cmd.Flags().StringVar(&surface, "surface", surface, "list that is compared")
	cmd.Flags().BoolVar(&state, "state", false, "compare profiles, too")
	cmd.Flags().IntVar(&worst, "worst", worst, "users named")
	return cmd
}

func (o *operator) diff(ctx context.Context, d *laneDiff, worst int) error {
	users := map[string]bool{}
	for _, lane := range []string{d.A, d.B} {
		found := 0
		err := o.store.EachProfile(ctx, lane, func(list []string) error {
			for _, u := range list {
				users[u] = true
			}
			found += len(list)
			return nil
		})
		if err != nil {
			return err
		}
		if found == 0 {
			return fmt.Errorf("lane %s has no profiles in this store", lane)
		}
	}
	conn, err := connection(o.cfg)
	if err != nil {
		return err
	}
	partitions, err := stream.Partitions(ctx, conn, o.cfg.Kafka.Topics.Events)
	if err != nil {
		return err
	}
	c := newComparing(d, partitions)
	for batch := range slices.Chunk(slices.Sorted(maps.Keys(users)), 512) {
		a, err := o.lanePart(ctx, d.A, d.Surface, batch)
		if err != nil {
			return err
		}
		b, err := o.lanePart(ctx, d.B, d.Surface, batch)
		if err != nil {
			return err
		}
		for i, u := range batch {
			if err := c.add(u, a.lists[i], b.lists[i], a.profiles[i], b.profiles[i]); err != nil {
				return fmt.Errorf("user %s: %w", u, err)
			}
		}
	}
	c.finish(worst)
	if d.Online, err = o.accuracy(ctx, d.A, d.B); err != nil {
		return err
	}
	if o.json {
		return printJSON(o.out, d)
	}
	return d.print(o)
}

// lanePart is what a lane holds of some users.
type lanePart struct{ lists, profiles [][]byte }

func (o *operator) lanePart(ctx context.Context, lane, surface string, users []string) (lanePart, error) {
	store, err := o.at(ctx, lane)
	if err != nil {
		return lanePart{}, err
	}
	own, public := make([]freshet.RecordKey, len(users)), make([]freshet.RecordKey, len(users))
	for i, u := range users {
		own[i] = freshet.RecordKey{UserID: u, Surface: surface, Place: freshet.PlaceOwn}
		public[i] = freshet.RecordKey{UserID: u, Surface: surface, Place: freshet.PlacePublic}
	}
	var p lanePart
	if p.lists, err = store.Records(ctx, own); err != nil {
		return p, err
	}
	shown, err := store.Records(ctx, public)
	if err != nil {
		return p, err
	}
	written := fmt.Appendf(nil, `,"lane":%q,`, lane)
	for i := range users {
		if p.lists[i] == nil && bytes.Contains(shown[i], written) {
			p.lists[i] = shown[i]
		}
	}
	p.profiles, err = store.Load(ctx, users)
	return p, err
}

// comparing adds users up.
type comparing struct {
	d        *laneDiff
	parts    []partitionDiff
	sums     [][2]hash
	users    []userDiff
	places   int // that both lists have
	apart    float64
	overlapK float64
}

type hash = interface {
	Write([]byte) (int, error)
	Sum([]byte) []byte
}

func newComparing(d *laneDiff, partitions int) *comparing {
	c := &comparing{d: d, parts: make([]partitionDiff, partitions), sums: make([][2]hash, partitions)}
	d.Segments = map[string]segment{}
	for i := range c.parts {
		c.parts[i].Partition, c.sums[i] = int32(i), [2]hash{sha256.New(), sha256.New()}
	}
	return c
}

func (c *comparing) add(user string, listA, listB, profileA, profileB []byte) error {
	d := c.d
	d.Users++
	p := stream.PartitionOf(user, len(c.parts))
	c.parts[p].Users++
	for i, b := range [][]byte{profileA, profileB} {
		_, _ = c.sums[p][i].Write(b)
	}
	if profileA != nil && bytes.Equal(profileA, profileB) {
		d.Identical++
	} else {
		c.parts[p].Differs++
		d.Differs++
		if d.State && len(d.DifferWho) < 20 {
			d.DifferWho = append(d.DifferWho, user)
		}
	}
	if listA == nil || listB == nil {
		return nil
	}
	var a, b freshet.Recommendation
	if err := json.Unmarshal(listA, &a); err != nil {
		return err
	}
	if err := json.Unmarshal(listB, &b); err != nil {
		return err
	}
	d.WithLists++
	if same, _ := sameItems(listA, listB); same {
		d.ListsIdentical++
	}
	at10 := overlapAt(a.Items, b.Items, 10)
	c.overlapK += overlapAt(a.Items, b.Items, d.K)
	c.users = append(c.users, userDiff{user, at10})
	rank := map[string]int{}
	for i := range a.Items {
		rank[a.Items[i].ItemID] = i
	}
	for i := range b.Items {
		if at, ok := rank[b.Items[i].ItemID]; ok {
			c.places++
			c.apart += float64(max(at-i, i-at))
		}
	}
	name := segmentOf(max(a.Rev, b.Rev))
	s := d.Segments[name]
	s.Users++
	s.OverlapAt10 += at10
	d.Segments[name] = s
	return nil
}

// segmentOf sorts users by how much they have done.
func segmentOf(rev uint64) string {
	switch {
	case rev <= 5:
		return "1-5 events"
	case rev <= 20:
		return "6-20 events"
	case rev <= 100:
		return "21-100 events"
	}
	return "over 100 events"
}

// overlapAt is the share of the first k places whose items both lists have there, in any order.
func overlapAt(a, b []freshet.RecommendedItem, k int) float64 {
	a, b = a[:min(k, len(a))], b[:min(k, len(b))]
	n := 0
	for i := range a {
		if slices.ContainsFunc(b, func(r freshet.RecommendedItem) bool { return r.ItemID == a[i].ItemID }) {
			n++
		}
	}
	if longest := max(len(a), len(b)); longest > 0 {
		return float64(n) / float64(longest)
	}
	return 1
}

func (c *comparing) finish(worst int) {
	d := c.d
	for _, u := range c.users {
		d.OverlapAt10 += u.OverlapAt10 / float64(d.WithLists)
	}
	d.OverlapAtK = c.overlapK / max(1, float64(d.WithLists))
	d.RankShift = c.apart / max(1, float64(c.places))
	for name, s := range d.Segments {
		s.OverlapAt10 /= float64(s.Users)
		d.Segments[name] = s
	}
	slices.SortStableFunc(c.users, func(a, b userDiff) int { return cmp.Compare(a.OverlapAt10, b.OverlapAt10) })
	d.Worst = append([]userDiff{}, c.users[:min(worst, len(c.users))]...)
	if !d.State {
		return
	}
	for i := range c.parts {
		c.parts[i].A, c.parts[i].B = hex.EncodeToString(c.sums[i][0].Sum(nil)), hex.EncodeToString(c.sums[i][1].Sum(nil))
	}
	d.Partitions = c.parts
}

func (d *laneDiff) print(o *operator) error {
	fmt.Fprintf(o.out, "%d users, %d with lists of surface %s in both lanes\n", d.Users, d.WithLists, d.Surface)
	fmt.Fprintf(o.out, "overlap@10 %.4f, overlap@%d %.4f, items stand %.2f places apart, %d lists identical\n", d.OverlapAt10, d.K, d.OverlapAtK, d.RankShift, d.ListsIdentical)
	for _, name := range []string{"1-5 events", "6-20 events", "21-100 events", "over 100 events"} {
		if s, ok := d.Segments[name]; ok {
			fmt.Fprintf(o.out, "  %-16s %6d users, overlap@10 %.4f\n", name, s.Users, s.OverlapAt10)
		}
	}
	for _, w := range d.Worst {
		fmt.Fprintf(o.out, "  least in common: %s, overlap@10 %.4f\n", w.UserID, w.OverlapAt10)
	}
	if d.Online != nil {
		d.Online.print(o, d.A, d.B)
	}
	if d.State {
		fmt.Fprintf(o.out, "%d profiles identical, %d differ\n", d.Identical, d.Differs)
		for _, p := range d.Partitions {
			fmt.Fprintf(o.out, "  partition %-3d %6d users, %s  %s  %d differ\n", p.Partition, p.Users, p.A[:12], p.B[:12], p.Differs)
		}
		if len(d.DifferWho) > 0 {
			fmt.Fprintln(o.out, "  differ:", d.DifferWho)
		}
	}
	return nil
}
