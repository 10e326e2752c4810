package evaluate

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"freshet"
)

// Handler is the serving engine: a batch of events in, the lists that they led to out. A batch may hold several events of a user,
// in order, and gives one list per user and surface.
type Handler interface {
	Handle(ctx context.Context, events []freshet.Event) ([]freshet.Publication, error)
}

// HoldOut says which event of a user is hidden.
type HoldOut int

// Test hides the last event of every user, Validation the one before it (and the last one too).
const (
	Test       HoldOut = 1
	Validation HoldOut = 2
)

// Split is a leave-one-out split: what is known and what is asked. Users with fewer than three events are known but not asked, nor
// are those whose hidden item is one they have had: it is no candidate.
type Split struct {
	Log       *Log
	Questions []Question // one per asked user, users in order of their first event
	Targets   []int32    // the hidden item of each question
	Histories [][]int32  // what is known of every user, asked or not
	Seen      *Seen      // the same, for the engine's exclusion
	Repeats   int        // users not asked: what they did last is an item they had had before, which no list may hold
	events    [][]int32  // of every user: the log's events that are known
}

// LeaveOneOut splits the log. Only events that extend a profile are hidden, of several items the last.
func (l *Log) LeaveOneOut(hide HoldOut) *Split {
	s := &Split{Log: l, Seen: NewSeen(l, false), Histories: make([][]int32, l.Users.Len()), events: make([][]int32, l.Users.Len())}
	total := make([]int, l.Users.Len())
	for i := range l.Events {
		if e := &l.Events[i]; e.Effect == freshet.Extend {
			total[e.User]++
		}
	}
	at, target := make([]int, l.Users.Len()), make([]int32, l.Users.Len())
	for i := range l.Events {
		e := &l.Events[i]
		items := l.ItemsOf(e)
		if e.Effect == freshet.Extend {
			at[e.User]++
		}
		if total[e.User] >= 3 && at[e.User] > total[e.User]-int(hide) {
			if at[e.User] == total[e.User]-int(hide)+1 && e.Effect == freshet.Extend {
				target[e.User] = items[len(items)-1]
			}
			continue
		}
		s.events[e.User] = append(s.events[e.User], int32(i))
		for _, item := range items {
			s.Seen.add(e.User, item, e.Effect == freshet.Extend)
		}
	}
	for u := range s.Histories {
		s.Histories[u] = s.Seen.History(int32(u))
		if total[u] >= 3 && s.Seen.has(int32(u), target[u]) {
			s.Repeats++
		} else if total[u] >= 3 {
			s.Questions = append(s.Questions, Question{User: int32(u), History: s.Histories[u]})
			s.Targets = append(s.Targets, target[u])
		}
	}
	return s
}

// Teach lets a baseline learn every known history, users one after another.
func (s *Split) Teach(l Learner) {
	for _, h := range s.Histories {
		for i, item := range h {
			l.Learn(h[:i], item)
		}
	}
}

// scoreBatch is how many questions are asked of a scorer at once.
const scoreBatch = 128

// eachScored asks the questions in batches and hands on the scores of each.
func (s *Split) eachScored(ctx context.Context, scorer Scorer, take func(question int, scores []float32)) error {
	out := make([][]float32, min(scoreBatch, len(s.Questions)))
	for i := range out {
		out[i] = make([]float32, s.Log.Items.Len())
	}
	for from := 0; from < len(s.Questions); from += scoreBatch {
		if err := ctx.Err(); err != nil {
			return err
		}
		batch := s.Questions[from:min(from+scoreBatch, len(s.Questions))]
		if err := scorer.Score(ctx, batch, out[:len(batch)]); err != nil {
			return fmt.Errorf("score %d users with %s: %w", len(batch), scorer.Name(), err)
		}
		for i := range batch {
			take(from+i, out[i])
		}
	}
	return nil
}

// Rank gives the exact rank of every hidden item among all items that its user has not had.
func (s *Split) Rank(ctx context.Context, scorer Scorer) ([]Outcome, error) {
	outcomes := make([]Outcome, len(s.Questions))
	r := newRanker(s.Log.Items.Len())
	err := s.eachScored(ctx, scorer, func(i int, scores []float32) {
		q := s.Questions[i]
		outcomes[i] = Outcome{q.User, r.rank(scores, s.Targets[i], s.Seen.excluded(q.User))}
	})
	return outcomes, err
}

// Feed bounds of one Handle call: whole histories of users of like length, so that the engine's rounds are full.
const (
	feedUsers  = 256
	feedEvents = 1 << 15
)

// RankHandler feeds every known history through the serving engine and gives the place of every hidden item in the list that its
// user ends up with; 0 = not in it. The engine is to be configured with Split.Seen for exclusion and a list long enough for the
// figures (50 for HR@50). progress may be nil; it is told of users done.
func (s *Split) RankHandler(ctx context.Context, h Handler, progress func(done, total int)) ([]Outcome, error) {
	asked := slices.Clone(s.Questions)
	slices.SortStableFunc(asked, func(a, b Question) int { return cmp.Compare(len(s.events[a.User]), len(s.events[b.User])) })
	lists := make(map[int32][]int32, len(asked))
	for done := 0; done < len(asked); {
		var batch []freshet.Event
		users := 0
		for ; done < len(asked) && users < feedUsers && (users == 0 || len(batch)+len(s.events[asked[done].User]) <= feedEvents); users++ {
			for _, e := range s.events[asked[done].User] {
				batch = append(batch, s.Log.Freshet(int(e)))
			}
			done++
		}
		published, err := h.Handle(ctx, batch)
		if err != nil {
			return nil, fmt.Errorf("handle %d events of %d users: %w", len(batch), users, err)
		}
		if err := s.Log.takeLists(published, lists, nil); err != nil {
			return nil, err
		}
		if progress != nil {
			progress(done, len(asked))
		}
	}
	outcomes := make([]Outcome, len(s.Questions))
	for i, q := range s.Questions {
		outcomes[i] = Outcome{q.User, rankInList(lists[q.User], q.User, s.Targets[i], s.Seen)}
	}
	return outcomes, nil
}

// takeLists reads published home lists into lists and notes the users in changed, if that is there.
func (l *Log) takeLists(published []freshet.Publication, lists map[int32][]int32, changed map[int32]struct{}) error {
	for i := range published {
		p := &published[i]
		user, ok := l.Users.Lookup(p.UserID)
		if !ok || p.Surface != freshet.HomeSurface {
			continue
		}
		if changed != nil {
			changed[user] = struct{}{}
		}
		if p.Record == nil {
			delete(lists, user)
			continue
		}
		var record struct {
			Items []struct {
				ItemID string `json:"item_id"`
			} `json:"items"`
		}
		if err := json.Unmarshal(p.Record, &record); err != nil {
			return fmt.Errorf("read the published list of user %s: %w", p.UserID, err)
		}
		list := make([]int32, 0, len(record.Items))
		for _, it := range record.Items {
			if item, ok := l.Items.Lookup(it.ItemID); ok {
				list = append(list, item)
			} else {
				list = append(list, -1) // takes a place all the same
			}
		}
		lists[user] = list
	}
	return nil
}

// rankInList is the place of target among the items of a list that the user has not had; 0 = not there.
func rankInList(list []int32, user, target int32, seen *Seen) int32 {
	place := int32(0)
	for _, item := range list {
		if item != target && item >= 0 && seen.excludes(user, item) {
			continue
		}
		place++
		if item == target {
			return place
		}
	}
	return 0
}
