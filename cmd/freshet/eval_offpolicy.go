package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"freshet"
	"freshet/internal/dataset"
	"freshet/internal/evaluate"
	"freshet/internal/recommend"
)

type offPolicyOptions struct {
	examples, policy string
	rewards          []string
	json             bool
}

// offPolicyResult is what `freshet eval offpolicy` prints.
type offPolicyResult struct {
	Surfaces []surfaceValue            `json:"surfaces,omitempty"`
	Drawn    *evaluate.OffPolicyReport `json:"drawn_places,omitempty"` // places that explore, one decision each
	NotKnown int                       `json:"lists_without_propensity"`
}

// surfaceValue is what the lists of one surface earned, by the arm that made them.
type surfaceValue struct {
	Surface string `json:"surface"`
	*evaluate.OffPolicyReport
}

// targetRow says with which probability a policy would have shown an item where the log shows it.
type targetRow struct {
	ExampleID   string  `json:"example_id" parquet:"example_id"`
	ItemID      string  `json:"item_id" parquet:"item_id"`
	Probability float64 `json:"probability" parquet:"probability"`
}

func newOffPolicyCommand(g *globals) *cobra.Command {
	var o offPolicyOptions
	cmd := &cobra.Command{Use: "offpolicy", Short: "What other decisions would have earned, from examples that were logged with propensities", Args: cobra.NoArgs,
		Long: "Reads what `freshet export examples` wrote. Where a surface adapts its weights, the lists of each arm are weighted by 1 / the logged\n" +
			"probability of that arm: what every list would have earned by control, by adapted weights, and the paired difference. Places that explore\n" +
			"are decisions too: --policy names a file of example_id, item_id, probability, the probability with which another policy would have\n" +
			"shown that item at that place (0 for what it lacks). A list earns the rewards of its items, an item that of the first thing that was done with it.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, _, err := g.load()
			if err != nil {
				return err
			}
			result, err := offPolicy(cfg, &o)
			switch {
			case err != nil:
				return err
			case o.json:
				return printJSON(cmd.OutOrStdout(), result)
			}
			return result.print(cmd.OutOrStdout())
		}}
	f := cmd.Flags()
	f.StringVar(&o.examples, "examples", "", "file of examples: .parquet, .jsonl or .jsonl.zst (required)")
	f.StringVar(&o.policy, "policy", "", "file with the probabilities of another policy for the places that explore")
	f.StringSliceVar(&o.rewards, "reward", nil, "type=value, more than once: what a behaviour is worth (default: 1 for every type that extends a profile)")
	f.BoolVar(&o.json, "json", false, "print one JSON object")
	return cmd
}

// rewardsOf says what each type of behaviour is worth.
func rewardsOf(types *freshet.EventTypes, named []string) (map[string]float64, error) {
	out := map[string]float64{}
	if len(named) == 0 {
		for _, name := range types.Names() {
			if t, _ := types.Lookup(name); t.Effect == freshet.Extend {
				out[name] = 1
			}
		}
	}
	for _, s := range named {
		name, value, _ := strings.Cut(s, "=")
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return nil, fmt.Errorf("--reward %q: write type=value, such as purchase=5", s)
		}
		if _, ok := types.Lookup(name); !ok {
			return nil, fmt.Errorf("--reward %s: events.types has no type %q", s, name)
		}
		out[name] = v
	}
	return out, nil
}

// offPolicyLog collects decisions from rows.
type offPolicyLog struct {
	rewards map[string]float64
	target  map[[2]string]float64          // example, item -> probability under --policy
	lists   map[string][]evaluate.Decision // surface -> lists with a known arm
	at      map[string]struct {
		s string
		i int
	} // example -> its place in lists
	unknown map[string]bool // examples whose list has no arm
	drawn   []evaluate.Decision
}

// arms are the policies that a surface's lists are weighed for, the one to compare with first.
var offPolicyArms = []string{recommend.ArmControl, recommend.ArmAdapted}

func (l *offPolicyLog) take(r *dataset.ExampleRow) error {
	reward := l.rewards[r.Outcome]
	if r.Drawn > 0 {
		d := evaluate.Decision{User: r.UserID, Reward: reward, Logged: r.Drawn}
		if l.target != nil {
			d.Targets = []float64{l.target[[2]string{r.ExampleID, r.ItemID}]}
		}
		l.drawn = append(l.drawn, d)
	}
	if r.Arm == "" || r.ArmP == 0 {
		l.unknown[r.ExampleID] = true
		return nil
	}
	at, known := l.at[r.UserID+"\x00"+r.ExampleID]
	if !known {
		arm := slices.Index(offPolicyArms, r.Arm)
		if arm < 0 {
			return fmt.Errorf("arm %q is not one of %s", r.Arm, strings.Join(offPolicyArms, ", "))
		}
		at.s, at.i = r.Surface, len(l.lists[r.Surface])
		l.at[r.UserID+"\x00"+r.ExampleID] = at
		d := evaluate.Decision{User: r.UserID, Logged: r.ArmP, Targets: make([]float64, len(offPolicyArms))}
		d.Targets[arm] = 1
		l.lists[r.Surface] = append(l.lists[r.Surface], d)
	}
	l.lists[at.s][at.i].Reward += reward
	return nil
}

func offPolicy(cfg Config, o *offPolicyOptions) (*offPolicyResult, error) {
	if o.examples == "" {
		return nil, fmt.Errorf("name the file of examples: --examples FILE, written by freshet export examples FILE")
	}
	types, err := cfg.EventTypes()
	if err != nil {
		return nil, err
	}
	l := offPolicyLog{lists: map[string][]evaluate.Decision{}, at: map[string]struct {
		s string
		i int
	}{}, unknown: map[string]bool{}}
	if l.rewards, err = rewardsOf(types, o.rewards); err != nil {
		return nil, err
	}
	var policies []string
	if o.policy != "" {
		l.target, policies = map[[2]string]float64{}, []string{o.policy}
		if err := dataset.ReadRows(o.policy, func(r *targetRow) error {
			l.target[[2]string{r.ExampleID, r.ItemID}] = r.Probability
			return nil
		}); err != nil {
			return nil, err
		}
	}
	if err := dataset.ReadRows(o.examples, l.take); err != nil {
		return nil, err
	}
	out := &offPolicyResult{NotKnown: len(l.unknown)}
	for _, s := range slices.Sorted(maps.Keys(l.lists)) {
		r, err := evaluate.OffPolicy(l.lists[s], offPolicyArms, evaluate.DefaultBootstrap())
		if err != nil {
			return nil, fmt.Errorf("surface %s: %w", s, err)
		}
		out.Surfaces = append(out.Surfaces, surfaceValue{s, r})
	}
	if len(l.drawn) > 0 {
		if out.Drawn, err = evaluate.OffPolicy(l.drawn, policies, evaluate.DefaultBootstrap()); err != nil {
			return nil, fmt.Errorf("places that explore: %w", err)
		}
	}
	return out, nil
}

func (r *offPolicyResult) print(w io.Writer) error {
	var b strings.Builder
	one := func(what, decisions string, v *evaluate.OffPolicyReport) {
		fmt.Fprintf(&b, "%s: %d %s of %d users earned %.4f %s each\n", what, v.Decisions, decisions, v.Users, v.Earned, v.EarnedCI)
		for k, p := range v.Policies {
			fmt.Fprintf(&b, "  %-10s SNIPS %.4f %s  IPS %.4f %s  (mean weight %.2f, largest %.1f, worth %.0f %s)\n", p.Policy, p.SNIPS, p.SNIPSCI, p.IPS, p.IPSCI, p.MeanWeight, p.Heaviest, p.Effective, decisions)
			if k > 0 {
				fmt.Fprintf(&b, "  %s - %s: %+.4f %s\n", p.Policy, v.Policies[0].Policy, p.MinusFirst, p.MinusFirstCI)
			}
		}
	}
	for _, s := range r.Surfaces {
		one("surface "+s.Surface, "lists", s.OffPolicyReport)
	}
	if r.Drawn != nil {
		one("places that explore", "draws", r.Drawn)
	}
	if len(r.Surfaces) == 0 && r.Drawn == nil {
		b.WriteString("no decision of these examples was logged with a propensity: a surface logs them with adapt.mode: on, and for places that explore\n")
	}
	if r.NotKnown > 0 {
		fmt.Fprintf(&b, "%d lists have no propensity and are left out\n", r.NotKnown)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
