package models

import (
	"math"
	"slices"

	"freshet"
)

// best keeps the k highest of the scores that it is shown, equal ones in the order of rows. Most scores lie below the floor and cost one
// comparison; what lies above is gathered, and thinned out to the k highest now and then. (A TopK operator keeps a heap, which for
// 100 of 3,706 takes five times as long as the matrix product before it.)
type best struct {
	k     int
	floor float32  // scores that are not above it are of no use any more
	keys  []uint64 // in no order
	taste []float32
	above [glance + freshet.AboveRoom]int32
}

// glance is how many scores are compared with the floor at once.
const glance = 256

// A key orders like score and, for equal scores, like the row from its end: the highest key is the best.

func pack(score float32, row int32) uint64 {
	b := math.Float32bits(score)
	if b>>31 != 0 {
		b = ^b
	} else {
		b |= 1 << 31
	}
	return uint64(b)<<32 | uint64(^uint32(row))
}

func unpack(key uint64) (score float32, row int32) {
	b := uint32(key >> 32)
	if b>>31 != 0 {
		b &^= 1 << 31
	} else {
		b = ^b
	}
	return math.Float32frombits(b), int32(^uint32(key))
}

func (b *best) reset(k int) { b.k, b.floor, b.keys = k, hidden, b.keys[:0] }

// take shows it the scores of successive rows. Rows must come in order.
func (b *best) take(scores []float32, row int32) {
	if b.floor == hidden && len(b.keys) == 0 && b.guess(scores) {
		b.gather(scores, row)
		if len(b.keys) >= b.k {
			b.thin()
			return
		}
		b.floor, b.keys = hidden, b.keys[:0]
	}
	b.gather(scores, row)
	if len(b.keys) > b.k+b.k/2 {
		b.thin()
	}
}

func (b *best) gather(scores []float32, row int32) {
	full := 2*b.k + 64
	for len(scores) > 0 {
		now := scores[:min(len(scores), glance)]
		for _, at := range b.above[:freshet.Above(now, b.floor, b.above[:])] {
			if now[at] > b.floor { // which has risen since, perhaps
				if b.keys = append(b.keys, pack(now[at], row+at)); len(b.keys) == full {
					b.thin()
				}
			}
		}
		scores, row = scores[len(now):], row+int32(len(now))
	}
}

// Of every tasteEvery-th score, the one at the place where 3/2 k are expected above is guessed as floor. A guess that was too high is
// noticed, since fewer than k lie above it.
const (
	tasteEvery = 16
	tasteMost  = 64
)

// guess sets the floor by a sample; false = there are too few scores for that to pay.
func (b *best) guess(scores []float32) bool {
	want := b.k*3/2/tasteEvery + 4
	if want > tasteMost || len(scores) < 4*want*tasteEvery {
		return false
	}
	list := b.taste[:0] // the highest so far, in falling order
	for i := 0; i < len(scores); i += tasteEvery {
		s := scores[i]
		if len(list) == want {
			if !(s > list[want-1]) {
				continue
			}
			list = list[:want-1]
		}
		at := len(list)
		list = append(list, s)
		for ; at > 0 && list[at-1] < s; at-- {
			list[at] = list[at-1]
		}
		list[at] = s
	}
	b.taste = list
	b.floor = list[len(list)-1]
	return b.floor > hidden
}

// thin keeps the k highest and raises the floor to the least of them.
func (b *best) thin() {
	if len(b.keys) < b.k {
		return
	}
	highest(b.keys, b.k)
	b.keys = b.keys[:b.k]
	b.floor, _ = unpack(slices.Min(b.keys))
}

// sorted gives the keys of what was kept, best first.
func (b *best) sorted() []uint64 {
	if len(b.keys) > b.k {
		b.thin()
	}
	slices.Sort(b.keys)
	slices.Reverse(b.keys)
	return b.keys
}

// drain writes what was kept, best first, and hidden ones behind.
func (b *best) drain(scores []float32, rows []int64) {
	keys := b.sorted()
	for i, key := range keys {
		score, row := unpack(key)
		scores[i], rows[i] = score, int64(row)
	}
	for i := len(keys); i < len(scores); i++ {
		scores[i], rows[i] = hidden, 0
	}
}

// highest moves the k highest keys to the front, in no order (Hoare's quickselect).
func highest(keys []uint64, k int) {
	from, to := 0, len(keys)-1
	for from < to {
		pivot := median(keys[from], keys[(from+to)/2], keys[to])
		i, j := from, to
		for i <= j {
			for keys[i] > pivot {
				i++
			}
			for keys[j] < pivot {
				j--
			}
			if i <= j {
				keys[i], keys[j] = keys[j], keys[i]
				i, j = i+1, j-1
			}
		}
		switch {
		case k-1 <= j:
			to = j
		case k-1 >= i:
			from = i
		default:
			return
		}
	}
}

func median(a, b, c uint64) uint64 { return max(min(a, b), min(max(a, b), c)) }
