package freshet

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"
)

func TestRepeatTellsOfTurnsOnly(t *testing.T) {
	away := errors.New("away")
	results := []error{nil, away, away, nil, nil, away}
	ctx, stop := context.WithCancel(t.Context())
	wake := make(chan struct{}, len(results))
	for range results {
		wake <- struct{}{}
	}
	n := 0
	var heard []error
	Repeat(ctx, time.Hour, wake, func(context.Context) error {
		if n++; n > len(results) {
			stop()
			return nil
		}
		if n == len(results) {
			wake <- struct{}{}
		}
		return results[n-1]
	}, func(err error) { heard = append(heard, err) })
	if want := []error{away, nil, away}; !slices.Equal(heard, want) {
		t.Fatalf("heard %v, want %v", heard, want)
	}
}
