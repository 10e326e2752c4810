package recommend

import (
	"time"

	"freshet"
)

// DefaultRecord is the record that users without one are served: the most popular items with their weights, best first, as one
// surface's list. It
// belongs to no user and no event.
func (e *Engine) DefaultRecord(surface string, popular []freshet.Scored) []byte {
	k := len(popular)
	for i := range e.cfg.Surfaces {
		if e.cfg.Surfaces[i].Name == surface {
			k = min(k, e.cfg.Surfaces[i].K)
		}
	}
	cv := e.cfg.CV
	if e.cfg.Table != nil {
		cv = e.cfg.Table().Lanes[e.cfg.Lane].CV
	}
	r := freshet.Recommendation{V: 1, CV: cv, RecID: "default-" + surface, Surface: surface, Lane: e.cfg.Lane, Model: e.model.ID(),
		ComputedAt: e.cfg.Now().UTC().Format(time.RFC3339Nano)}
	for _, p := range popular[:k] {
		r.Items = append(r.Items, freshet.RecommendedItem{ItemID: p.ItemID, Score: p.Score / popular[0].Score,
			Reasons: []freshet.Reason{{Source: "popular", Share: 1}}})
	}
	return r.AppendJSON(nil)
}
