package sentencepiece

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// BenchmarkOpen loads a vocabulary of Gemma's size.
func BenchmarkOpen(b *testing.B) {
	v := gemmaSized()
	for _, file := range []struct {
		name string
		data []byte
	}{
		{"tokenizer.model", v.proto()},
		{"tokenizer.json", v.json(false)},
		{"tokenizer.json of strings", v.json(true)},
	} {
		b.Run(file.name, func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "tokenizer")
			if err := os.WriteFile(path, file.data, 0o600); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(file.data)))
			b.ReportAllocs()
			for b.Loop() {
				t, err := Open(path)
				if err != nil {
					b.Fatal(err)
				}
				if t.Vocabulary() != len(v.pieces) {
					b.Fatalf("%d pieces, want %d", t.Vocabulary(), len(v.pieces))
				}
				if n := len(t.merges.listed.rank); n > 0 {
					b.ReportMetric(float64(n), "merges")
				}
			}
		})
	}
}

// BenchmarkPrompt makes 1000 prompts with a vocabulary of Gemma's size.
func BenchmarkPrompt(b *testing.B) {
	v := gemmaSized()
	prompts := v.prompts(1000)
	for name, data := range map[string][]byte{"tokenizer.model": v.proto(), "tokenizer.json": v.json(false)} {
		b.Run(name, func(b *testing.B) {
			t, err := Parse(data)
			if err != nil {
				b.Fatal(err)
			}
			var ids []int32
			b.SetBytes(int64(len(strings.Join(prompts, ""))))
			b.ReportAllocs()
			for b.Loop() {
				ids = ids[:0]
				for _, prompt := range prompts {
					ids = t.Prompt(ids, prompt, 64)
				}
			}
			if len(ids) != 64*len(prompts) {
				b.Fatalf("%d ids of %d prompts", len(ids), len(prompts))
			}
		})
	}
}
