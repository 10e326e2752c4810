package models

import (
	"hash/maphash"
	"sync/atomic"
)

// entry is one item of the index. It lives as long as the index; what changes is where it stands.
type entry struct {
	id     string
	order  int                   // of arrival, rows of the bundle first: ties in score go to the earlier one; the item's number outside
	at     atomic.Pointer[place] // never nil
	row    int                   // in the current generation, -1 when it is not there; the writer's alone
	beside bool                  // in the current snapshot's newest; the writer's alone
}

// place is what the index knows of an item at a moment. It is never changed, only replaced.
type place struct {
	vector  []float32
	norm    float32 // the vector's length
	bias    float32
	trained bool   // the vector is a row of the bundle
	shown   bool   // may be recommended
	removed bool   // left the catalogue: the next matrix does without it
	version uint64 // of the vector; a generation older than it holds an outdated row
}

// table finds entries by id. Readers take no lock and allocate nothing; one writer at a time adds. Entries are never taken out:
// users' windows may name an item long after it left the catalogue.
type table struct {
	seed  maphash.Seed
	slots atomic.Pointer[[]atomic.Pointer[entry]] // open addressing, a power of two, at most half full
	used  int                                     // the writer's alone
}

func newTable(expected int) *table {
	size := 64
	for size < 4*expected {
		size *= 2
	}
	t := &table{seed: maphash.MakeSeed()}
	slots := make([]atomic.Pointer[entry], size)
	t.slots.Store(&slots)
	return t
}

func (t *table) find(id string) *entry {
	slots := *t.slots.Load()
	mask := uint64(len(slots) - 1)
	for at := maphash.String(t.seed, id) & mask; ; at = (at + 1) & mask {
		e := slots[at].Load()
		if e == nil || e.id == id {
			return e
		}
	}
}

// add puts in an entry whose id is not there yet.
func (t *table) add(e *entry) {
	slots := *t.slots.Load()
	if 2*(t.used+1) > len(slots) {
		larger := make([]atomic.Pointer[entry], 2*len(slots))
		for i := range slots {
			if old := slots[i].Load(); old != nil {
				t.put(larger, old)
			}
		}
		t.slots.Store(&larger)
		slots = larger
	}
	t.put(slots, e)
	t.used++
}

func (t *table) put(slots []atomic.Pointer[entry], e *entry) {
	mask := uint64(len(slots) - 1)
	at := maphash.String(t.seed, e.id) & mask
	for slots[at].Load() != nil {
		at = (at + 1) & mask
	}
	slots[at].Store(e)
}
