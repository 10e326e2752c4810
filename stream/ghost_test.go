package stream

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A member that could not reach its coordinator for a moment joins as a new one. The group must not wait for the one it was.
func TestAGroupDoesNotWaitForAMemberThatAMemberWas(t *testing.T) {
	t.Parallel()
	r := newRig(t, fakeBroker(t), 2)
	cfg := r.config()
	cfg.SessionTimeout, cfg.RebalanceTimeout = 25*time.Second, 25*time.Second
	l := newLedger()
	o := &counter{}
	r.run(cfg, &member{ledger: l}, o)
	sent := r.send(0, 50, 10)
	eventually(t, "applied", func() bool { return l.events() == 50 })
	faults := r.fake.Fault( // what a coordinator that moves away answers: kafka-go cannot join, cannot leave, and forgets who it was
		kfake.Fault{Keys: []kmsg.Key{kmsg.Heartbeat}, TopLevel: true, Err: kerr.NotCoordinator},
		kfake.Fault{Keys: []kmsg.Key{kmsg.JoinGroup}, TopLevel: true, Err: kerr.NotCoordinator},
		kfake.Fault{Keys: []kmsg.Key{kmsg.LeaveGroup}, TopLevel: true, Err: kerr.NotCoordinator},
	)
	defer faults.Remove()
	began := time.Now()
	eventually(t, "a second generation", func() bool { return o.get(func(o *counter) int { return o.rebalances }) >= 2 })
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("it took %v; the session is %v", took, cfg.SessionTimeout)
	}
	sent = append(sent, r.send(50, 50, 10)...)
	eventually(t, "all applied", func() bool { return l.events() == 100 })
	l.check(t, sent)
}
