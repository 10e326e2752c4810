package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"go.uber.org/zap"

	"freshet"
	"freshet/featurestore"
	"freshet/stream"
)

// A floor is what the servers and the clients cost by themselves: the same events through the same consumer, but nothing is
// computed. Profiles and lists of the same size as the worker wrote go to the store, and the lists to a topic, or do not.
type floor struct {
	name    string
	store   *featurestore.Redis // nil = nothing is saved
	publish bool
	profile []byte // what is saved for everybody, but for its revision
	list    []byte // what follows rev in the record
	window  *benchWindow

	mu   sync.Mutex
	seen map[freshet.Source]map[string]freshet.Version
}

// Handle implements stream.Handler.
func (f *floor) Handle(ctx context.Context, events []freshet.Event) ([]freshet.Publication, error) {
	var lists []freshet.Publication
	if f.store != nil {
		var err error
		if lists, err = f.save(ctx, events); err != nil {
			return nil, err
		}
	}
	f.window.passed(len(events), len(lists))
	if !f.publish {
		return nil, nil
	}
	return lists, nil
}

// Release implements stream.Handler.
func (f *floor) Release(freshet.Source) {}

func (f *floor) of(s freshet.Source) map[string]freshet.Version {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.seen[s] == nil {
		f.seen[s] = map[string]freshet.Version{}
	}
	return f.seen[s]
}

// save stores one profile and one list per user of the batch, by the same compare-and-set as the worker.
func (f *floor) save(ctx context.Context, events []freshet.Event) ([]freshet.Publication, error) {
	seen := f.of(events[0].Position.Source)
	last := make(map[string]int, len(events))
	for i := range events {
		last[events[i].UserID] = i
	}
	updates := make([]freshet.Update, 0, len(last))
	lists := make([]freshet.Publication, 0, len(last))
	for i := range events {
		e := &events[i]
		if last[e.UserID] != i {
			continue
		}
		rev := seen[e.UserID].Rev() + 1
		profile := append(make([]byte, 0, len(f.profile)), f.profile...)
		binary.BigEndian.PutUint64(profile[1:], rev)
		record := append(strconv.AppendUint(append(make([]byte, 0, len(f.list)+32), `{"v":1,"cv":1,"rev":`...), rev, 10), f.list...)
		updates = append(updates, freshet.Update{UserID: e.UserID, Base: seen[e.UserID], Profile: profile,
			Records: []freshet.Record{{Surface: freshet.HomeSurface, Value: record}}})
		lists = append(lists, freshet.Publication{UserID: e.UserID, Surface: freshet.HomeSurface, Record: record, From: e.Position})
	}
	results, err := f.store.Save(ctx, updates)
	if err != nil {
		return nil, err
	}
	for i, r := range results {
		if r != freshet.Saved {
			return nil, fmt.Errorf("save for a floor: %v", r)
		}
		seen[updates[i].UserID] = freshet.VersionOf(updates[i].Profile)
	}
	return lists, nil
}

// runFloor consumes the events from their beginning by a group of its own.
func runFloor(ctx context.Context, cfg Config, f *floor, log *zap.Logger) (benchCost, error) {
	conn, err := connection(cfg)
	if err != nil {
		return benchCost{}, err
	}
	types, err := cfg.EventTypes()
	if err != nil {
		return benchCost{}, err
	}
	decoder, err := stream.NewDecoder(stream.DecoderConfig{Types: types, MinTime: cfg.MinTime(), TypePrefix: cfg.Ingest.TypePrefix})
	if err != nil {
		return benchCost{}, err
	}
	var producer *stream.Producer
	if f.publish {
		if producer, err = stream.NewProducer(stream.ProducerConfig{Connection: conn, Lists: cfg.Kafka.Topics.Recommendations}, log); err != nil {
			return benchCost{}, err
		}
		defer producer.Close()
	}
	k := cfg.Kafka
	consumer, err := stream.NewConsumer(stream.ConsumerConfig{Connection: conn, Group: k.Group + "-floor-" + f.name, Topic: k.Topics.Events,
		BatchEvents: k.BatchMax, Linger: k.Linger.D(), LossWindow: k.LossWindow.D(), SessionTimeout: k.Session.D(), RebalanceTimeout: k.Session.D()},
		decoder, f, producer, nil, nil, log)
	if err != nil {
		return benchCost{}, err
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- consumer.Run(running) }()
	select {
	case <-f.window.done:
		stop()
		return f.window.cost(), <-ended
	case err := <-ended:
		if err == nil {
			err = ctx.Err() // a consumer that is told to stop ends without an error
		}
		return benchCost{}, errors.Join(fmt.Errorf("the floor %s ended early", f.name), err)
	}
}
