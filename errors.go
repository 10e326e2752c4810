package freshet

import "errors"

// The two failures that a caller of the middle treats apart. Everything else is the event's own fault until shown otherwise.
var (
	// ErrUnavailable: a dependency (store, device) did not answer or refused for a passing reason. Wait and try again in place.
	ErrUnavailable = errors.New("a dependency is unavailable")
	// ErrLost: the store holds less than was saved to it. Stop the partition, drop its local copies, read again from the last
	// committed offset.
	ErrLost = errors.New("the store lost data")
)
