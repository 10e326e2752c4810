package shop

import "math/rand/v2"

const crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// ulid gives a 26-character id that sorts by time: 48 bits of milliseconds and 80 drawn bits in Crockford's base 32.
func ulid(ms int64, r *rand.Rand) string {
	var b [26]byte
	for i, v := 9, uint64(ms); i >= 0; i, v = i-1, v>>5 {
		b[i] = crockford[v&31]
	}
	high, low := r.Uint64(), r.Uint64()
	for i := range 8 {
		b[10+i] = crockford[high>>(5*i)&31]
		b[18+i] = crockford[low>>(5*i)&31]
	}
	return string(b[:])
}
