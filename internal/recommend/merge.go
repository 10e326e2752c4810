package recommend

import (
	"context"
	"fmt"
	"slices"

	"freshet"
)

// forward publishes what users did under an id that has turned out to be somebody else's: after the login everything that the window holds,
// then each behaviour as it comes. It follows the save, and precedes the commit: a login that comes again after a crash is forwarded again, and
// since every behaviour carries the hash of the event that it came with first, it counts once.
func (e *Engine) forward(ctx context.Context, tasks, again []*task) error {
	name := ""
	if e.cfg.Forward != nil {
		name = e.cfg.Types.Merged()
	}
	if name == "" {
		return nil
	}
	var merged []freshet.Event
	for _, t := range tasks {
		if t.profile.Alias == "" || slices.Contains(again, t) {
			continue
		}
		for i, ev := range t.events {
			if o := t.outcomes[i]; o != freshet.Applied && o != freshet.Covered {
				continue
			}
			if items := e.brings(t.profile, ev); len(items) > 0 {
				merged = append(merged, freshet.Event{ID: name + "-" + ev.Position.String(), Type: name, UserID: t.profile.Alias, Items: items, Time: ev.Time})
			}
		}
	}
	if len(merged) == 0 {
		return nil
	}
	if err := e.cfg.Forward(ctx, merged); err != nil {
		return fmt.Errorf("forward %d merged events: %w: %w", len(merged), freshet.ErrUnavailable, err)
	}
	return nil
}

// brings lists the behaviours that an event of an anonymous user has for the user that he is.
func (e *Engine) brings(p *freshet.Profile, ev *freshet.Event) (items []freshet.EventItem) {
	typ, _ := e.cfg.Types.Lookup(ev.Type)
	switch typ.EffectOf(ev) {
	case freshet.Login:
		for i := range p.Window {
			if w := &p.Window[i]; w.Time <= ev.Time {
				items = append(items, freshet.EventItem{ItemID: w.ItemID, Quantity: 1, Type: w.Type, Time: w.Time, Origin: w.Event})
			}
		}
	case freshet.Extend:
		for _, it := range ev.Items {
			items = append(items, freshet.EventItem{ItemID: it.ItemID, Quantity: 1, Type: ev.Type, Time: ev.Time, Origin: freshet.HashID(ev.ID)})
		}
	case freshet.Merge:
		items = ev.Items
	}
	return items
}
