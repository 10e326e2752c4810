package freshet

// wide tells whether the processor and the system have vectors of eight floats and fused multiply-add (AVX2, FMA).
var wide = hasWide()

func hasWide() bool {
	const (
		fma     = 1 << 12 // leaf 1, ecx
		popcnt  = 1 << 23
		osxsave = 1 << 27
		avx     = 1 << 28
		avx2    = 1 << 5 // leaf 7, ebx
		ymm     = 0b110  // the system saves xmm and ymm registers
	)
	if most, _, _, _ := cpuid(0, 0); most < 7 {
		return false
	}
	if _, _, c, _ := cpuid(1, 0); c&(fma|popcnt|osxsave|avx) != fma|popcnt|osxsave|avx {
		return false
	}
	if _, b, _, _ := cpuid(7, 0); b&avx2 == 0 {
		return false
	}
	return xgetbv()&ymm == ymm
}

// dotWide is Dot of the first n values; n is a multiple of 8.
//
//go:noescape
func dotWide(x, y *float32, n int) float32

// aboveWide is Above of the first n values; n is a multiple of 8, and at has room for n + 8.
//
//go:noescape
func aboveWide(values *float32, n int, floor float32, at *int32, which *[256]uint64) int

func cpuid(leaf, sub uint32) (a, b, c, d uint32)

func xgetbv() uint32
