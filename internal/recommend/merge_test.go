package recommend

import (
	"context"
	"errors"
	"slices"
	"testing"

	"freshet"
)

func login(anonymous, into string, offset int64) freshet.Event {
	e := event(anonymous, offset, "")
	e.Type, e.Items, e.MergeInto = "login", nil, into
	return e
}

// inbox is the log as far as it concerns merged events: what is forwarded is delivered to the engine once the batch is done.
type inbox struct {
	f    *fixture
	sent []freshet.Event
	fail error
	next int64
}

func (b *inbox) forward(_ context.Context, merged []freshet.Event) error {
	if b.fail != nil {
		return b.fail
	}
	for _, m := range merged {
		b.next++
		m.Position = freshet.Position{Source: freshet.Source{Topic: "events", Partition: 1}, Offset: b.next}
		b.sent = append(b.sent, m)
	}
	return nil
}

// deliver handles what was forwarded until nothing more comes.
func (b *inbox) deliver(t *testing.T) (delivered int) {
	t.Helper()
	for len(b.sent) > 0 {
		m := b.sent[0]
		b.sent = b.sent[1:]
		b.f.handle(t, m)
		if delivered++; delivered > 50 {
			t.Fatal("forwarding never ends")
		}
	}
	return delivered
}

func newInbox(t *testing.T) *inbox {
	b := &inbox{}
	b.f = newFixture(t, func(c *Config) { c.MaxHistory, c.Forward = 20, b.forward })
	return b
}

func (b *inbox) window(t *testing.T, user string) (items []string) {
	t.Helper()
	p, err := freshet.DecodeProfile(user, b.f.store.profiles[user])
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range p.Window {
		items = append(items, e.ItemID)
	}
	return items
}

// What an anonymous user did is in its place in the history of the user that he turned out to be, and the state is the one that the same
// behaviours give when they come in order.
func TestALoginBringsWhatWasDoneBefore(t *testing.T) {
	b := newInbox(t)
	b.f.handle(t, event("u1", 0, "i1"), event("anon", 1, "i2"), event("u1", 2, "i3"), event("anon", 3, "i4"))
	b.f.handle(t, login("anon", "u1", 4))
	b.deliver(t)
	if got, want := b.window(t, "u1"), []string{"i1", "i2", "i3", "i4"}; !slices.Equal(got, want) {
		t.Fatalf("history %v, want %v", got, want)
	}
	b.f.handle(t, event("anon", 5, "i5")) // another tab has not heard of the login
	b.deliver(t)
	if got, want := b.window(t, "u1"), []string{"i1", "i2", "i3", "i4", "i5"}; !slices.Equal(got, want) {
		t.Fatalf("history %v, want %v", got, want)
	}
	for n, id := range []string{"i1", "i2", "i3", "i4", "i5"} {
		at := int64(n)
		if n == 4 {
			at = 5
		}
		e := event("straight", at, id)
		e.Position.Partition = 7
		b.f.handle(t, e)
	}
	u1, err := freshet.DecodeProfile("u1", b.f.store.profiles["u1"])
	if err != nil {
		t.Fatal(err)
	}
	straight, err := freshet.DecodeProfile("straight", b.f.store.profiles["straight"])
	if err != nil {
		t.Fatal(err)
	}
	if u1.State[0] != straight.State[0] {
		t.Fatalf("state %v, of a user who did it all himself %v", u1.State, straight.State)
	}
}

// A login that comes again, whole or behaviour by behaviour, brings nothing twice; one that cannot be forwarded waits.
func TestALoginCountsOnce(t *testing.T) {
	b := newInbox(t)
	b.f.handle(t, event("anon", 0, "i1"), event("anon", 1, "i2"))
	b.fail = errors.New("no brokers")
	events := []freshet.Event{login("anon", "u1", 2)}
	if _, err := b.f.Handle(context.Background(), events); !errors.Is(err, freshet.ErrUnavailable) {
		t.Fatalf("%v: it must wait", err)
	}
	b.fail = nil
	for range 3 { // saved, but not forwarded; then twice more
		b.f.handle(t, events...)
		b.deliver(t)
	}
	if got := b.window(t, "u1"); !slices.Equal(got, []string{"i1", "i2"}) {
		t.Fatalf("history %v", got)
	}
	again := login("anon", "u1", 3)
	again.ID = "another login"
	b.f.handle(t, again)
	b.deliver(t)
	if got := b.window(t, "u1"); !slices.Equal(got, []string{"i1", "i2"}) {
		t.Fatalf("history %v after a second login", got)
	}
}

// Ids that name each other end up with the same history, and the log with an end.
func TestLoginsInACircleEnd(t *testing.T) {
	b := newInbox(t)
	b.f.handle(t, event("a", 0, "i1"), event("b", 1, "i2"), login("a", "b", 2), login("b", "a", 3), event("a", 4, "i3"), event("b", 5, "i4"))
	b.deliver(t)
	want := []string{"i1", "i2", "i3", "i4"}
	if a, b := b.window(t, "a"), b.window(t, "b"); !slices.Equal(a, want) || !slices.Equal(b, want) {
		t.Fatalf("%v and %v, want %v", a, b, want)
	}
}

// What the user had erased does not come back by a login.
func TestALoginBringsNothingThatWasErased(t *testing.T) {
	b := newInbox(t)
	erase := event("u1", 2, "")
	erase.Type, erase.Items = "erase", nil
	b.f.handle(t, event("anon", 1, "i1"), event("u1", 0, "i9"), erase, event("anon", 3, "i2"), login("anon", "u1", 4))
	b.deliver(t)
	if got := b.window(t, "u1"); !slices.Equal(got, []string{"i2"}) {
		t.Fatalf("history %v, want only what came after the erasure", got)
	}
}
