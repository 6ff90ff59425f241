package main

import (
	"strings"
	"testing"
)

// FuzzReadTokens: whatever a token file holds, there are ids or an error that names the file.
func FuzzReadTokens(f *testing.F) {
	for _, seed := range []string{
		"", "[1,2,3]", "[]", "null", "3", "[1.5]", `{"tokens":[1]}`, `{"tokens":null}`, `{"grid":[1,2],"tokens":[1,2],"embedding":[0.5]}`,
		`{"header":{"model":"0123"},"grid":[1],"tokens":[4294967296]}`, `{"tokens":[1]} {"tokens":[2]}`, "[1", "\x00", `{"header":7,"tokens":[1]}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		frame, err := readTokens("-", strings.NewReader(text))
		switch {
		case err != nil && !strings.Contains(err.Error(), "standard input"):
			t.Errorf("%q: %v", text, err)
		case err == nil && (frame.Tokens == nil || frame.String() == ""):
			t.Errorf("%q: no tokens and no error", text)
		}
	})
}
