package featurestore

import (
	"context"
	"fmt"
	"math"
	"sort"
	"time"

	"github.com/redis/go-redis/v9"

	"freshet"
)

// Transition is one step of some user from an item to another, or the sum of several.
type Transition = freshet.Transition

// Transition counts are shared by all workers of a lane: one sorted set per item, its strongest successors only, each with a
// weight that halves every Config.HalfLife. A set's score is the logarithm of the weight inflated by its event time
// (scripts/transitions.lua), so sums commute, late events count for what they are worth today, and nothing is rewritten for ageing.
// Adding is not idempotent: what a crash makes a worker read again counts twice.

// addPipeline is how many items' counts are added in one trip: a script that adds a hundred successors takes the server a fifth of a
// millisecond and more, and whoever saves a list waits for those that it has in hand.
const addPipeline = 4

// AddTransitions adds counts, one script call per item that is left. Callers add up for a second or so and then flush. After an
// error some of them may have been added.
func (r *Redis) AddTransitions(ctx context.Context, deltas []Transition) error {
	steps, err := addUp(deltas, r.cfg.HalfLife)
	if err != nil {
		return fmt.Errorf("add %d transitions: %w", len(deltas), err)
	}
	_, err = r.all(ctx, fmt.Sprintf("add %d transitions", len(deltas)), len(steps), addPipeline, func(i int) redis.Cmder {
		args := make([]any, 0, 3+2*len(steps[i].to))
		args = append(args, r.cfg.TransitionKeep, transitionTTL(r.cfg.HalfLife).Milliseconds(), steps[i].ceiling(time.Now(), r.cfg.HalfLife))
		for _, s := range steps[i].to {
			args = append(args, s.Score, s.ItemID)
		}
		return call(ctx, transitionsScript, []string{r.keys.covisit(steps[i].from)}, args...)
	})
	return err
}

// transitionsPipeline bounds the sets read at once: 128 successors of an item take 0.1 ms, and whoever else asks the server waits for
// all of those that it has in hand.
const transitionsPipeline = 32

// Transitions reads the n strongest successors of each item with their weights as of now, strongest first.
func (r *Redis) Transitions(ctx context.Context, items []string, n int, now time.Time) ([][]Scored, error) {
	lists := make([][]Scored, len(items))
	if n <= 0 {
		return lists, nil
	}
	cmds, err := r.all(ctx, fmt.Sprintf("read transitions of %d items", len(items)), len(items), transitionsPipeline, func(i int) redis.Cmder {
		return redis.NewZSliceCmd(ctx, "zrevrange", r.keys.covisit(items[i]), 0, n-1, "withscores")
	})
	if err != nil {
		return nil, err
	}
	for i, c := range cmds {
		lists[i] = scoredOf(c.(*redis.ZSliceCmd).Val())
		for j := range lists[i] {
			lists[i][j].Score = math.Exp2(lists[i][j].Score - halfLives(now.UnixMilli(), r.cfg.HalfLife))
		}
	}
	return lists, nil
}

// steps are the additions to one item's set, as logarithms.
type steps struct {
	from string
	to   []Scored
	last int64 // latest event time
}

// ceiling is the highest score that the set can have at a moment: an event 48 hours ahead of it, 2^40 times. A set above was
// counted with a shorter half-life.
func (s *steps) ceiling(now time.Time, halfLife time.Duration) float64 {
	return halfLives(max(s.last, now.UnixMilli())+(48*time.Hour).Milliseconds(), halfLife) + 40
}

// addUp joins the deltas of each pair, in an order that does not depend on theirs.
func addUp(deltas []Transition, halfLife time.Duration) ([]steps, error) {
	type pair struct{ from, to string }
	sums := map[pair]float64{}
	last := map[string]int64{}
	for _, d := range deltas {
		if !(d.Weight > 0) || math.IsInf(d.Weight, 0) {
			return nil, fmt.Errorf("from %q to %q: weight %v is not positive and finite", d.From, d.To, d.Weight)
		}
		score := math.Log2(d.Weight) + halfLives(d.Time, halfLife)
		if old, ok := sums[pair{d.From, d.To}]; ok {
			score = logAdd(old, score)
		}
		sums[pair{d.From, d.To}] = score
		last[d.From] = max(last[d.From], d.Time)
	}
	byItem := map[string][]Scored{}
	for p, score := range sums {
		byItem[p.from] = append(byItem[p.from], Scored{ItemID: p.to, Score: score})
	}
	list := make([]steps, 0, len(byItem))
	for from, to := range byItem {
		sort.Slice(to, func(a, b int) bool { return to[a].ItemID < to[b].ItemID })
		list = append(list, steps{from: from, to: to, last: last[from]})
	}
	sort.Slice(list, func(a, b int) bool { return list[a].from < list[b].from })
	return list, nil
}

// halfLives is a time as a count of half-lives since the epoch.
func halfLives(at int64, halfLife time.Duration) float64 {
	return float64(at) / float64(halfLife.Milliseconds())
}

// logAdd is log2(2^a + 2^b).
func logAdd(a, b float64) float64 {
	if b > a {
		a, b = b, a
	}
	return a + math.Log1p(math.Exp2(b-a))/math.Ln2
}

// transitionTTL lets a set expire when its weights are below a thousandth.
func transitionTTL(halfLife time.Duration) time.Duration { return 10 * halfLife }
