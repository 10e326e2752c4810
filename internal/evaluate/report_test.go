package evaluate

import (
	"context"
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"freshet"
)

// report makes a small prequential report with every part in it.
func smallReport(t testing.TB) *Report {
	t.Helper()
	l := randomLog(t, 900)
	l.SortByTime("time, ties in file order")
	seen := NewSeen(l, false)
	h := handlerFunc(func(batch []freshet.Event) ([]freshet.Publication, error) {
		var out []freshet.Publication
		for _, e := range batch {
			r := freshet.Recommendation{V: 1, UserID: e.UserID, Surface: freshet.HomeSurface}
			for _, item := range toyList(l.Items.ids, e.Items[0].ItemID) {
				r.Items = append(r.Items, freshet.RecommendedItem{ItemID: item})
			}
			out = append(out, freshet.Publication{UserID: e.UserID, Surface: freshet.HomeSurface, Record: r.AppendJSON(nil)})
		}
		return out, nil
	})
	live := NewLive("live", l, seen, h, 16)
	ranked, err := (&Prequential{Log: l, Seen: seen, Train: .5}).Run(context.Background(), []Row{live, live.Refreshed("daily", 24*time.Hour),
		NewScorerRow(l, seen, NewCounts(l.Items.Len(), DefaultCountsConfig())), NewScorerRow(l, seen, NewPopularity(l.Items.Len()))})
	if err != nil {
		t.Fatal(err)
	}
	return ranked.Report("toy", ReportConfig{Bootstrap: Bootstrap{Samples: 50, Seed: 1}, Buckets: 5,
		Segments: []Segment{{Name: "even items", Holds: func(s *Scored) bool { return s.Item%2 == 0 }}}})
}

func TestReportNamesThatScriptsRelyOn(t *testing.T) {
	b, err := json.Marshal(smallReport(t))
	if err != nil {
		t.Fatal(err)
	}
	var top map[string]any
	if err := json.Unmarshal(b, &top); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"model", "users", "items", "events", "hr10", "ndcg10", "mrr", "hr50", "hr10_ci", "ndcg10_ci", "mrr_ci", "hr50_ci", "hr10_warm", "hr10_cold", "rows", "order"} {
		if _, ok := top[name]; !ok {
			t.Errorf("no field %s in %s", name, b)
		}
	}
	var names []string
	for _, row := range top["rows"].([]any) {
		row := row.(map[string]any)
		names = append(names, row["name"].(string))
		if _, ok := row["hr10_warm"]; !ok || len(row["hr10_ci"].([]any)) != 2 {
			t.Errorf("row %v", row)
		}
	}
	if !slices.Equal(names, []string{"live", "daily", "counts", "popularity"}) {
		t.Errorf("rows %v", names)
	}
}

func TestReportPartsAddUp(t *testing.T) {
	r := smallReport(t)
	for _, row := range r.Rows {
		for kind, points := range map[string][]Point{"history": row.ByHistory, "time": row.OverTime} {
			events, hits := 0, 0.0
			for _, p := range points {
				events += p.Events
				hits += p.HR10 * float64(p.Events)
			}
			if events != r.Scored || math.Abs(hits/float64(events)-row.HR10) > 1e-9 {
				t.Errorf("%s by %s: %d events of %d, HR@10 %v of %v", row.Name, kind, events, r.Scored, hits/float64(events), row.HR10)
			}
		}
		if row.WarmEvents+row.ColdEvents != r.Scored || row.WarmEvents == 0 || row.ColdEvents == 0 {
			t.Errorf("%s: %d warm, %d cold", row.Name, row.WarmEvents, row.ColdEvents)
		}
	}
	var segments []string
	for _, s := range r.Rows[0].Segments {
		segments = append(segments, s.Name)
	}
	for _, want := range []string{"cold users after 1", "even items", "list stood in daily"} {
		if !slices.Contains(segments, want) {
			t.Errorf("no segment %q in %v", want, segments)
		}
	}
	if slices.Contains(segments, personalSegment("popularity")) || r.Rows[3].Personal != 0 {
		t.Error("popularity is said to have personal lists")
	}
	for _, d := range r.Differences {
		if d.Segment == "all" && d.Against == "counts" && !close4(d.HR10, r.Rows[0].HR10-r.Rows[2].HR10) {
			t.Errorf("difference %v", d)
		}
	}
	var b strings.Builder
	if err := r.Table(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"prequential of toy", "popularity", "cold users after 3", "order: time, ties in file order"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}
