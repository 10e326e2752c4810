package freshet

import (
	"context"
	"time"
)

// Repeat does something as often as every says, and at once whenever wake says so (nil = never), until ctx ends. What fails is simply done again.
// turned hears when it begins to fail, with the error, and when it works again, with nil: transitions are worth a line, attempts are not.
func Repeat(ctx context.Context, every time.Duration, wake <-chan struct{}, do func(context.Context) error, turned func(error)) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-wake:
		}
		err := do(ctx)
		if ctx.Err() != nil || (err != nil) == failing {
			continue
		}
		failing = err != nil
		turned(err)
	}
}
