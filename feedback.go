package freshet

// JoinUpdate is what a batch changed of one user's join of impressions and outcomes (package feedback). The bytes are opaque to a store,
// but for their head: a format byte and 8 bytes of revision, by which a save compares and sets.
type JoinUpdate struct {
	UserID string
	Base   []byte // the 9 bytes of head that it was computed from; nil = nothing was stored
	Value  []byte
}

// JoinHead is how many bytes of a stored join are its head.
const JoinHead = 9

// JoinDue says that a user has exposures that are to be closed at some moment.
type JoinDue struct {
	UserID string
	At     int64 // Unix milliseconds of the log's time; 0 = none is open any more
}
