package featurestore

import (
	"fmt"

	"freshet"
)

// keys builds every key that freshet uses (docs/contracts.md). Ids are escaped, so that the braces around one are the hash tag.
type keys struct {
	prefix string // "freshet:"
	lane   string // "freshet:live:"
	public bool   // records go to the public keys
}

func keysOf(c Config) keys {
	return keys{prefix: c.Prefix + ":", lane: c.Prefix + ":" + c.Lane + ":", public: c.Owner}
}

// of gives another lane's keys.
func (k keys) of(lane string) keys {
	k.lane = k.prefix + lane + ":"
	return k
}

func (k keys) profile(user string) string { return k.lane + "profile:{" + freshet.EscapeID(user) + "}" }

// place resolves what is left to the store's configuration.
func (k keys) place(p freshet.Place) freshet.Place {
	switch {
	case p != freshet.PlaceConfigured:
		return p
	case k.public:
		return freshet.PlacePublic
	}
	return freshet.PlaceOwn
}

// record is where a user's list is; of two places the public one.
func (k keys) record(p freshet.Place, user, surface string) string {
	space := k.prefix
	if k.place(p) == freshet.PlaceOwn {
		space = k.lane
	}
	key := space + "recs:{" + freshet.EscapeID(user) + "}"
	if surface != freshet.HomeSurface {
		key += ":" + freshet.EscapeID(surface)
	}
	return key
}

// fallback is the list for users without one of their own.
func (k keys) fallback(surface string) string {
	if surface == freshet.HomeSurface {
		return k.prefix + "recs:default"
	}
	return k.prefix + "recs:default:" + freshet.EscapeID(surface)
}

func (k keys) item(id string) string    { return k.prefix + "item:{" + freshet.EscapeID(id) + "}" }
func (k keys) vector(id string) string  { return k.prefix + "itemvec:{" + freshet.EscapeID(id) + "}" }
func (k keys) similar(id string) string { return k.prefix + "similar:{" + freshet.EscapeID(id) + "}" }
func (k keys) covisit(id string) string { return k.lane + "covisit:{" + freshet.EscapeID(id) + "}" }

// weights is what choices said about the weights of a surface.
func (k keys) weights(surface string) string { return k.lane + "weights:" + freshet.EscapeID(surface) }

// responses is what users did about a new item.
func (k keys) responses(id string) string { return k.lane + "new:{" + freshet.EscapeID(id) + "}" }

func (k keys) lanes() string             { return k.prefix + "lanes" }
func (k keys) progress() string          { return k.lane + "progress" }
func (k keys) arm() string               { return k.lane + "arm" }
func (k keys) trending() string          { return k.prefix + "trending" }
func (k keys) popular(dom string) string { return join(k.prefix+"popular", dom) }

// join is a user's join of impressions and outcomes; open lists the users of a partition whose exposures are open.
func (k keys) join(user string) string { return k.prefix + "join:{" + freshet.EscapeID(user) + "}" }
func (k keys) open(s freshet.Source) string {
	return fmt.Sprintf("%sjoins:{%s-%d-%d}", k.prefix, freshet.EscapeID(s.Topic), s.Incarnation, s.Partition)
}

// lease is held by the worker that does something for all of them.
func (k keys) lease(task string) string { return k.lane + "lease:" + task }

// keeper is the lease of something that all lanes share.
func (k keys) keeper(task string) string { return k.prefix + "lease:" + task }

func (k keys) sentinel(group, tag string) string {
	return k.lane + "sentinel:" + freshet.EscapeID(group) + ":{" + tag + "}"
}

func join(key, part string) string {
	if part == "" {
		return key
	}
	return key + ":" + freshet.EscapeID(part)
}
