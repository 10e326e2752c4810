package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"freshet"
	"freshet/stream"
)

// outcome is what a replay prints when it is over.
type outcome struct {
	Namespace       string
	Records, Events int64
	LeftOut         int64 `json:"left_out"`
}

// replayed runs `freshet replay` as a process of its own, which is how it always runs: a process has one ONNX Runtime.
func (s *served) replayed(t *testing.T, args ...string) (o outcome) {
	t.Helper()
	bundle, err := filepath.Abs("../../models/bundles/shop")
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), "freshet", append([]string{"replay", "--yes", "--json"}, args...)...)
	c.Env = append(os.Environ(), "FRESHET_ONNXRUNTIME="+s.cfg.Model.Library, "FRESHET_ENCODER=none", "FRESHET_MODEL_BUNDLE="+bundle,
		"FRESHET_KAFKA_BROKERS="+s.servers.KafkaAddr(), "FRESHET_REDIS_ADDRS="+s.servers.RedisAddr())
	out, err := c.Output()
	if err != nil {
		var failed *exec.ExitError
		if errors.As(err, &failed) {
			t.Fatalf("%v: %s", err, failed.Stderr)
		}
		t.Fatal(err)
	}
	if err := json.Unmarshal(out, &o); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return o
}

// A replay into a namespace of its own gives what a user was recommended at a moment, and touches nothing that is served.
func TestAReplayIsThrownAway(t *testing.T) {
	s := serveEmbedded(t, nil)
	var behaviours []string
	for i := range 60 {
		behaviours = append(behaviours, fmt.Sprintf("u%d view o%04d", i%6, 1+i*5))
	}
	s.happen(t, behaviours[:30]...)
	then := s.publicList(t, "u1") // what is asked for later on
	s.happen(t, behaviours[30:]...)
	now := s.publicList(t, "u1")
	o, _ := s.operator()

	if got := s.replayed(t, "--lane", "past", "--to", "offset=30", "--user", "u1"); got.Namespace != "past" || got.Records != 30 || got.Events != 5 || got.LeftOut != 25 {
		t.Errorf("%+v", got)
	}
	own := func(user string) (r freshet.Recommendation) {
		t.Helper()
		past, err := o.at(t.Context(), "past")
		if err != nil {
			t.Fatal(err)
		}
		found, err := past.Records(t.Context(), []freshet.RecordKey{{UserID: user, Surface: freshet.HomeSurface, Place: freshet.PlaceOwn}})
		if err != nil {
			t.Fatal(err)
		}
		if found[0] != nil {
			if err := json.Unmarshal(found[0], &r); err != nil {
				t.Fatal(err)
			}
		}
		return r
	}
	if got := own("u1"); fmt.Sprint(got.Items) != fmt.Sprint(then.Items) || got.Rev != 5 || got.Lane != "past" || got.CV != 0 {
		t.Errorf("got %+v\nthen he was shown %+v", got, then)
	}
	if got := own("u2"); got.Items != nil {
		t.Errorf("only u1 was asked for, yet u2 has %+v", got)
	}
	if after := s.publicList(t, "u1"); after.RecID != now.RecID {
		t.Errorf("he reads %s, before the replay %s", after.RecID, now.RecID)
	}

	// The same again does nothing more; a namespace that is a lane is refused.
	if got := s.replayed(t, "--lane", "past", "--to", "offset=30", "--user", "u1"); got.Events != 0 {
		t.Errorf("the second time %+v", got)
	}
	err := o.replay(t.Context(), replayOptions{newLane: newLane{name: "live"}, from: "earliest", to: "latest", yes: true})
	if !errors.Is(err, stream.ErrGroupLive) {
		t.Errorf("into the live lane: %v", err)
	}

	// All users to the log's end, in another namespace: the same profiles and lists as live's; told to, it publishes them under its name.
	if got := s.replayed(t, "--lane", "whole", "--to", "latest", "--emit"); got.Events != 60 || got.LeftOut != 0 {
		t.Errorf("%+v", got)
	}
	if d := s.compare(t, "live", "whole"); d.Users != 6 || d.Identical != 6 || d.ListsIdentical != 6 {
		t.Errorf("%+v", d)
	}
	conn, err := connection(s.cfg)
	if err != nil {
		t.Fatal(err)
	}
	emitted := map[string]freshet.Recommendation{}
	err = stream.Scan(t.Context(), conn, s.cfg.Kafka.Topics.Recommendations, func(rec stream.Record) error {
		var r freshet.Recommendation
		if err := json.Unmarshal(rec.Value, &r); err != nil {
			return err
		}
		if r.Lane == "whole" {
			emitted[r.UserID] = r
		}
		return nil
	})
	if err != nil || len(emitted) != 6 || emitted["u1"].CV != 0 || emitted["u1"].Rev != now.Rev {
		t.Errorf("%v, emitted %+v", err, emitted)
	}

	for _, name := range []string{"past", "whole"} {
		if err := o.drop(t.Context(), dropping{name: name, rate: 10_000}); err != nil {
			t.Fatal(err)
		}
	}
	left, err := s.store.Namespaces(t.Context())
	if err != nil || left["past"] != 0 || left["whole"] != 0 || left["live"] == 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
