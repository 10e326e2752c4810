package telemetry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"freshet"
)

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(b)
}

// Every metric of the contract moves and can be read.
func TestMetricsMove(t *testing.T) {
	m := NewMetrics()
	s := freshet.Source{Topic: "events", Partition: 3}
	m.Event("view", freshet.Applied)
	m.Event("view", freshet.TooLate)
	m.Visible(time.Now().Add(-2 * time.Millisecond))
	m.Stage("fold", time.Millisecond)
	m.Refold("late")
	m.Fenced("newer")
	m.Shares("sequence", 0.6)
	m.Weight("home", "sequence", 0.7)
	m.Moved(s, 10, 7, 5, time.Second)
	m.Rebalanced(1)
	m.Gap(s, 4)
	m.Rollback(s)
	m.Misrouted(s)
	m.Batch(s, 32)
	m.Retried(s, "handle")
	m.DeadLetter("decode", "items[17].item_id")
	m.Device("cpu")
	m.Catalogue(12)
	m.Judged("u", 3)
	m.Lane("b").Judged("u", 0)
	m.Shown("live", "home", "sequence")
	m.Clicked("live", "home", "sequence")
	m.Examples(2)
	m.Arm("b", "hit_ratio_10", .2, .1, .3)
	m.Arm("c", "hit_ratio_10", .2, .1, .3)
	m.ArmGone("c", "hit_ratio_10")
	m.FeedbackLag(s, 6)
	srv, err := Listen("127.0.0.1:0", m, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	_, page := get(t, "http://"+srv.Addr()+"/metrics")
	for _, want := range []string{
		`freshet_arm_ratio{bound="low",lane="b",measure="hit_ratio_10"} 0.1`, `freshet_event_to_recs_seconds_count 1`, `freshet_events_total{outcome="applied",type="view"} 1`, `freshet_too_late_total 1`,
		`freshet_stage_seconds_count{stage="fold"} 1`, `freshet_state_refolds_total{reason="late"} 1`, `freshet_fence_rejected_total{reason="newer"} 1`,
		`freshet_source_share_count{source="sequence"} 1`, `freshet_source_weight{source="sequence",surface="home"} 0.7`, `freshet_applied_offset{partition="3",topic="events"} 10`,
		`freshet_committed_offset{partition="3",topic="events"} 7`, `freshet_consumer_lag_records{partition="3",topic="events"} 5`,
		`freshet_consumer_lag_seconds{partition="3",topic="events"} 1`, `freshet_rebalances_total 1`, `freshet_offset_gap_records_total 4`,
		`freshet_state_rollback_total 1`, `freshet_misrouted_total 1`, `freshet_batch_size_count 1`, `freshet_retries_total{stage="handle"} 1`,
		`freshet_dlq_total{reason="items[].item_id"} 1`, `freshet_device{provider="cpu"} 1`, `freshet_catalogue_items 12`,
		`freshet_shown_total{lane="live",source="sequence",surface="home"} 1`, `freshet_clicked_total{lane="live",source="sequence",surface="home"} 1`,
		`freshet_online_hit_ratio{k="1",lane="live"} 0`, `freshet_online_hit_ratio{k="10",lane="live"} 1`, `freshet_online_ndcg{k="5",lane="live"} 0.5`,
		`freshet_online_hit_ratio{k="10",lane="b"} 0`, `freshet_online_judged_total{lane="live"} 1`,
		`freshet_training_examples_total 2`, `freshet_feedback_lag_records{partition="3",topic="events"} 6`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("no %s", want)
		}
	}
	m.Lane("canary").Moved(s, 4, 3, 2, time.Second)
	m.Lane("canary").Event("view", freshet.Applied)
	_, page = get(t, "http://"+srv.Addr()+"/metrics")
	for _, want := range []string{`freshet_applied_offset{lane="canary",partition="3",topic="events"} 4`, `freshet_applied_offset{partition="3",topic="events"} 10`,
		`freshet_events_total{lane="canary",outcome="applied",type="view"} 1`} {
		if !strings.Contains(page, want) {
			t.Errorf("two lanes: no %s", want)
		}
	}
	m.Drop("canary")
	if _, page = get(t, "http://"+srv.Addr()+"/metrics"); strings.Contains(page, "canary") {
		t.Error("a lane that was dropped is still reported")
	}
	m.Left(s)
	m.FeedbackLeft(s)
	if _, page = get(t, "http://"+srv.Addr()+"/metrics"); strings.Contains(page, `partition="3"`) {
		t.Error("a partition that is not ours any more is still reported")
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestHealthTellsLivenessFromReadiness(t *testing.T) {
	ill := errors.New("redis is away")
	srv, err := Listen("127.0.0.1:0", NewMetrics(), func() []Check {
		return []Check{
			{Name: "loop", Liveness: true, Probe: func(context.Context) error { return nil }},
			{Name: "store", Probe: func(context.Context) error { return ill }},
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go srv.Run(ctx) //nolint:errcheck // ends with the test
	if code, _ := get(t, "http://"+srv.Addr()+"/healthz"); code != 200 {
		t.Errorf("liveness: %d", code)
	}
	if code, body := get(t, "http://"+srv.Addr()+"/readyz"); code != 503 || !strings.Contains(body, "redis is away") {
		t.Errorf("readiness: %d %s", code, body)
	}
}

func TestADegradedProcessIsNeitherDeadNorAbsent(t *testing.T) {
	for name, c := range map[string]struct {
		loop         error
		code         int
		live, status string
	}{
		"degraded":          {nil, 200, `"model":"no memory on the device"`, `"status":"degraded"`},
		"degraded and dead": {errors.New("stuck"), 503, `"loop":"stuck"`, `"status":"failed"`},
	} {
		t.Run(name, func(t *testing.T) {
			srv, err := Listen("127.0.0.1:0", NewMetrics(), func() []Check {
				return []Check{
					{Name: "loop", Liveness: true, Probe: func(context.Context) error { return c.loop }},
					{Name: "model", Degrades: true, Probe: func(context.Context) error { return errors.New("no memory on the device") }},
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			go srv.Run(ctx) //nolint:errcheck // ends with the test
			for _, path := range []string{"/healthz", "/readyz"} {
				if code, body := get(t, "http://"+srv.Addr()+path); code != c.code || !strings.Contains(body, c.live) || !strings.Contains(body, c.status) {
					t.Errorf("%s: %d %s", path, code, body)
				}
			}
		})
	}
}

func TestLoggerWritesWhatItIsTold(t *testing.T) {
	for format, want := range map[string]string{"text": "INFO", "json": `"level":"info"`} {
		var b bytes.Buffer
		log, err := NewLogger("info", format, &b)
		if err != nil {
			t.Fatal(err)
		}
		log.Debug("not this")
		log.Info("this", zap.Int("n", 1))
		if got := b.String(); !strings.Contains(got, want) || strings.Contains(got, "not this") {
			t.Errorf("%s: %s", format, got)
		}
	}
	if _, err := NewLogger("loud", "text", io.Discard); err == nil || !strings.Contains(fmt.Sprint(err), "log.level") {
		t.Errorf("%v", err)
	}
}
