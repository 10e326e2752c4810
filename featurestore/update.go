package featurestore

import (
	"fmt"
	"time"

	"freshet"
)

// checkUpdate refuses what no engine should produce: it would be stored and then read as nothing, or as damaged.
func checkUpdate(u *freshet.Update) error {
	switch {
	case u.UserID == "":
		return fmt.Errorf("update without a user id")
	case freshet.VersionOf(u.Profile) == "":
		return fmt.Errorf("user %q: profile of %d bytes is shorter than a header", u.UserID, len(u.Profile))
	case u.Base != "" && len(u.Base) != len(freshet.VersionOf(u.Profile)):
		return fmt.Errorf("user %q: base version of %d bytes", u.UserID, len(u.Base))
	}
	return nil
}

// lifetime is how long an update's keys live.
func (c *Config) lifetime(u *freshet.Update) time.Duration {
	if erases(u) {
		return c.TombstoneTTL
	}
	return c.TTL
}

// erases tells an erasure: it has records and every one is to be deleted.
func erases(u *freshet.Update) bool {
	for i := range u.Records {
		if u.Records[i].Value != nil {
			return false
		}
	}
	return len(u.Records) > 0
}

// cvOf is the cv that decides between the deletions of public records.
func (c *Config) cvOf(u *freshet.Update) uint64 {
	if u.Place == freshet.PlaceConfigured {
		return c.CV
	}
	return u.CV
}
