package models

import (
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// bertNormaliser prepares text as BERT-class tokenizers do: controls out, every white space a blank, Chinese characters and
// punctuation words of their own, accents off, lower case. The tokenizer library has one too, which differs: it keeps accents
// unless told otherwise, does not decompose them, lets white space and punctuation by Go's tables be. Token ids must equal those
// the encoder was trained with, so this one takes its place in the library's pipeline.
type bertNormaliser struct {
	CleanText          bool  `json:"clean_text"`
	HandleChineseChars bool  `json:"handle_chinese_chars"`
	StripAccents       *bool `json:"strip_accents"` // null: as Lowercase
	Lowercase          bool  `json:"lowercase"`
}

func (n *bertNormaliser) normalise(text string) string {
	if n.CleanText || n.HandleChineseChars {
		text = n.clean(text)
	}
	if strip := n.StripAccents; strip == nil && n.Lowercase || strip != nil && *strip {
		text = strings.Map(withoutAccents, norm.NFD.String(text))
	}
	if n.Lowercase {
		text = lower(text)
	}
	return apart(text)
}

func (n *bertNormaliser) clean(text string) string {
	var b strings.Builder
	b.Grow(len(text) + 8)
	for _, r := range text {
		switch {
		case n.CleanText && dropped(r):
		case n.CleanText && unicode.IsSpace(r):
			b.WriteByte(' ')
		case n.HandleChineseChars && chinese(r):
			b.WriteByte(' ')
			b.WriteRune(r)
			b.WriteByte(' ')
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// dropped tells which characters clean_text takes out: NUL, the replacement character, and controls, formats and private use, but
// for the three that count as white space.
func dropped(r rune) bool {
	switch r {
	case '\t', '\n', '\r':
		return false
	case 0, unicode.ReplacementChar:
		return true
	}
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co) && !unicode.Is(lateFormats, r)
}

// chinese tells whether BERT sets a character apart: the blocks of CJK ideographs, not Japanese kana or Korean.
func chinese(r rune) bool {
	return r >= 0x4E00 && r <= 0x9FFF || r >= 0x3400 && r <= 0x4DBF || r >= 0x20000 && r <= 0x2A6DF || r >= 0x2A700 && r <= 0x2B73F ||
		r >= 0x2B740 && r <= 0x2B81F || r >= 0x2B920 && r <= 0x2CEAF || r >= 0xF900 && r <= 0xFAFF || r >= 0x2F800 && r <= 0x2FA1F
}

func withoutAccents(r rune) rune {
	if unicode.Is(unicode.Mn, r) && !unicode.Is(lateMarks, r) || unicode.Is(formerMarks, r) {
		return -1
	}
	return r
}

// lower folds each character by itself, as the original does: no final sigma, and one character that becomes two.
func lower(text string) string {
	var b strings.Builder
	b.Grow(len(text))
	for _, r := range text {
		if r == 'İ' {
			b.WriteString("i̇")
			continue
		}
		for _, c := range lateCapitals {
			if r >= c.from && r <= c.to {
				r += c.delta
				break
			}
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// apart puts blanks around punctuation, so that words are what blanks part.
func apart(text string) string {
	var b strings.Builder
	b.Grow(len(text) + 16)
	for _, r := range text {
		if punctuation(r) {
			b.WriteByte(' ')
			b.WriteRune(r)
			b.WriteByte(' ')
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// punctuation is what ASCII has beside letters, digits, blanks and controls, and category P of Unicode.
func punctuation(r rune) bool {
	if r <= unicode.MaxASCII {
		return r > ' ' && r < 0x7f && !(r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z')
	}
	return unicode.Is(unicode.P, r) && !unicode.Is(latePunctuation, r) || unicode.Is(formerPunctuation, r)
}
