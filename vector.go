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
