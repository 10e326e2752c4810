package main

import (
	"os"
	"slices"
	"testing"
	"time"

	"freshet"
)

// An anonymous session merges on login, on the servers that there are: the user's profile holds both, in order, and its state and list are
// those of a user who did it all himself; what comes later under the anonymous id follows; a second login changes nothing.
func TestAnAnonymousSessionMergesOnLogin(t *testing.T) {
	s := serveEmbedded(t, func(c *Config) {
		if os.Getenv("FRESHET_TEST_KAFKA") != "" && os.Getenv("FRESHET_TEST_REDIS") != "" {
			real, _ := realServers(t)
			c.Kafka, c.Redis = real.Kafka, real.Redis
		}
	})
	at := func(minute int) int64 { return time.Date(2026, 1, 1, 0, minute, 0, 0, time.UTC).UnixMilli() }
	send := func(events ...freshet.Event) {
		t.Helper()
		if err := s.producer.PublishEvents(t.Context(), events); err != nil {
			t.Fatal(err)
		}
	}
	view := func(user, item string, minute int) freshet.Event {
		return freshet.Event{ID: user + item, Type: "view", UserID: user, Items: []freshet.EventItem{{ItemID: item, Quantity: 1}}, Time: at(minute)}
	}
	profile := func(user string) *freshet.Profile {
		stored, err := s.first().store.Load(t.Context(), []string{user})
		if err != nil || stored[0] == nil {
			return &freshet.Profile{}
		}
		p, err := freshet.DecodeProfile(user, stored[0])
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	history := func(user string) (items []string) {
		for _, e := range profile(user).Window {
			items = append(items, e.ItemID)
		}
		return items
	}
	send(view("u1", "o0001", 1), view("anon", "o0025", 2), view("u1", "o0004", 3), view("anon", "o0002", 4))
	s.await(t, "both have a history", func() bool { return len(history("u1")) == 2 && len(history("anon")) == 2 })
	login := freshet.Event{ID: "login-1", Type: "login", UserID: "anon", MergeInto: "u1", Time: at(5)}
	send(login)
	s.await(t, "the user has the anonymous history", func() bool { return len(history("u1")) == 4 })
	send(view("anon", "o0011", 6))
	s.await(t, "what comes later follows", func() bool { return len(history("u1")) == 5 })
	login.ID = "login-2"
	send(login, view("u1", "o0013", 7))
	s.await(t, "the second login is applied", func() bool { return profile("anon").Rev == 5 && len(history("u1")) >= 6 })
	if got, want := history("u1"), []string{"o0001", "o0025", "o0004", "o0002", "o0011", "o0013"}; !slices.Equal(got, want) {
		t.Fatalf("history %v, want %v", got, want)
	}
	for n, item := range history("u1") {
		minute := n + 1
		if n >= 4 {
			minute++
		}
		send(view("straight", item, minute))
	}
	s.await(t, "the other user has done it all himself", func() bool { return len(history("straight")) == 6 })
	if a, b := profile("u1"), profile("straight"); !slices.Equal(a.State, b.State) {
		t.Error("the state is not that of a user who did it all himself")
	}
	_, a := s.listOf(t, "u1")
	_, b := s.listOf(t, "straight")
	if !slices.Equal(a, b) || len(a) == 0 {
		t.Errorf("list %v, of a user who did it all himself %v", a, b)
	}
}
