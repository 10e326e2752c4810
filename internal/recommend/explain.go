package recommend

import (
	"math"
	"math/bits"
	"slices"

	"freshet"
)

// leastShare is the share below which a source is not named; its share goes to those that are. A record must stay small.
const leastShare = 0.1

// explain turns the chosen places into items with reasons. A source's share is what it adds above the least it gave to any item
// of the pool, so that a source which likes everything alike explains nothing.
func (e *Engine) explain(s *Surface, who *freshet.Subject, p *pool, r *room) []freshet.RecommendedItem {
	out, all := r.list(len(p.kept))
	n := len(e.sources)
	p.sums = append(p.sums[:0], make([]float64, 3*n)...)
	parts, total, share := p.sums[:n], p.sums[n:2*n], p.sums[2*n:]
	top := math.Inf(-1)
	for _, k := range p.kept {
		if k.at >= 0 {
			top = max(top, p.fused[k.at])
		}
	}
	for n, k := range p.kept {
		start := len(all)
		switch {
		case k.at < 0:
			out[n] = freshet.RecommendedItem{ItemID: k.id, Score: 1}
			all = append(all, freshet.Reason{Source: k.why, Share: 1})
		case k.why != "":
			out[n] = freshet.RecommendedItem{ItemID: p.items[k.at].ItemID, Score: math.Exp(p.fused[k.at] - top), Propensity: k.p}
			all = append(all, freshet.Reason{Source: k.why, Share: 1})
		default:
			e.partsOf(s, p, k.at, parts)
			out[n] = freshet.RecommendedItem{ItemID: p.items[k.at].ItemID, Score: math.Exp(p.fused[k.at] - top)}
			all = e.reasons(all, shares(parts, share))
			for i := range total {
				total[i] += parts[i]
			}
		}
		out[n].Reasons = all[start:len(all):len(all)]
	}
	if len(out) > 0 {
		for k, v := range shares(total, share) {
			if s.mask&(1<<k) != 0 {
				e.obs.Shares(e.sources[k].Name(), v)
			}
		}
	}
	e.because(s, who, p, out)
	if e.cfg.Texts != nil {
		e.word(who.Profile, out)
	}
	return out
}

// word puts the first reason of each item into words.
func (e *Engine) word(p *freshet.Profile, items []freshet.RecommendedItem) {
	for i := range items {
		r := &items[i].Reasons[0]
		because, did := r.Because, ""
		if because != "" {
			if item := e.itemOf(freshet.Ref{ItemID: because}); item != nil && item.Title != "" {
				because = item.Title
			}
			if at := slices.IndexFunc(p.Window, func(x freshet.Entry) bool { return x.ItemID == r.Because }); at >= 0 {
				did = p.Window[at].Type
			}
		}
		items[i].Text = e.cfg.Texts.Text(r.Source, because, did, e.itemOf(freshet.Ref{ItemID: items[i].ItemID}))
	}
}

// partsOf says what each source adds to an item's score.
func (e *Engine) partsOf(s *Surface, p *pool, at int32, parts []float64) {
	clear(parts)
	for mask := s.mask; mask != 0; mask &= mask - 1 {
		k := bits.TrailingZeros32(mask)
		parts[k] = p.mix[k] * float64(p.scores[k][at]-p.floor[k])
	}
	if s.mask&(s.mask-1) == 0 {
		parts[sourceOf(s.mask)] = 1
	}
}

// shares normalises parts to hundredths that sum to 1, without those below leastShare; what rounding leaves over goes to the largest.
func shares(parts, out []float64) []float64 {
	sum, largest := 0.0, 0
	for k, v := range parts {
		sum += v
		if v > parts[largest] {
			largest = k
		}
	}
	named := 0.0
	for k, v := range parts {
		if k == largest || v >= leastShare*sum {
			named += v
		}
	}
	left := 100
	for k, v := range parts {
		out[k] = 0
		if named > 0 && (k == largest || v >= leastShare*sum) {
			hundredths := int(v / named * 100)
			out[k] = float64(hundredths) / 100
			left -= hundredths
		}
	}
	if len(out) > 0 {
		out[largest] = math.Round(out[largest]*100+float64(left)) / 100
	}
	return out[:len(parts)]
}

// reasons adds the sources that added something, strongest first.
func (e *Engine) reasons(all []freshet.Reason, share []float64) []freshet.Reason {
	start := len(all)
	for k, v := range share {
		if v > 0 {
			all = append(all, freshet.Reason{Source: e.sources[k].Name(), Share: v})
		}
	}
	freshet.BestFirst(all[start:], func(r *freshet.Reason) float64 { return r.Share })
	return all
}

// because has the strongest source of each item that can tell name the item of the user's history behind it.
func (e *Engine) because(s *Surface, who *freshet.Subject, p *pool, items []freshet.RecommendedItem) {
	for mask := s.asks(); mask != 0; mask &= mask - 1 {
		k := bits.TrailingZeros32(mask)
		name := e.sources[k].Name()
		explainer, batch := e.sources[k].(Explainer)
		p.missing, p.asked = p.missing[:0], p.asked[:0]
		for i := range items {
			if r := items[i].Reasons; len(r) == 0 || r[0].Source != name {
				continue
			} else if item := p.refOf(i); p.opinions[k] != nil {
				r[0].Because = p.opinions[k].Because(item)
			} else if batch {
				p.missing, p.asked = append(p.missing, int32(i)), append(p.asked, item)
			}
		}
		if len(p.asked) > 0 {
			for n, id := range explainer.Because(who, p.asked) {
				items[p.missing[n]].Reasons[0].Because = id
			}
		}
	}
}
