//go:build !amd64

package freshet

const wide = false

func dotWide(_, _ *float32, _ int) float32 { panic("never called") }

func aboveWide(_ *float32, _ int, _ float32, _ *int32, _ *[256]uint64) int { panic("never called") }
