package evaluate

import (
	"fmt"
	"math/rand/v2"
)

// Ranks are the ranks of one row of a run, with what was ranked: enough to compare the run with another one over the same events.
type Ranks struct {
	Users []int32 `json:"users"` // of each ranked item
	Items []int32 `json:"items"`
	Ranks []int32 `json:"ranks"` // 1 = first; 0 = not in the list
}

// SameEvents says where two runs ranked something else.
func (r *Ranks) SameEvents(o *Ranks) error {
	if len(r.Ranks) != len(o.Ranks) {
		return fmt.Errorf("one ranked %d items, the other %d: use the same events, --train and --until", len(r.Ranks), len(o.Ranks))
	}
	for i := range r.Users {
		if r.Users[i] != o.Users[i] || r.Items[i] != o.Items[i] {
			return fmt.Errorf("place %d is item %d of user %d in one and item %d of user %d in the other: use the same events", i, r.Items[i], r.Users[i], o.Items[i], o.Users[i])
		}
	}
	return nil
}

// Outcomes gives the ranks as Measure and Compare take them.
func (r *Ranks) Outcomes() []Outcome {
	out := make([]Outcome, len(r.Ranks))
	for i := range out {
		out[i] = Outcome{r.Users[i], r.Ranks[i]}
	}
	return out
}

// CountUsers is how many users the ranked items belong to.
func (r *Ranks) CountUsers() int { return len(byUser(r.Outcomes())) }

// Shift makes every item play the part of another from event number from on: the same moves between other items. seed fixes which.
func (l *Log) Shift(from int, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 0))
	part := random.Perm(l.Items.Len())
	for i := from; i < len(l.Events); i++ {
		items := l.ItemsOf(&l.Events[i])
		for n := range items {
			items[n] = int32(part[items[n]])
		}
	}
}
