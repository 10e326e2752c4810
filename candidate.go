package freshet

import "slices"

// Subject is the user a list is made for, as the sources of candidates see him.
type Subject struct {
	Profile *Profile
	Queries [][]float32 // one query vector per task of the model; nil while the window is empty
	Now     int64       // event time of the event that asks, Unix milliseconds: what decays, decays against it
}

// Ref names an item. Number is its place in the order in which the lane's index met items, from 1, and never changes while the process
// runs; 0 = the index does not know it, or nobody asked. It saves those who work on one list together from hashing the id at every turn.
type Ref struct {
	ItemID string
	Number int32
}

// Candidate is an item that a source proposes with the source's own score. Scores of one source are comparable with each other
// and log-like: sources are fused by a weighted sum.
type Candidate struct {
	ItemID string
	Number int32 // as in Ref
	Score  float32
}

// BestFirst sorts by score, highest first; equal ones stay as they stood.
func BestFirst[T any, S float32 | float64](list []T, score func(*T) S) {
	if len(list) > fewItems {
		slices.SortStableFunc(list, func(a, b T) int {
			switch x, y := score(&a), score(&b); {
			case x > y:
				return -1
			case x < y:
				return 1
			}
			return 0
		})
		return
	}
	for i := 1; i < len(list); i++ {
		for j := i; j > 0 && score(&list[j]) > score(&list[j-1]); j-- {
			list[j], list[j-1] = list[j-1], list[j]
		}
	}
}

// fewItems is how long a list is sorted in place: a sort that compares copies takes memory for each of them. Reasons are two or three.
const fewItems = 12

// Opinion is what one source makes of one subject, for sources that answer from memory: what they work out to propose also scores
// and explains. It is used by one goroutine; what it returns is valid until Close.
type Opinion interface {
	// Propose gives up to n candidates, best first.
	Propose(n int) []Candidate
	// Score writes the source's score of each item.
	Score(items []Ref, out []float32)
	// Because names the item of the subject's history that led to an item; "" = none did.
	Because(item Ref) string
	// Close gives the memory back.
	Close()
}

// Transition is one step of some user from an item to another, or the sum of several. To = "" counts how often From was met.
type Transition struct {
	From, To string
	Weight   float64 // positive
	Time     int64   // event time, Unix milliseconds
}

// Response is what users did about an item that is new, added up.
type Response struct {
	ItemID string
	Taken  float64   // users who took it
	Shown  float64   // how often it was before somebody's eyes, or refused
	Taste  []float64 // sum over those who took it of the direction in which their taste differs from everybody's; nil = not known of anybody
}

// Lesson is one applied event together with what the user had done before, for sources that learn from the stream.
type Lesson struct {
	Event  *Event
	Type   EventType
	Before []Entry // the latest MaxBefore entries of the window before this event; read only, valid during the call
}

// MaxBefore bounds Lesson.Before.
const MaxBefore = 32

// RecordKey names one stored list.
type RecordKey struct {
	UserID  string
	Surface string
	Place   Place
}
