package freshet

// Dot is the product of two vectors of one length. It is summed in parts, so that additions need not wait for each other; in which ones
// depends on the processor, and with it the last bits.
func Dot(x, y []float32) float32 {
	y = y[:len(x)]
	if wide && len(x) >= 8 {
		n := len(x) &^ 7
		sum := dotWide(&x[0], &y[0], n)
		for i := n; i < len(x); i++ {
			sum += x[i] * y[i]
		}
		return sum
	}
	return dot(x, y)
}

func dot(x, y []float32) float32 {
	var a, b, c, d float32
	i := 0
	for ; i+4 <= len(x); i += 4 {
		a += x[i] * y[i]
		b += x[i+1] * y[i+1]
		c += x[i+2] * y[i+2]
		d += x[i+3] * y[i+3]
	}
	for ; i < len(x); i++ {
		a += x[i] * y[i]
	}
	return (a + b) + (c + d)
}

// AboveRoom is how much longer than the values the places must be that Above writes to.
const AboveRoom = 8

// Above writes the places of the values that are greater than the floor to at, in order, and tells how many they are. at is as long as
// the values and AboveRoom; what lies behind those that count is overwritten. What is no number is not greater than anything.
func Above(values []float32, floor float32, at []int32) int {
	at = at[:len(values)+AboveRoom]
	n, from := 0, 0
	if wide && len(values) >= 8 {
		from = len(values) &^ 7
		n = aboveWide(&values[0], from, floor, &at[0], &placesOf)
	}
	for i := from; i < len(values); i++ {
		if values[i] > floor {
			at[n] = int32(i)
			n++
		}
	}
	return n
}

// placesOf lists, for each byte, the places of its bits that are set, from the lowest on, a byte each.
var placesOf = func() (all [256]uint64) {
	for bits := range all {
		n := 0
		for i := range 8 {
			if bits&(1<<i) != 0 {
				all[bits] |= uint64(i) << (8 * n)
				n++
			}
		}
	}
	return all
}()
