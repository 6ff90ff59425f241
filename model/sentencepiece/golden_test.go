package sentencepiece

import (
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
