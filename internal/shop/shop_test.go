package shop

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"freshet"
)

// Golden hashes of the first 5,000 events and of the catalogue. When one changes on purpose, the committed bundle has to be
// trained again.
const (
	goldenItems  = "9d800fcc0ade76c6"
	goldenEvents = "0ddfa1f0cc66df04"
)

func hashOf(write func(add func(b []byte))) string {
	h := sha256.New()
	write(func(b []byte) { h.Write(b); h.Write([]byte{'\n'}) })
	return fmt.Sprintf("%x", h.Sum(nil))[:16]
}

func TestSeedFixesEveryByte(t *testing.T) {
	items := hashOf(func(add func([]byte)) {
		for _, it := range New(3, Config{}).Items() {
			b, err := json.Marshal(&it)
			if err != nil {
				t.Fatal(err)
			}
			add(b)
		}
	})
	events := func(seed int64) string {
		s := New(seed, Config{})
		return hashOf(func(add func([]byte)) {
			for range 5000 {
				e := s.Next()
				add(AppendEvent(nil, &e))
			}
		})
	}
	if items != goldenItems || events(7) != goldenEvents {
		t.Errorf("items %s, events %s; golden %s, %s", items, events(7), goldenItems, goldenEvents)
	}
	if events(8) == goldenEvents {
		t.Error("another seed gives the same events")
	}
}

func TestCatalogueReadsLikeAShop(t *testing.T) {
	items := New(1, Config{}).Items()
	if len(items) < 1900 || len(items) > 2100 {
		t.Errorf("%d items, want about 2,000", len(items))
	}
	ids, titles, domains, soldOut := map[string]bool{}, map[string]bool{}, map[string]int{}, 0
	for i := range items {
		it := &items[i]
		if err := it.Validate(); err != nil {
			t.Errorf("%s: %v", it.ItemID, err)
		}
		if ids[it.ItemID] || titles[it.Title] {
			t.Errorf("%s %q is there twice", it.ItemID, it.Title)
		}
		ids[it.ItemID], titles[it.Title] = true, true
		domains[it.Domain]++
		if !it.Recommendable(time.Now()) {
			soldOut++
		}
		if n := len(it.Title); n < 6 || n > 90 || strings.ContainsAny(it.Title, "{}|") || strings.Contains(it.Title, "  ") {
			t.Errorf("%s: title %q", it.ItemID, it.Title)
		}
		if strings.ContainsAny(it.Description, "{}|") || len(it.Description) < 40 || it.Price < 1 || it.Brand == "" || len(it.Categories) < 2 || !json.Valid(it.Attributes) {
			t.Errorf("%s is incomplete: %+v", it.ItemID, it)
		}
	}
	if domains[Outdoor] < 500 || domains[Books] < 500 || len(domains) != 2 {
		t.Errorf("domains %v", domains)
	}
	if soldOut == 0 || soldOut > len(items)/50 {
		t.Errorf("%d items sold out", soldOut)
	}
}

func TestEventsKeepTheContractAndTheOrderOfTime(t *testing.T) {
	types, err := freshet.NewEventTypes(freshet.DefaultEventTypes())
	if err != nil {
		t.Fatal(err)
	}
	s := New(7, Config{})
	known := map[string]bool{}
	for _, it := range s.Items() {
		known[it.ItemID] = true
	}
	ids, before := map[string]bool{}, int64(0)
	for range 20_000 {
		clock := s.Now()
		e := s.Next()
		if e.Time != clock.UnixMilli() {
			t.Fatalf("the clock says %v before an event at %d", clock, e.Time)
		}
		if err := e.Validate(types, freshet.MinTime); err != nil {
			t.Fatalf("%+v: %v", e, err)
		}
		if e.Time < before {
			t.Fatalf("event %s comes %d ms before its predecessor", e.ID, before-e.Time)
		}
		if ids[e.ID] {
			t.Fatalf("event id %s twice", e.ID)
		}
		ids[e.ID], before = true, e.Time
		for _, it := range e.Items {
			if !known[it.ItemID] {
				t.Fatalf("item %s is in no catalogue", it.ItemID)
			}
		}
		if b := AppendEvent(nil, &e); !json.Valid(b) {
			t.Fatalf("not JSON: %s", b)
		}
	}
}

func TestFunnelsAreBelievable(t *testing.T) {
	n, baskets, several, crossed := map[string]float64{}, 0.0, 0.0, 0.0
	domains := map[string]map[byte]bool{}
	for _, e := range New(7, Config{}).History(30_000) {
		n[e.Type]++
		if e.Type == "purchase" {
			baskets++
			if len(e.Items) > 1 {
				several++
			}
		}
		if domains[e.UserID] == nil {
			domains[e.UserID] = map[byte]bool{}
		}
		domains[e.UserID][e.Items[0].ItemID[0]] = true
	}
	for _, d := range domains {
		if len(d) == 2 {
			crossed++
		}
	}
	looks := n["view"] + n["click"]
	for what, r := range map[string]struct{ got, low, high float64 }{
		"carts per look":              {n["cart"] / looks, 0.1, 0.35},
		"purchases per cart":          {n["purchase"] / n["cart"], 0.25, 0.7},
		"removals per cart":           {n["remove"] / n["cart"], 0.05, 0.2},
		"dislikes per look":           {n["dislike"] / looks, 0.005, 0.05},
		"purchases of several things": {several / baskets, 0.15, 0.7},
		"shoppers in both domains":    {crossed / float64(len(domains)), 0.8, 1},
	} {
		if r.got < r.low || r.got > r.high {
			t.Errorf("%s: %.3f, want %.2f to %.2f", what, r.got, r.low, r.high)
		}
	}
}

// The shop would be a poor showcase if the best sellers were all there is to know.
func TestWhatComesNextFollowsFromWhatCameBefore(t *testing.T) {
	popular, next := hitRatios(New(7, Config{}).History(60_000), 10)
	if next < 5*popular || next < 0.3 {
		t.Errorf("HR@10 of popularity %.3f, of transition counts %.3f", popular, next)
	}
	t.Logf("HR@10 of popularity %.3f, of transition counts %.3f", popular, next)
}

// hitRatios counts on the first 80 % and asks on the rest, whenever a shopper looks at something for the first time, whether it
// is among the k most popular things he has not seen, or among the k that most often followed the thing he saw last.
func hitRatios(events []freshet.Event, k int) (popular, next float64) {
	counts, follow := map[string]int{}, map[string]map[string]int{}
	last, seen := map[string]string{}, map[string]map[string]bool{}
	var best []string
	asked := 0.0
	for n, e := range events {
		if n == len(events)*4/5 {
			best = ranked(counts)
		}
		if e.Type != "view" && e.Type != "click" {
			continue
		}
		u, item := e.UserID, e.Items[0].ItemID
		if seen[u] == nil {
			seen[u] = map[string]bool{}
		}
		switch {
		case best == nil:
			counts[item]++
			if follow[last[u]] == nil {
				follow[last[u]] = map[string]int{}
			}
			follow[last[u]][item]++
		case !seen[u][item] && last[u] != "":
			asked++
			popular += hit(best, seen[u], item, k)
			next += hit(ranked(follow[last[u]]), seen[u], item, k)
		}
		seen[u][item], last[u] = true, item
	}
	return popular / asked, next / asked
}

func ranked(counts map[string]int) []string {
	ids := make([]string, 0, len(counts))
	for id := range counts {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b string) int {
		if d := counts[b] - counts[a]; d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	return ids
}

func hit(list []string, seen map[string]bool, item string, k int) float64 {
	for _, id := range list {
		if seen[id] {
			continue
		}
		if id == item {
			return 1
		}
		if k--; k == 0 {
			break
		}
	}
	return 0
}

func TestStreamsMeetShoppersThatTrainingHasNotSeen(t *testing.T) {
	trained := map[string]bool{}
	var end int64
	train := New(TrainingSeed, Training())
	for _, e := range train.History(120_000) {
		trained[e.UserID], end = true, e.Time
	}
	s := New(7, Config{})
	for _, e := range s.History(5000) {
		if trained[e.UserID] {
			t.Errorf("%s is in the training history", e.UserID)
		}
		if e.Time <= end {
			t.Fatalf("the stream begins %d ms before training ends", end-e.Time)
		}
	}
}

func TestFollowedShopperKeepsHisEventsToHimself(t *testing.T) {
	s := New(7, Config{Shoppers: 20})
	who := s.Follow()
	var before int64
	for range 500 {
		if e := s.NextFollowed(); e.UserID != who || e.Time < before {
			t.Fatalf("event of %s at %d after %d, following %s", e.UserID, e.Time, before, who)
		} else {
			before = e.Time
		}
		if e := s.Next(); e.UserID == who {
			t.Fatalf("%s is followed and in the crowd", who)
		}
	}
}

func TestFeedDeliversEverythingAndItsDirt(t *testing.T) {
	cfg := FeedConfig{Repeats: 0.05, Late: 0.03, Bad: 0.02}
	f, err := NewFeed(New(7, Config{}), 7, cfg)
	if err != nil {
		t.Fatal(err)
	}
	g, _ := NewFeed(New(7, Config{}), 7, cfg)
	n, seen, newest, overtaken := map[Sort]int{}, map[string]bool{}, int64(0), 0
	for range 20_000 {
		d := f.Next()
		if twin := g.Next(); !bytes.Equal(d.Value, twin.Value) || !bytes.Equal(d.Key, twin.Key) {
			t.Fatal("two feeds of one seed differ")
		}
		n[d.Sort]++
		if d.Sort == Bad {
			continue
		}
		if seen[d.Event.ID] != (d.Sort == Repeat) {
			t.Fatalf("%s event %s, delivered before: %v", d.Sort, d.Event.ID, seen[d.Event.ID])
		}
		if d.Sort == Late && d.Event.Time < newest {
			overtaken++
		}
		seen[d.Event.ID], newest = true, max(newest, d.Event.Time)
		if string(d.Key) != d.Event.UserID {
			t.Fatalf("key %q of an event of %q", d.Key, d.Event.UserID)
		}
	}
	for s, share := range map[Sort]float64{Repeat: cfg.Repeats, Late: cfg.Late, Bad: cfg.Bad} {
		if got := float64(n[s]) / 20_000; got < share*0.8 || got > share*1.2 {
			t.Errorf("%s: share %.4f, want about %.2f", s, got, share)
		}
	}
	if overtaken < n[Late]*9/10 {
		t.Errorf("%d of %d late events were overtaken", overtaken, n[Late])
	}
}

// An independent reading of the contract: every spoilt record must be refused by it, and the same event unspoilt must not.
func TestEveryBadRecordBreaksTheContract(t *testing.T) {
	types, err := freshet.NewEventTypes(freshet.DefaultEventTypes())
	if err != nil {
		t.Fatal(err)
	}
	s, now, reasons := New(7, Config{}), time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC), map[string]bool{}
	for n := range 5 * BadWays() {
		e := s.Next()
		if d := Deliver(e); !accepted(d, types, now) {
			t.Fatalf("clean record refused: %s", d.Value)
		}
		d := Spoil(e, n)
		if accepted(d, types, now) {
			t.Errorf("accepted, though %s: key %q value %.200s", d.Reason, d.Key, d.Value)
		}
		reasons[d.Reason] = true
	}
	if len(reasons) != BadWays() {
		t.Errorf("%d reasons for %d ways", len(reasons), BadWays())
	}
}

func accepted(d Delivery, types *freshet.EventTypes, now time.Time) bool {
	var v struct {
		ID        string    `json:"event_id"`
		Type      string    `json:"type"`
		User      string    `json:"user_id"`
		Item      string    `json:"item_id"`
		Timestamp time.Time `json:"timestamp"`
		Items     []struct {
			Item string `json:"item_id"`
		} `json:"items"`
	}
	if !bytes.Equal(d.Value, bytes.ToValidUTF8(d.Value, nil)) || json.Unmarshal(d.Value, &v) != nil || string(d.Key) != v.User {
		return false
	}
	e := freshet.Event{ID: v.ID, Type: v.Type, UserID: v.User, Time: v.Timestamp.UnixMilli(), RecordTime: now.UnixMilli()}
	if v.Item != "" {
		e.Items = []freshet.EventItem{{ItemID: v.Item}}
	}
	for _, it := range v.Items {
		e.Items = append(e.Items, freshet.EventItem{ItemID: it.Item})
	}
	return e.Validate(types, freshet.MinTime) == nil
}

func TestFeedRefusesSharesByName(t *testing.T) {
	for want, cfg := range map[string]FeedConfig{"feed.repeats": {Repeats: -1}, "feed.late": {Late: 0.9}, "feed.bad": {Bad: 2}} {
		if _, err := NewFeed(New(1, Config{Shoppers: 2}), 1, cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one that names %s", err, want)
		}
	}
}

func TestWriteLeavesWholeFiles(t *testing.T) {
	dir := t.TempDir()
	if err := New(TrainingSeed, Training()).Write(dir, 2000); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int{"items.jsonl": len(New(1, Config{}).Items()), "events.jsonl": 2000} {
		b, err := os.ReadFile(dir + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		lines := bytes.Split(bytes.TrimSuffix(b, []byte("\n")), []byte("\n"))
		if len(lines) != want {
			t.Errorf("%s: %d lines, want %d", name, len(lines), want)
		}
		for _, l := range lines {
			if !json.Valid(l) {
				t.Fatalf("%s: not JSON: %s", name, l)
			}
		}
	}
	if files, _ := os.ReadDir(dir); len(files) != 2 {
		t.Errorf("%d files, want 2", len(files))
	}
}

// The documentation of Config.Start promises about this many; whoever plans a long stream counts on it.
func TestVirtualDaysAreAsBusyAsPromised(t *testing.T) {
	s := New(7, Config{})
	first := s.Now()
	s.History(100_000)
	perDay := 100_000 / (s.Now().Sub(first).Hours() / 24) / 4 // of a hundred shoppers
	if perDay < 240 || perDay > 310 {
		t.Errorf("%.0f events a virtual day of a hundred shoppers, promised are about 270", perDay)
	}
}

func BenchmarkNext(b *testing.B) {
	s := New(7, Config{})
	var buf []byte
	for b.Loop() {
		e := s.Next()
		buf = AppendEvent(buf[:0], &e)
	}
}
