package recommend

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"freshet"
)

// standing finds the home lists of users whose profile was not held here: the list that stands is the one that the next behaviour is
// judged by. Nobody asks: nothing is read.
func (e *Engine) standing(ctx context.Context, tasks []*task) error {
	if e.judge == nil {
		return nil
	}
	var keys []freshet.RecordKey
	var asked []*task
	for _, t := range tasks {
		t.standing = standing{}
		if t.base != "" && len(t.profile.Window) > 0 && t.placing != freshet.PlaceOwn {
			keys, asked = append(keys, freshet.RecordKey{UserID: t.user, Surface: freshet.HomeSurface, Place: t.placing}), append(asked, t)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	records, err := e.store.Records(ctx, keys)
	if err != nil {
		return fmt.Errorf("read %d standing lists: %w", len(keys), err)
	}
	for i, t := range asked {
		t.standing.list = listedIn(records[i])
	}
	return nil
}

// judgeList reports where the user's next items stood, and lets the surfaces that adapt learn from them: those that the event names, or all.
// Events of one batch are judged by the lists before it: no others could be seen. Users of another lane saw that one's lists: what this lane
// would have shown them is not judged, but what they chose among its candidates teaches it all the same.
func (e *Engine) judgeList(t *task) {
	judges := e.judge != nil && len(t.standing.list) > 0 && t.placing != freshet.PlaceOwn
	if !judges && t.standing.slates == nil {
		return
	}
	for i := range t.lessons {
		l := &t.lessons[i]
		if l.Type.EffectOf(l.Event) != freshet.Extend {
			continue
		}
		for k := range l.Event.Items {
			id := l.Event.Items[k].ItemID
			if judges {
				e.judge.Judged(t.user, 1+slices.Index(t.standing.list, id))
			}
			for n, a := range e.adapters {
				if a != nil && n < len(t.standing.slates) && t.standing.slates[n] != nil && (l.Event.Surface == "" || l.Event.Surface == a.s.Name) {
					a.learn(t.standing.slates[n], id)
				}
			}
		}
	}
}

func idsOf(list []freshet.RecommendedItem) []string {
	ids := make([]string, len(list))
	for i := range list {
		ids[i] = list[i].ItemID
	}
	return ids
}

// listedIn reads the item ids of a record as Recommendation.AppendJSON writes it. encoding/json would take 20 times as long, for a few
// strings of 2 KB.
func listedIn(record []byte) (ids []string) {
	head := []byte(`{"item_id":"`)
	for {
		at := bytes.Index(record, head)
		if at < 0 {
			return ids
		}
		record = record[at+len(head):]
		end := 0
		for end < len(record) && record[end] != '"' {
			if record[end] == '\\' {
				end++
			}
			end++
		}
		if end >= len(record) {
			return ids
		}
		id := string(record[:end])
		if bytes.IndexByte(record[:end], '\\') >= 0 && json.Unmarshal([]byte(`"`+id+`"`), &id) != nil {
			return ids
		}
		ids, record = append(ids, id), record[end:]
	}
}
