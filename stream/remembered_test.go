package stream

import (
	"context"
	"strings"
	"testing"
	"time"

	"freshet"
)

// remembering is a member whose store says how far a partition is saved.
type remembering struct {
	*member
	saved map[int32]int64
}

func (r *remembering) Start(_ context.Context, s freshet.Source, next int64) (int64, int64, error) {
	if saved, ok := r.saved[s.Partition]; ok && s.Incarnation == 0 {
		return next, saved, nil
	}
	return next, -1, nil
}

// A broker that deletes a topic forgets what groups committed of it. Were the new topic of that name read from its beginning under the
// same source, every profile would take its events for ones that it had applied.
func TestATopicCreatedAnewIsNoticedByWhatTheStoreRemembers(t *testing.T) {
	onBrokers(t, func(t *testing.T, b *broker) {
		r := newRig(t, b, 2)
		sent := r.send(0, 60, 20)
		other := 0
		for _, e := range sent {
			other += partitionOf([]byte(e.UserID), 2)
		}
		l := newLedger()
		h := &remembering{&member{ledger: l}, map[int32]int64{0: 1000, 1: 3}}
		c := r.run(r.config(), h, nil)
		eventually(t, "partition 0 stopped", func() bool { return len(c.Stuck(time.Hour)) == 1 })
		if s := c.Status()[0]; s.State != StateStopped || !strings.Contains(s.Err.Error(), "1000 was saved") || !strings.Contains(s.Err.Error(), "kafka.topic_incarnation=1") {
			t.Errorf("%+v", s)
		}
		eventually(t, "partition 1, of which less is saved than it has, runs", func() bool { return l.events() == other })
		c.stop()
		cfg := r.config()
		cfg.TopicIncarnation = 1
		fresh := newLedger()
		r.run(cfg, &remembering{&member{ledger: fresh}, h.saved}, nil)
		eventually(t, "read as a new topic", func() bool { return fresh.events() == 60 })
		fresh.check(t, sent)
	})
}
