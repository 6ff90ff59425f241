package sentencepiece

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"slices"
	"testing"
)

const referenceDir = "../../testdata/reference/golden/"

// TestReference encodes the texts of the reference set.
func TestReference(t *testing.T) {
	data, err := os.ReadFile(referenceDir + "tokenizer.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Text          string
		Canonical     string
		ContextLength int `json:"context_length"`
		IDs           []int32
	}
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	tokenizer, err := Open(referenceDir + "tiny_tokenizer.model")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		if got := Canonical(c.Text); got != c.Canonical {
			t.Errorf("canonical form of %q: %q, want %q", c.Text, got, c.Canonical)
		}
		if got := tokenizer.Prompt(nil, c.Text, c.ContextLength); !slices.Equal(got, c.IDs) {
			t.Errorf("%q in a context of %d:\n%d, want\n%d", c.Text, c.ContextLength, got, c.IDs)
		}
	}
}

// TestLibraries encodes texts of all kinds as SentencePiece and Hugging Face's tokenizers do; testdata/README.md tells how they were made.
func TestLibraries(t *testing.T) {
	data, err := os.ReadFile("testdata/cases.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []map[string]json.RawMessage
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	for name, file := range map[string]string{"gemma": "gemma.model", "odd": "odd.model", "gemma.json": "gemma.json"} {
		t.Run(name, func(t *testing.T) {
			tokenizer, err := Open("testdata/" + file)
			if err != nil {
				t.Fatal(err)
			}
			done := 0
			for _, c := range cases {
				want, ok := c[name]
				if !ok {
					continue // broken UTF-8, which one of the libraries does not take
				}
				text := textOf(t, c)
				if got := tokenizer.Encode([]int32{}, text); !slices.Equal(got, decode[[]int32](t, want)) {
					t.Errorf("%q:\n%d, want\n%s", text, got, want)
				}
				done++
			}
			if done < 250 {
				t.Errorf("only %d cases", done)
			}
		})
	}
}

// textOf is the text of a case.
func textOf(t *testing.T, c map[string]json.RawMessage) string {
	t.Helper()
	if text, ok := c["text"]; ok {
		return decode[string](t, text)
	}
	text, err := base64.StdEncoding.DecodeString(decode[string](t, c["base64"]))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func decode[T any](t *testing.T, data []byte) (v T) {
	t.Helper()
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	return v
}
