package recommend

import (
	"context"
	"fmt"

	"freshet"
)

// Renewal asks for new lists of a user who did nothing: those of his present profile. Event is what he did last; the lists name it.
type Renewal struct {
	UserID string
	Event  freshet.Event
}

// Renew folds the profiles of users with this engine's bundle where another one has stepped them, and saves them with their lists,
// under the same revision. It is safe beside Handle: where an event came first, nothing is saved. Users without a profile, and
// those who were erased, are passed over. The lists that became public are given back, to be published.
func (e *Engine) Renew(ctx context.Context, users []Renewal) ([]freshet.Publication, error) {
	tasks := make([]*task, len(users))
	for i := range users {
		tasks[i] = &task{user: users[i].UserID, last: &users[i].Event}
	}
	e.place(tasks)
	if err := e.load(ctx, tasks); err != nil {
		return nil, err
	}
	there := tasks[:0]
	for _, t := range tasks {
		if t.profile.Rev > 0 && !t.profile.Tombstone() {
			there = append(there, t)
		}
	}
	x := scratches.Get().(*scratch)
	defer x.release()
	if err := e.fold(ctx, x, there); err != nil {
		return nil, err
	}
	if err := e.rank(ctx, there); err != nil {
		return nil, err
	}
	lists, _, err := e.save(ctx, x, there)
	if err != nil {
		return nil, fmt.Errorf("renew %d lists: %w", len(there), err)
	}
	return lists, nil
}
