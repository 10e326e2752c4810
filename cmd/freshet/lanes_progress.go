package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// catchingUp sums up what the workers of a lane report.
type catchingUp struct {
	done0, behind int64 // records worked off since the lane began, and those that wait
	seeded, users int
	began         time.Time
	partitions    int
}

func (o *operator) progress(ctx context.Context, lane string) (catchingUp, error) {
	var out catchingUp
	stored, err := o.store.Progress(ctx, lane)
	if err != nil {
		return out, err
	}
	for p, b := range stored {
		var v laneProgress
		if err := json.Unmarshal(b, &v); err != nil {
			return out, fmt.Errorf("progress of lane %s, partition %d: %w", lane, p, err)
		}
		out.partitions++
		out.done0 += max(0, v.Applied-v.From)
		out.behind += max(0, v.End-v.Applied)
		out.seeded += v.Seeded
		out.users += v.Users
		if at := time.UnixMilli(v.Began); out.began.IsZero() || at.Before(out.began) {
			out.began = at
		}
	}
	return out, nil
}

// done is the fraction of the work that is done; records and users to be taken over count alike.
func (c catchingUp) done() float64 {
	did := float64(c.done0) + float64(c.seeded)
	all := did + float64(c.behind) + float64(c.users-c.seeded)
	if c.partitions == 0 || all == 0 {
		return 0
	}
	return did / all
}

// eta says how long the rest will take at the pace so far; "" = that cannot be told yet.
func (c catchingUp) eta() string {
	d := c.done()
	if d == 0 || c.began.IsZero() {
		return ""
	}
	return time.Duration(float64(time.Since(c.began)) * (1/d - 1)).Round(time.Second).String()
}
