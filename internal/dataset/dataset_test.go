package dataset

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"

	"freshet"
)

// brief is what the tables below compare of an event.
type brief struct {
	User, Item, Type string
	Time             int64
	Value            float64
}

func readEvents(t *testing.T, path string, opt Options) ([]freshet.Event, *EventReader) {
	t.Helper()
	r, err := OpenEvents(path, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	var events []freshet.Event
	for e, err := range r.All() {
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	return events, r
}

func briefs(events []freshet.Event) []brief {
	var out []brief
	for _, e := range events {
		b := brief{User: e.UserID, Type: e.Type, Time: e.Time}
		for _, i := range e.Items {
			b.Item += i.ItemID
		}
		if e.Value != nil {
			b.Value = *e.Value
		}
		out = append(out, b)
	}
	return out
}

// Every format of events, made up, with the same few behaviours in it.
func TestEventFormats(t *testing.T) {
	const at = 1_600_000_000_000
	y2k := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
	for _, c := range []struct {
		file, format, order string
		want                []brief
	}{
		{"recbole.inter", tableName, OrderFile, []brief{{"7", "i\"1", "rating", at, 4}, {"8", "2", "rating", at + 1000, 2}}},
		{"generic.csv", tableName, OrderFile, []brief{{"u,1", "a", "cart", at, 0}, {"u2", "b", "view", at + 123, 9.5}}},
		{"generic.tsv", tableName, OrderFile, []brief{{"u1", "a", "view", at, 0}, {"u2", "b", "view", at + 500, 0}}},
		{"retail.csv", tableName, OrderFile, []brief{{"257597", "355908", "cart", at + 614, 0}, {"257597", "355908", "purchase", at + 700, 0}}},
		{"ratings.dat", ratingsName, OrderFile, []brief{{"1", "1193", "rating", at, 5}, {"1", "661", "rating", at + 1000, 3}}},
		{"sasrec.tsv", sequencesName, OrderSequences, []brief{{"1", "9", "rating", y2k, 0}, {"1", "3", "rating", y2k, 0}, {"2", "3", "rating", y2k, 0}}},
		{"sequence.txt", sequencesName, OrderSequences, []brief{{"AX", "B1", "view", y2k, 0}, {"AX", "B2", "view", y2k, 0}, {"AY", "B2", "view", y2k, 0}}},
		{"clicks.tsv", tableName, OrderFile, []brief{{"3", "21", "click", at + 940, 0}, {"3", "22", "click", at + 1318, 0}}},
		{"otto.jsonl", jsonLinesName, OrderFile, []brief{{"0", "15", "click", at + 25, 0}, {"0", "15", "cart", at + 26, 0}, {"1", "16", "purchase", at + 27, 0}}},
		{"generic.jsonl", jsonLinesName, OrderFile, []brief{{"u1", "5", "view", at, 0}, {"u2", "b", "like", at, 3}}},
		{"freshet.jsonl", jsonLinesName, OrderFile, []brief{{"u1", "i9", "view", at + 123, 4.5}, {"u1", "ab", "purchase", at, 0}, {"anon", "", "login", at, 0}, {"u3", "z", "click", at, 0}}},
		{"histories.csv", historiesName, OrderSequences, []brief{{"A1", "1", "view", y2k, 0}, {"A1", "2", "view", y2k, 0}, {"A1", "3", "view", y2k, 0}, {"A2", "5", "view", y2k, 0}}},
	} {
		t.Run(c.file, func(t *testing.T) {
			events, r := readEvents(t, filepath.Join("testdata", c.file), Options{Strict: true})
			if got := briefs(events); !reflect.DeepEqual(got, c.want) {
				t.Errorf("got  %v\nwant %v", got, c.want)
			}
			if r.Format() != c.format || r.Order() != c.order || r.Count() != len(c.want) || r.Bad() != 0 {
				t.Errorf("format %q, order %q, count %d, bad %d", r.Format(), r.Order(), r.Count(), r.Bad())
			}
			if read, size := r.Progress(); read != size || size == 0 {
				t.Errorf("progress at the end: %d of %d bytes", read, size)
			}
		})
	}
}

func TestFreshetEventsKeepEveryField(t *testing.T) {
	events, _ := readEvents(t, "testdata/freshet.jsonl", Options{Strict: true})
	first, buy, login, cloud := events[0], events[1], events[2], events[3]
	if first.ID != "e1" || first.SessionID != "s1" || first.Surface != "home" || first.RecID != "events-3-1234" || string(first.Context) != `{"device":"ios"}` {
		t.Errorf("first event: %+v", first)
	}
	if want := []freshet.EventItem{{ItemID: "a", Quantity: 2, Price: 9.5}, {ItemID: "b"}}; !reflect.DeepEqual(buy.Items, want) {
		t.Errorf("items of the purchase: %+v", buy.Items)
	}
	if login.MergeInto != "u1" || cloud.ID != "ce-1" {
		t.Errorf("login %+v\ncloud event %+v", login, cloud)
	}
}

func TestItemFormats(t *testing.T) {
	for _, c := range []struct {
		file, format string
		want         []freshet.Item
	}{
		{"recbole.item", tableName, []freshet.Item{
			{ItemID: "1", Title: "The \"Quiet\" Harbour", Categories: []string{"Drama", "Sci-Fi"}, Attributes: []byte(`{"release_year":"1995"}`)},
			{ItemID: "2", Title: "Two", Categories: []string{"Comedy"}}}},
		{"movies.dat", moviesName, []freshet.Item{{ItemID: "73", Title: "Caf\u00e9 au Port, Le (1995)", Categories: []string{"Drama", "Musical"}}}},
		{"texts.txt", textsName, []freshet.Item{{ItemID: "B1", Title: "nail lamp 5"}, {ItemID: "B2"}}},
		{"map.json", jsonMapName, []freshet.Item{
			{ItemID: "0", Title: "Hose", Description: "green hose 10 m", Brand: "Acme"},
			{ItemID: "1", Title: "Tape", Description: "plain", Categories: []string{"Home", "Tools"}}}},
		{"items.jsonl", jsonLinesName, []freshet.Item{
			{ItemID: "i1", Title: "Lamp", Categories: []string{"Light"}, Price: 12.5, Vectors: map[string][]float32{"image": {1, 2}}},
			{ItemID: "42", Title: "Chair"}}},
		{"items.csv", tableName, []freshet.Item{{ItemID: "i1", Title: "Lamp, tall", Categories: []string{"Light", "Home"}, Brand: "Acme", Price: 12.5, Available: new(bool)}}},
	} {
		t.Run(c.file, func(t *testing.T) {
			got, r := readItems(t, filepath.Join("testdata", c.file))
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
			if r.Format() != c.format || r.Count() != len(c.want) {
				t.Errorf("format %q, count %d", r.Format(), r.Count())
			}
		})
	}
}

func TestCompressionIsToldByContent(t *testing.T) {
	plain, err := os.ReadFile("testdata/generic.csv")
	if err != nil {
		t.Fatal(err)
	}
	want, _ := readEvents(t, "testdata/generic.csv", Options{})
	var z bytes.Buffer
	w, err := zstd.NewWriter(&z)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(plain)
	w.Close()
	zipped := gzipped(plain)
	for name, content := range map[string]string{"a.csv.gz": zipped, "b.zst": z.String(), "no-ending": zipped, "bom.csv": "\xef\xbb\xbf" + string(plain)} {
		got, _ := readEvents(t, write(t, name, content), Options{Strict: true})
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v\nwant %+v", name, got, want)
		}
	}
	if _, err := OpenEvents(write(t, "cut.zst", z.String()[:z.Len()/2]), Options{}); err == nil || !strings.Contains(err.Error(), "cut.zst") {
		t.Errorf("half a zstd file: %v", err)
	}
}

func TestParquetEvents(t *testing.T) {
	type stored struct {
		User string    `parquet:"user"`
		Item int64     `parquet:"item"`
		At   time.Time `parquet:"timestamp,timestamp(microsecond)"`
		Type *string   `parquet:"type,optional"`
	}
	buy := "purchase"
	rows := []stored{{"u1", 7, time.UnixMilli(1_600_000_000_123), &buy}, {"u2", 8, time.UnixMilli(1_600_000_001_000), nil}}
	var b bytes.Buffer
	if err := parquet.Write(&b, rows); err != nil {
		t.Fatal(err)
	}
	want := []brief{{"u1", "7", "purchase", 1_600_000_000_123, 0}, {"u2", "8", "view", 1_600_000_001_000, 0}}
	for name, content := range map[string]string{"events.parquet": b.String(), "events.parquet.gz": gzipped(b.Bytes())} {
		events, r := readEvents(t, write(t, name, content), Options{Strict: true})
		if got := briefs(events); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %v want %v", name, got, want)
		}
		if read, size := r.Progress(); read != size {
			t.Errorf("%s: progress %d of %d", name, read, size)
		}
	}
}

func TestParquetItems(t *testing.T) {
	type stored struct {
		ID         string   `parquet:"item_id"`
		Title      string   `parquet:"title"`
		Categories []string `parquet:"categories,list"`
		Colour     string   `parquet:"colour"`
	}
	var b bytes.Buffer
	if err := parquet.Write(&b, []stored{{"i1", "Lamp", []string{"Light", "Home"}, "red"}, {"i2", "Tape", nil, ""}}); err != nil {
		t.Fatal(err)
	}
	got, _ := readItems(t, write(t, "items.parquet", b.String()))
	want := []freshet.Item{{ItemID: "i1", Title: "Lamp", Categories: []string{"Light", "Home"}, Attributes: []byte(`{"colour":"red"}`)}, {ItemID: "i2", Title: "Tape"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// Many rows over several row groups come back whole and in order.
func TestParquetRowGroups(t *testing.T) {
	type stored struct {
		User string `parquet:"user_id"`
		Item int32  `parquet:"item_id"`
		TS   int64  `parquet:"ts"`
	}
	var b bytes.Buffer
	w := parquet.NewGenericWriter[stored](&b, parquet.MaxRowsPerRowGroup(300))
	for i := range 1000 {
		if _, err := w.Write([]stored{{"u", int32(i), 1_600_000_000 + int64(i)}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	events, _ := readEvents(t, write(t, "many.parquet", b.String()), Options{Strict: true})
	if len(events) != 1000 {
		t.Fatalf("%d events", len(events))
	}
	for i, e := range events {
		if e.Time != (1_600_000_000+int64(i))*1000 {
			t.Fatalf("event %d has time %d", i, e.Time)
		}
	}
}

func TestBadRowsAreReportedAndLeftOut(t *testing.T) {
	content := "user,item,timestamp,type\nu1,a,1600000000,view\nu1,b,yesterday,view\n,c,1600000000,view\nu1,d,1600000000,teleport\nu1,e\nu1,f,12,view\nu2,g,1600000009,view\n"
	path := write(t, "rows.csv", content)
	var said []string
	events, r := readEvents(t, path, Options{OnBad: func(e *RowError) { said = append(said, strings.TrimPrefix(e.Error(), path)) }})
	if len(events) != 2 || r.Bad() != 5 {
		t.Errorf("%d events, %d bad: %v", len(events), r.Bad(), said)
	}
	for i, want := range []string{":3: timestamp: \"yesterday\" is no time", ":4: user_id: missing", ":5: type: unknown type \"teleport\"", ":6: 2 cells, the header has 4", ":7: timestamp: 1970-01-01"} {
		if i >= len(said) || !strings.HasPrefix(said[i], want) {
			t.Errorf("message %d: %q, want it to start with %q", i, said, want)
		}
	}
	strict, err := OpenEvents(path, Options{Strict: true})
	if err != nil {
		t.Fatal(err)
	}
	defer strict.Close()
	if _, err := strict.Next(); err != nil {
		t.Fatal(err)
	}
	_, err = strict.Next()
	var row *RowError
	if !errors.As(err, &row) || row.Line != 3 || row.File != path || row.Field != "timestamp" {
		t.Errorf("strict: %v", err)
	}
}

func TestBadLinesOfEveryShape(t *testing.T) {
	for name, c := range map[string]struct{ content, want string }{
		"json":      {"{\"user\":\"u\",\"item\":\"i\",\"ts\":1600000000}\n{\"user\":\n", ":2: no JSON object"},
		"no-time":   {"{\"user\":\"u\",\"item\":\"i\",\"ts\":1600000000}\n{\"user\":\"u\",\"item\":\"i\"}\n", ":2: timestamp: missing"},
		"sequence":  {"u1 a b\nu2\n", ":2: a user and no item"},
		"ratings":   {"1::2::3::1600000000\n1::2\n", ":2: 2 parts between ::"},
		"value":     {"user,item,time,rating\nu,i,1600000000,5\nu,i,1600000000,lots\n", ":3: value: \"lots\" is no number"},
		"histories": {"user_id,history_item_id,item_id\nu,[1],2\nv,one,2\n", ":3: history_item_id: \"one\" is no list"},
		"long-id":   {"user,item,time\nu,i,1600000000\nu," + strings.Repeat("x", 200) + ",1600000000\n", ":3: item_id: 200 bytes, at most 128"},
	} {
		var said []string
		path := write(t, name, c.content)
		events, _ := readEvents(t, path, Options{OnBad: func(e *RowError) { said = append(said, strings.TrimPrefix(e.Error(), path)) }})
		if len(said) != 1 || !strings.HasPrefix(said[0], c.want) || len(events) == 0 {
			t.Errorf("%s: %d events, said %q, want %q", name, len(events), said, c.want)
		}
	}
}

// What is no file of events, or no file of items, is refused with what it is instead.
func TestFilesThatAreSomethingElse(t *testing.T) {
	for _, c := range []struct{ content, events, items string }{
		{"user_id:token\tage:token\n1\t24\n", "users but no item", "no known format"},
		{"item_id:token\ttitle:token_seq\n1\tOne\n", "file of items", ""},
		{"1::One (1999)::Drama\n", "file of items", ""},
		{"user,item,ts\nu,i,1\n", "", "file of events"},
		{"1::2::3::4\n", "", "file of events"},
		{"[{\"user\":1}]", "one JSON array", "one JSON array"},
		{"1,2,3\n", "no known format", "no known format"},
		{"\x7fELF\x00\x01", "binary content", "binary content"},
		{" \n\n", "is empty", "is empty"},
	} {
		path := write(t, "f", c.content)
		events, err := OpenEvents(path, Options{})
		if err == nil {
			events.Close()
		}
		if !says(err, c.events) {
			t.Errorf("%q as events: %v", c.content, err)
		}
		items, err := OpenItems(path, Options{})
		if err == nil {
			items.Close()
		}
		if !says(err, c.items) {
			t.Errorf("%q as items: %v", c.content, err)
		}
	}
	if _, err := OpenEvents(t.TempDir(), Options{}); err == nil {
		t.Error("a folder was opened")
	}
}

// says tells whether err is nil for an empty want, or holds it.
func says(err error, want string) bool {
	if want == "" {
		return err == nil
	}
	return err != nil && strings.Contains(err.Error(), want)
}

func TestOptionsOfTypes(t *testing.T) {
	path := write(t, "f.csv", "user,item,time,event\nu,a,1600000000,seen\nu,b,1600000000,\n")
	events, _ := readEvents(t, path, Options{Strict: true, Type: "play", TypeNames: map[string]string{"seen": "view"}})
	if events[0].Type != "view" || events[1].Type != "play" {
		t.Errorf("types %s, %s", events[0].Type, events[1].Type)
	}
	if _, err := OpenEvents(path, Options{Type: "teleport"}); !says(err, "teleport") {
		t.Errorf("unknown type: %v", err)
	}
	events, _ = readEvents(t, "testdata/sasrec.tsv", Options{Type: "view", Step: time.Minute})
	if events[0].Type != "view" || events[1].Time-events[0].Time != 60_000 || events[2].Time != events[0].Time {
		t.Errorf("made-up times: %v", briefs(events))
	}
}

func TestEventIDsDependOnContentAndRowOnly(t *testing.T) {
	content := "user,item,time\nu,a,1600000000\nu,a,1600000000\n"
	one, _ := readEvents(t, write(t, "one.csv", content), Options{})
	two, _ := readEvents(t, write(t, "two.csv", content), Options{})
	if one[0].ID != two[0].ID || one[1].ID != two[1].ID {
		t.Error("the same content under another name has other ids")
	}
	if one[0].ID == one[1].ID {
		t.Error("two rows of equal content share an id")
	}
	other, _ := readEvents(t, write(t, "one.csv", strings.Replace(content, "a", "b", 1)), Options{})
	if other[0].ID == one[0].ID {
		t.Error("other content has the same id")
	}
}

func TestSortByTimeKeepsTies(t *testing.T) {
	events := []freshet.Event{{ID: "c", Time: 2}, {ID: "a", Time: 1}, {ID: "d", Time: 2}, {ID: "b", Time: 1}}
	if SortByTime(events) != OrderTime || events[0].ID+events[1].ID+events[2].ID+events[3].ID != "abcd" {
		t.Errorf("%+v", events)
	}
}

func TestParseTime(t *testing.T) {
	for in, want := range map[string]int64{
		"881250949": 881250949000, "1396437466.94": 1396437466940, "1659304800025": 1659304800025, "1600000000000000": 1600000000000,
		"1600000000000000000": 1600000000000, "2026-11-23T10:00:00.123Z": 1795428000123, "2026-11-23 10:00:00": 1795428000000,
		"2026-11-23T12:00:00+02:00": 1795428000000, "2026-11-23": 1795392000000, "8.8125e8": 881250000000,
	} {
		if got, err := ParseTime(in); err != nil || got != want {
			t.Errorf("%s: %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "NaN", "soon", "1e300", "-9223372036854775808"} {
		if got, err := ParseTime(in); err == nil {
			t.Errorf("%q was read as %d", in, got)
		}
	}
}

func TestLongLines(t *testing.T) {
	items := strings.Repeat("item ", 50_000)
	events, _ := readEvents(t, write(t, "long.txt", "u1 "+items+"\nu2 last"), Options{Strict: true})
	if len(events) != 50_001 || events[50_000].UserID != "u2" {
		t.Errorf("%d events", len(events))
	}
}

// Whatever the bytes, reading ends without a panic and what it yields is whole.
func FuzzOpen(f *testing.F) {
	files, err := filepath.Glob("testdata/*.*")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		content, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		path := write(t, "f", string(content))
		if r, err := OpenEvents(path, Options{}); err == nil {
			for e, err := range r.All() {
				if err == nil && (e.ID == "" || e.UserID == "") {
					t.Fatalf("an event without an id or a user: %+v", e)
				}
			}
			r.Close()
		}
		if r, err := OpenItems(path, Options{}); err == nil {
			for item, err := range r.All() {
				if err == nil && item.ItemID == "" {
					t.Fatalf("an item without an id: %+v", item)
				}
			}
			r.Close()
		}
	})
}

func readItems(t *testing.T, path string) ([]freshet.Item, *ItemReader) {
	t.Helper()
	r, err := OpenItems(path, Options{Strict: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	var items []freshet.Item
	for {
		item, err := r.Next()
		if err == io.EOF {
			return items, r
		}
		if err != nil {
			t.Fatal(err)
		}
		items = append(items, item)
	}
}

func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func gzipped(b []byte) string {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write(b)
	w.Close()
	return out.String()
}
