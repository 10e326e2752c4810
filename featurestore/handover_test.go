package featurestore_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"

	"github.com/alicebob/miniredis/v2"

	"freshet"
	"freshet/featurestore"
	"freshet/featurestore/storetest"
)

func TestAHandOverIsSeenOnceByEveryReader(t *testing.T) {
	handOver(t, featurestore.Config{Addrs: []string{miniredis.RunT(t).Addr()}})
}

func TestAHandOverIsSeenOnceByEveryReaderOfRedis(t *testing.T) {
	handOver(t, featurestore.Config{Addrs: []string{realAddr(t)}, Prefix: freshPrefix()})
}

// handOver has the old owner save on under what he knows, the new owner save and a sweep go through the users, all at once, while
// readers read: nobody reads nothing, the lane read changes once, and who did nothing has the new owner's list in the end.
func handOver(t *testing.T, cfg featurestore.Config) {
	const users, old, now = 24, uint64(1), uint64(5)
	live := subject(t, cfg).Store.(*featurestore.Redis)
	lane := func(name string) *featurestore.Redis {
		c := live.Config()
		c.Lane, c.Owner = name, false
		return open(t, c)
	}
	v2 := lane("v2")
	list := func(lane string, cv, rev uint64) []freshet.Record {
		r := freshet.Recommendation{CV: cv, Rev: rev, RecID: fmt.Sprintf("events-0-%d", rev), Lane: lane, Surface: freshet.HomeSurface, Items: []freshet.RecommendedItem{{ItemID: "i"}}}
		return []freshet.Record{{Surface: freshet.HomeSurface, Value: r.AppendJSON(nil)}}
	}
	name := func(i int) string { return fmt.Sprintf("user %d", i) }
	for i := range users {
		mustSave(t, live, freshet.Update{UserID: name(i), Profile: storetest.Profile(1, "live"), Records: list("live", old, 1), Place: freshet.PlacePublic, CV: old})
		mustSave(t, v2, freshet.Update{UserID: name(i), Profile: storetest.Profile(1, "v2"), Records: list("v2", 0, 1), Place: freshet.PlaceOwn})
	}
	stop, writers, readers := make(chan struct{}), sync.WaitGroup{}, sync.WaitGroup{}
	for i := range 4 {
		reader := lane(fmt.Sprintf("reader-%d", i))
		readers.Go(func() { watchLanes(t, reader, users, name, stop) })
	}
	saves := func(s *featurestore.Redis, lane string, cv uint64) {
		base := storetest.Profile(1, lane)
		for rev := uint64(2); rev < 12; rev++ {
			next := storetest.Profile(rev, lane)
			for i := 0; i < users; i += 2 { // the others do nothing
				u := freshet.Update{UserID: name(i), Base: freshet.VersionOf(base), Profile: next, Records: list(lane, cv, rev), Place: freshet.PlaceBoth, CV: cv}
				if got, err := s.Save(context.Background(), []freshet.Update{u}); err != nil || got[0] != freshet.Saved && got[0] != freshet.Outranked {
					t.Errorf("save in %s: %v, %v", lane, got, err)
				}
			}
			base = next
		}
	}
	writers.Go(func() { saves(live, "live", old) })
	writers.Go(func() { saves(v2, "v2", now) })
	writers.Go(func() {
		for i := range users {
			swept, err := v2.Sweep(context.Background(), []featurestore.Moved{{UserID: name(i), Surface: freshet.HomeSurface, CV: now, Was: "live"}})
			if err != nil || swept[0].Record == nil || swept[0].Kept {
				t.Errorf("sweep: %+v, %v", swept, err)
			}
		}
	})
	writers.Wait()
	close(stop)
	readers.Wait()
	for i := range users {
		public, own := readPlaces(t, live, name(i))
		if public.Lane != "v2" || public.CV != now {
			t.Errorf("%s reads %+v", name(i), public)
		}
		if i%2 == 1 && public.RecID != "events-0-1-cv5" {
			t.Errorf("%s, who did nothing, reads %s", name(i), public.RecID)
		}
		if own.Lane != "live" || i%2 == 0 && own.Rev != 11 {
			t.Errorf("the former owner's own list of %s: %+v", name(i), own)
		}
	}
}

func readPlaces(t *testing.T, s *featurestore.Redis, user string) (public, own freshet.Recommendation) {
	found, err := s.Records(context.Background(), []freshet.RecordKey{
		{UserID: user, Surface: freshet.HomeSurface, Place: freshet.PlacePublic}, {UserID: user, Surface: freshet.HomeSurface, Place: freshet.PlaceOwn}})
	if err != nil {
		t.Error(err)
		return public, own
	}
	for i, into := range []*freshet.Recommendation{&public, &own} {
		if found[i] != nil {
			if err := json.Unmarshal(found[i], into); err != nil {
				t.Errorf("%v: %s", err, found[i])
			}
		}
	}
	return public, own
}

func watchLanes(t *testing.T, s *featurestore.Redis, users int, name func(int) string, stop chan struct{}) {
	last := make([]string, users)
	for {
		for i := range users {
			public, _ := readPlaces(t, s, name(i))
			if public.Lane == "" {
				t.Errorf("%s read nothing", name(i))
			}
			if last[i] == "v2" && public.Lane != "v2" {
				t.Errorf("%s read v2's list and then %s's", name(i), public.Lane)
			}
			last[i] = public.Lane
		}
		select {
		case <-stop:
			return
		default:
		}
	}
}

func TestAProfileIsAdoptedOnce(t *testing.T) {
	s := subject(t, featurestore.Config{Addrs: []string{miniredis.RunT(t).Addr()}})
	live := s.Store.(*featurestore.Redis)
	c := live.Config()
	c.Lane, c.Owner = "v2", false
	v2 := open(t, c)
	mustSave(t, live, first("u1", "a"), first("u2", "a"))
	mustSave(t, v2, first("u2", "own"))
	if n, err := v2.Adopt(t.Context(), "live", []string{"u1", "u2", "nobody"}); err != nil || n != 1 {
		t.Fatalf("%d adopted, %v", n, err)
	}
	found, err := v2.Load(t.Context(), []string{"u1", "u2", "nobody"})
	if err != nil || string(found[0]) != string(first("u1", "a").Profile) || string(found[1]) != string(first("u2", "own").Profile) || found[2] != nil {
		t.Errorf("%q, %v", found, err)
	}
	spaces, err := live.Namespaces(t.Context())
	if err != nil || spaces["v2"] != 3 || len(spaces) != 2 {
		t.Errorf("%v, %v", spaces, err)
	}
	if n, err := live.DropLane(t.Context(), "v2", nil); err != nil || n != 3 {
		t.Errorf("%d keys deleted, %v", n, err)
	}
	if found, err = live.Load(t.Context(), []string{"u1"}); err != nil || found[0] == nil {
		t.Errorf("another lane's keys went, too: %v", err)
	}
}

// A lane that has not caught up owes lists: it has records without items. They never become public; the former owner's stay.
func TestAListThatIsOwedIsNotHandedOver(t *testing.T) {
	live := subject(t, featurestore.Config{Addrs: []string{miniredis.RunT(t).Addr()}}).Store.(*featurestore.Redis)
	c := live.Config()
	c.Lane, c.Owner = "v2", false
	v2 := open(t, c)
	record := func(lane string, cv uint64, items ...freshet.RecommendedItem) []freshet.Record {
		r := freshet.Recommendation{CV: cv, Rev: 1, RecID: "events-0-1", Lane: lane, Surface: freshet.HomeSurface, Items: items}
		return []freshet.Record{{Surface: freshet.HomeSurface, Value: r.AppendJSON(nil)}}
	}
	stands := record("live", 1, freshet.RecommendedItem{ItemID: "i"})
	mustSave(t, live, freshet.Update{UserID: "u", Profile: storetest.Profile(1, "live"), Records: stands, Place: freshet.PlacePublic, CV: 1})
	mustSave(t, v2, freshet.Update{UserID: "u", Profile: storetest.Profile(1, "v2"), Records: record("v2", 0), Place: freshet.PlaceOwn})
	got, err := v2.Sweep(t.Context(), []featurestore.Moved{{UserID: "u", Surface: freshet.HomeSurface, CV: 5, Was: "live"}})
	if err != nil || !got[0].Kept || string(got[0].Record) != string(stands[0].Value) {
		t.Fatalf("%+v, %v: want the former owner's list kept", got, err)
	}
}
