package freshet

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

func sampleRecord() Recommendation {
	return Recommendation{V: 1, CV: 7, Rev: 1234, RecID: "events-3-1234", UserID: "u\"1\n é\u2028", Surface: "home", Lane: "live", Model: "gru@3f9ac2d1",
		Items: []RecommendedItem{{ItemID: "i7", Score: 0.831, Reasons: []Reason{{Source: "sequence", Share: 0.61}, {Source: "covisit", Share: 0.39, Because: "i9"}}},
			{ItemID: "i8", Score: -12.5, Reasons: []Reason{{Source: "popular", Share: 1}}}},
		Event:      RecommendationFrom{Topic: "events", Partition: 3, Offset: 1234, EventID: "01JD", Timestamp: "2026-11-23T10:00:00.123Z"},
		ComputedAt: "2026-11-23T10:00:00.125Z"}
}

// The hand-written encoder writes what encoding/json reads, and starts the way the save script relies on.
func TestRecordIsJSONAndStartsWithItsOrder(t *testing.T) {
	r := sampleRecord()
	b := r.AppendJSON(nil)
	if !strings.HasPrefix(string(b), `{"v":1,"cv":7,"rev":1234,`) {
		t.Fatalf("record starts %.40s", b)
	}
	var back Recommendation
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	if !reflect.DeepEqual(back, r) {
		t.Fatalf("%+v\nbecame\n%+v", r, back)
	}
}

func TestAHomeRecordOfTwentyFitsItsBudget(t *testing.T) {
	r := sampleRecord()
	r.UserID, r.Items = "u0001234", nil
	for range 20 {
		r.Items = append(r.Items, RecommendedItem{ItemID: "i0001234", Score: 0.912345, Reasons: []Reason{
			{Source: "sequence", Share: 0.61, Because: "i0001234"}, {Source: "covisit", Share: 0.39}}})
	}
	if n := len(r.AppendJSON(nil)); n > 3<<10 {
		t.Fatalf("%d bytes, at most 3 KB", n)
	}
}

// Whatever stands in a record, it keeps its budget as long as ids leave room; what is cut is cut from the last place upwards, shares sum to 1.
func TestARecordIsCutToItsBudget(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 3))
	for range 2000 {
		rec := sampleRecord()
		rec.UserID, rec.Items = strings.Repeat("u", 1+r.IntN(40)), nil
		id := func() string { return strings.Repeat("i", 1+r.IntN(48)) }
		for range 1 + r.IntN(40) {
			it := RecommendedItem{ItemID: id(), Score: r.Float64()}
			if r.IntN(2) == 0 {
				it.Text = strings.Repeat("because ", r.IntN(12))
			}
			it.Reasons = []Reason{{Source: "sequence", Share: 0.5, Because: id()}, {Source: "covisit", Share: 0.3, Because: id()}, {Source: "content", Share: 0.2, Because: id()}}
			rec.Items = append(rec.Items, it)
		}
		items := len(rec.Items)
		b := rec.Fit(rec.AppendJSON(nil))
		var back Recommendation
		if err := json.Unmarshal(b, &back); err != nil {
			t.Fatal(err)
		}
		if len(b) > RecordBudget(items) || len(back.Items) != items {
			t.Fatalf("%d bytes for %d items, at most %d", len(b), len(back.Items), RecordBudget(items))
		}
		for n, it := range back.Items {
			sum := 0.0
			for _, reason := range it.Reasons {
				sum += reason.Share
			}
			if sum < 0.999 || sum > 1.001 {
				t.Fatalf("item %d of %d has shares that sum to %v", n, items, sum)
			}
			if n > 0 && len(it.Reasons) > len(back.Items[n-1].Reasons) {
				t.Fatalf("item %d of %d says more than the one before it", n, items)
			}
		}
	}
	small := sampleRecord()
	if b := small.AppendJSON(nil); string(small.Fit(b)) != string(b) {
		t.Fatal("a record within its budget was cut")
	}
}

func TestRecID(t *testing.T) {
	at := Position{Source: Source{Topic: "events", Partition: 3}, Offset: 1234}
	for want, got := range map[string]string{
		"events-3-1234":                  RecID(at, "home", "live", 0),
		"events-3-1234-video":            RecID(at, "video", "live", 0),
		"events-3-1234-canary":           RecID(at, "home", "canary", 0),
		"events-3-1234-video-canary-cv9": RecID(at, "video", "canary", 9),
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// Published vectors: other languages can build our keys from these.
func TestEscapeID(t *testing.T) {
	for id, want := range map[string]string{
		"u1": "u1", "a{b}c": "a%7Bb%7Dc", "50%": "50%25", "a b": "a%20b", "tab\there": "tab%09here", "é": "é", "\x7f": "%7F", "a:b/c": "a:b/c",
	} {
		if got := EscapeID(id); got != want {
			t.Errorf("EscapeID(%q) = %q, want %q", id, got, want)
		}
		if back := UnescapeID(want); back != id {
			t.Errorf("UnescapeID(%q) = %q, want %q", want, back, id)
		}
	}
}

func FuzzJSONString(f *testing.F) {
	for _, s := range []string{"", "plain", "quote\"", "back\\slash", "nul\x00", "\xff\xfe", "é漢🙂", "\u2028"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var back string
		if err := json.Unmarshal(AppendJSONString(nil, s), &back); err != nil {
			t.Fatal(err)
		}
		if want := strings.ToValidUTF8(s, "\ufffd"); len([]rune(back)) < len([]rune(want)) {
			t.Fatalf("%q became %q", s, back)
		}
	})
}

func BenchmarkRecord(b *testing.B) {
	r := sampleRecord()
	for len(r.Items) < 20 {
		r.Items = append(r.Items, r.Items[0])
	}
	buf := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		buf = r.AppendJSON(buf[:0])
	}
}

func TestSharesAreWrittenAsShortestDecimals(t *testing.T) {
	for n := range 101 {
		share := float64(n) / 100
		if got, want := string(appendHundredths(nil, share)), strconv.FormatFloat(share, 'g', -1, 64); got != want {
			t.Errorf("%v is written %s, want %s", share, got, want)
		}
	}
}

// What RecID writes, LaneOfRecID reads, whatever the topic and the surface are called.
func TestTheLaneIsReadFromARecID(t *testing.T) {
	for _, topic := range []string{"events", "shop-7-events-3"} {
		for _, surface := range []string{HomeSurface, "video", "buy-again"} {
			for _, lane := range []string{LiveLane, "v2", "canary-2026-11"} {
				for _, cv := range []uint64{0, 17} {
					id := RecID(Position{Source: Source{Topic: topic, Partition: 12}, Offset: 345}, surface, lane, cv)
					if got, ok := LaneOfRecID(id, topic, surface); !ok || got != lane {
						t.Errorf("%s: lane %q, %v; want %q", id, got, ok, lane)
					}
				}
			}
		}
	}
	for _, id := range []string{"", "events", "events-", "events-1", "events-1-", "events-x-1", "events-1-2x", "other-1-2", "events-1-2-", "mine"} {
		if lane, ok := LaneOfRecID(id, "events", ""); ok {
			t.Errorf("%q is of lane %q", id, lane)
		}
	}
	if lane, ok := LaneOfRecID("events-1-2", "events", "video"); ok {
		t.Errorf("a home list was taken for one of video, of lane %q", lane)
	}
}
