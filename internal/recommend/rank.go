package recommend

import (
	"context"
	"fmt"
	"math"
	"math/bits"
	"strings"
	"time"

	"freshet"
)

// rank computes every surface's list for every task that changed.
func (e *Engine) rank(ctx context.Context, tasks []*task) error {
	defer e.stage("rank")()
	owes := e.owes()
	changed := make([]*task, 0, len(tasks))
	for _, t := range tasks {
		t.records, t.listed = t.records[:0], standing{}
		switch {
		case t.last == nil:
		case t.profile.Tombstone():
			for i := range e.cfg.Surfaces {
				t.records = append(t.records, freshet.Record{Surface: e.cfg.Surfaces[i].Name})
			}
		case owes && t.placing == freshet.PlaceOwn:
			for i := range e.cfg.Surfaces {
				name := e.cfg.Surfaces[i].Name
				t.records = append(t.records, freshet.Record{Surface: name, Value: e.record(t, name, &list{})})
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
	var lap laps
	r := rooms.Get().(*room)
	defer r.release()
	err := e.lists(ctx, r, subjects, &lap, nil, func(n int, s *Surface, l list) {
		t := changed[n]
		if e.judge != nil && s.Name == freshet.HomeSurface {
			t.listed.list = idsOf(l.items)
		}
		if l.slate != nil {
			if t.listed.slates == nil {
				t.listed.slates = make([]*slate, len(e.cfg.Surfaces))
			}
			t.listed.slates[s.place] = l.slate
		}
		t.records = append(t.records, freshet.Record{Surface: s.Name, Value: e.record(t, s.Name, &l)})
	})
	lap.end(lapEncode)
	lap.report(e.obs)
	return err
}

// owes tells whether this batch's lists may be made later.
func (e *Engine) owes() bool {
	if e.cfg.Owes == nil || !e.cfg.Owes() {
		return false
	}
	for _, a := range e.adapters {
		if a != nil && a.s.Adapt.Mode == AdaptOn {
			return false
		}
	}
	return true
}

// maxDepth bounds how deep a source is asked when rules hide what it proposes.
const maxDepth = 1 << 16

// list is one list as it was made.
type list struct {
	items      []freshet.RecommendedItem
	arm        string // which weights made it; "" = the surface does not adapt
	propensity float64
	slate      *slate // what the surface's adapter wants to remember; nil = nothing
}

// trace hears which rule kept an item out of a list; nil = nobody asks.
type trace func(subject int, s *Surface, item, rule string)

// lists makes every surface's list for every subject: each source proposes, the union is scored by every source, each surface fuses
// and chooses. Surfaces whose rules hide so much that places stay empty are asked again, deeper. take hears each list once, the
// surfaces of a subject in order; with a room, what it hears lies there.
func (e *Engine) lists(ctx context.Context, r *room, subjects []freshet.Subject, lap *laps, hear trace, take func(subject int, s *Surface, l list)) error {
	short := make([]uint32, len(subjects)) // surfaces whose list is not final, a bit each
	open := make([]int, len(subjects))
	for i := range open {
		open[i], short[i] = i, 1<<len(e.cfg.Surfaces)-1
	}
	done := make([]list, len(subjects)*len(e.cfg.Surfaces))
	for scale := 1; len(open) > 0; scale *= 4 {
		lap.begin()
		proposals, depths, err := e.propose(ctx, r, subjects, lap, open, short, scale)
		if err != nil {
			return err
		}
		again := open[:0:0]
		for i, n := range open {
			left, err := e.compose(ctx, r, &subjects[n], lap, proposals[i], depths[i*len(e.sources):(i+1)*len(e.sources)], short[n], func(s *Surface, rule, item string) {
				if hear != nil {
					hear(n, s, item, rule)
				}
			}, func(s *Surface, l list) { done[n*len(e.cfg.Surfaces)+s.place] = l })
			if err != nil {
				return err
			}
			if short[n] = left; left != 0 {
				again = append(again, n)
			}
		}
		open = again
	}
	for n := range subjects {
		for i := range e.cfg.Surfaces {
			s := &e.cfg.Surfaces[i]
			l := done[n*len(e.cfg.Surfaces)+i]
			if len(l.items) < s.K && s.fill != nil {
				var err error
				if l.items, err = e.fillUp(ctx, s, &subjects[n], l.items); err != nil {
					return fmt.Errorf("surface %s: %w", s.Name, err)
				}
			}
			take(n, s, l)
		}
	}
	return nil
}

// propose asks the batch sources for the open subjects, each as deep as his surface that looks deepest. depths are [subject][source],
// 0 = not asked; voters are asked later, a subject at a time. What a subject gets does not depend on who shares the batch.
func (e *Engine) propose(ctx context.Context, r *room, subjects []freshet.Subject, lap *laps, open []int, short []uint32, scale int) (lists [][][]freshet.Candidate, depths []int, err error) {
	asked, most := make([]freshet.Subject, len(open)), make([]int, len(e.sources))
	depths = make([]int, len(open)*len(e.sources))
	for i, n := range open {
		asked[i] = subjects[n]
		e.depthsOf(subjects[n].Profile, short[n], scale, depths[i*len(e.sources):(i+1)*len(e.sources)])
		for k := range most {
			most[k] = max(most[k], depths[i*len(e.sources)+k])
		}
	}
	flat := make([][]freshet.Candidate, len(open)*len(e.sources))
	lists = make([][][]freshet.Candidate, len(open))
	for i := range lists {
		lists[i] = flat[i*len(e.sources) : (i+1)*len(e.sources)]
	}
	for k, src := range e.sources {
		if most[k] == 0 || e.voters[k] != nil {
			continue
		}
		var got [][]freshet.Candidate
		var err error
		if b, ok := src.(Borrower); ok {
			got, err = b.ProposeIn(ctx, asked, most[k], r.borrowed(k))
		} else {
			got, err = src.Propose(ctx, asked, most[k])
		}
		if err != nil {
			return nil, nil, fmt.Errorf("propose from %s: %w: %w", src.Name(), freshet.ErrUnavailable, err)
		}
		for i := range got {
			lists[i][k] = got[i][:min(len(got[i]), depths[i*len(e.sources)+k])]
		}
		if strings.HasPrefix(src.Name(), "sequence") {
			lap.end(lapSearch)
		} else {
			lap.end(lapVote)
		}
	}
	return lists, depths, nil
}

// depthsOf says how deep each source is asked for one subject: as deep as the surface wants, and by what its rules may hide.
func (e *Engine) depthsOf(p *freshet.Profile, short uint32, scale int, depths []int) {
	for i := range e.cfg.Surfaces {
		s := &e.cfg.Surfaces[i]
		if short&(1<<i) == 0 {
			continue
		}
		depth := s.Depth
		if s.hides&flagSeen != 0 {
			depth += len(p.Window)
		}
		if s.hides&flagPurchased != 0 {
			depth += len(p.Owned)
		}
		if s.hides&flagDismissed != 0 {
			depth += len(p.Dismissed)
		}
		for mask := s.asks(); mask != 0; mask &= mask - 1 {
			k := bits.TrailingZeros32(mask)
			depths[k] = max(depths[k], min(depth*scale, maxDepth))
		}
	}
}

// compose makes the lists of one subject on the surfaces that are still short, and tells which stay short though the sources have more.
func (e *Engine) compose(ctx context.Context, r *room, who *freshet.Subject, lap *laps, proposals [][]freshet.Candidate, depths []int, short uint32,
	hear func(s *Surface, rule, item string), take func(s *Surface, l list)) (left uint32, err error) {
	p := pools.Get().(*pool)
	defer p.release()
	p.reset(len(e.sources), e.vectors.Number)
	more := uint32(0) // sources that may have more to propose
	for k := range e.sources {
		list := proposals[k]
		if v := e.voters[k]; v != nil && depths[k] > 0 {
			p.opinions[k] = v.Ask(who)
			list = p.opinions[k].Propose(depths[k])
		}
		if depths[k] > 0 && len(list) >= depths[k] && depths[k] < maxDepth {
			more |= 1 << k
		}
		p.propose(k, list)
	}
	lap.end(lapVote)
	if err := p.fillIn(ctx, e.sources, depths, who); err != nil {
		return 0, err
	}
	p.know(who.Profile, e.hides)
	if e.cfg.Inspect != nil {
		e.cfg.Inspect(who, p.items, p.scores)
	}
	lap.end(lapScore)
	for i := range e.cfg.Surfaces {
		s := &e.cfg.Surfaces[i]
		if short&(1<<i) == 0 {
			continue
		}
		var l list
		l.arm, l.propensity, p.mix = e.arm(s, who)
		e.fuse(s, p)
		lap.end(lapFuse)
		e.choose(s, who, p, hear)
		lap.end(lapChoose)
		if len(p.kept) < s.K && more&s.asks() != 0 {
			left |= 1 << i
			continue
		}
		if a := e.adapters[i]; a != nil && a.s.Adapt.Mode == AdaptOn {
			l.slate = a.slateOf(p, func(at int32) bool {
				return p.flags[at]&s.hides != 0 || e.cfg.Excluded != nil && e.cfg.Excluded(who.Profile.UserID, p.items[at].ItemID)
			})
		}
		l.items = e.explain(s, who, p, r)
		take(s, l)
		lap.end(lapExplain)
	}
	return left, nil
}

// fillUp completes a list from the fill source alone.
func (e *Engine) fillUp(ctx context.Context, s *Surface, who *freshet.Subject, list []freshet.RecommendedItem) ([]freshet.RecommendedItem, error) {
	p := pools.Get().(*pool)
	defer p.release()
	more, err := s.fill.Propose(ctx, []freshet.Subject{*who}, s.Depth+s.K)
	if err != nil {
		return nil, fmt.Errorf("fill from %s: %w: %w", s.fill.Name(), freshet.ErrUnavailable, err)
	}
	p.reset(1, e.vectors.Number)
	p.propose(0, more[0])
	p.know(who.Profile, e.hides)
	caps := newCaps(s)
	for i := range list {
		if len(p.items) > 0 {
			p.flag(list[i].ItemID, flagPlaced)
		}
		if caps != nil {
			caps.take(e.itemOf(freshet.Ref{ItemID: list[i].ItemID}))
		}
	}
	for _, c := range more[0] {
		if len(list) == s.K {
			break
		}
		at := p.find(freshet.Ref{ItemID: c.ItemID, Number: c.Number})
		if p.flags[at]&flagPlaced != 0 || e.forbids(s, who, p.items[at], p.flags[at]) != "" {
			continue
		}
		if caps != nil && caps.refuse(e.itemOf(p.items[at])) != "" {
			continue
		}
		if caps != nil {
			caps.take(e.itemOf(p.items[at]))
		}
		list = append(list, freshet.RecommendedItem{ItemID: c.ItemID, Score: math.Exp(float64(c.Score - more[0][0].Score)),
			Reasons: []freshet.Reason{{Source: s.fill.Name(), Share: 1}}})
	}
	return list, nil
}

// record encodes one list as the public record.
func (e *Engine) record(t *task, surface string, l *list) []byte {
	r := freshet.Recommendation{
		V: 1, CV: t.cv, Rev: t.profile.Rev, RecID: freshet.RecID(t.last.Position, surface, e.cfg.Lane, 0),
		UserID: t.user, Surface: surface, Lane: e.cfg.Lane, Model: e.model.ID(), Items: l.items, Arm: l.arm, Propensity: l.propensity,
		Event: freshet.RecommendationFrom{Topic: t.last.Position.Topic, Partition: t.last.Position.Partition,
			Offset: t.last.Position.Offset, EventID: t.last.ID, Timestamp: freshet.FormatTime(t.last.Time)},
		ComputedAt: e.cfg.Now().UTC().Format(time.RFC3339Nano),
	}
	return r.Fit(r.AppendJSON(make([]byte, 0, 512+len(l.items)*128)))
}
