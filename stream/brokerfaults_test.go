package stream

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"freshet"
)

// Whatever a broker answers, every event is applied once and in order, and the last list of each user is the one that is stored. The
// faults are those that a cluster gives while leaders move, coordinators load and members are thought dead.
func TestWhateverABrokerAnswersEveryEventIsAppliedOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, fakeBroker(t, kfake.NumBrokers(3)), 6)
	events, lists := r.name("events"), r.name("lists")
	faults := []kfake.Fault{
		{Keys: []kmsg.Key{kmsg.Fetch}, Topic: events, Err: kerr.NotLeaderForPartition},
		{Keys: []kmsg.Key{kmsg.Fetch}, Topic: events, Err: kerr.OffsetOutOfRange},
		{Keys: []kmsg.Key{kmsg.Fetch}, Topic: events, Err: kerr.UnknownTopicOrPartition},
		{Keys: []kmsg.Key{kmsg.Fetch}, Topic: events, Err: kerr.KafkaStorageError},
		{Keys: []kmsg.Key{kmsg.ListOffsets}, Err: kerr.LeaderNotAvailable},
		{Keys: []kmsg.Key{kmsg.Produce}, Topic: lists, Err: kerr.NotLeaderForPartition},
		{Keys: []kmsg.Key{kmsg.Produce}, Topic: lists, Err: kerr.NotEnoughReplicas},
		{Keys: []kmsg.Key{kmsg.Produce}, Topic: lists, Err: kerr.RequestTimedOut}, // after the records were appended, as kfake has it
		{Keys: []kmsg.Key{kmsg.Produce}, Topic: lists, Err: kerr.NotEnoughReplicasAfterAppend},
		{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.RequestTimedOut},
		{Keys: []kmsg.Key{kmsg.Metadata}, Topic: events, Err: kerr.LeaderNotAvailable},
		{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.CoordinatorLoadInProgress},
		{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.IllegalGeneration},
		{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.UnknownMemberID},
		{Keys: []kmsg.Key{kmsg.OffsetFetch}, Err: kerr.CoordinatorLoadInProgress},
		{Keys: []kmsg.Key{kmsg.FindCoordinator}, Err: kerr.CoordinatorNotAvailable},
		{Keys: []kmsg.Key{kmsg.JoinGroup}, Err: kerr.CoordinatorLoadInProgress},
		{Keys: []kmsg.Key{kmsg.SyncGroup}, Err: kerr.RebalanceInProgress},
		{Keys: []kmsg.Key{kmsg.Heartbeat}, Err: kerr.IllegalGeneration},
		{Keys: []kmsg.Key{kmsg.Heartbeat}, Err: kerr.UnknownMemberID},
		{Keys: []kmsg.Key{kmsg.Heartbeat}, Err: kerr.NotCoordinator},
	}
	l := newLedger()
	r.run(r.config(), &member{ledger: l}, nil)
	r.run(r.config(), &member{ledger: l}, nil)
	rnd := rand.New(rand.NewPCG(1, 1))
	var sent []freshet.Event
	for _, i := range rnd.Perm(len(faults)) {
		h := r.fake.Fault(faults[i])
		switch rnd.IntN(3) {
		case 0:
			r.fake.ShufflePartitionLeaders()
		case 1:
			r.fake.RehashCoordinators()
		}
		sent = append(sent, r.send(len(sent), 40, 25)...)
		time.Sleep(time.Duration(rnd.IntN(60)) * time.Millisecond) // so that a fault falls at another moment of the loops each time
		h.Remove()
	}
	sent = append(sent, r.send(len(sent), 200, 25)...)
	eventually(t, "all applied", func() bool { return l.events() >= len(sent) })
	l.check(t, sent)
	eventually(t, "the output topic's last lists are the stored ones", func() bool {
		latest := map[string]string{}
		for _, rec := range r.read(lists) {
			latest[string(rec.Key)] = string(rec.Value)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		for user, at := range l.last {
			if latest[user] != at.String() {
				return false
			}
		}
		return true
	})
}

// A broker that has just started does not know yet who coordinates a group. That is no answer to what the group has committed.
func TestCommittedOffsetsAreAskedForUntilThereIsAnAnswer(t *testing.T) {
	t.Parallel()
	r := newRig(t, fakeBroker(t), 2)
	cfg := r.config()
	r.commit(cfg.Group, cfg.Topic, map[int]int64{0: 7})
	for _, err := range []*kerr.Error{kerr.NotCoordinator, kerr.CoordinatorLoadInProgress} {
		r.fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetFetch}, Group: cfg.Group, Err: err, Count: 2})
		got, err := Committed(t.Context(), cfg.Connection, cfg.Group, cfg.Topic)
		if err != nil || len(got) != 1 || got[0] != 7 {
			t.Fatalf("%v, %v", got, err)
		}
	}
	if _, err := Committed(t.Context(), cfg.Connection, cfg.Group, "no-such-topic"); !errors.Is(err, ErrNoTopic) {
		t.Fatalf("%v", err)
	}
}
