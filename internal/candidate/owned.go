package candidate

import (
	"context"
	"math"

	"freshet"
)

// Owned proposes what the user has bought, the longest ago first:
// the source of a "buy again" list, whose surface says with `rebuy` when an item is due. Its score is the log of the purchase's age in
// days. A pure function of the profile.
type Owned struct{}

// Name implements the engine's Source.
func (Owned) Name() string { return "owned" }

// Propose implements the engine's Source.
func (Owned) Propose(_ context.Context, subjects []freshet.Subject, n int) ([][]freshet.Candidate, error) {
	out := make([][]freshet.Candidate, len(subjects))
	for i := range subjects {
		owned := subjects[i].Profile.Owned // latest last
		for _, d := range owned[:min(n, len(owned))] {
			out[i] = append(out[i], freshet.Candidate{ItemID: d.ItemID, Score: ageScore(subjects[i].Now - d.Time)})
		}
	}
	return out, nil
}

func ageScore(ms int64) float32 { return float32(math.Log1p(max(float64(ms), 0) / 86_400_000)) }

// Score implements the engine's Source.
func (Owned) Score(_ context.Context, who *freshet.Subject, items []freshet.Ref, out []float32) error {
	for i, item := range items {
		out[i] = -math.MaxFloat32
		for _, d := range who.Profile.Owned {
			if d.ItemID == item.ItemID {
				out[i] = ageScore(who.Now - d.Time)
			}
		}
	}
	return nil
}

// Because implements the engine's Explainer: the purchase itself.
func (Owned) Because(_ *freshet.Subject, items []freshet.Ref) []string {
	out := make([]string, len(items))
	for i := range items {
		out[i] = items[i].ItemID
	}
	return out
}
