package recommend

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"freshet"
)

// save stores what changed, one compare-and-set per user, and gives back the lists to publish and the tasks to do again because
// the store holds something newer. Only a saved task counts, teaches and becomes a local copy.
func (e *Engine) save(ctx context.Context, x *scratch, tasks []*task) (lists []freshet.Publication, newer []*task, err error) {
	defer e.stage("save")()
	updates, changed := make([]freshet.Update, 0, len(tasks)), make([]*task, 0, len(tasks))
	var covered []*task
	for _, t := range tasks {
		if t.last == nil {
			if !t.profile.Owes() {
				t.hot.put(t.user, t.profile, t.base, t.standing)
			}
			if e.settle(t) && t.placing != freshet.PlaceOwn {
				covered = append(covered, t)
			}
			continue
		}
		start := len(x.profiles)
		if x.profiles, err = t.profile.AppendBinary(x.profiles); err != nil {
			return nil, nil, err
		}
		t.encoded = x.profiles[start:len(x.profiles):len(x.profiles)]
		changed = append(changed, t)
		updates = append(updates, freshet.Update{UserID: t.user, Base: t.base, Profile: t.encoded, Records: t.records, Place: t.placing, CV: t.cv})
	}
	if lists, err = e.stored(ctx, covered); err != nil || len(updates) == 0 {
		return lists, nil, err
	}
	results, saveErr := e.store.Save(ctx, updates)
	if len(results) != len(updates) {
		return nil, nil, fmt.Errorf("save %d profiles: %w", len(updates), saveErr)
	}
	lists = slices.Grow(lists, len(changed)*len(e.cfg.Surfaces))
	lost, retry := 0, 0
	for i, t := range changed {
		switch results[i] {
		case freshet.Saved:
			t.hot.put(t.user, t.profile, freshet.VersionOf(t.encoded), t.listed)
			e.settle(t)
			e.judgeList(t)
			lists = t.publications(lists)
		case freshet.Outranked: // another lane owns the user by now, and publishes
			t.hot.put(t.user, t.profile, freshet.VersionOf(t.encoded), t.listed)
			e.settle(t)
		case freshet.Newer:
			e.obs.Fenced("newer")
			newer = append(newer, t)
		case freshet.Lost:
			e.obs.Fenced("lost")
			lost++
		default:
			e.obs.Fenced("retry")
			retry++
		}
	}
	switch {
	case lost > 0:
		return nil, nil, fmt.Errorf("save %d profiles: %d were stored with less than they were computed from: %w", len(updates), lost, freshet.ErrLost)
	case retry > 0:
		return nil, nil, fmt.Errorf("save %d of %d profiles: %w", retry, len(updates), saveErr)
	}
	return lists, newer, nil
}

// settle counts a task whose effect is certain and lets the sources learn from it. It tells whether events came again that an
// earlier attempt applied.
func (e *Engine) settle(t *task) (again bool) {
	for i, ev := range t.events {
		e.obs.Event(ev.Type, t.outcomes[i])
		again = again || t.outcomes[i] == freshet.Covered
		if t.outcomes[i] == freshet.Applied {
			e.obs.Visible(time.UnixMilli(ev.RecordTime))
		}
	}
	for _, reason := range t.refolds {
		e.obs.Refold(reason)
	}
	if len(t.lessons) > 0 {
		for _, s := range e.sources {
			if l, ok := s.(Learner); ok {
				l.Learn(t.lessons)
			}
		}
	}
	return again
}

// publications adds the lists of a user that this lane owns.
func (t *task) publications(out []freshet.Publication) []freshet.Publication {
	if t.placing == freshet.PlaceOwn {
		return out
	}
	for _, r := range t.records {
		out = append(out, freshet.Publication{UserID: t.user, Surface: r.Surface, Record: r.Value, From: t.last.Position})
	}
	return out
}

// stored gives back the lists of users all of whose events were applied before: an earlier attempt may have died between saving
// and publishing them. An erased user's null is given back too.
func (e *Engine) stored(ctx context.Context, tasks []*task) ([]freshet.Publication, error) {
	if len(tasks) == 0 {
		return nil, nil
	}
	keys := make([]freshet.RecordKey, 0, len(tasks)*len(e.cfg.Surfaces))
	for _, t := range tasks {
		for i := range e.cfg.Surfaces {
			keys = append(keys, freshet.RecordKey{UserID: t.user, Surface: e.cfg.Surfaces[i].Name, Place: t.placing})
		}
	}
	records, err := e.store.Records(ctx, keys)
	if err != nil {
		return nil, fmt.Errorf("read %d stored lists: %w", len(keys), err)
	}
	var out []freshet.Publication
	for i, t := range tasks {
		for n := range e.cfg.Surfaces {
			at := i*len(e.cfg.Surfaces) + n
			p := freshet.Publication{UserID: t.user, Surface: keys[at].Surface, Record: records[at], Stored: true}
			switch {
			case records[at] != nil:
				if p.From, err = computedFrom(records[at]); err != nil {
					return nil, fmt.Errorf("read the stored list of surface %s: %w", keys[at].Surface, err)
				}
			case t.profile.Tombstone():
				p.From = t.events[len(t.events)-1].Position
			default:
				continue
			}
			out = append(out, p)
		}
	}
	return out, nil
}

// computedFrom reads the position of the event a record was computed after.
func computedFrom(record []byte) (freshet.Position, error) {
	var r struct {
		Event struct {
			Topic     string `json:"topic"`
			Partition int32  `json:"partition"`
			Offset    int64  `json:"offset"`
		} `json:"event"`
	}
	if err := json.Unmarshal(record, &r); err != nil {
		return freshet.Position{}, err
	}
	return freshet.Position{Source: freshet.Source{Topic: r.Event.Topic, Partition: r.Event.Partition}, Offset: r.Event.Offset}, nil
}

// published is where lists lie that this lane has published.
func (e *Engine) published() freshet.Place {
	if e.cfg.Table == nil {
		return freshet.PlaceConfigured
	}
	return freshet.PlacePublic
}

// Recheck reads the stored lists again and gives those that are not what was published: another worker has saved a later list
// meanwhile, and may have died before publishing it.
func (e *Engine) Recheck(ctx context.Context, published []freshet.Publication) ([]freshet.Publication, error) {
	keys := make([]freshet.RecordKey, len(published))
	for i, p := range published {
		keys[i] = freshet.RecordKey{UserID: p.UserID, Surface: p.Surface, Place: e.published()}
	}
	records, err := e.store.Records(ctx, keys)
	if err != nil {
		return nil, fmt.Errorf("read %d stored lists: %w", len(keys), err)
	}
	var out []freshet.Publication
	for i, p := range published {
		if string(records[i]) == string(p.Record) {
			continue
		}
		p.Record = records[i]
		if records[i] != nil {
			if p.From, err = computedFrom(records[i]); err != nil {
				return nil, fmt.Errorf("read the stored list of surface %s: %w", p.Surface, err)
			}
		}
		out = append(out, p)
	}
	return out, nil
}
