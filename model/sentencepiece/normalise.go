package sentencepiece

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// space is what stands for a space in pieces: ▁, U+2581.
const space = "\u2581"

// normaliser rewrites text before it is cut into symbols. Spaces become ▁ in any case, and bytes that are no valid UTF-8 U+FFFD.
type normaliser struct {
	lower    bool     // characters become lower-case ones, each by itself
	prefix   bool     // a space is put in front ("dummy prefix")
	collapse bool     // spaces in front and at the end go, those in a row become one
	keep     *matcher // symbols in which collapse leaves the spaces as they are
}

// append appends the normalised text, nothing for an empty one.
func (n *normaliser) append(dst []byte, text string) []byte {
	start := len(dst)
	if n.collapse {
		text = n.trimStart(text)
	}
	if text == "" {
		return dst
	}
	if n.prefix {
		dst = append(dst, space...)
	}
	afterSpace := n.collapse
	for text != "" {
		chunk := n.chunk(text)
		text = text[len(chunk):]
		if afterSpace {
			chunk = strings.TrimLeft(chunk, " ")
		}
		if chunk != "" {
			dst = n.appendChunk(dst, chunk)
			afterSpace = n.collapse && chunk[len(chunk)-1] == ' '
		}
	}
	if n.collapse {
		for bytes.HasSuffix(dst[start:], []byte(space)) {
			dst = dst[:len(dst)-len(space)]
		}
	}
	return dst
}

// trimStart drops the spaces in front that are not a symbol's.
func (n *normaliser) trimStart(text string) string {
	for text != "" && n.chunk(text) == " " {
		text = text[1:]
	}
	return text
}

// chunk is the stretch at the beginning of text that collapsing takes as one: a symbol or a character.
func (n *normaliser) chunk(text string) string {
	if n.collapse {
		if size, _ := prefix(n.keep, text); size > 0 {
			return text[:size]
		}
	}
	_, size := utf8.DecodeRuneInString(text)
	return text[:size]
}

func (n *normaliser) appendChunk(dst []byte, chunk string) []byte {
	for _, r := range chunk {
		switch {
		case r == ' ':
			dst = append(dst, space...)
		case n.lower:
			dst = appendLower(dst, r)
		default:
			dst = utf8.AppendRune(dst, r)
		}
	}
	return dst
}
