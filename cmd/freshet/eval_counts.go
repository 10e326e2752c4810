package main

import (
	"context"
	"math"
	"os"
	"slices"

	"freshet"
	"freshet/internal/evaluate"
)

// chooseWeight tries the grid on the validation split: the last event but one of every user, with counts that have not seen it.
func (e *evaluation) chooseWeight(ctx context.Context) (float64, []evaluate.Trial, error) {
	split := e.data.LeaveOneOut(evaluate.Validation)
	counts := evaluate.NewCounts(e.data.Items.Len(), evaluate.DefaultCountsConfig())
	split.Teach(counts)
	asked := &queryCatcher{queries: map[string][]float32{}}
	engine, err := e.engine(split.Seen, map[string]float64{"query": 1}, asked)
	if err != nil {
		return 0, nil, err
	}
	bar := newProgress(os.Stderr, "users of the validation split")
	if _, err := split.RankHandler(ctx, engine, func(done, total int) { bar.show(done, float64(done)/float64(total)) }); err != nil {
		return 0, nil, err
	}
	bar.finish(len(split.Questions))
	return evaluate.ChooseWeight(ctx, split, e.scorer(asked.queries), counts, evaluate.FuseGrid())
}

// queryCatcher is a source that proposes nothing and keeps what it was asked: each user's query after his last event.
type queryCatcher struct{ queries map[string][]float32 }

func (*queryCatcher) Name() string { return "query" }

func (q *queryCatcher) Propose(_ context.Context, subjects []freshet.Subject, _ int) ([][]freshet.Candidate, error) {
	for _, s := range subjects {
		if s.Queries != nil {
			q.queries[s.Profile.UserID] = slices.Clone(s.Queries[0])
		}
	}
	return make([][]freshet.Candidate, len(subjects)), nil
}

func (*queryCatcher) Score(_ context.Context, _ *freshet.Subject, _ []freshet.Ref, out []float32) error {
	clear(out)
	return nil
}

// queryScorer scores the whole catalogue for users whose query is known.
type queryScorer struct {
	e       *evaluation
	items   []freshet.Ref
	queries map[string][]float32
}

func (e *evaluation) scorer(queries map[string][]float32) *queryScorer {
	s := &queryScorer{e: e, queries: queries, items: make([]freshet.Ref, e.data.Items.Len())}
	for i := range s.items {
		id := e.data.Items.ID(int32(i))
		s.items[i] = freshet.Ref{ItemID: id, Number: e.index.Number(id)}
	}
	return s
}

func (*queryScorer) Name() string { return "sequence" }

func (s *queryScorer) Score(_ context.Context, asked []evaluate.Question, out [][]float32) error {
	for i, q := range asked {
		if query, ok := s.queries[s.e.data.Users.ID(q.User)]; ok {
			s.e.index.Score(query, s.items, out[i])
		} else {
			clear(out[i])
		}
	}
	return nil
}

// countsSource lets the transition counts of the evaluation take part in the engine's fusion: log(count + 1e-5) over the window.
type countsSource struct {
	data   *evaluate.Log
	counts *evaluate.Counts
	scores []float32
}

func (*countsSource) Name() string { return "counts" }

func (c *countsSource) all(ctx context.Context, who *freshet.Subject) ([]float32, error) {
	history := make([]int32, 0, len(who.Profile.Window))
	for i := range who.Profile.Window {
		if n, ok := c.data.Items.Lookup(who.Profile.Window[i].ItemID); ok {
			history = append(history, n)
		}
	}
	if c.scores == nil {
		c.scores = make([]float32, c.data.Items.Len())
	}
	if err := c.counts.Score(ctx, []evaluate.Question{{History: history}}, [][]float32{c.scores}); err != nil {
		return nil, err
	}
	return c.scores, nil
}

func (c *countsSource) Propose(ctx context.Context, subjects []freshet.Subject, n int) ([][]freshet.Candidate, error) {
	out := make([][]freshet.Candidate, len(subjects))
	for i := range subjects {
		scores, err := c.all(ctx, &subjects[i])
		if err != nil {
			return nil, err
		}
		list := make([]freshet.Candidate, 0, len(scores))
		for item, s := range scores {
			if s > 0 {
				list = append(list, freshet.Candidate{ItemID: c.data.Items.ID(int32(item)), Score: logCount(s)})
			}
		}
		freshet.BestFirst(list, func(c *freshet.Candidate) float32 { return c.Score })
		out[i] = list[:min(n, len(list))]
	}
	return out, nil
}

func (c *countsSource) Score(ctx context.Context, who *freshet.Subject, items []freshet.Ref, out []float32) error {
	scores, err := c.all(ctx, who)
	if err != nil {
		return err
	}
	for i := range items {
		out[i] = logCount(0)
		if n, ok := c.data.Items.Lookup(items[i].ItemID); ok {
			out[i] = logCount(scores[n])
		}
	}
	return nil
}

func logCount(c float32) float32 { return float32(math.Log(float64(c) + 1e-5)) }
