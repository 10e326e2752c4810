package expect

import (
	"slices"
	"sort"
)

// Bounds that state.md sets.
const (
	maxHistory = 50  // entries of a window
	maxRecent  = 64  // event ids remembered beside it
	maxExact   = 128 // purchases and dismissals remembered exactly
	maxSources = 4   // partitions whose last offset is remembered
)

// Entry is one step of a user's history.
type Entry struct {
	Item    string `json:"item"`
	Type    string `json:"type"`
	Time    int64  `json:"time"`
	At      Place  `json:"at"`
	Index   int    `json:"index"`
	Event   uint64 `json:"event,string"`
	Unknown bool   `json:"unknown,omitempty"` // folded as the unknown item
}

// before is the order within a user: time, then the place in the log, then the place in the event.
func (a *Entry) before(b *Entry) bool {
	switch {
	case a.Time != b.Time:
		return a.Time < b.Time
	case a.At.Partition != b.At.Partition:
		return a.At.Partition < b.At.Partition
	case a.At.Offset != b.At.Offset:
		return a.At.Offset < b.At.Offset
	}
	return a.Index < b.Index
}

type dated struct {
	item string
	time int64
}

// user is one user while the log is read.
type user struct {
	rev      uint64
	places   []Place // last offset applied of each partition, latest used last
	gone     []Entry // what left the window, in that order: the checkpoint is their fold
	window   []Entry
	recent   []uint64
	owned    []dated
	disliked []dated
	erasedAt int64
	last     *Event // the last one applied
}

// apply is the whole of "Order and identity" in state.md. It tells whether the event changed the user.
func (u *user) apply(e *Event, known func(item string) bool) bool {
	effect := e.effect()
	if effect == observe || u.covers(e.At) || (u.erasedAt > 0 && e.Time <= u.erasedAt) {
		return false
	}
	id := hash(e.ID)
	switch effect {
	case erase:
		*u = user{rev: u.rev, places: u.places, erasedAt: e.Time}
	case extend:
		if u.remembers(id) || (len(u.window) >= maxHistory && e.Time < u.window[0].Time) {
			return false
		}
		u.extend(e, id, known)
	case reject:
		if u.remembers(id) {
			return false
		}
		u.disliked = note(u.disliked, e)
		u.remember(id)
	case retract:
		if u.remembers(id) {
			return false
		}
		u.retract(e)
		u.remember(id)
	case login: // what it brings to another user is not foreseen here: the streams of the suite have none
		if u.remembers(id) {
			return false
		}
		u.remember(id)
	}
	u.rev++
	u.last = e
	u.places = slices.DeleteFunc(u.places, func(p Place) bool { return p.Partition == e.At.Partition })
	u.places = append(u.places, e.At)
	if len(u.places) > maxSources {
		u.places = u.places[1:]
	}
	return true
}

func (u *user) covers(at Place) bool {
	return slices.ContainsFunc(u.places, func(p Place) bool { return p.Partition == at.Partition && at.Offset <= p.Offset })
}

func (u *user) remembers(id uint64) bool {
	return slices.Contains(u.recent, id) || slices.ContainsFunc(u.window, func(e Entry) bool { return e.Event == id })
}

func (u *user) remember(id uint64) {
	u.recent = append(u.recent, id)
	if len(u.recent) > maxRecent {
		u.recent = u.recent[1:]
	}
}

// extend folds the last maxHistory items of the event, in listed order.
func (u *user) extend(e *Event, id uint64, known func(string) bool) {
	items := e.Items[max(0, len(e.Items)-maxHistory):]
	for i, item := range items {
		u.window = append(u.window, Entry{Item: item, Type: e.Type, Time: e.Time, At: e.At, Index: i, Event: id, Unknown: !known(item)})
	}
	sort.SliceStable(u.window, func(a, b int) bool { return u.window[a].before(&u.window[b]) })
	if over := len(u.window) - maxHistory; over > 0 {
		u.gone = append(u.gone, u.window[:over]...)
		u.window = slices.Clone(u.window[over:])
	}
	if e.Type == "purchase" {
		kept := *e
		kept.Items = items
		u.owned = note(u.owned, &kept)
	}
}

// note remembers items exactly: one row each, by its latest time, the latest maxExact of them.
func note(list []dated, e *Event) []dated {
	for _, item := range e.Items {
		at := e.Time
		if i := slices.IndexFunc(list, func(d dated) bool { return d.item == item }); i >= 0 {
			at = max(at, list[i].time)
			list = slices.Delete(list, i, i+1)
		}
		list = append(list, dated{item, at})
	}
	sort.SliceStable(list, func(a, b int) bool { return list[a].time < list[b].time })
	return list[max(0, len(list)-maxExact):]
}

// retract takes out the entries of the target, or the latest cart of each item, or else its latest entry.
func (u *user) retract(e *Event) {
	if e.Target != "" {
		target := hash(e.Target)
		for i := len(u.window) - 1; i >= 0; i-- {
			if w := u.window[i]; w.Event == target && (len(e.Items) == 0 || slices.Contains(e.Items, w.Item)) {
				u.take(i)
			}
		}
		return
	}
	for _, item := range e.Items {
		latest, cart := -1, -1
		for i, w := range u.window {
			if w.Item == item {
				latest = i
				if w.Type == "cart" {
					cart = i
				}
			}
		}
		if cart >= 0 {
			latest = cart
		}
		if latest >= 0 {
			u.take(latest)
		}
	}
}

func (u *user) take(i int) {
	w := u.window[i]
	if w.Type == "purchase" {
		u.owned = slices.DeleteFunc(u.owned, func(d dated) bool { return d == dated{w.Item, w.Time} })
	}
	u.window = slices.Delete(slices.Clone(u.window), i, i+1)
}
