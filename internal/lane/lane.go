package lane

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"freshet"
)

// ErrNotCaughtUp is returned (wrapped) where a lane would get users before it has caught up.
var ErrNotCaughtUp = errors.New("not caught up")

// Share reads 5% or 0.05, a share of the users.
func Share(text string) (float64, error) {
	number, percent := strings.CutSuffix(strings.TrimSpace(text), "%")
	v, err := strconv.ParseFloat(number, 64)
	if percent {
		v /= 100
	}
	if err != nil || !(v >= 0 && v <= 1) {
		return 0, fmt.Errorf("share: %q is not between 0%% and 100%%", text)
	}
	return v, nil
}

// Add puts a new lane into the table. It owns nobody.
func Add(t *freshet.LaneTable, l freshet.Lane) error {
	if _, there := t.Lanes[l.Name]; there {
		return fmt.Errorf("lane %s exists already: choose another name, or drop it first", l.Name)
	}
	if _, there := t.Lanes[t.Live]; !there {
		return errors.New("there is no live lane yet: start a worker first (freshet serve)")
	}
	if _, there := t.Lanes[l.Seed]; l.Seed != "" && !there {
		return fmt.Errorf("lane %s: there is no lane %s to take profiles from", l.Name, l.Seed)
	}
	l.Share, l.CV, l.Since, l.Caught, l.Dropping = 0, 0, t.Version, false, false
	t.Lanes[l.Name] = l
	return nil
}

// SetShare gives a lane that share of all users, taken from the live lane or given back to it.
func SetShare(t *freshet.LaneTable, name string, share float64, force bool) error {
	l, err := find(t, name)
	switch {
	case err != nil:
		return err
	case name == t.Live:
		return fmt.Errorf("lane %s is live: it has whatever no other lane has. Give a share to another lane, or promote one", name)
	case share > 0 && !l.Caught && !force:
		return fmt.Errorf("lane %s: %w: freshet lanes list shows how far it is; --force gives it users all the same", name, ErrNotCaughtUp)
	}
	slots := expand(t)
	want, have := int(math.Round(share*freshet.LaneSlots)), 0
	for i := range slots {
		if slots[i].Lane == name {
			have++
		}
	}
	start := int(freshet.HashID("lane "+name) % freshet.LaneSlots)
	at := func(i int) *freshet.LaneOwner { return &slots[(start+i)%freshet.LaneSlots] }
	for i := 0; i < freshet.LaneSlots && have < want; i++ {
		if s := at(i); s.Lane == t.Live {
			*s = freshet.LaneOwner{Lane: name, CV: t.Version, Was: t.Live}
			have++
		}
	}
	if have < want {
		return fmt.Errorf("lane %s: %s of the users are not the live lane's to give: reduce the share of another lane first", name, percent(want-have))
	}
	for i := freshet.LaneSlots - 1; i >= 0 && have > want; i-- {
		if s := at(i); s.Lane == name {
			*s = freshet.LaneOwner{Lane: t.Live, CV: t.Version, Was: name}
			have--
		}
	}
	settle(t, slots)
	return nil
}

func percent(slots int) string {
	return strconv.FormatFloat(100*float64(slots)/freshet.LaneSlots, 'f', -1, 64) + "%"
}

// Promote makes a lane the live one: it takes over the users of the lane that was, which is kept. Other lanes keep their shares.
func Promote(t *freshet.LaneTable, name string, force bool) error {
	l, err := find(t, name)
	switch {
	case err != nil:
		return err
	case name == t.Live:
		return fmt.Errorf("lane %s is live already", name)
	case !l.Caught && !force:
		return fmt.Errorf("lane %s: %w: freshet lanes list shows how far it is; --force promotes it all the same", name, ErrNotCaughtUp)
	}
	slots := expand(t)
	for i := range slots {
		if slots[i].Lane == t.Live {
			slots[i] = freshet.LaneOwner{Lane: name, CV: t.Version, Was: t.Live}
		}
	}
	t.Live = name
	settle(t, slots)
	return nil
}

// Drop marks a lane for deletion. No worker runs it from then on; Forget takes its row away when its keys are gone.
func Drop(t *freshet.LaneTable, name string) error {
	l, ok := t.Lanes[name]
	switch {
	case !ok:
		return unknown(name)
	case name == t.Live:
		return fmt.Errorf("lane %s is live: promote another lane first", name)
	}
	for _, o := range t.Owners {
		if o.Lane == name {
			return fmt.Errorf("lane %s owns users: freshet lanes share %s 0%% gives them back", name, name)
		}
		if o.Was == name && t.Sweep > 0 && o.CV >= t.Sweep {
			return fmt.Errorf("lane %s: some of its former users may still have its lists: run the last freshet lanes promote or share again to its end", name)
		}
	}
	for _, other := range t.Lanes {
		if other.Seed == name && !other.Caught && !other.Dropping {
			return fmt.Errorf("lane %s: lane %s still takes its profiles", name, other.Name)
		}
	}
	l.Dropping = true
	t.Lanes[name] = l
	return nil
}

// Forget takes the row of a dropped lane away.
func Forget(t *freshet.LaneTable, name string) error {
	if !t.Lanes[name].Dropping {
		return fmt.Errorf("lane %s is not being dropped", name)
	}
	delete(t.Lanes, name)
	slots := expand(t)
	for i := range slots {
		if slots[i].Was == name {
			slots[i].Was = ""
		}
	}
	t.Owners = compress(slots)
	return nil
}

// CatchUp notes that a lane has caught up.
func CatchUp(t *freshet.LaneTable, name string) error {
	l, err := find(t, name)
	if err == nil {
		l.Caught = true
		t.Lanes[name] = l
	}
	return err
}

func find(t *freshet.LaneTable, name string) (freshet.Lane, error) {
	l, ok := t.Lanes[name]
	switch {
	case !ok:
		return l, unknown(name)
	case l.Dropping:
		return l, fmt.Errorf("lane %s is being dropped", name)
	}
	return l, nil
}

func unknown(name string) error {
	return fmt.Errorf("there is no lane %s: freshet lanes list shows those there are", name)
}

// expand gives one owner per slot.
func expand(t *freshet.LaneTable) []freshet.LaneOwner {
	slots := make([]freshet.LaneOwner, 0, freshet.LaneSlots)
	for _, o := range t.Owners {
		for range o.Slots {
			slots = append(slots, freshet.LaneOwner{Lane: o.Lane, CV: o.CV, Was: o.Was})
		}
	}
	for len(slots) < freshet.LaneSlots {
		slots = append(slots, freshet.LaneOwner{Lane: t.Live, CV: max(t.Lanes[t.Live].CV, 1)})
	}
	return slots
}

func compress(slots []freshet.LaneOwner) []freshet.LaneOwner {
	var runs []freshet.LaneOwner
	for _, s := range slots {
		s.Slots = 0
		if n := len(runs); n > 0 {
			last := runs[n-1]
			if last.Slots = 0; last == s {
				runs[n-1].Slots++
				continue
			}
		}
		s.Slots = 1
		runs = append(runs, s)
	}
	return runs
}

// settle stores the owners and what follows from them: shares, the version at which each lane last came to own somebody, and
// that the users who moved have yet to be swept.
func settle(t *freshet.LaneTable, slots []freshet.LaneOwner) {
	t.Owners = compress(slots)
	count := map[string]int{}
	moved := false
	for _, o := range t.Owners {
		count[o.Lane] += o.Slots
		if o.CV == t.Version {
			moved = true
			l := t.Lanes[o.Lane]
			l.CV = t.Version
			t.Lanes[o.Lane] = l
		}
	}
	for name, l := range t.Lanes {
		l.Share = float64(count[name]) / freshet.LaneSlots
		t.Lanes[name] = l
	}
	if moved && t.Sweep == 0 {
		t.Sweep = t.Version
	}
}
