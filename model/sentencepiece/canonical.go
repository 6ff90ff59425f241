package sentencepiece

import (
	"unicode"
	"unicode/utf8"
)

// Canonical is text as SigLIP 2's text tower was trained on it: underscores are spaces, ASCII punctuation is gone, letters are
// lower-case, white space in a row is one space, and there is none at the ends. Prompts that agree in it have the same ids, so it is
// the text to compare and to cache by. Bytes that are no valid UTF-8 become U+FFFD.
//
// Letters are lowered, and white space is told, as Python does it, which is what the training data went through: "İ" becomes two
// characters, and a sigma at the end of a word is "ς".
func Canonical(text string) string {
	kept := make([]byte, 0, len(text))
	ascii, gap := true, false
	for _, r := range text {
		switch {
		case r == '_' || isSpace(r):
			gap = len(kept) > 0
		case isPunctuation(r):
		default:
			if gap {
				kept = append(kept, ' ')
				gap = false
			}
			if r >= 'A' && r <= 'Z' {
				r += 'a' - 'A'
			}
			ascii = ascii && r < utf8.RuneSelf
			kept = utf8.AppendRune(kept, r)
		}
	}
	if !ascii {
		kept = lower(kept)
	}
	return string(kept)
}

// isSpace is Python's str.isspace, which counts the four separators of ASCII too.
func isSpace(r rune) bool { return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f }

func isPunctuation(r rune) bool {
	return r >= '!' && r <= '/' || r >= ':' && r <= '@' || r >= '[' && r <= '`' || r >= '{' && r <= '~'
}

// lower is text, valid UTF-8, in lower case. A capital sigma with a cased letter before it and none after it, whatever signs that
// have no case (accents, apostrophes) lie between, ends a word: Final_Sigma of https://www.unicode.org/Public/UNIDATA/SpecialCasing.txt.
func lower(text []byte) []byte {
	dst := make([]byte, 0, len(text)+len(text)/8)
	for at := 0; at < len(text); {
		r, size := utf8.DecodeRune(text[at:])
		if r == 'Σ' && casedBefore(text[:at]) && !casedAfter(text[at+size:]) {
			dst = utf8.AppendRune(dst, 'ς')
		} else {
			dst = appendLower(dst, r)
		}
		at += size
	}
	return dst
}

// appendLower appends r in lower case, by itself: the full mapping, of which "İ" alone is more than one character.
func appendLower(dst []byte, r rune) []byte {
	if r == 'İ' {
		return append(dst, "i\u0307"...)
	}
	return utf8.AppendRune(dst, unicode.ToLower(r))
}

func casedBefore(text []byte) bool {
	for len(text) > 0 {
		r, size := utf8.DecodeLastRune(text)
		if !isCaseIgnorable(r) {
			return isCased(r)
		}
		text = text[:len(text)-size]
	}
	return false
}

func casedAfter(text []byte) bool {
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		if !isCaseIgnorable(r) {
			return isCased(r)
		}
		text = text[size:]
	}
	return false
}

// isCased is Unicode's property Cased.
func isCased(r rune) bool {
	return unicode.In(r, unicode.Lower, unicode.Upper, unicode.Title, unicode.Other_Lowercase, unicode.Other_Uppercase)
}

// isCaseIgnorable is Unicode's property Case_Ignorable: signs of these categories, and those that join two parts of a word.
func isCaseIgnorable(r rune) bool {
	switch r {
	case '\'', '.', ':', '·', '\u0387', '\u055f', '\u05f4', '‘', '’', '\u2024', '\u2027', '\ufe13', '\ufe52', '\ufe55', '\uff07', '\uff0e', '\uff1a':
		return true
	}
	return unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf, unicode.Lm, unicode.Sk)
}
