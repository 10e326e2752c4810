package freshet

import "math"

// HalfBits rounds a float32 to the nearest IEEE 754 binary16 (ties to even; overflow becomes infinity).
func HalfBits(f float32) uint16 {
	b := math.Float32bits(f)
	sign := uint16(b >> 16 & 0x8000)
	exp := int32(b>>23&0xff) - 127 + 15
	mant := b & 0x7fffff
	switch {
	case b&0x7fffffff > 0x7f800000:
		return sign | 0x7e00 // NaN
	case exp >= 31:
		return sign | 0x7c00
	case exp <= 0:
		if exp < -10 {
			return sign
		}
		mant |= 0x800000
		shift := uint32(14 - exp)
		half := uint16(mant >> shift)
		rest, middle := mant&(1<<shift-1), uint32(1)<<(shift-1)
		if rest > middle || rest == middle && half&1 == 1 {
			half++
		}
		return sign | half
	}
	half := uint16(exp)<<10 | uint16(mant>>13)
	if rest := mant & 0x1fff; rest > 0x1000 || rest == 0x1000 && half&1 == 1 {
		half++ // may carry into the exponent, which is right
	}
	return sign | half
}

// HalfFloat widens an IEEE 754 binary16.
func HalfFloat(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	exp, mant := uint32(h>>10&31), uint32(h&0x3ff)
	switch {
	case exp == 31:
		return math.Float32frombits(sign | 0x7f800000 | mant<<13)
	case exp == 0:
		f := float32(mant) * (1.0 / (1 << 24))
		if sign != 0 {
			f = -f
		}
		return f
	}
	return math.Float32frombits(sign | (exp+112)<<23 | mant<<13)
}

// QuantizeHalf rounds every value of a state to binary16 in place, so that a state in memory equals its reloaded copy.
func QuantizeHalf(s []float32) {
	for i, v := range s {
		s[i] = HalfFloat(HalfBits(v))
	}
}
