package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"freshet/internal/evaluate"
)

// savedRanks is what --save keeps of a run: the ranks of its first row.
type savedRanks struct {
	Protocol string          `json:"protocol"`
	Model    string          `json:"model"`
	Data     string          `json:"data"`
	Sources  string          `json:"sources"`
	Ranks    *evaluate.Ranks `json:"ranks"`
}

func saveRanks(path, sources string, r *evaluate.Report) error {
	b, err := json.Marshal(savedRanks{r.Protocol, r.Model, r.Data, sources, r.Ranks()})
	if err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o644)
}

func readRanks(path string) (*savedRanks, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var s savedRanks
	if err := json.Unmarshal(b, &s); err != nil || s.Ranks == nil {
		return nil, fmt.Errorf("%s holds no ranks: make it with freshet eval prequential --save %s (%w)", path, path, err)
	}
	return &s, nil
}

// runComparison is what `freshet eval compare` prints.
type runComparison struct {
	A      *namedMetrics       `json:"a"`
	B      *namedMetrics       `json:"b"`
	Events int                 `json:"events"`
	Users  int                 `json:"users"`
	Paired evaluate.Difference `json:"a_minus_b"`
}

type namedMetrics struct {
	File    string `json:"file"`
	Sources string `json:"sources"`
	Model   string `json:"model"`
	evaluate.Metrics
}

func newCompareCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{Use: "compare A B", Short: "The paired difference of two runs that were kept with --save, over the same events", Args: cobra.ExactArgs(2),
		Long: "Both runs must have ranked the same events. Users are drawn with replacement, the same ones for both, so that what is hard for both\n" +
			"cancels out: a difference can be certain although the intervals of the two figures overlap.",
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := readRanks(args[0])
			if err != nil {
				return err
			}
			b, err := readRanks(args[1])
			if err != nil {
				return err
			}
			if err := a.Ranks.SameEvents(b.Ranks); err != nil {
				return fmt.Errorf("%s and %s cannot be compared: %w", args[0], args[1], err)
			}
			boot := evaluate.DefaultBootstrap()
			left, right := a.Ranks.Outcomes(), b.Ranks.Outcomes()
			c := runComparison{A: &namedMetrics{args[0], a.Sources, a.Model, evaluate.Measure(left, boot)}, B: &namedMetrics{args[1], b.Sources, b.Model, evaluate.Measure(right, boot)},
				Events: len(left), Users: a.Ranks.CountUsers(), Paired: evaluate.Compare(left, right, boot)}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), c)
			}
			w := cmd.OutOrStdout()
			for _, m := range []*namedMetrics{c.A, c.B} {
				fmt.Fprintf(w, "%s (%s, %s): HR@10 %.4f %s  NDCG@10 %.4f %s\n", m.File, m.Sources, m.Model, m.HR10, m.HR10CI, m.NDCG10, m.NDCG10CI)
			}
			_, err = fmt.Fprintf(w, "A - B over %d events of %d users: HR@10 %+.4f %s (%+.1f %%)  NDCG@10 %+.4f %s (%+.1f %%)\n", c.Events, c.Users,
				c.Paired.HR10, c.Paired.HR10CI, 100*c.Paired.HR10/c.B.HR10, c.Paired.NDCG10, c.Paired.NDCG10CI, 100*c.Paired.NDCG10/c.B.NDCG10)
			return err
		}}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}
