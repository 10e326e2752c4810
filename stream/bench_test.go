package stream

import (
	"context"
	"fmt"
	"testing"

	"go.uber.org/zap"

	"freshet"
)

// BenchmarkConsume measures fetch, decode, hand over and late commit of events in one partition: what the loop itself costs.
func BenchmarkConsume(b *testing.B) {
	br := fakeBroker(b)
	if _, err := EnsureTopics(testContext(b), br.conn, Topic{Name: "events", Partitions: 1}); err != nil {
		b.Fatal(err)
	}
	p, err := NewProducer(ProducerConfig{Connection: br.conn}, zap.NewNop())
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	const n = 50_000
	records := make([]Record, n)
	for i := range records {
		e := event(fmt.Sprintf("u%d", i%1000), i)
		records[i] = Record{Key: []byte(e.UserID), Value: AppendEvent(nil, &e)}
	}
	if err := p.Publish(b.Context(), "events", records); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		sink := &sink{want: n, done: make(chan struct{})}
		c, err := NewConsumer(ConsumerConfig{Connection: br.conn, Group: random(), Topic: "events"}, testDecoder(b), sink, nil, nil, nil, zap.NewNop())
		if err != nil {
			b.Fatal(err)
		}
		ctx, stop := context.WithCancel(b.Context())
		ended := make(chan error, 1)
		go func() { ended <- c.Run(ctx) }()
		<-sink.done
		stop()
		<-ended
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// sink counts what it is given.
type sink struct {
	got, want int
	done      chan struct{}
}

func (s *sink) Handle(_ context.Context, events []freshet.Event) ([]freshet.Publication, error) {
	if s.got += len(events); s.got == s.want {
		close(s.done)
	}
	return nil, nil
}

func (s *sink) Release(freshet.Source) {}
