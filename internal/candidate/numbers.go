package candidate

import (
	"math"
	"slices"
	"sync"

	"freshet"
)

// Numbers gives items their freshet.Ref.Number; an Index is one.
type Numbers interface {
	Number(itemID string) int32
}

// unnumbered gives no item a number.
type unnumbered struct{}

func (unnumbered) Number(string) int32 { return 0 }

// scores are what one source gives to items, found by number where an item has one and else by id.
type scores struct {
	byNumber []float32
	byID     map[string]float32
	other    float32 // of all that are not among them
}

// scoresOf takes candidates in. An item without a number now will have one above all that are given out, so that it is found by its id.
func scoresOf(list []freshet.Candidate, other float32) *scores {
	t := &scores{byID: make(map[string]float32, len(list)), other: other}
	last := int32(0)
	for i := range list {
		t.byID[list[i].ItemID] = list[i].Score
		last = max(last, list[i].Number)
	}
	t.byNumber = make([]float32, last+1)
	for i := range t.byNumber {
		t.byNumber[i] = other
	}
	for i := range list {
		t.byNumber[list[i].Number] = list[i].Score
	}
	return t
}

func (t *scores) of(item *freshet.Ref) float32 {
	if n := int(item.Number); n > 0 && n < len(t.byNumber) {
		return t.byNumber[n]
	}
	if s, ok := t.byID[item.ItemID]; ok {
		return s
	}
	return t.other
}

// falling gives a number that is the lower the higher a score is. NaN orders beside the infinity of its sign.
func falling(score float32) uint32 {
	bits := math.Float32bits(score + 0) // -0 is 0
	if bits>>31 != 0 {
		return bits
	}
	return ^(bits | 1<<31)
}

// sortKeys is memory for sortCandidates.
type sortKeys struct {
	keys []uint64
	list []freshet.Candidate
}

var sortPool = sync.Pool{New: func() any { return new(sortKeys) }}

// sortCandidates orders by score, highest first, equal ones as they stood. Keys that order like the scores are sorted in place of the
// candidates, which are four times as large.
func sortCandidates(list []freshet.Candidate) {
	x := sortPool.Get().(*sortKeys)
	defer sortPool.Put(x)
	x.keys, x.list = x.keys[:0], append(x.list[:0], list...)
	for i := range list {
		x.keys = append(x.keys, uint64(falling(list[i].Score))<<32|uint64(i))
	}
	slices.Sort(x.keys)
	for i, key := range x.keys {
		list[i] = x.list[uint32(key)]
	}
	clear(x.list) // ids may be the last references to large strings
}
