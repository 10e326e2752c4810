package demo

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// style is a terminal's escape sequence.
type style string

const (
	bold  style = "\x1b[1m"
	dim   style = "\x1b[2m"
	red   style = "\x1b[31m"
	green style = "\x1b[32m"
	cyan  style = "\x1b[36m"
	reset style = "\x1b[0m"
)

// screen is a frame as lines of exactly its width, ready to be written. Rows below its height are dropped.
type screen struct {
	width, height int
	colour        bool
	rows          []string
}

// part is a piece of a row in one style.
type part struct {
	text  string
	style style
}

// row adds a row of parts, cut and filled to the width.
func (s *screen) row(parts ...part) {
	var b strings.Builder
	left := s.width
	for i, p := range parts {
		text := p.text
		if n := utf8.RuneCountInString(clean(text)); n > left || i == len(parts)-1 {
			text = fit(text, left)
		}
		text = clean(text)
		left -= utf8.RuneCountInString(text)
		if s.colour && p.style != "" && strings.TrimSpace(text) != "" {
			text = string(p.style) + text + string(reset)
		}
		b.WriteString(text)
	}
	if left > 0 {
		b.WriteString(strings.Repeat(" ", left))
	}
	s.rows = append(s.rows, b.String())
}

func (s *screen) rule() { s.row(part{strings.Repeat("─", s.width), dim}) }

// spread puts one text at the left end and one at the right.
func (s *screen) spread(left, right part) {
	gap := s.width - utf8.RuneCountInString(left.text) - utf8.RuneCountInString(right.text) - 1
	if gap < 1 {
		s.row(left)
		return
	}
	s.row(left, part{text: strings.Repeat(" ", gap)}, right)
}

// render turns a frame into rows: three of numbers, the shopper's last clicks, and his list before and after in what is left.
func render(f Frame, width, height int, colour bool) []string {
	s := &screen{width: width, height: height, colour: colour}
	s.spread(part{" freshet  every click, a fresh list", bold}, part{"running " + clock(f.Elapsed) + "  Ctrl-C ends", dim})
	s.row(part{fmt.Sprintf(" %s events/s", thousands(int64(f.EventsPerSecond+0.5))), bold + green},
		part{"   freshness p50 ", ""}, part{ms(f.FreshnessP50), bold}, part{"  p99 ", ""}, part{ms(f.FreshnessP99), bold},
		part{"   " + f.Model + " on " + f.Device, dim})
	s.row(part{fmt.Sprintf(" %s events applied   %s lists written   %s shoppers   %s dead letters", thousands(f.EventsApplied), thousands(f.ListsWritten), thousands(f.ActiveUsers), thousands(f.DeadLetters)), ""})
	s.rule()
	s.clicks(f.Follow)
	s.rule()
	s.lists(f.Follow)
	for len(s.rows) < height {
		s.row(part{})
	}
	return s.rows[:height]
}

// clicks shows what the shopper did last: as many rows as the height allows, the newest on top.
func (s *screen) clicks(f Follow) {
	if f.UserID == "" {
		s.row(part{" waiting for the first shopper", dim})
		return
	}
	s.row(part{" Following ", ""}, part{f.UserID, bold + cyan})
	verb, room := 0, max(1, s.height/6)
	shown := f.Clicks[:min(len(f.Clicks), room)]
	for _, c := range shown {
		verb = max(verb, utf8.RuneCountInString(c.Verb))
	}
	for i, c := range shown {
		price, title := "", ""
		if len(c.Items) > 0 {
			price, title = money(c.Items[0]), strings.TrimPrefix(c.what(), c.Verb+" ")
		}
		style := style("")
		if i > 0 {
			style = dim
		}
		mark := "   "
		if i == 0 {
			mark = " ▸ "
		}
		s.row(part{mark, cyan}, part{fit(c.Verb, verb) + "  ", style}, part{fit(title, s.width-verb-16), style}, part{fmt.Sprintf("%10s", price), style})
	}
	for range room - len(shown) { // what lies below must not move when the next click comes
		s.row(part{})
	}
}

// lists shows before and after side by side. A place takes two rows: title, then price or reason.
func (s *screen) lists(f Follow) {
	if len(f.After) == 0 {
		s.row(part{" no list yet: it comes with the first click", dim})
		return
	}
	left := s.width * 42 / 100
	s.row(part{fit(" BEFORE", left), bold}, part{" AFTER", bold}, part{fmt.Sprintf("  %s later", ms(f.Freshness)), green}, part{"  " + f.Answers.what(), dim})
	for i := 0; len(s.rows)+2 <= s.height && i < max(len(f.Before), len(f.After)); i++ {
		s.place(f, i, left)
	}
}

func (s *screen) place(f Follow, i, left int) {
	var above, below []part
	if i < len(f.Before) {
		p := f.Before[i]
		style := style("")
		if !listed(f.After, p.ItemID) {
			style = dim
		}
		above = append(above, part{fit(fmt.Sprintf(" %2d  %s", i+1, p.Title), left-1), style})
		below = append(below, part{fit("     "+strings.TrimSuffix(money(p.Product)+"  "+p.Domain, "  "), left-1), dim})
	} else {
		above, below = append(above, part{text: fit("", left-1)}), append(below, part{text: fit("", left-1)})
	}
	if i < len(f.After) {
		p := f.After[i]
		m := moveOf(f.Before, p.ItemID, i)
		above = append(above, part{"│", dim}, part{fmt.Sprintf(" %2d ", i+1), ""}, part{fit(m.mark, 4), m.paint}, part{p.Title, bold})
		below = append(below, part{"│", dim}, part{"         ", ""}, part{p.Why, dim})
	}
	s.row(above...)
	s.row(below...)
}

func listed(list []Place, item string) bool {
	for i := range list {
		if list[i].ItemID == item {
			return true
		}
	}
	return false
}
