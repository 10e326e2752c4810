package stream

import "time"

// markEvery is how finely the age of saved offsets is kept.
const markEvery = 100 * time.Millisecond

// marks remembers when offsets were saved, to say which are older than the store's loss window. It holds one mark per markEvery,
// so its size is bounded by the window.
type marks struct{ list []mark }

// mark says that everything below next was saved at or before at. begun is when the mark was opened.
type mark struct {
	next      int64
	begun, at time.Time
}

func (m *marks) note(next int64, now time.Time) {
	if n := len(m.list); n > 0 && now.Sub(m.list[n-1].begun) < markEvery {
		m.list[n-1].next, m.list[n-1].at = next, now
		return
	}
	m.list = append(m.list, mark{next: next, begun: now, at: now})
}

// due takes out the marks saved at or before the limit and gives the highest one; -1 = none.
func (m *marks) due(limit time.Time) int64 {
	next := int64(-1)
	n := 0
	for n < len(m.list) && !m.list[n].at.After(limit) {
		next = m.list[n].next
		n++
	}
	m.list = append(m.list[:0], m.list[n:]...)
	return next
}

// forget drops what was noted: the store does not hold it any more.
func (m *marks) forget() { m.list = m.list[:0] }
