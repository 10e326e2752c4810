package featurestore

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"freshet"
)

// scanCount is how many keys a server looks at per call.
const scanCount = 2000

// scan hands over the keys that begin with head, some hundred at a time, by one call of f at a time, from every master. Each key that
// stays is seen at least once.
func (r *Redis) scan(ctx context.Context, act, head string, f func(keys []string) error) error {
	var one sync.Mutex
	return r.eachMaster(ctx, func(ctx context.Context, c *redis.Client) error {
		for cursor := uint64(0); ; {
			found, next, err := c.Scan(ctx, cursor, globEscaped(head)+"*", scanCount).Result()
			if err != nil {
				return r.failed(act, err)
			}
			if len(found) > 0 {
				one.Lock()
				err = f(found)
				one.Unlock()
			}
			if err != nil {
				return err
			}
			if cursor = next; cursor == 0 {
				return nil
			}
		}
	})
}

// EachProfile hands over the users of whom a lane has a profile. Nobody who stays is missed; somebody may be seen twice.
func (r *Redis) EachProfile(ctx context.Context, lane string, f func(users []string) error) error {
	head := r.keys.of(lane).lane + "profile:{"
	return r.scan(ctx, "list the profiles of lane "+lane, head, func(keys []string) error {
		users := make([]string, len(keys))
		for i, key := range keys {
			users[i] = freshet.UnescapeID(strings.TrimSuffix(strings.TrimPrefix(key, head), "}"))
		}
		return f(users)
	})
}

// EachOwnRecord hands over the lists in a lane's own namespace, as EachProfile does.
func (r *Redis) EachOwnRecord(ctx context.Context, lane string, f func(list []RecordKey) error) error {
	head := r.keys.of(lane).lane + "recs:{"
	return r.scan(ctx, "list the lists of lane "+lane, head, func(keys []string) error {
		list := make([]RecordKey, len(keys))
		for i, key := range keys {
			user, surface, _ := strings.Cut(strings.TrimPrefix(key, head), "}")
			list[i] = RecordKey{UserID: freshet.UnescapeID(user), Surface: freshet.HomeSurface, Place: freshet.PlaceOwn}
			if surface != "" {
				list[i].Surface = freshet.UnescapeID(surface[1:])
			}
		}
		return f(list)
	})
}

// Namespaces counts the keys of every lane that left some, whether the table knows it or not.
func (r *Redis) Namespaces(ctx context.Context) (map[string]int, error) {
	count := map[string]int{}
	err := r.scan(ctx, "list namespaces", r.keys.prefix, func(keys []string) error {
		for _, key := range keys {
			if lane, rest, ok := strings.Cut(strings.TrimPrefix(key, r.keys.prefix), ":"); ok && rest != "" && !slices.Contains(reserved, lane) {
				count[lane]++
			}
		}
		return nil
	})
	return count, err
}

// DropLane deletes every key of a lane's namespace. pace is called after each piece with the number of keys deleted in all, and may
// wait; its error ends the work. A lane whose workers still run comes back: stop them first.
func (r *Redis) DropLane(ctx context.Context, lane string, pace func(deleted int) error) (int, error) {
	if err := ValidLane(lane); err != nil {
		return 0, err
	}
	const piece = 100
	deleted := 0
	err := r.scan(ctx, "list the keys of lane "+lane, r.keys.of(lane).lane, func(keys []string) error {
		for part := range slices.Chunk(keys, piece) {
			_, err := r.all(ctx, "delete keys of lane "+lane, len(part), piece, func(i int) redis.Cmder { return redis.NewIntCmd(ctx, "unlink", part[i]) })
			if err != nil {
				return err
			}
			if deleted += len(part); pace != nil {
				if err := pace(deleted); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return deleted, err
}
