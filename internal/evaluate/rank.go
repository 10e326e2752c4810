package evaluate

import "context"

// Question asks for what a user does next.
type Question struct {
	User    int32
	History []int32 // items so far, oldest first
}

// Scorer gives every item a score for each of a batch of questions, higher = better: out[i] has one place per item of the log
// and is overwritten. A negative infinity is allowed. Exact ranks over any catalogue come from it.
type Scorer interface {
	Name() string
	Score(ctx context.Context, asked []Question, out [][]float32) error
}

// Learner is a scorer that also learns from the stream: item follows history.
type Learner interface {
	Learn(history []int32, item int32)
}

// ranker computes ranks over full score vectors.
type ranker struct {
	mark  []uint32 // per item: the question that last excluded it
	asked uint32
}

func newRanker(items int) *ranker { return &ranker{mark: make([]uint32, items)} }

// rank is 1 + the number of other items, not in exclude, that score at least as high as target. Ties count against the target:
// a model that cannot tell items apart gets no credit for luck. A score that is no number ranks last.
func (r *ranker) rank(scores []float32, target int32, exclude []int32) int32 {
	own := scores[target]
	if own != own {
		return int32(len(scores))
	}
	above := int32(0)
	for _, s := range scores {
		if s >= own {
			above++
		}
	}
	r.asked++
	r.mark[target] = r.asked // the target is no candidate against itself
	above--
	for _, item := range exclude {
		if r.mark[item] != r.asked {
			r.mark[item] = r.asked
			if scores[item] >= own {
				above--
			}
		}
	}
	return above + 1
}
