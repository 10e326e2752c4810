package expect

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// The oracle shares nothing with what it judges.
func TestImportsTheStandardLibraryOnly(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Fields(string(out)); !slices.Equal(got, []string{"freshet/internal/chaos/expect"}) {
		t.Fatalf("package expect depends on %v; it may know the standard library only", got)
	}
}

func openChain(t *testing.T) *Chain {
	t.Helper()
	c, err := OpenChain("../testdata/chain")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A state of the chain tells apart every order, every gap and every left-out step.
func TestChainIsAHashOfItsSteps(t *testing.T) {
	c := openChain(t)
	steps := []Step{{"i1", "view", 0}, {"i2", "click", 1.5}, {"i3", "view", 60}, {"", "cart", 0.001}}
	variants := map[string][]Step{
		"as it is":     steps,
		"swapped":      {steps[1], steps[0], steps[2], steps[3]},
		"one left out": {steps[0], steps[1], steps[3]},
		"one twice":    append(slices.Clone(steps), steps[3]),
		"gap 1 ms off": {steps[0], {"i2", "click", 1.501}, steps[2], steps[3]},
		"other type":   {steps[0], steps[1], {"i3", "click", 60}, steps[3]},
		"other item":   {steps[0], steps[1], {"i4", "view", 60}, steps[3]},
	}
	seen := map[string]string{}
	for name, list := range variants {
		state := [][]float32{make([]float32, c.Size())}
		if _, err := c.Fold(state, [][]Step{list}); err != nil {
			t.Fatal(err)
		}
		key := fmt.Sprint(state[0])
		if other, there := seen[key]; there {
			t.Errorf("%q and %q give the same state %s", name, other, key)
		}
		seen[key] = name
	}
}

// feed reads events of one user u1 from a script, one line each: ID TYPE ITEMS TIME [TARGET].
func feed(t *testing.T, script string) *User {
	t.Helper()
	l := NewLog(openChain(t))
	for i, line := range strings.Split(strings.TrimSpace(script), "\n") {
		f := strings.Fields(line)
		items := make([]string, 0, 2)
		if f[2] != "-" {
			for _, item := range strings.Split(f[2], ",") {
				items = append(items, fmt.Sprintf(`{"item_id":%q}`, item))
			}
		}
		target := ""
		if len(f) > 4 {
			target = fmt.Sprintf(`,"target_event_id":%q`, f[4])
		}
		value := fmt.Sprintf(`{"event_id":%q,"type":%q,"user_id":"u1","items":[%s],"timestamp":%s%s}`, f[0], f[1], strings.Join(items, ","), f[3], target)
		l.Take(&Record{Offset: int64(i), Time: 2_000_000_000_000, Key: []byte("u1"), Value: []byte(value)})
	}
	if len(l.out.Poison) > 0 {
		t.Fatalf("poison: %v", l.out.Poison)
	}
	x, err := l.Finish([]Surface{{"home", 3}})
	if err != nil {
		t.Fatal(err)
	}
	return x.Users["u1"]
}

func TestRules(t *testing.T) {
	for name, c := range map[string]struct {
		script string
		rev    uint64
		window string
	}{
		"late events go where they belong": {`a view i1 1700000002000
			b view i2 1700000001000`, 2, "i2 i1"},
		"equal times keep the log's order": {`a view i1 1700000001000
			b view i2 1700000001000`, 2, "i1 i2"},
		"a duplicate counts once": {`a view i1 1700000001000
			b view i2 1700000002000
			a view i1 1700000001000`, 2, "i1 i2"},
		"several items are one event": {`a purchase i1,i2,i3 1700000001000`, 1, "i1 i2 i3"},
		"a removal takes the latest cart": {`a cart i1 1700000001000
			b view i1 1700000002000
			c remove i1 1700000003000`, 3, "i1"},
		"a removal takes its target": {`a view i1 1700000001000
			b view i2 1700000002000
			c remove - 1700000003000 a`, 3, "i2"},
		"a dislike leaves the window": {`a view i1 1700000001000
			b dislike i2 1700000002000`, 2, "i1"},
		"what is not later than an erasure is gone": {`a view i1 1700000001000
			b erase - 1700000005000
			c view i2 1700000005000
			d view i3 1700000006000`, 3, "i3"},
		"an erasure that comes again erases nothing": {`a view i1 1700000001000
			b erase - 1700000005000
			d view i3 1700000006000
			b erase - 1700000005000`, 3, "i3"},
	} {
		t.Run(name, func(t *testing.T) {
			u := feed(t, c.script)
			var items []string
			for _, w := range u.Window {
				items = append(items, w.Item)
			}
			if got := strings.Join(items, " "); got != c.window || u.Rev != c.rev {
				t.Errorf("rev %d, window %q; want %d, %q", u.Rev, got, c.rev, c.window)
			}
		})
	}
}

// What leaves the window lives on in the checkpoint, so a long history's state is the fold of all of it.
func TestStateIsTheFoldOfEverything(t *testing.T) {
	c := openChain(t)
	var script strings.Builder
	var all []Step
	for i := range 120 {
		item := fmt.Sprintf("i%d", i%400+1)
		fmt.Fprintf(&script, "e%d view %s %d\n", i, item, 1_700_000_000_000+int64(i)*1500)
		all = append(all, Step{item, "view", 1.5})
	}
	all[0].Gap = 0
	state := [][]float32{make([]float32, c.Size())}
	if _, err := c.Fold(state, [][]Step{all}); err != nil {
		t.Fatal(err)
	}
	u := feed(t, script.String())
	if !slices.Equal(u.State, state[0]) || len(u.Window) != 50 || u.Checkpoint == nil {
		t.Errorf("state %v with %d entries, want %v", u.State, len(u.Window), state[0])
	}
}

func TestPoisonIsNamed(t *testing.T) {
	good := `{"event_id":"e","type":"view","user_id":"u","item_id":"i1","timestamp":1700000000000}`
	key := []byte("u")
	for name, r := range map[string]Record{
		"null value":    {Key: key},
		"broken JSON":   {Key: key, Value: []byte(good[:40])},
		"null key":      {Value: []byte(good)},
		"foreign key":   {Key: []byte("v"), Value: []byte(good)},
		"unknown type":  {Key: key, Value: []byte(strings.Replace(good, "view", "gaze", 1))},
		"no id":         {Key: key, Value: []byte(strings.Replace(good, `"event_id":"e",`, "", 1))},
		"no item":       {Key: key, Value: []byte(strings.Replace(good, `"item_id":"i1",`, "", 1))},
		"before 1990":   {Key: key, Value: []byte(strings.Replace(good, "1700000000000", "1", 1))},
		"in the future": {Key: key, Value: []byte(strings.Replace(good, "1700000000000", "1800000000001", 1))},
		"no time":       {Key: key, Value: []byte(strings.Replace(good, `,"timestamp":1700000000000`, "", 1))},
	} {
		r.Time = 1_700_000_000_000
		if _, err := Decode(&r); err == nil {
			t.Errorf("%s: taken for an event", name)
		}
	}
	if _, err := Decode(&Record{Key: key, Value: []byte(good), Time: 1_700_000_000_000}); err != nil {
		t.Errorf("a good event: %v", err)
	}
}
