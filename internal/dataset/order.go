package dataset

import (
	"cmp"
	"slices"

	"freshet"
)

// The names of orders, as tables of results print them. Where timestamps are tied the order of a user's events is part of a
// benchmark's identity, so every table says which one it used.
const (
	OrderFile      = "file order"
	OrderSequences = "file order within a user, no times"
	OrderTime      = "time, ties in file order"
)

// SortByTime puts events in global time order; events of equal time keep the order they had, so a file without times stays as it
// is. It returns the name of the new order.
func SortByTime(events []freshet.Event) string {
	slices.SortStableFunc(events, func(a, b freshet.Event) int { return cmp.Compare(a.Time, b.Time) })
	return OrderTime
}
