// Package storetest is the contract that every store of profiles passes, written once. A store's own test calls Run with a function
// that opens an empty one; what a contract cannot do through a store's methods, such as making it forget, the subject does.
package storetest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"freshet"
	"freshet/featurestore"
)

// Store is what a store of profiles and of what stands around them must offer.
type Store interface {
	Load(ctx context.Context, users []string) ([][]byte, error)
	Save(ctx context.Context, updates []freshet.Update) ([]freshet.SaveResult, error)
	Records(ctx context.Context, list []featurestore.RecordKey) ([][]byte, error)

	PutItems(ctx context.Context, items []freshet.Item) error
	DeleteItems(ctx context.Context, ids []string) error
	Items(ctx context.Context, ids []string) ([]*freshet.Item, error)
	Item(ctx context.Context, id string) (*freshet.Item, error)
	PutVectors(ctx context.Context, vectors []featurestore.ItemVector) error
	Vectors(ctx context.Context, ids []string) ([]featurestore.ItemVector, error)

	SetPopular(ctx context.Context, domain string, items []featurestore.Scored) error
	Popular(ctx context.Context, domain string, n int) ([]featurestore.Scored, error)
	SetTrending(ctx context.Context, items []featurestore.Scored) error
	Trending(ctx context.Context, n int) ([]featurestore.Scored, error)
	SetSimilar(ctx context.Context, item string, similar []featurestore.Scored) error
	Similar(ctx context.Context, item string, n int) ([]featurestore.Scored, error)
	SetDefault(ctx context.Context, surface string, record []byte) error
	Default(ctx context.Context, surface string) ([]byte, error)

	AddTransitions(ctx context.Context, deltas []featurestore.Transition) error
	Transitions(ctx context.Context, items []string, n int, now time.Time) ([][]featurestore.Scored, error)
	AddEvidence(ctx context.Context, surface string, decay float64, add map[string]float64) (map[string]float64, error)
	AddResponses(ctx context.Context, basis string, add []freshet.Response) ([]freshet.Response, error)
}

// Subject is a store under test with the hands that a test needs around it.
type Subject struct {
	Store Store // of the live lane, owner since cv 7, TTL 1 h, tombstones 2 h, half-life 1 h, 4 successors kept
	// Lane opens the same data for another lane, owner of the public records since cv or, with cv 0, not the owner.
	Lane func(t *testing.T, name string, cv uint64) Store
	// Forget makes the store lose everything.
	Forget func(t *testing.T)
	// TTLs gives the remaining lifetime of the user's profile and of his lists on these surfaces, in that order.
	TTLs func(t *testing.T, user string, surfaces ...string) []time.Duration
}

// Config is the configuration that a subject's store is opened with.
func Config(c featurestore.Config) featurestore.Config {
	c.Owner, c.CV = true, 7
	c.TTL, c.TombstoneTTL = time.Hour, 2*time.Hour
	c.HalfLife, c.TransitionKeep = time.Hour, 4
	return c
}

// Run holds a store to the contract. open gives an empty subject each time.
func Run(t *testing.T, open func(t *testing.T) Subject) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, Subject)
	}{
		{"a saved profile is read back as it was", roundTrip},
		{"users without a profile are nil and keep their place", missing},
		{"a save from the wrong version changes nothing", refusals},
		{"a store that forgot or went back is noticed", forgetting},
		{"one bad update refuses the call before anything is stored", badUpdates},
		{"a record of a higher cv, or of the same cv and a higher rev, stays", publicOrder},
		{"a lane that is not the owner writes its own records", laneRecords},
		{"an update goes where it says", places},
		{"an erasure deletes every list and keeps the tombstone", erasure},
		{"profile and records live equally long", lifetimes},
		{"hostile ids keep apart", hostileIDs},
		{"concurrent savers lose no update", concurrentSavers},
		{"a batch larger than a pipeline is saved in order", largeBatch},
		{"a cancelled call says that the store is unavailable", cancelled},
		{"items are replaced as a whole", items},
		{"vectors keep their hashes and their bits", vectors},
		{"ranked lists are replaced at once", rankedLists},
		{"transitions decay, commute and stay bounded", transitions},
		{"what choices say about weights ages and adds up", evidence},
		{"what users do about new items adds up, tastes by their basis", responses},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

// Profile makes bytes with a version: what a store looks at. The body tells profiles of one rev apart.
func Profile(rev uint64, body string) []byte {
	b := binary.BigEndian.AppendUint64([]byte{1}, rev)
	sum := uint32(2166136261)
	for _, c := range []byte(body) {
		sum = (sum ^ uint32(c)) * 16777619
	}
	return append(append(binary.BigEndian.AppendUint32(b, sum), 0), body...)
}

// Record makes the bytes of a list.
func Record(cv, rev uint64, note string) []byte {
	r := freshet.Recommendation{CV: cv, Rev: rev, RecID: note}
	return r.AppendJSON(nil)
}

func save(t *testing.T, s Store, u ...freshet.Update) []freshet.SaveResult {
	t.Helper()
	results, err := s.Save(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	if len(results) != len(u) {
		t.Fatalf("%d results for %d updates", len(results), len(u))
	}
	return results
}

func mustSave(t *testing.T, s Store, u ...freshet.Update) {
	t.Helper()
	for i, r := range save(t, s, u...) {
		if r != freshet.Saved && r != freshet.Outranked {
			t.Fatalf("update %d of user %q: %v", i, u[i].UserID, r)
		}
	}
}

func load(t *testing.T, s Store, users ...string) [][]byte {
	t.Helper()
	found, err := s.Load(t.Context(), users)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func record(t *testing.T, s Store, user, surface string) string {
	t.Helper()
	found, err := s.Records(t.Context(), []featurestore.RecordKey{{UserID: user, Surface: surface}})
	if err != nil {
		t.Fatal(err)
	}
	return string(found[0])
}

func home(value []byte) []freshet.Record {
	return []freshet.Record{{Surface: freshet.HomeSurface, Value: value}}
}

func roundTrip(t *testing.T, s Subject) {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	first := Profile(math.MaxUint64-1, string(every))
	list := Record(7, math.MaxUint64-1, "r1")
	mustSave(t, s.Store, freshet.Update{UserID: "u1", Profile: first, Records: []freshet.Record{
		{Surface: freshet.HomeSurface, Value: list}, {Surface: "video", Value: Record(7, 1, "r2")}}})
	if got := load(t, s.Store, "u1")[0]; !bytes.Equal(got, first) {
		t.Errorf("profile of %d bytes came back as %d", len(first), len(got))
	}
	if got := record(t, s.Store, "u1", freshet.HomeSurface); got != string(list) {
		t.Errorf("home list %q", got)
	}
	if got := record(t, s.Store, "u1", "video"); got != string(Record(7, 1, "r2")) {
		t.Errorf("video list %q", got)
	}
	second := Profile(math.MaxUint64, "b")
	mustSave(t, s.Store, freshet.Update{UserID: "u1", Base: freshet.VersionOf(first), Profile: second})
	if got := load(t, s.Store, "u1")[0]; !bytes.Equal(got, second) {
		t.Error("the second profile did not replace the first")
	}
}

func missing(t *testing.T, s Subject) {
	mustSave(t, s.Store, freshet.Update{UserID: "b", Profile: Profile(1, "b")})
	got := load(t, s.Store, "a", "b", "c", "b")
	if got[0] != nil || got[2] != nil || got[1] == nil || !bytes.Equal(got[1], got[3]) {
		t.Errorf("got %q", got)
	}
	if got := load(t, s.Store); len(got) != 0 {
		t.Errorf("%d profiles of nobody", len(got))
	}
	if got := save(t, s.Store); len(got) != 0 {
		t.Errorf("%d results of nothing", len(got))
	}
}

func refusals(t *testing.T, s Subject) {
	at := func(rev uint64, body string) freshet.Version { return freshet.VersionOf(Profile(rev, body)) }
	for _, row := range []struct {
		name string
		base freshet.Version
		want freshet.SaveResult
	}{
		{"nothing was stored", "", freshet.Newer},
		{"an earlier revision", at(0x1fe, "x"), freshet.Newer},
		{"the same revision with other contents", at(0x1ff, "other"), freshet.Newer},
		{"a later revision", at(0x200, "x"), freshet.Lost},
		{"a revision later in its highest byte only", at(1<<63, "x"), freshet.Lost},
		{"a revision earlier in its lowest byte, later in the checksum", at(0x1fe, "zzzz"), freshet.Newer},
	} {
		user := row.name
		mustSave(t, s.Store, freshet.Update{UserID: user, Profile: Profile(0x1ff, "stored"), Records: home(Record(7, 0x1ff, "stored"))})
		got := save(t, s.Store, freshet.Update{UserID: user, Base: row.base, Profile: Profile(0x300, "new"), Records: home(Record(7, 0x300, "new"))})
		if got[0] != row.want {
			t.Errorf("base %s: %v, want %v", row.name, got[0], row.want)
		}
		if p := load(t, s.Store, user)[0]; !bytes.Equal(p, Profile(0x1ff, "stored")) {
			t.Errorf("base %s: the profile changed", row.name)
		}
		if r := record(t, s.Store, user, freshet.HomeSurface); r != string(Record(7, 0x1ff, "stored")) {
			t.Errorf("base %s: the record changed to %s", row.name, r)
		}
	}
}

func forgetting(t *testing.T, s Subject) {
	first, second, third := Profile(1, "a"), Profile(2, "b"), Profile(3, "c")
	mustSave(t, s.Store, freshet.Update{UserID: "u", Profile: first})
	mustSave(t, s.Store, freshet.Update{UserID: "u", Base: freshet.VersionOf(first), Profile: second})
	s.Forget(t)
	if got := save(t, s.Store, freshet.Update{UserID: "u", Base: freshet.VersionOf(second), Profile: third}); got[0] != freshet.Lost {
		t.Errorf("after it forgot everything: %v, want lost", got[0])
	}
	// What an older snapshot would hold.
	mustSave(t, s.Store, freshet.Update{UserID: "u", Profile: first})
	if got := save(t, s.Store, freshet.Update{UserID: "u", Base: freshet.VersionOf(second), Profile: third}); got[0] != freshet.Lost {
		t.Errorf("after it went back: %v, want lost", got[0])
	}
	if got := load(t, s.Store, "u")[0]; !bytes.Equal(got, first) {
		t.Error("a refused save changed the profile")
	}
}

func badUpdates(t *testing.T, s Subject) {
	good := freshet.Update{UserID: "good", Profile: Profile(1, "a")}
	for name, bad := range map[string]freshet.Update{
		"no user":       {Profile: Profile(1, "a")},
		"no profile":    {UserID: "u"},
		"short profile": {UserID: "u", Profile: Profile(1, "")[:12]},
		"short base":    {UserID: "u", Profile: Profile(1, "a"), Base: "abc"},
	} {
		if _, err := s.Store.Save(t.Context(), []freshet.Update{good, bad}); err == nil || errors.Is(err, freshet.ErrUnavailable) {
			t.Errorf("%s: error %v, want one that is not worth a retry", name, err)
		}
	}
	if load(t, s.Store, "good")[0] != nil {
		t.Error("part of a refused call was stored")
	}
}

func publicOrder(t *testing.T, s Subject) {
	const old = 10_000_000_000_000_000_001 // differs from its neighbours only beyond what a double holds
	for _, row := range []struct {
		name    string
		cv, rev uint64
		wins    bool
	}{
		{"lower cv, higher rev", 6, old + 5, false},
		{"same cv, lower rev", 7, old - 1, false},
		{"same cv, fewer digits", 7, 9, false},
		{"same cv, same rev", 7, old, true},
		{"same cv, higher rev", 7, old + 1, true},
		{"higher cv, lower rev", 8, 1, true},
		{"higher cv by digits", 10, 1, true},
	} {
		user := row.name
		before, after := Profile(1, "a"), Profile(2, "b")
		mustSave(t, s.Store, freshet.Update{UserID: user, Profile: before, Records: home(Record(7, old, "before"))})
		mustSave(t, s.Store, freshet.Update{UserID: user, Base: freshet.VersionOf(before), Profile: after, Records: home(Record(row.cv, row.rev, "after"))})
		if got := record(t, s.Store, user, freshet.HomeSurface); strings.Contains(got, "after") != row.wins {
			t.Errorf("%s: the new record wins = %v, want %v", row.name, !row.wins, row.wins)
		}
		if got := load(t, s.Store, user)[0]; !bytes.Equal(got, after) {
			t.Errorf("%s: the profile was not saved", row.name)
		}
	}
	short, long := uint64(99_999_999_999), uint64(100_000_000_000) // one digit more, and lower in the first ten
	mustSave(t, s.Store, freshet.Update{UserID: "digits", Profile: Profile(short, "a"), Records: home(Record(7, short, "before"))})
	mustSave(t, s.Store, freshet.Update{UserID: "digits", Base: freshet.VersionOf(Profile(short, "a")), Profile: Profile(long, "b"),
		Records: home(Record(7, long, "after"))})
	if got := record(t, s.Store, "digits", freshet.HomeSurface); !strings.Contains(got, "after") {
		t.Error("a rev of one digit more lost against the shorter one")
	}
	older := s.Lane(t, "former", 6)
	mustSave(t, s.Store, freshet.Update{UserID: "moved", Profile: Profile(1, "a"), Records: home(Record(7, 1, "kept"))})
	mustSave(t, older, freshet.Update{UserID: "moved", Profile: Profile(9, "b"), Records: home(nil)})
	if got := record(t, s.Store, "moved", freshet.HomeSurface); !strings.Contains(got, "kept") {
		t.Error("a former owner deleted the record of the present one")
	}
}

// An update that names its place goes there, whatever the store is configured for, and says when another owner's record stands.
func places(t *testing.T, s Subject) {
	read := func(store Store, place freshet.Place) string {
		t.Helper()
		found, err := store.Records(t.Context(), []featurestore.RecordKey{{UserID: "u", Surface: freshet.HomeSurface, Place: place}})
		if err != nil {
			t.Fatal(err)
		}
		return string(found[0])
	}
	canary := s.Lane(t, "canary", 0)
	old, next := Record(8, 1, "of the old owner"), Record(12, 1, "of the new owner")
	mustSave(t, s.Store, freshet.Update{UserID: "u", Profile: Profile(1, "a"), Records: home(old), Place: freshet.PlaceBoth, CV: 8})
	mustSave(t, canary, freshet.Update{UserID: "u", Profile: Profile(1, "b"), Records: home(next), Place: freshet.PlaceBoth, CV: 12})
	if got := read(s.Store, freshet.PlacePublic); got != string(next) {
		t.Errorf("public %s", got)
	}
	if a, b := read(s.Store, freshet.PlaceOwn), read(canary, freshet.PlaceOwn); a != string(old) || b != string(next) {
		t.Errorf("the lanes' own: %s, %s", a, b)
	}
	// The former owner has not heard of it yet: his profile and his own list move, the public one does not.
	late := Record(8, 2, "late")
	got := save(t, s.Store, freshet.Update{UserID: "u", Base: freshet.VersionOf(Profile(1, "a")), Profile: Profile(2, "a"), Records: home(late), Place: freshet.PlaceBoth, CV: 8})
	if got[0] != freshet.Outranked {
		t.Errorf("a save by the former owner: %v, want outranked", got[0])
	}
	if a, b := read(s.Store, freshet.PlaceOwn), read(s.Store, freshet.PlacePublic); a != string(late) || b != string(next) {
		t.Errorf("own %s, public %s", a, b)
	}
	if p := load(t, s.Store, "u")[0]; !bytes.Equal(p, Profile(2, "a")) {
		t.Error("the former owner's profile did not move")
	}
	gone := save(t, s.Store, freshet.Update{UserID: "u", Base: freshet.VersionOf(Profile(2, "a")), Profile: Profile(3, ""), Records: home(nil), Place: freshet.PlaceBoth, CV: 8})
	if gone[0] != freshet.Outranked || read(s.Store, freshet.PlacePublic) == "" || read(s.Store, freshet.PlaceOwn) != "" {
		t.Errorf("a deletion by the former owner: %v", gone[0])
	}
}

func laneRecords(t *testing.T, s Subject) {
	shadow := s.Lane(t, "shadow", 0)
	mustSave(t, s.Store, freshet.Update{UserID: "u", Profile: Profile(5, "live"), Records: home(Record(7, 5, "live"))})
	mustSave(t, shadow, freshet.Update{UserID: "u", Profile: Profile(9, "shadow"), Records: home(Record(0, 9, "shadow"))})
	// Its own records know no order but the profile's.
	mustSave(t, shadow, freshet.Update{UserID: "u", Base: freshet.VersionOf(Profile(9, "shadow")), Profile: Profile(10, "x"), Records: home(Record(0, 1, "again"))})
	if got := record(t, s.Store, "u", freshet.HomeSurface); !strings.Contains(got, "live") {
		t.Errorf("public record %s", got)
	}
	if got := record(t, shadow, "u", freshet.HomeSurface); !strings.Contains(got, "again") {
		t.Errorf("the lane's record %s", got)
	}
	if got := load(t, s.Store, "u")[0]; !bytes.Equal(got, Profile(5, "live")) {
		t.Error("one lane changed another's profile")
	}
}

func erasure(t *testing.T, s Subject) {
	first, tombstone := Profile(1, "a"), Profile(2, "")
	both := func(a, b []byte) []freshet.Record {
		return []freshet.Record{{Surface: freshet.HomeSurface, Value: a}, {Surface: "video", Value: b}}
	}
	mustSave(t, s.Store, freshet.Update{UserID: "u", Profile: first, Records: both(Record(7, 1, "a"), Record(7, 1, "b"))})
	mustSave(t, s.Store, freshet.Update{UserID: "u", Base: freshet.VersionOf(first), Profile: tombstone, Records: both(nil, nil)})
	if a, b := record(t, s.Store, "u", freshet.HomeSurface), record(t, s.Store, "u", "video"); a+b != "" {
		t.Errorf("lists of an erased user: %q, %q", a, b)
	}
	if got := load(t, s.Store, "u")[0]; !bytes.Equal(got, tombstone) {
		t.Error("the tombstone was not kept")
	}
	if ttl := s.TTLs(t, "u")[0]; ttl < 2*time.Hour-time.Minute || ttl > 2*time.Hour {
		t.Errorf("the tombstone lives for %v, want 2h", ttl)
	}
	mustSave(t, s.Store, freshet.Update{UserID: "u", Base: freshet.VersionOf(tombstone), Profile: Profile(3, "c"), Records: both(Record(7, 3, "c"), nil)})
	if a, b := record(t, s.Store, "u", freshet.HomeSurface), record(t, s.Store, "u", "video"); a == "" || b != "" {
		t.Errorf("lists after a new start: %q, %q", a, b)
	}
}

func lifetimes(t *testing.T, s Subject) {
	mustSave(t, s.Store, freshet.Update{UserID: "u", Profile: Profile(1, "a"), Records: []freshet.Record{
		{Surface: freshet.HomeSurface, Value: Record(7, 1, "a")}, {Surface: "video", Value: Record(7, 1, "b")}}})
	ttls := s.TTLs(t, "u", freshet.HomeSurface, "video")
	if spread := slices.Max(ttls) - slices.Min(ttls); spread > 50*time.Millisecond { // the keys are asked one after another
		t.Errorf("lifetimes differ by %v: %v", spread, ttls)
	}
	if ttls[0] < time.Hour-time.Minute || ttls[0] > time.Hour {
		t.Errorf("the profile lives for %v, want 1h", ttls[0])
	}
}

// HostileIDs are user ids that try to leave their place in a key.
var HostileIDs = []string{"{", "}", "{}", "}{", "u1", "{u1}", "u1}", "u1:video", "a b", "a%20b", "a%b", "%", "\x01\x1f\x7f", "\r\n", "*", "?", "[a]",
	"\\", "'", `"`, "default", "\u2028", "用户", strings.Repeat("é", freshet.MaxUserID/2), strings.Repeat("{", freshet.MaxUserID), "\xff\xfe"}

func hostileIDs(t *testing.T, s Subject) {
	var batch []freshet.Update
	for i, id := range HostileIDs {
		batch = append(batch, freshet.Update{UserID: id, Profile: Profile(uint64(i+1), id), Records: []freshet.Record{
			{Surface: freshet.HomeSurface, Value: Record(7, 1, id)}, {Surface: "video", Value: Record(7, 1, "v"+id)}}})
	}
	mustSave(t, s.Store, batch...)
	for i, got := range load(t, s.Store, HostileIDs...) {
		if !bytes.Equal(got, batch[i].Profile) {
			t.Errorf("profile of %q was overwritten or lost", HostileIDs[i])
		}
		for _, r := range batch[i].Records {
			if got := record(t, s.Store, HostileIDs[i], r.Surface); got != string(r.Value) {
				t.Errorf("%s list of %q is %s", r.Surface, HostileIDs[i], got)
			}
		}
	}
}

// concurrentSavers lets each saver extend a chain by whatever is stored: a lost update leaves the chain short.
func concurrentSavers(t *testing.T, s Subject) {
	const savers, each, users = 8, 25, 3
	chain := func(b []byte) uint64 { return binary.LittleEndian.Uint64(b[14:]) }
	var wg sync.WaitGroup
	fail := make(chan error, savers)
	for n := range savers {
		wg.Go(func() {
			for done := 0; done < each; {
				user := fmt.Sprintf("u%d", done%users)
				found, err := s.Store.Load(t.Context(), []string{user})
				if err != nil {
					fail <- err
					return
				}
				rev, sum := uint64(0), uint64(0)
				if found[0] != nil {
					rev, sum = freshet.VersionOf(found[0]).Rev(), chain(found[0])
				}
				// Two savers of one revision write different bytes, as two workers with different events would.
				body := string(binary.LittleEndian.AppendUint64(nil, sum+1)) + fmt.Sprint(n, done)
				results, err := s.Store.Save(t.Context(), []freshet.Update{{UserID: user, Base: freshet.VersionOf(found[0]),
					Profile: Profile(rev+1, body), Records: home(Record(7, rev+1, body))}})
				switch {
				case err != nil:
					fail <- err
					return
				case results[0] == freshet.Saved:
					done++
				case results[0] != freshet.Newer:
					fail <- fmt.Errorf("%v, want saved or newer", results[0])
					return
				}
			}
		})
	}
	wg.Wait()
	close(fail)
	for err := range fail {
		t.Fatal(err)
	}
	total := uint64(0)
	for i := range users {
		p := load(t, s.Store, fmt.Sprintf("u%d", i))[0]
		total += chain(p)
		if rev := freshet.VersionOf(p).Rev(); rev != chain(p) {
			t.Errorf("u%d: %d revisions, %d links", i, rev, chain(p))
		}
		if r := record(t, s.Store, fmt.Sprintf("u%d", i), freshet.HomeSurface); !strings.HasPrefix(r, fmt.Sprintf(`{"v":1,"cv":7,"rev":%d,`, chain(p))) {
			t.Errorf("u%d: record %.40s beside a profile of rev %d", i, r, chain(p))
		}
	}
	if total != savers*each {
		t.Errorf("%d links of %d: an update was lost", total, savers*each)
	}
}

func largeBatch(t *testing.T, s Subject) {
	var batch []freshet.Update
	var users []string
	for i := range 700 {
		users = append(users, fmt.Sprintf("u%d", i))
		batch = append(batch, freshet.Update{UserID: users[i], Profile: Profile(uint64(i+1), users[i])})
	}
	mustSave(t, s.Store, batch[300])
	for i, got := range save(t, s.Store, batch...) {
		if want := map[bool]freshet.SaveResult{false: freshet.Saved, true: freshet.Newer}[i == 300]; got != want {
			t.Fatalf("update %d: %v, want %v", i, got, want)
		}
	}
	for i, got := range load(t, s.Store, users...) {
		if !bytes.Equal(got, batch[i].Profile) {
			t.Fatalf("user %d holds another's profile", i)
		}
	}
}

func cancelled(t *testing.T, s Subject) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Store.Load(ctx, []string{"u"}); !errors.Is(err, freshet.ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Errorf("load: %v", err)
	}
	results, err := s.Store.Save(ctx, []freshet.Update{{UserID: "u", Profile: Profile(1, "a")}})
	if !errors.Is(err, freshet.ErrUnavailable) || !errors.Is(err, context.Canceled) || results[0] != freshet.Retry {
		t.Errorf("save: %v, %v", results, err)
	}
	if load(t, s.Store, "u")[0] != nil {
		t.Error("a cancelled save was stored")
	}
}
