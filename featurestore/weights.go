package featurestore

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// What choices said about the weights of a surface is shared by all workers of a lane: one small hash per surface, of sums that age with
// every choice. Adding is not idempotent: what a crash makes a worker read again counts twice. The hash lives as long as profiles do.

// AddEvidence multiplies all terms of a surface by decay, adds some, and gives what came out. Adding nothing reads. After an error it may
// have been added.
func (r *Redis) AddEvidence(ctx context.Context, surface string, decay float64, add map[string]float64) (map[string]float64, error) {
	act := fmt.Sprintf("share the weights of surface %s", surface)
	args := []any{strconv.FormatFloat(decay, 'g', -1, 64), r.cfg.TTL.Milliseconds()}
	for _, term := range slices.Sorted(maps.Keys(add)) {
		args = append(args, term, strconv.FormatFloat(add[term], 'g', -1, 64))
	}
	cmds, err := r.all(ctx, act, 1, r.cfg.Pipeline, func(int) redis.Cmder {
		return call(ctx, weightsScript, []string{r.keys.weights(surface)}, args...)
	})
	if err != nil {
		return nil, err
	}
	flat, err := cmds[0].(*redis.Cmd).StringSlice()
	if err != nil {
		return nil, r.failed(act, err)
	}
	sums := make(map[string]float64, len(flat)/2)
	for i := 0; i+1 < len(flat); i += 2 {
		if sums[flat[i]], err = strconv.ParseFloat(flat[i+1], 64); err != nil {
			return nil, fmt.Errorf("%s: term %q: %w", act, flat[i], err)
		}
	}
	return sums, nil
}

// AddEvidence is Redis.AddEvidence.
func (m *Memory) AddEvidence(_ context.Context, surface string, decay float64, add map[string]float64) (map[string]float64, error) {
	m.data.mu.Lock()
	defer m.data.mu.Unlock()
	key := m.keys.weights(surface)
	sums := map[string]float64{}
	for term, sum := range m.data.sets[key] {
		sums[term] = sum * decay
	}
	for term, more := range add {
		sums[term] += more
	}
	if len(add) > 0 {
		m.data.sets[key] = maps.Clone(sums)
	}
	return sums, nil
}
