package recommend

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sort"
	"time"

	"freshet"
)

// rank computes every surface's list for every task that changed.
func (e *Engine) rank(ctx context.Context, tasks []*task) error {
	defer e.stage("rank")()
	changed := make([]*task, 0, len(tasks))
	for _, t := range tasks {
		t.records, t.listed = t.records[:0], nil
		switch {
		case t.last == nil:
		case t.profile.Tombstone():
			for i := range e.cfg.Surfaces {
				t.records = append(t.records, freshet.Record{Surface: e.cfg.Surfaces[i].Name})
			}
		default:
			changed = append(changed, t)
		}
	}
	if len(changed) == 0 {
		return nil
	}
	subjects := make([]freshet.Subject, len(changed))
	for i, t := range changed {
		subjects[i] = t.subject()
	}
	for i := range e.cfg.Surfaces {
		s := &e.cfg.Surfaces[i]
		lists, err := e.lists(ctx, s, subjects)
		if err != nil {
			return fmt.Errorf("rank %d users for surface %s: %w", len(changed), s.Name, err)
		}
		for n, t := range changed {
			if e.judge != nil && s.Name == freshet.HomeSurface {
				t.listed = idsOf(lists[n])
			}
			t.records = append(t.records, freshet.Record{Surface: s.Name, Value: e.record(t, s.Name, lists[n])})
		}
	}
	return nil
}

// maxDepth bounds how deep a source is asked when rules hide what it proposes.
const maxDepth = 1 << 16

// lists gives one surface's list per subject: every source proposes, the union is scored by every source, the weighted sum
// decides. Subjects whose rules hide so much that places stay empty are asked again, deeper.
func (e *Engine) lists(ctx context.Context, s *Surface, subjects []freshet.Subject) ([][]freshet.RecommendedItem, error) {
	out := make([][]freshet.RecommendedItem, len(subjects))
	hidden := make([]func(string) bool, len(subjects))
	most := 0
	for i := range subjects {
		set := s.hidden(subjects[i].Profile)
		most = max(most, len(set))
		hidden[i] = e.hides(subjects[i].Profile.UserID, set)
	}
	open := make([]int, len(subjects)) // subjects whose list is not final
	for i := range open {
		open[i] = i
	}
	for depth := s.Depth + most; len(open) > 0; depth *= 4 {
		asked := make([]freshet.Subject, len(open))
		for i, n := range open {
			asked[i] = subjects[n]
		}
		proposals, exhausted, err := propose(ctx, s.sources, asked, depth)
		if err != nil {
			return nil, err
		}
		short := open[:0:0]
		for i, n := range open {
			if out[n], err = e.fuse(ctx, s, &subjects[n], proposals[i], hidden[n]); err != nil {
				return nil, err
			}
			if len(out[n]) < s.K && !exhausted[i] && depth < maxDepth {
				short = append(short, n)
			}
		}
		open = short
	}
	for n := range out {
		if len(out[n]) < s.K && s.fill != nil {
			var err error
			if out[n], err = fill(ctx, s, &subjects[n], out[n], hidden[n]); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

func (e *Engine) hides(user string, set map[string]bool) func(string) bool {
	available, excluded := e.cfg.Available, e.cfg.Excluded
	return func(id string) bool {
		return set[id] || (available != nil && !available(id)) || (excluded != nil && excluded(user, id))
	}
}

// propose asks every source and gives, per subject, each source's proposals; exhausted tells whether all sources gave all they have.
func propose(ctx context.Context, sources []weighted, subjects []freshet.Subject, depth int) ([][][]freshet.Candidate, []bool, error) {
	out := make([][][]freshet.Candidate, len(subjects))
	exhausted := make([]bool, len(subjects))
	for i := range out {
		out[i], exhausted[i] = make([][]freshet.Candidate, len(sources)), true
	}
	for k, src := range sources {
		lists, err := src.Propose(ctx, subjects, depth)
		if err != nil {
			return nil, nil, fmt.Errorf("propose from %s: %w: %w", src.Name(), freshet.ErrUnavailable, err)
		}
		for i := range subjects {
			out[i][k] = lists[i]
			exhausted[i] = exhausted[i] && len(lists[i]) < depth
		}
	}
	return out, exhausted, nil
}

// pool is the union of what the sources proposed for one subject, with every source's score of every item.
type pool struct {
	items  []string
	scores [][]float32 // [source][item]
	fused  []float64
}

// fuse scores the union of the proposals by all sources and keeps the K best: log-linear fusion, score = sum of weight x score.
func (e *Engine) fuse(ctx context.Context, s *Surface, who *freshet.Subject, proposals [][]freshet.Candidate, hidden func(string) bool) ([]freshet.RecommendedItem, error) {
	if len(s.sources) == 1 {
		return e.firstOf(s, who, proposals[0], hidden), nil
	}
	p := pool{items: union(proposals), scores: make([][]float32, len(s.sources))}
	for k, src := range s.sources {
		p.scores[k] = make([]float32, len(p.items))
		if err := src.Score(ctx, who, p.items, p.scores[k]); err != nil {
			return nil, fmt.Errorf("score by %s: %w: %w", src.Name(), freshet.ErrUnavailable, err)
		}
		level(p.scores[k])
	}
	p.fused = make([]float64, len(p.items))
	order := make([]int, len(p.items))
	for i := range p.items {
		order[i] = i
		for k := range s.sources {
			p.fused[i] += s.sources[k].weight * float64(p.scores[k][i])
		}
	}
	sort.SliceStable(order, func(a, b int) bool { return p.fused[order[a]] > p.fused[order[b]] })
	best := make([]int, 0, s.K)
	for _, i := range order { // rules are asked only until the list is full
		if len(best) == s.K {
			break
		}
		if !hidden(p.items[i]) {
			best = append(best, i)
		}
	}
	return e.explain(s, who, &p, best), nil
}

// firstOf takes a lone source's proposals, best first, as they are: there is nothing to fuse.
func (e *Engine) firstOf(s *Surface, who *freshet.Subject, proposals []freshet.Candidate, hidden func(string) bool) []freshet.RecommendedItem {
	src := s.sources[0]
	out := make([]freshet.RecommendedItem, 0, s.K)
	reasons := make([]freshet.Reason, 0, s.K)
	var top float64
	for _, c := range proposals {
		if len(out) == s.K {
			break
		}
		if hidden(c.ItemID) {
			continue
		}
		score := src.weight * float64(c.Score)
		if len(out) == 0 {
			top = score
			e.obs.Shares(src.Name(), 1)
		}
		reasons = append(reasons, freshet.Reason{Source: src.Name(), Share: 1})
		out = append(out, freshet.RecommendedItem{ItemID: c.ItemID, Score: math.Exp(score - top), Reasons: reasons[len(out) : len(out)+1 : len(out)+1]})
	}
	s.because(who, out)
	return out
}

// level gives items that a source cannot score (the model has no vector of them) the least that it gave to any: they are judged by
// the other sources alone.
func level(scores []float32) {
	least, unknown := float32(math.Inf(1)), false
	for _, v := range scores {
		if v > -math.MaxFloat32 && v < math.MaxFloat32 {
			least = min(least, v)
		} else {
			unknown = true
		}
	}
	if !unknown {
		return
	}
	if least == float32(math.Inf(1)) {
		least = 0
	}
	for i, v := range scores {
		if !(v > -math.MaxFloat32 && v < math.MaxFloat32) {
			scores[i] = least
		}
	}
}

func union(proposals [][]freshet.Candidate) []string {
	known := map[string]bool{}
	var items []string
	for _, list := range proposals {
		for _, c := range list {
			if !known[c.ItemID] {
				known[c.ItemID] = true
				items = append(items, c.ItemID)
			}
		}
	}
	return items
}

// fill completes a list from the fill source alone.
func fill(ctx context.Context, s *Surface, who *freshet.Subject, list []freshet.RecommendedItem, hidden func(string) bool) ([]freshet.RecommendedItem, error) {
	more, err := s.fill.Propose(ctx, []freshet.Subject{*who}, s.Depth+s.K)
	if err != nil {
		return nil, fmt.Errorf("fill from %s: %w: %w", s.fill.Name(), freshet.ErrUnavailable, err)
	}
	for _, c := range more[0] {
		if len(list) == s.K {
			break
		}
		there := slices.ContainsFunc(list, func(r freshet.RecommendedItem) bool { return r.ItemID == c.ItemID })
		if there || hidden(c.ItemID) {
			continue
		}
		list = append(list, freshet.RecommendedItem{ItemID: c.ItemID, Score: math.Exp(float64(c.Score - more[0][0].Score)),
			Reasons: []freshet.Reason{{Source: s.fill.Name(), Share: 1}}})
	}
	return list, nil
}

// explain turns the chosen places into items with reasons. A source's share is what it adds above the least it gave to any item
// of the pool, so that a source which likes everything alike explains nothing.
func (e *Engine) explain(s *Surface, who *freshet.Subject, p *pool, best []int) []freshet.RecommendedItem {
	floors := make([]float64, len(s.sources))
	for k := range s.sources {
		floors[k] = math.Inf(1)
		for _, v := range p.scores[k] {
			floors[k] = min(floors[k], float64(v))
		}
	}
	out := make([]freshet.RecommendedItem, len(best))
	parts := make([]float64, len(s.sources))
	total := make([]float64, len(s.sources))
	for n, i := range best {
		for k := range s.sources {
			parts[k] = s.sources[k].weight * (float64(p.scores[k][i]) - floors[k])
		}
		out[n] = freshet.RecommendedItem{ItemID: p.items[i], Score: math.Exp(p.fused[i] - p.fused[best[0]]), Reasons: s.reasons(shares(parts))}
		for k := range total {
			total[k] += parts[k]
		}
	}
	if len(out) > 0 {
		for k, share := range shares(total) {
			e.obs.Shares(s.sources[k].Name(), share)
		}
	}
	s.because(who, out)
	return out
}

// because has the strongest source of each item name the item of the user's history behind it, where it can.
func (s *Surface) because(who *freshet.Subject, items []freshet.RecommendedItem) {
	for k := range s.sources {
		x, ok := s.sources[k].Source.(Explainer)
		if !ok {
			continue
		}
		var at []int
		var ids []string
		for i := range items {
			if len(items[i].Reasons) > 0 && items[i].Reasons[0].Source == s.sources[k].Name() {
				at, ids = append(at, i), append(ids, items[i].ItemID)
			}
		}
		if len(at) == 0 {
			continue
		}
		for n, id := range x.Because(who, ids) {
			items[at[n]].Reasons[0].Because = id
		}
	}
}

// shares normalises parts to hundredths that sum to 1; what rounding leaves over goes to the largest.
func shares(parts []float64) []float64 {
	sum, largest := 0.0, 0
	for k, v := range parts {
		sum += v
		if v > parts[largest] {
			largest = k
		}
	}
	out := make([]float64, len(parts))
	left := 100
	for k, v := range parts {
		if sum > 0 {
			hundredths := int(v / sum * 100)
			out[k] = float64(hundredths) / 100
			left -= hundredths
		}
	}
	out[largest] = math.Round(out[largest]*100+float64(left)) / 100
	return out
}

// reasons lists the sources that added something, strongest first.
func (s *Surface) reasons(share []float64) []freshet.Reason {
	list := make([]freshet.Reason, 0, len(share))
	for k, v := range share {
		if v > 0 {
			list = append(list, freshet.Reason{Source: s.sources[k].Name(), Share: v})
		}
	}
	sort.SliceStable(list, func(a, b int) bool { return list[a].Share > list[b].Share })
	return list
}

// record encodes one list as the public record.
func (e *Engine) record(t *task, surface string, items []freshet.RecommendedItem) []byte {
	r := freshet.Recommendation{
		V: 1, CV: t.cv, Rev: t.profile.Rev, RecID: freshet.RecID(t.last.Position, surface, e.cfg.Lane, 0),
		UserID: t.user, Surface: surface, Lane: e.cfg.Lane, Model: e.model.ID(), Items: items,
		Event: freshet.RecommendationFrom{Topic: t.last.Position.Topic, Partition: t.last.Position.Partition,
			Offset: t.last.Position.Offset, EventID: t.last.ID, Timestamp: freshet.FormatTime(t.last.Time)},
		ComputedAt: e.cfg.Now().UTC().Format(time.RFC3339Nano),
	}
	return r.AppendJSON(make([]byte, 0, 512+len(items)*128))
}
