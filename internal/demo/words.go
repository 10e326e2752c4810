package demo

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// thousands writes 1234567 as 1,234,567.
func thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// ms writes a duration in milliseconds with about three digits.
func ms(d time.Duration) string {
	switch v := float64(d) / float64(time.Millisecond); {
	case d == 0:
		return "- ms"
	case v < 10:
		return fmt.Sprintf("%.2f ms", v)
	case v < 100:
		return fmt.Sprintf("%.1f ms", v)
	default:
		return thousands(int64(v+0.5)) + " ms"
	}
}

// clock writes how long the demo has run: 01:23, or 1:02:03.
func clock(d time.Duration) string {
	s := int(d.Seconds())
	if s < 3600 {
		return fmt.Sprintf("%02d:%02d", s/60, s%60)
	}
	return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
}

func money(p Product) string {
	if p.Price == 0 {
		return ""
	}
	sign := p.Currency + " "
	if p.Currency == "EUR" {
		sign = "€"
	}
	return fmt.Sprintf("%s%.2f", sign, p.Price)
}

// clean leaves no control character in a text that a terminal will see: titles come from outside.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == utf8.RuneError {
			return ' '
		}
		return r
	}, s)
}

// fit cuts or fills a text to exactly n columns.
func fit(s string, n int) string {
	if n <= 0 {
		return ""
	}
	s = clean(s)
	length := utf8.RuneCountInString(s)
	if length <= n {
		return s + strings.Repeat(" ", n-length)
	}
	return string([]rune(s)[:n-1]) + "…"
}

func (c Click) what() string {
	switch len(c.Items) {
	case 0:
		return c.Verb
	case 1:
		return c.Verb + " " + c.Items[0].Title
	}
	return fmt.Sprintf("%s %s and %d more", c.Verb, c.Items[0].Title, len(c.Items)-1)
}

// move says how a place of the new list came about: new, up, down or the same.
type move struct {
	mark  string // at most three columns
	paint style
}

func moveOf(before []Place, item string, at int) move {
	for i := range before {
		if before[i].ItemID != item {
			continue
		}
		switch d := i - at; {
		case d > 0:
			return move{fmt.Sprintf("▲%d", d), green}
		case d < 0:
			return move{fmt.Sprintf("▼%d", -d), red}
		}
		return move{"=", dim}
	}
	return move{"new", bold + green}
}
