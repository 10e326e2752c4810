package featurestore

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"freshet"
)

// What users did about new items is shared by all workers of a lane: one small hash per item, of sums that do not age, since an item is
// not new for long. Adding is not idempotent: what a crash makes a worker read again counts twice. A hash lives as long as profiles do
// after its last addition.
const (
	takenTerm = "taken"
	shownTerm = "shown"
)

// responsesPipeline bounds the items added in one trip.
const responsesPipeline = 16

// AddResponses adds to the sums of each item and gives what came out, in the same order. Adding nothing reads. Tastes are sums in the space
// that basis names; those of another one stay apart. After an error some may have been added.
func (r *Redis) AddResponses(ctx context.Context, basis string, add []freshet.Response) ([]freshet.Response, error) {
	act := fmt.Sprintf("share responses to %d new items", len(add))
	cmds, err := r.all(ctx, act, len(add), responsesPipeline, func(i int) redis.Cmder {
		args := []any{"1", r.cfg.TTL.Milliseconds()}
		for term, sum := range termsOf(basis, &add[i]) {
			args = append(args, term, strconv.FormatFloat(sum, 'g', -1, 64))
		}
		return call(ctx, weightsScript, []string{r.keys.responses(add[i].ItemID)}, args...)
	})
	if err != nil {
		return nil, err
	}
	out := make([]freshet.Response, len(add))
	for i, c := range cmds {
		flat, err := c.(*redis.Cmd).StringSlice()
		if err != nil {
			return nil, r.failed(act, err)
		}
		sums := make(map[string]float64, len(flat)/2)
		for k := 0; k+1 < len(flat); k += 2 {
			if sums[flat[k]], err = strconv.ParseFloat(flat[k+1], 64); err != nil {
				return nil, fmt.Errorf("%s: item %q: term %q: %w", act, add[i].ItemID, flat[k], err)
			}
		}
		out[i] = responseOf(basis, add[i].ItemID, sums)
	}
	return out, nil
}

// AddResponses is Redis.AddResponses.
func (m *Memory) AddResponses(_ context.Context, basis string, add []freshet.Response) ([]freshet.Response, error) {
	m.data.mu.Lock()
	defer m.data.mu.Unlock()
	out := make([]freshet.Response, len(add))
	for i := range add {
		key := m.keys.responses(add[i].ItemID)
		for term, sum := range termsOf(basis, &add[i]) {
			if m.data.sets[key] == nil {
				m.data.sets[key] = map[string]float64{}
			}
			m.data.sets[key][term] += sum
		}
		out[i] = responseOf(basis, add[i].ItemID, m.data.sets[key])
	}
	return out, nil
}

// termsOf are the fields that a response adds to.
func termsOf(basis string, a *freshet.Response) map[string]float64 {
	terms := make(map[string]float64, 2+len(a.Taste))
	if a.Taken != 0 {
		terms[takenTerm] = a.Taken
	}
	if a.Shown != 0 {
		terms[shownTerm] = a.Shown
	}
	for i, v := range a.Taste {
		terms[basis+":"+strconv.Itoa(i)] = v
	}
	return terms
}

func responseOf(basis, item string, sums map[string]float64) freshet.Response {
	out := freshet.Response{ItemID: item, Taken: sums[takenTerm], Shown: sums[shownTerm]}
	n := 0
	for term := range sums {
		if strings.HasPrefix(term, basis+":") {
			n++
		}
	}
	if n > 0 {
		out.Taste = make([]float64, n)
		for i := range out.Taste {
			out.Taste[i] = sums[basis+":"+strconv.Itoa(i)]
		}
	}
	return out
}
