package freshet

// LiveLane is the lane that every deployment has.
const LiveLane = "live"

// Record is one list to be stored.
type Record struct {
	Surface string
	Value   []byte // nil deletes the stored list
}

// Update is what one user's batch changed, to be saved as one: the profile, and every list computed from it.
type Update struct {
	UserID  string
	Base    Version // of the bytes that it was computed from; "" = nothing was stored
	Profile []byte
	Records []Record
}

// SaveResult says what a store made of an update.
type SaveResult uint8

// The results. Only Saved changes the store.
const (
	Saved SaveResult = iota + 1
	Newer            // the store holds a later revision: load again, apply what it does not cover, save again
	Lost             // the store holds less than the update was computed from: it lost data
	Retry            // the store did not answer or refused for a passing reason; what it holds now is unknown
)

func (r SaveResult) String() string {
	return [...]string{Saved: "saved", Newer: "newer", Lost: "lost", Retry: "retry"}[r]
}
