package eval

import (
	"bytes"
	"fmt"
	"io"
	"iter"
	"strings"
	"unicode/utf8"
)

// maxListBytes bounds a file of class names, templates or captions: several times the largest captions file in use.
const maxListBytes = 512 << 20

// readText reads a text file whole. Longer ones than most bytes, and bytes that are no UTF-8, are errors.
func readText(r io.Reader, most int64) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(text)) > most {
		return nil, fmt.Errorf("longer than %d MiB", most>>20)
	}
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	if !utf8.Valid(text) {
		for i := 0; i < len(text); {
			r, size := utf8.DecodeRune(text[i:])
			if r == utf8.RuneError && size <= 1 {
				return nil, fmt.Errorf("line %d: byte 0x%02x is no UTF-8: save the file as UTF-8", lineAt(text, i), text[i])
			}
			i += size
		}
	}
	return text, nil
}

// lines are the lines of a text, trimmed, with their numbers from 1, less empty ones and comments, which begin with '#'.
func lines(text []byte) iter.Seq2[int, string] {
	return func(yield func(int, string) bool) {
		number := 0
		for line := range strings.Lines(string(text)) {
			number++
			line = strings.TrimSpace(line)
			if line == "" || line[0] == '#' {
				continue
			}
			if !yield(number, line) {
				return
			}
		}
	}
}
