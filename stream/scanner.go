package stream

import (
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"freshet"
)

// maxDepth bounds how deep arrays and objects may nest, so that no input can exhaust the stack.
const maxDepth = 128

// scanner reads one JSON text from left to right, strictly by RFC 8259, and allocates only for strings with escapes. It keeps the
// first thing that was wrong; every method after that returns at once. encoding/json takes 5 to 8 times as long for an event and
// matches names regardless of case (BenchmarkDecodeEvent shows both; FuzzDecodeEvent holds the two to the same judgement).
type scanner struct {
	b       []byte
	i       int
	depth   int
	err     error
	scratch []byte
}

func (s *scanner) fail(format string, args ...any) {
	if s.err == nil {
		s.err = &freshet.FieldError{Field: "value", Reason: fmt.Sprintf("not valid JSON at byte %d: %s", s.i, fmt.Sprintf(format, args...))}
	}
}

// wrong says that a field's value has the wrong kind.
func (s *scanner) wrong(field, want string) {
	kind := s.kindName()
	if kind == "" {
		s.fail("want a value")
	}
	if s.err == nil {
		s.err = &freshet.FieldError{Field: field, Reason: "want " + want + ", got " + kind}
	}
}

func (s *scanner) space() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\t', '\n', '\r':
			s.i++
		default:
			return
		}
	}
}

// peek gives the first byte of the next token, 0 at the end or after an error.
func (s *scanner) peek() byte {
	if s.err != nil {
		return 0
	}
	s.space()
	if s.i >= len(s.b) {
		return 0
	}
	return s.b[s.i]
}

func (s *scanner) kindName() string {
	switch c := s.peek(); {
	case c == '"':
		return "a string"
	case c == '{':
		return "an object"
	case c == '[':
		return "an array"
	case c == 't' || c == 'f':
		return "a boolean"
	case c == 'n':
		return "null"
	case c == '-' || c >= '0' && c <= '9':
		return "a number"
	}
	return ""
}

// open enters an object or array.
func (s *scanner) open(bracket byte) bool {
	if s.peek() != bracket {
		return false
	}
	if s.depth++; s.depth > maxDepth {
		s.fail("nested deeper than %d", maxDepth)
		return false
	}
	s.i++
	return true
}

// more tells whether another member or element follows, and leaves the object or array when none does. first must be true at the
// first call after open.
func (s *scanner) more(first bool, closing byte) bool {
	c := s.peek()
	switch {
	case s.err != nil:
		return false
	case c == closing:
		s.i++
		s.depth--
		return false
	case first:
		return true
	case c != ',':
		s.fail("want ',' or '%c'", closing)
		return false
	}
	s.i++
	if s.peek() == closing {
		s.fail("',' before '%c'", closing)
		return false
	}
	return true
}

// name reads a member's name and its colon. The bytes are good until the next call.
func (s *scanner) name() []byte {
	if s.peek() != '"' {
		s.fail("want a name in quotes")
		return nil
	}
	name, _ := s.text()
	if s.peek() != ':' {
		s.fail("want ':'")
		return nil
	}
	s.i++
	return name
}

// null takes a null, if one is next.
func (s *scanner) null() bool {
	if s.peek() != 'n' {
		return false
	}
	s.literal("null")
	return s.err == nil
}

func (s *scanner) literal(word string) {
	if len(s.b)-s.i < len(word) || string(s.b[s.i:s.i+len(word)]) != word {
		s.fail("want %s", word)
		return
	}
	s.i += len(word)
}

// text reads a string and says whether every \u escape in it made sense. The bytes are good until the next call.
func (s *scanner) text() (text []byte, ok bool) {
	s.i++
	start := s.i
	rest := s.b[start:]
	n := 0
	for n < len(rest) && itself[rest[n]] {
		n++
	}
	s.i += n
	switch {
	case n == len(rest):
		s.fail("string without end")
	case rest[n] == '"':
		s.i++
		return rest[:n], true
	case rest[n] == '\\':
		return s.escaped(start)
	default:
		s.fail("control byte in a string")
	}
	return nil, false
}

// itself marks the bytes that stand for themselves within a string.
var itself = func() (t [256]bool) {
	for c := ' '; c < 256; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// escaped goes on reading a string at its first escape.
func (s *scanner) escaped(start int) ([]byte, bool) {
	out := append(s.scratch[:0], s.b[start:s.i]...)
	whole := true
	for s.i < len(s.b) {
		c := s.b[s.i]
		s.i++
		switch {
		case c == '"':
			s.scratch = out
			return out, whole
		case c < ' ':
			s.fail("control byte in a string")
			return nil, false
		case c != '\\':
			out = append(out, c)
			continue
		}
		if s.i >= len(s.b) {
			break
		}
		c = s.b[s.i]
		s.i++
		switch c {
		case '"', '\\', '/':
			out = append(out, c)
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			r, sound := s.unicode()
			whole = whole && sound
			out = utf8.AppendRune(out, r)
		default:
			s.fail("unknown escape \\%c", c)
		}
		if s.err != nil {
			return nil, false
		}
	}
	s.fail("string without end")
	return nil, false
}

// unicode reads the four digits after \u and, of a surrogate, its other half. sound is false for half a pair.
func (s *scanner) unicode() (r rune, sound bool) {
	r = s.hex4()
	if s.err != nil || !utf16.IsSurrogate(r) {
		return r, true
	}
	if s.i+1 < len(s.b) && s.b[s.i] == '\\' && s.b[s.i+1] == 'u' {
		back := s.i
		s.i += 2
		if pair := utf16.DecodeRune(r, s.hex4()); pair != utf8.RuneError {
			return pair, true
		}
		if s.err == nil {
			s.i = back
		}
	}
	return utf8.RuneError, false
}

func (s *scanner) hex4() rune {
	if len(s.b)-s.i < 4 {
		s.fail("\\u wants four hexadecimal digits")
		return 0
	}
	r := rune(0)
	for _, c := range s.b[s.i : s.i+4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			s.fail("\\u wants four hexadecimal digits")
			return 0
		}
		r = r<<4 | rune(c)
	}
	s.i += 4
	return r
}

// number takes the characters of a number.
func (s *scanner) number() []byte {
	start := s.i
	if s.i < len(s.b) && s.b[s.i] == '-' {
		s.i++
	}
	switch whole := s.digits(); {
	case whole == 0:
		s.fail("want a value")
		return nil
	case whole > 1 && s.b[s.i-whole] == '0':
		s.fail("number with a leading 0")
		return nil
	}
	if s.i < len(s.b) && s.b[s.i] == '.' {
		s.i++
		if s.digits() == 0 {
			s.fail("want digits after '.'")
			return nil
		}
	}
	if s.i < len(s.b) && (s.b[s.i] == 'e' || s.b[s.i] == 'E') {
		s.i++
		if s.i < len(s.b) && (s.b[s.i] == '+' || s.b[s.i] == '-') {
			s.i++
		}
		if s.digits() == 0 {
			s.fail("want digits in the exponent")
			return nil
		}
	}
	return s.b[start:s.i]
}

func (s *scanner) digits() int {
	start := s.i
	for s.i < len(s.b) && s.b[s.i] >= '0' && s.b[s.i] <= '9' {
		s.i++
	}
	return s.i - start
}

// skip checks and passes over any value and gives its bytes.
func (s *scanner) skip() []byte {
	c := s.peek()
	start := s.i
	switch {
	case s.err != nil:
		return nil
	case c == '"':
		s.text()
	case c == '{':
		for first := s.open('{'); s.more(first, '}'); first = false {
			s.name()
			s.skip()
		}
	case c == '[':
		for first := s.open('['); s.more(first, ']'); first = false {
			s.skip()
		}
	case c == 't':
		s.literal("true")
	case c == 'f':
		s.literal("false")
	case c == 'n':
		s.literal("null")
	default:
		s.number()
	}
	if s.err != nil {
		return nil
	}
	return s.b[start:s.i]
}

// end checks that nothing follows.
func (s *scanner) end() {
	if s.err == nil && s.peek() != 0 || s.err == nil && s.i < len(s.b) {
		s.fail("more after the value")
	}
}

// stringField reads a string value of a field; null counts as absent.
func (s *scanner) stringField(field string) []byte {
	if s.null() {
		return nil
	}
	if s.peek() != '"' {
		s.wrong(field, "a string")
		return nil
	}
	text, ok := s.text()
	switch {
	case s.err != nil:
		return nil
	case !ok || !utf8.Valid(text):
		s.err = &freshet.FieldError{Field: field, Reason: "not valid UTF-8"}
		return nil
	}
	return text
}

// floatField reads a number; null counts as absent.
func (s *scanner) floatField(field string) (v float64, ok bool) {
	if s.null() {
		return 0, false
	}
	if c := s.peek(); c != '-' && (c < '0' || c > '9') {
		s.wrong(field, "a number")
		return 0, false
	}
	digits := s.number()
	if s.err != nil {
		return 0, false
	}
	v, err := strconv.ParseFloat(string(digits), 64)
	if err != nil {
		s.err = &freshet.FieldError{Field: field, Reason: fmt.Sprintf("%.32s is out of range", digits)}
		return 0, false
	}
	return v, true
}
