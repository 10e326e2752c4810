package evaluate

import "freshet"

// Seen is what has been revealed so far: the items of every user, in order. The serving engine asks it which items to keep out of
// a list (Excluded), so that exclusion is exact even for users whose history is longer than their profile's window.
//
// It changes only between two calls of a Handler; during one, any number of goroutines may read it.
type Seen struct {
	log       *Log
	histories [][]int32 // items that extended the profile, oldest first
	had       [][]int32 // every item once, rejected ones too
	items     map[uint64]struct{}
	repeats   bool
}

// NewSeen starts with nothing revealed. With repeats, items that a user has had stay candidates.
func NewSeen(log *Log, repeats bool) *Seen {
	return &Seen{log: log, histories: make([][]int32, log.Users.Len()), had: make([][]int32, log.Users.Len()),
		items: make(map[uint64]struct{}, len(log.items)), repeats: repeats}
}

// Excluded tells whether an item must not stand in the user's list, because the user has had it.
func (s *Seen) Excluded(userID, itemID string) bool {
	if s.repeats {
		return false
	}
	user, ok := s.log.Users.Lookup(userID)
	if !ok {
		return false
	}
	item, ok := s.log.Items.Lookup(itemID)
	return ok && s.has(user, item)
}

// History gives a user's items, oldest first.
func (s *Seen) History(user int32) []int32 { return s.histories[user] }

func (s *Seen) has(user, item int32) bool {
	_, ok := s.items[pair(user, item)]
	return ok
}

// excludes is has, unless repeats are wanted.
func (s *Seen) excludes(user, item int32) bool { return !s.repeats && s.has(user, item) }

// excluded gives the items that are no candidates for a user.
func (s *Seen) excluded(user int32) []int32 {
	if s.repeats {
		return nil
	}
	return s.had[user]
}

// add reveals an item; extends says whether it belongs to the history that is predicted from.
func (s *Seen) add(user, item int32, extends bool) {
	if key := pair(user, item); !s.has(user, item) {
		s.items[key] = struct{}{}
		s.had[user] = append(s.had[user], item)
	}
	if extends {
		s.histories[user] = append(s.histories[user], item)
	}
}

func pair(a, b int32) uint64 { return uint64(uint32(a))<<32 | uint64(uint32(b)) }

// Reveal adds what an event of the log shows.
func (l *Log) Reveal(s *Seen, i int) {
	e := &l.Events[i]
	for _, item := range l.ItemsOf(e) {
		s.add(e.User, item, e.Effect == freshet.Extend)
	}
}
