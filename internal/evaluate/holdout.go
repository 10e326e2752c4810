package evaluate

import "hash/crc32"

// HeldItem tells whether an item belongs to the share of the catalogue that a cold-start evaluation keeps out of training. It goes
// by the item's id alone, so that the trainer (cleaning.hold_items, cleaning.hold_from) and the evaluation agree without a list: the
// CRC-32 of the id (IEEE), modulo 1,000, lies from 1,000 times `from` to below 1,000 times from + share.
func HeldItem(id string, from, share float64) bool {
	at := float64(crc32.ChecksumIEEE([]byte(id)) % 1000)
	return at >= 1000*from && at < 1000*(from+share)
}

// coldSegments are the first events of the items that were held out: an item's first, its first five, its first ten.
func coldSegments() []Segment {
	first := func(n int32) func(*Scored) bool { return func(s *Scored) bool { return s.Held && s.Before < n } }
	return []Segment{{Name: "cold items, first event", Holds: first(1)}, {Name: "cold items, first 5", Holds: first(5)}, {Name: "cold items, first 10", Holds: first(10)},
		{Name: "items of the training", Holds: func(s *Scored) bool { return !s.Held && !s.New }}}
}
