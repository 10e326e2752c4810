package recommend

import (
	"time"

	"freshet"
)

// hotProfiles are the local copies of one partition's profiles: whoever owns the partition need not read the store for them.
// Compare-and-set makes a stale copy harmless; its age is bounded all the same. Two generations bound the number: a user that
// was not seen while a whole generation filled up is dropped. nil keeps none.
type hotProfiles struct {
	young, old map[string]hotProfile
	half       int // entries per generation
	liveFor    time.Duration
	now        func() time.Time
}

type hotProfile struct {
	profile *freshet.Profile
	version freshet.Version
	stands  standing
	until   time.Time
}

// standing is what stands before a user: what his next behaviour is judged by and learnt from.
type standing struct {
	list   []string // the home list; nil = not known
	slates []*slate // of each surface that adapts, nil where not known
}

func newHotProfiles(users int, liveFor time.Duration, now func() time.Time) *hotProfiles {
	return &hotProfiles{young: map[string]hotProfile{}, half: (users + 1) / 2, liveFor: liveFor, now: now}
}

// take hands a copy out; the caller owns it until put gives it back. A batch that fails simply never does.
func (h *hotProfiles) take(user string) (p *freshet.Profile, v freshet.Version, stands standing) {
	if h == nil {
		return nil, "", standing{}
	}
	e, ok := h.young[user]
	if !ok {
		e, ok = h.old[user]
	}
	delete(h.young, user)
	delete(h.old, user)
	if !ok || h.now().After(e.until) {
		return nil, "", standing{}
	}
	return e.profile, e.version, e.stands
}

func (h *hotProfiles) put(user string, p *freshet.Profile, v freshet.Version, stands standing) {
	if h == nil || h.liveFor <= 0 || h.half == 0 {
		return
	}
	if len(h.young) >= h.half {
		h.young, h.old = make(map[string]hotProfile, h.half), h.young
	}
	h.young[user] = hotProfile{profile: p, version: v, stands: stands, until: h.now().Add(h.liveFor)}
}
