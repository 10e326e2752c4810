package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"freshet"
	"freshet/internal/chaos/expect"
)

// whole is a verdict over one user who is right.
func whole(t *testing.T) (*verdict, *freshet.Profile, *expect.User) {
	t.Helper()
	at := freshet.Position{Source: freshet.Source{Topic: eventsTopic, Partition: 3}, Offset: 7}
	p := &freshet.Profile{UserID: "u", Rev: 1, Positions: []freshet.Position{at}, Window: []freshet.Entry{{ItemID: "i1", Type: "view", Time: 5, Position: at, Event: freshet.HashID("e")}},
		State: []float32{1, 2}}
	p.Repair()
	p.Folded()
	x := &expect.User{Rev: 1, Places: []expect.Place{{Partition: 3, Offset: 7}}, State: []float32{1, 2}, Last: expect.Place{Partition: 3, Offset: 7}, LastE: "e",
		Window: []expect.Entry{{Item: "i1", Type: "view", Time: 5, At: expect.Place{Partition: 3, Offset: 7}, Event: freshet.HashID("e")}},
		Lists:  map[string][]expect.Scored{"home": {{Item: "i2", Score: 2}}, "side": {{Item: "i2", Score: 2}}}}
	v := &verdict{chain: true, wrong: map[string]string{}, stored: map[string][]byte{}, lists: map[string][]byte{}, outputs: map[string]*published{},
		want: &expect.Expectation{Users: map[string]*expect.User{"u": x}}}
	for _, s := range surfaces {
		rec := freshet.Recommendation{V: 1, Rev: 1, Surface: s.name, Items: []freshet.RecommendedItem{{ItemID: "i2"}}, Event: freshet.RecommendationFrom{Partition: 3, Offset: 7, EventID: "e"}}
		raw, err := json.Marshal(rec)
		if err != nil {
			t.Fatal(err)
		}
		v.lists[outputKey("u", s.name)] = raw
		v.outputs[outputKey("u", s.name)] = &published{best: raw, last: raw, rev: 1}
	}
	return v, p, x
}

// Everything that the suite compares can be found wrong.
func TestTheVerdictFindsWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(v *verdict, p *freshet.Profile, x *expect.User)
		say   string
	}{
		"nothing":             {func(*verdict, *freshet.Profile, *expect.User) {}, ""},
		"revision":            {func(_ *verdict, p *freshet.Profile, _ *expect.User) { p.Rev = 2 }, "rev 2, want 1"},
		"position":            {func(_ *verdict, p *freshet.Profile, _ *expect.User) { p.Positions[0].Offset = 8 }, "positions"},
		"one bit of state":    {func(_ *verdict, p *freshet.Profile, _ *expect.User) { p.State[1] = 2.0000002 }, "state"},
		"a checkpoint":        {func(_ *verdict, p *freshet.Profile, _ *expect.User) { p.Checkpoint = []float32{0, 0} }, "checkpoint"},
		"an item":             {func(_ *verdict, p *freshet.Profile, _ *expect.User) { p.Window[0].ItemID = "i9" }, "entry 0"},
		"a time":              {func(_ *verdict, p *freshet.Profile, _ *expect.User) { p.Window[0].Time = 6 }, "entry 0"},
		"an entry":            {func(_ *verdict, p *freshet.Profile, _ *expect.User) { p.Window = append(p.Window, p.Window[0]) }, "2 entries"},
		"a remembered event":  {func(_ *verdict, p *freshet.Profile, _ *expect.User) { p.Recent = []uint64{1} }, "recent"},
		"an item of the list": {func(_ *verdict, _ *freshet.Profile, x *expect.User) { x.Lists["home"][0].Item = "i3" }, "list home"},
		"the list's event":    {func(_ *verdict, _ *freshet.Profile, x *expect.User) { x.LastE = "f" }, "list home is of"},
		"an erased user's list": {func(v *verdict, p *freshet.Profile, x *expect.User) {
			x.Tombstone = true
		}, "is erased and has a list"},
	} {
		t.Run(name, func(t *testing.T) {
			v, p, x := whole(t)
			c.spoil(v, p, x)
			p.Folded()
			raw, err := p.AppendBinary(nil)
			if err != nil {
				t.Fatal(err)
			}
			v.stored["u"] = raw
			v.check("u", x)
			if got := v.wrong["u"]; (c.say == "") != (got == "") || !strings.Contains(got, c.say) {
				t.Errorf("found %q, want %q", got, c.say)
			}
		})
	}
}

func TestTheVerdictFindsOutputsThatDiffer(t *testing.T) {
	v, _, x := whole(t)
	if got := v.compareOutputs(); len(got) > 0 {
		t.Fatalf("found %v where all is well", got)
	}
	v.outputs["u"].best = []byte(`{"rev":2}`)
	delete(v.outputs, outputKey("u", "side"))
	if got := fmt.Sprint(v.compareOutputs()); !strings.Contains(got, "u home: published") || !strings.Contains(got, "u side: never") {
		t.Errorf("found %s", got)
	}
	x.Tombstone = true
	if got := fmt.Sprint(v.compareOutputs()); !strings.Contains(got, "u home: erased") {
		t.Errorf("found %s", got)
	}
}
