package freshet

// Subject is the user a list is made for, as the sources of candidates see him.
type Subject struct {
	Profile *Profile
	Queries [][]float32 // one query vector per task of the model; nil while the window is empty
	Now     int64       // event time of the event that asks, Unix milliseconds: what decays, decays against it
}

// Candidate is an item that a source proposes with the source's own score. Scores of one source are comparable with each other
// and log-like: sources are fused by a weighted sum.
type Candidate struct {
	ItemID string
	Score  float32
}

// Lesson is one applied event together with what the user had done before, for sources that learn from the stream.
type Lesson struct {
	Event  *Event
	Type   EventType
	Before []Entry // the window before this event; read only, valid during the call
}

// RecordKey names one stored list.
type RecordKey struct {
	UserID  string
	Surface string
	Place   Place
}
