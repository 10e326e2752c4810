package dataset

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// timeLayouts are tried in order on a time that is no number; without a zone they are UTC.
var timeLayouts = []string{time.RFC3339Nano, "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999", "2006-01-02"}

// ParseTime reads an event time as Unix milliseconds. Numbers below 1e11 are seconds (1e11 s lies in the year 5138, 1e11 ms in
// 1973), below 1e14 milliseconds, below 1e17 microseconds, above nanoseconds.
func ParseTime(s string) (int64, error) {
	s = strings.TrimSpace(s)
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		switch a := max(n, -n); {
		case a < 0: // the one number without an opposite
			return 0, fmt.Errorf("%q is no time", s)
		case a < 1e11:
			return n * 1000, nil
		case a < 1e14:
			return n, nil
		case a < 1e17:
			return n / 1e3, nil
		}
		return n / 1e6, nil
	}
	if f, err := strconv.ParseFloat(s, 64); err == nil {
		if math.IsNaN(f) || math.Abs(f) >= 1e17 {
			return 0, fmt.Errorf("%q is no time", shorten(s))
		}
		switch a := math.Abs(f); {
		case a < 1e11:
			return int64(math.Round(f * 1000)), nil
		case a < 1e14:
			return int64(math.Round(f)), nil
		}
		return int64(math.Round(f / 1000)), nil
	}
	for _, layout := range timeLayouts {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UnixMilli(), nil
		}
	}
	return 0, fmt.Errorf("%q is no time; use epoch seconds, epoch milliseconds or RFC 3339", shorten(s))
}
