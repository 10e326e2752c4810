package candidate

import (
	"math"
	"slices"

	"freshet"
)

// ballot is one subject's votes: a cell for every item that anything was counted for, of which only the touched ones are looked at.
// Ballots are pooled; their memory grows with the number of items and is cleared by what was touched.
type ballot struct {
	source *Covisit
	window []freshet.Entry

	cells   []cell
	touched []int32
	items   []freshet.Ref // of each touched row
	votes   []float32     // of each touched item, damped
	order   []int32
	out     []freshet.Candidate
}

type cell struct {
	sum, best float32
	at        int32 // place in touched
	k         uint8 // the item of the history, counted from its end, with the strongest vote; 0 = untouched
}

// count adds one item's votes for its successors.
func (b *ballot) count(next []link, vote float32, k uint8) {
	for _, l := range next {
		v := vote * l.weight
		c := &b.cells[l.item]
		if c.k == 0 {
			b.touched = append(b.touched, l.item)
		}
		c.sum += v
		if v > c.best {
			c.best, c.k = v, k
		} else if c.k == 0 {
			c.k = k
		}
	}
}

// Propose implements freshet.Opinion.
func (b *ballot) Propose(n int) []freshet.Candidate {
	b.order = b.order[:0]
	for i := range b.votes {
		b.order = append(b.order, int32(i))
	}
	best := topN(b.order, b.votes, n)
	b.out = b.out[:0]
	for _, i := range best {
		b.out = append(b.out, freshet.Candidate{ItemID: b.items[i].ItemID, Number: b.items[i].Number, Score: logVote(b.votes[i])})
	}
	return b.out
}

// Score implements freshet.Opinion.
func (b *ballot) Score(items []freshet.Ref, out []float32) {
	b.source.mu.RLock()
	defer b.source.mu.RUnlock()
	none := logVote(0)
	for i := range items {
		out[i] = none
		if at, ok := b.find(&items[i]); ok {
			out[i] = logVote(b.votes[at])
		}
	}
}

// find gives an item's place among the touched; the caller holds the source's lock.
func (b *ballot) find(item *freshet.Ref) (int32, bool) {
	n, ok := b.source.row(item)
	if !ok || int(n) >= len(b.cells) || b.cells[n].k == 0 {
		return 0, false
	}
	at := b.cells[n].at
	return at, b.items[at].ItemID == item.ItemID // an item may have got another row since Ask
}

// Because implements freshet.Opinion: exactly the item that voted most.
func (b *ballot) Because(item freshet.Ref) string {
	b.source.mu.RLock()
	defer b.source.mu.RUnlock()
	at, ok := b.find(&item)
	if !ok {
		return ""
	}
	return b.window[len(b.window)-int(b.cells[b.touched[at]].k)].ItemID
}

// Close implements freshet.Opinion.
func (b *ballot) Close() {
	for _, n := range b.touched {
		b.cells[n] = cell{}
	}
	b.touched, b.items, b.votes, b.window = b.touched[:0], b.items[:0], b.votes[:0], nil
	b.source.ballots.Put(b)
}

func logVote(v float32) float32 { return float32(math.Log(float64(v) + covisitFloor)) }

// topN moves the n places with the highest scores to the front, sorted, equal scores in the order of their places, and gives them.
func topN(places []int32, scores []float32, n int) []int32 {
	above := func(a, b int32) bool { return scores[a] > scores[b] || scores[a] == scores[b] && a < b }
	if n < len(places) {
		lo, hi := 0, len(places)-1
		for lo < hi { // quickselect: afterwards places[:n] are the n best
			pivot := places[(lo+hi)/2]
			i, j := lo, hi
			for i <= j {
				for above(places[i], pivot) {
					i++
				}
				for above(pivot, places[j]) {
					j--
				}
				if i <= j {
					places[i], places[j] = places[j], places[i]
					i++
					j--
				}
			}
			switch {
			case n-1 <= j:
				hi = j
			case n-1 >= i:
				lo = i
			default:
				lo, hi = 1, 0
			}
		}
		places = places[:n]
	}
	sortPlaces(places, above)
	return places
}

func sortPlaces(places []int32, above func(a, b int32) bool) {
	slices.SortFunc(places, func(a, b int32) int {
		switch {
		case above(a, b):
			return -1
		case above(b, a):
			return 1
		}
		return 0
	})
}
