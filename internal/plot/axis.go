package plot

import (
	"math"
	"strconv"
	"strings"
)

// Axis says how values become places.
type Axis struct {
	Name   string    // under the x axis; that of the y axis belongs into the panel's title
	Log    bool      // logarithmic; values of 0 and less then stand at its lower end
	Marks  []float64 // where numbers stand; nil = at round ones. The axis then reaches just as far as the values
	Covers []float64 // values that the axis shows whatever the data are; a linear one without them begins at 0
}

// scale maps values to pixels.
type scale struct {
	log       bool
	low, high float64 // values
	from, to  float64 // pixels
	ticks     []float64
	decimals  int
}

// newScale makes the scale of an axis for values, of which those that are no numbers do not count.
func newScale(a Axis, values []float64, from, to float64) scale {
	s := scale{log: a.Log, from: from, to: to}
	low, high := math.Inf(1), math.Inf(-1)
	for _, list := range [][]float64{values, a.Covers} {
		for _, v := range list {
			if finite(v) && (v > 0 || !a.Log) {
				low, high = math.Min(low, v), math.Max(high, v)
			}
		}
	}
	if low > high { // nothing to show
		low, high = 1, 1
	}
	switch {
	case a.Log && a.Marks != nil:
		s.low, s.high = low, high
		if low == high {
			s.low, s.high = low/2, high*2
		}
	case a.Log:
		s.low, s.high = roundDown(low), roundUp(high)
		if s.low == s.high {
			s.low, s.high = roundDown(low*.99), roundUp(high*1.01)
		}
		s.ticks = logTicks(s.low, s.high)
		s.decimals = max(0, int(math.Ceil(-math.Log10(s.low)-1e-9)))
	default:
		if len(a.Covers) == 0 {
			low = math.Min(low, 0)
		}
		step := tick(high - low)
		s.low, s.high = step*math.Floor(low/step+1e-9), step*math.Ceil(math.Max(high, low+1e-9)/step-1e-9)
		for i := 0; s.low+float64(i)*step <= s.high+step/2; i++ {
			s.ticks = append(s.ticks, s.low+float64(i)*step)
		}
		s.decimals = decimals(step)
	}
	if a.Marks != nil {
		s.ticks = a.Marks
	}
	return s
}

// at gives the pixel of a value; beyond an end, that of the end.
func (s *scale) at(v float64) float64 {
	v = math.Max(s.low, math.Min(s.high, v))
	part := (v - s.low) / (s.high - s.low)
	if s.log {
		part = math.Log(v/s.low) / math.Log(s.high/s.low)
	}
	return s.from + part*(s.to-s.from)
}

// label writes a tick's number.
func (s *scale) label(v float64) string {
	if s.log && v >= 1 && v == math.Trunc(v) {
		return Number(v, 0)
	}
	return Number(v, s.decimals)
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// tick gives a round step that cuts a range into at most six parts.
func tick(span float64) float64 {
	if span <= 0 {
		return 0.1
	}
	step := math.Pow(10, math.Floor(math.Log10(span)))
	for _, f := range []float64{.1, .2, .5, 1} {
		if span/(f*step) <= 6 {
			return f * step
		}
	}
	return 2 * step
}

func decimals(step float64) int { return max(0, int(math.Ceil(-math.Log10(step)-1e-9))) }

// roundDown gives the next 1, 2 or 5 times a power of ten that is no greater.
func roundDown(v float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(v)+1e-9))
	for _, f := range []float64{5, 2} {
		if f*power <= v*(1+1e-9) {
			return f * power
		}
	}
	return power
}

// roundUp gives the next 1, 2 or 5 times a power of ten that is no less.
func roundUp(v float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(v)+1e-9))
	for _, f := range []float64{1, 2, 5} {
		if f*power >= v*(1-1e-9) {
			return f * power
		}
	}
	return 10 * power
}

// logTicks gives the powers of ten in a range, with 2 and 5 times each where there are few.
func logTicks(low, high float64) []float64 {
	factors := []float64{1, 2, 5}
	if high/low > 2000 {
		factors = factors[:1]
	}
	var out []float64
	for exponent := math.Floor(math.Log10(low) + 1e-9); exponent <= math.Log10(high)+1e-9; exponent++ {
		for _, f := range factors {
			if v := f * math.Pow(10, exponent); v >= low*(1-1e-9) && v <= high*(1+1e-9) {
				out = append(out, v)
			}
		}
	}
	return out
}

// Number writes a number with so many decimals and commas between thousands.
func Number(v float64, decimals int) string {
	s := strconv.FormatFloat(v, 'f', decimals, 64)
	whole, rest, _ := strings.Cut(s, ".")
	for i := len(whole) - 3; i > 0 && whole[i-1] != '-'; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if decimals > 0 {
		return whole + "." + rest
	}
	return whole
}

// Figures writes a number with at least so many significant figures, and no more decimals than that takes.
func Figures(v float64, figures int) string {
	if v <= 0 || !finite(v) {
		return Number(v, 0)
	}
	return Number(v, max(0, figures-1-int(math.Floor(math.Log10(v)+1e-9))))
}
