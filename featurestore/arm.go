package featurestore

import (
	"context"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// ArmCount is something that was counted of a lane's users: period, group and measure are the caller's names for what it belongs to.
type ArmCount struct {
	Period  uint64
	Group   int
	Measure string
	Value   float64
}

// armPeriods is how many periods of a lane are kept.
const armPeriods = 8

// AddArm adds to a lane's counts. Adding is not idempotent: after an error some of them may have been added.
func (r *Redis) AddArm(ctx context.Context, lane string, counts []ArmCount) error {
	key := r.keys.of(lane).arm()
	_, err := r.all(ctx, "add the counts of lane "+lane, len(counts), bulkPipeline, func(i int) redis.Cmder {
		c := &counts[i]
		field := strconv.FormatUint(c.Period, 10) + ":" + strconv.Itoa(c.Group) + ":" + c.Measure
		return redis.NewFloatCmd(ctx, "hincrbyfloat", key, field, c.Value)
	})
	return err
}

// Arm reads what was counted of a lane. Fields that nobody of this version writes are left out.
func (r *Redis) Arm(ctx context.Context, lane string) ([]ArmCount, error) {
	fields, err := r.client.HGetAll(ctx, r.keys.of(lane).arm()).Result()
	if err != nil {
		return nil, r.failed("read the counts of lane "+lane, err)
	}
	var out []ArmCount
	for field, value := range fields {
		parts := strings.Split(field, ":")
		if len(parts) != 3 {
			continue
		}
		period, err1 := strconv.ParseUint(parts[0], 10, 64)
		group, err2 := strconv.Atoi(parts[1])
		v, err3 := strconv.ParseFloat(value, 64)
		if err1 == nil && err2 == nil && err3 == nil {
			out = append(out, ArmCount{Period: period, Group: group, Measure: parts[2], Value: v})
		}
	}
	return out, nil
}

// ForgetArm deletes the counts of a lane's oldest periods beyond those that are kept.
func (r *Redis) ForgetArm(ctx context.Context, lane string, counts []ArmCount) error {
	periods := map[uint64]bool{}
	for i := range counts {
		periods[counts[i].Period] = true
	}
	if len(periods) <= armPeriods {
		return nil
	}
	var gone []string
	oldest := ^uint64(0)
	for p := range periods {
		oldest = min(oldest, p)
	}
	for i := range counts {
		if c := &counts[i]; c.Period == oldest {
			gone = append(gone, strconv.FormatUint(c.Period, 10)+":"+strconv.Itoa(c.Group)+":"+c.Measure)
		}
	}
	if err := r.client.HDel(ctx, r.keys.of(lane).arm(), gone...).Err(); err != nil {
		return r.failed("forget counts of lane "+lane, err)
	}
	return nil
}
