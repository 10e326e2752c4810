package demo

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"freshet"
)

var rewrite = flag.Bool("rewrite", false, "write the golden screens anew")

// catalogue is a handful of items, one with a title that no column can hold and one with a title that attacks the terminal.
func catalogue() []freshet.Item {
	titles := []string{
		"Larkfell Skarn Waterproof Trekking Boot", "Veltana Lynx Merino Hiking Sock", "Around Lofoten: A Hiking Companion",
		"Sundmark Firn Carbon Folding Poles", "The Quiet Side of the Bernina: Hiking away from the Crowds, with Two Hundred Maps and an Index of Huts",
		"Tindra Otter Ventilated 24 L Daypack", "Every Signpost Has a Name", "Haukland Granite Three-Layer Rain Shell",
		"Oddfell \x1b[31mMoraine\x1b[0m Steel Vacuum Flask 1 L", "Isbre Cinder Packable Rain Jacket", "Bracken & Co Tarn Cork-Grip Walking Poles", "Ravenscar Ibex Liner Sock",
	}
	items := make([]freshet.Item, len(titles))
	for i, t := range titles {
		items[i] = freshet.Item{ItemID: fmt.Sprintf("i%d", i), Title: t, Domain: "outdoor", Price: float64(19+i*13) + 0.95, Currency: "EUR"}
		if strings.Contains(t, ":") || strings.Contains(t, "Name") {
			items[i].Domain = "books"
		}
	}
	return items
}

func event(n int, kind string, items ...string) freshet.Event {
	e := freshet.Event{ID: fmt.Sprintf("e%d", n), Type: kind, UserID: "greta-7k3f"}
	for _, id := range items {
		e.Items = append(e.Items, freshet.EventItem{ItemID: id})
	}
	return e
}

func list(n int, items ...string) freshet.Recommendation {
	r := freshet.Recommendation{UserID: "greta-7k3f", Surface: freshet.HomeSurface, Event: freshet.RecommendationFrom{EventID: fmt.Sprintf("e%d", n)}}
	for i, id := range items {
		reasons := [][]freshet.Reason{
			{{Source: "popular", Share: 0.2}, {Source: "sequence", Share: 0.8, Because: "i0"}},
			{{Source: "sequence", Share: 1}}, {{Source: "popular", Share: 1}}, {{Source: "content", Share: 0.6}, {Source: "popular", Share: 0.4}},
		}[i%4]
		r.Items = append(r.Items, freshet.RecommendedItem{ItemID: id, Score: 1 / float64(i+1), Reasons: reasons})
	}
	return r
}

func story() *Story {
	s := NewStory("greta-7k3f", catalogue())
	s.Happened(event(1, "view", "i3"))
	s.Listed(list(1, "i10", "i7", "i5", "i8", "i4", "i6", "i2", "i9", "i11"), 4*time.Millisecond)
	s.Happened(event(2, "view", "i0"))
	s.Happened(event(3, "impression", "i1", "i2"))
	s.Happened(event(4, "cart", "i0"))
	s.Happened(event(5, "purchase", "i0", "i1"))
	s.Listed(list(5, "i2", "i10", "i5", "i7", "i4", "i6", "i3", "i8", "i99"), 3140*time.Microsecond)
	return s
}

func frame() Frame {
	return Frame{
		Elapsed: 83 * time.Second, EventsPerSecond: 511.6, EventsApplied: 41_234, ListsWritten: 40_987, DeadLetters: 42, ActiveUsers: 400,
		FreshnessP50: 3210 * time.Microsecond, FreshnessP99: 14_700 * time.Microsecond, Device: "cpu", Model: "shop-gru@3f9ac2d1", Follow: story().Follow(),
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *rewrite {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; look at it and run with -rewrite. got:\n%s", path, got)
	}
}

func TestScreens(t *testing.T) {
	early := Frame{Elapsed: 200 * time.Millisecond, Device: "cpu", Model: "shop-gru@3f9ac2d1", Follow: NewStory("greta-7k3f", nil).Follow()}
	for _, c := range []struct {
		name          string
		frame         Frame
		width, height int
		colour        bool
	}{
		{"80x24", frame(), 80, 24, false}, {"120x40", frame(), 120, 40, false}, {"80x24-colour", frame(), 80, 24, true},
		{"80x24-early", early, 80, 24, false}, {"40x10", frame(), 40, 10, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			rows := render(c.frame, c.width, c.height, c.colour)
			if len(rows) != c.height {
				t.Errorf("%d rows, want %d", len(rows), c.height)
			}
			for i, r := range rows {
				if n := utf8.RuneCountInString(r); !c.colour && n != c.width {
					t.Errorf("row %d has %d columns, want %d: %q", i, n, c.width, r)
				}
				if !c.colour && strings.ContainsRune(r, '\x1b') {
					t.Errorf("row %d has an escape sequence without colours: %q", i, r)
				}
			}
			golden(t, c.name+".txt", strings.Join(rows, "\n")+"\n")
		})
	}
}

// Whatever the window's size, a frame fits it exactly: a longer row would scroll the screen.
func TestFramesFitEveryWindow(t *testing.T) {
	for width := 1; width < 140; width += 3 {
		for height := 1; height < 50; height += 3 {
			rows := render(frame(), width, height, false)
			if len(rows) != height {
				t.Fatalf("%dx%d: %d rows", width, height, len(rows))
			}
			for _, r := range rows {
				if n := utf8.RuneCountInString(r); n != width {
					t.Fatalf("%dx%d: row of %d columns: %q", width, height, n, r)
				}
			}
		}
	}
}

func TestLiveGivesTheTerminalBack(t *testing.T) {
	var out bytes.Buffer
	v := NewLive(&out, func() (int, int) { return 80, 24 }, true)
	v.Step(Step{Name: "encode titles and descriptions", Done: 640, Total: 1990})
	if s := out.String(); !strings.HasPrefix(s, "\r") || strings.Contains(s, "\n") || !strings.Contains(s, "640 of 1,990") {
		t.Errorf("a step in progress must stay on its line: %q", s)
	}
	v.Step(Step{Name: "encode titles and descriptions", Done: 1990, Total: 1990, Took: 4210 * time.Millisecond, Finished: true})
	v.Show(frame())
	v.Show(frame())
	if err := v.Finish(Result{EventsApplied: 5}); err != nil {
		t.Fatal(err)
	}
	v.Close()
	for sequence, times := range map[string]int{"\x1b[?1049h": 1, "\x1b[?1049l": 1, "\x1b[?25l": 1, "\x1b[?25h": 1} {
		if n := strings.Count(out.String(), sequence); n != times {
			t.Errorf("%q written %d times, want %d", sequence, n, times)
		}
	}
	if !strings.Contains(out.String(), "(4.21s)") || !strings.HasSuffix(out.String(), "dead letters\n") {
		t.Errorf("no duration or no summary: %q", out.String())
	}
}

func TestLinesTellEveryListOnceAndUseNoEscapes(t *testing.T) {
	var out bytes.Buffer
	v := NewLines(&out)
	for n := 0; n <= 1990; n += 10 {
		v.Step(Step{Name: "encode titles and descriptions", Done: n, Total: 1990})
	}
	v.Step(Step{Name: "encode titles and descriptions", Done: 1990, Total: 1990, Took: 4210 * time.Millisecond, Finished: true})
	v.Step(Step{Name: "start the broker and the store", Detail: "127.0.0.1:40123, 127.0.0.1:40124", Took: 12 * time.Millisecond, Finished: true})
	f := frame()
	for range 30 {
		v.Show(f)
		f.Elapsed += 200 * time.Millisecond
	}
	if err := v.Finish(Result{EventsApplied: 41_234, ListsWritten: 40_987, ActiveUsers: 400, FreshnessP50Ms: 3.21, FreshnessP99Ms: 14.7, BadPlanted: 42, DeadLetters: 42}); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(out.String(), "\x1b\r") {
		t.Error("escape sequences in plain lines")
	}
	golden(t, "lines.txt", out.String())
}

func TestSilentWritesOneObjectWithTheAgreedNames(t *testing.T) {
	var out bytes.Buffer
	v := NewSilent(&out)
	v.Step(Step{Name: "x"})
	v.Show(frame())
	if err := v.Finish(Result{1, 2, 3, 4.5, 5.5, 6, 7}); err != nil {
		t.Fatal(err)
	}
	v.Close()
	want := `{"events_applied":1,"lists_written":2,"active_users":3,"freshness_p50_ms":4.5,"freshness_p99_ms":5.5,"bad_planted":6,"dead_letters":7}` + "\n"
	if out.String() != want || !json.Valid(out.Bytes()) {
		t.Errorf("got %s want %s", out.String(), want)
	}
}

// Stdout of a test is no terminal, and a pipe never is.
func TestOpenPicksByWhereItWrites(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = r.Close(), w.Close() }()
	if v, ok := Open(w, false).(*Lines); !ok {
		t.Errorf("a pipe gets %T, want lines", v)
	}
	if v, ok := Open(w, true).(*Silent); !ok {
		t.Errorf("JSON gets %T, want silent", v)
	}
}

func TestStoryKeepsToItsShopperAndCountsAListOnce(t *testing.T) {
	s := story()
	before := s.Follow()
	other := event(9, "view", "i1")
	other.UserID = "someone-else"
	s.Happened(other)
	s.Listed(list(5, "i1"), time.Second) // published again
	shelf := list(6, "i1")
	shelf.Surface = "books"
	s.Listed(shelf, time.Second)
	stranger := list(7, "i1")
	stranger.UserID = "someone-else"
	s.Listed(stranger, time.Second)
	after := s.Follow()
	if after.Lists != before.Lists || len(after.Clicks) != len(before.Clicks) || after.Freshness != before.Freshness {
		t.Errorf("the story moved: %+v, was %+v", after, before)
	}
}

func TestReasonsAreInWords(t *testing.T) {
	s := story()
	p := s.product("i7")
	for want, reasons := range map[string][]freshet.Reason{
		"because you bought Larkfell Skarn Waterproof Trekking Boot": {{Source: "sequence", Share: 0.7, Because: "i0"}, {Source: "popular", Share: 0.3}},
		"popular in outdoor":                           {{Source: "content", Share: 0.1, Because: "i0"}, {Source: "popular", Share: 0.9}},
		"because you viewed Ravenscar Ibex Liner Sock": {{Source: "covisit", Share: 1, Because: "i11"}},
		"from moonshine":                               {{Source: "moonshine", Share: 1}},
		"":                                             nil,
	} {
		if got := s.why(p, reasons); got != want {
			t.Errorf("%v: %q, want %q", reasons, got, want)
		}
	}
	if got := s.why(Product{}, []freshet.Reason{{Source: "popular", Share: 1}}); got != "popular" {
		t.Errorf("without a domain: %q", got)
	}
}

func TestMarksSayWhereAPlaceCameFrom(t *testing.T) {
	before := []Place{{Product: Product{ItemID: "a"}}, {Product: Product{ItemID: "b"}}, {Product: Product{ItemID: "c"}}}
	for i, want := range map[int]struct{ item, mark string }{0: {"c", "▲2"}, 1: {"b", "="}, 2: {"a", "▼2"}, 3: {"d", "new"}} {
		if got := moveOf(before, want.item, i).mark; got != want.mark {
			t.Errorf("%s at %d: %q, want %q", want.item, i, got, want.mark)
		}
	}
}

func TestTallyCountsFromManyGoroutines(t *testing.T) {
	at := time.Unix(1000, 0)
	tally := NewTally(func() time.Time { return at })
	tally.Runs("cpu", "m@1")
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for i := range 100 {
				tally.Applied(1)
				tally.Listed(fmt.Sprintf("u%d", g), time.Duration(i+1)*time.Millisecond)
			}
			tally.Dead(1)
		})
	}
	all.Wait()
	r := tally.Result(8)
	if r.EventsApplied != 800 || r.ListsWritten != 800 || r.ActiveUsers != 8 || r.DeadLetters != 8 || r.BadPlanted != 8 {
		t.Errorf("%+v", r)
	}
	if r.FreshnessP50Ms < 49 || r.FreshnessP50Ms > 51 || r.FreshnessP99Ms < 98 || r.FreshnessP99Ms > 100 {
		t.Errorf("p50 %.3f ms, p99 %.3f ms of 1 to 100 ms", r.FreshnessP50Ms, r.FreshnessP99Ms)
	}
	if f := tally.Frame(nil); f.Device != "cpu" || f.Model != "m@1" || f.EventsApplied != 800 {
		t.Errorf("%+v", f)
	}
}

func TestRateIsThatOfTheLastTwoSeconds(t *testing.T) {
	at := time.Unix(1000, 0)
	tally := NewTally(func() time.Time { return at })
	got := 0.0
	for i := range 50 { // 10 s: first 100 events a second, then 500
		per := 20
		if i >= 25 {
			per = 100
		}
		tally.Applied(per)
		at = at.Add(200 * time.Millisecond)
		got = tally.Frame(nil).EventsPerSecond
		if i == 24 && (got < 95 || got > 105) {
			t.Errorf("%.1f events/s after 5 s, want 100", got)
		}
	}
	if got < 480 || got > 520 {
		t.Errorf("%.1f events/s after 10 s, want 500", got)
	}
}

func TestFreshnessKeepsTimesOutsideItsRange(t *testing.T) {
	f := NewFreshness()
	if f.Quantile(0.99) != 0 {
		t.Errorf("p99 of nothing = %v", f.Quantile(0.99))
	}
	f.Record(-time.Second)
	f.Record(time.Hour)
	if lo, hi := f.Quantile(0.25), f.Quantile(1); lo != time.Microsecond || hi < longest*999/1000 {
		t.Errorf("quantiles %v and %v", lo, hi)
	}
}
