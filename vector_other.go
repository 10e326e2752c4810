//go:build !amd64

package freshet

const wide = false

func dotWide(_, _ *float32, _ int) float32 { panic("never called") }
