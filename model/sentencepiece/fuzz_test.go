package sentencepiece

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// readFile reads a file of the tests.
func readFile(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// checkParsed tries a tokenizer that a parser gave, if it gave one, on texts of all kinds.
func checkParsed(t *testing.T, tokenizer *Tokenizer, err error) {
	t.Helper()
	if err != nil {
		if tokenizer != nil {
			t.Fatal("a tokenizer beside the error")
		}
		return
	}
	for _, text := range []string{"", "a", "a photo of a red box", "  \n\n▁▁ab<mask>", "<pad><0x41>", "aaaaaaaaaaaaaaaa", "箱é🤖\u0301", "\xff\xe4\xbd", "\x00"} {
		ids := tokenizer.Prompt(tokenizer.Encode(nil, text), text, 8)
		for _, id := range ids {
			if id < 0 || int(id) >= tokenizer.Vocabulary() {
				t.Fatalf("%q: id %d in a vocabulary of %d", text, id, tokenizer.Vocabulary())
			}
		}
	}
}

func FuzzProto(f *testing.F) {
	f.Add(gemmaLike().add(pieceUser, 0, "<mask>", "a b").add(pieceUnused, 0, "abc", "c").learn("ab", "a", "b", space).proto())
	odd := gemmaLike().learn("ab", "a", "b", space)
	odd.dummyPrefix, odd.collapse = true, true
	f.Add(odd.proto())
	f.Add(new(vocabulary).add(pieceControl, 0, "<pad>", "</s>").add(pieceUnknown, 0, "<unk>").learn("ab", "a", "b").proto())
	f.Add(readFile(f, "testdata/odd.model"))
	f.Fuzz(func(t *testing.T, data []byte) {
		tokenizer, err := Parse(data)
		checkParsed(t, tokenizer, err)
	})
}

func FuzzJSON(f *testing.F) {
	small := new(vocabulary).add(pieceControl, 0, "<pad>", "</s>").add(pieceUnknown, 0, "<unk>").add(pieceUser, 0, "<mask>").learn("ab", "a", "b", space)
	f.Add(small.json(false))
	f.Add(small.json(true))
	f.Add(gemmaLike().learn("\"\\", "\"", "\\").json(false))
	f.Fuzz(func(t *testing.T, data []byte) {
		tokenizer, err := Parse(data)
		checkParsed(t, tokenizer, err)
		if err != nil || tokenizer.Format() != JSON {
			return
		}
		// What is accepted must be what everybody else takes for JSON, with as many pieces.
		var file struct {
			Model struct{ Vocab map[string]int32 }
		}
		if err := json.Unmarshal(bytes.TrimPrefix(data, []byte("\ufeff")), &file); err != nil {
			t.Fatalf("accepted, but encoding/json says: %v", err)
		}
		for piece, id := range file.Model.Vocab {
			if int(id) >= tokenizer.Vocabulary() {
				t.Fatalf("piece %q has id %d in a vocabulary of %d", piece, id, tokenizer.Vocabulary())
			}
		}
	})
}

// FuzzEncode takes the text apart and puts it together again, and compares with the slow way.
func FuzzEncode(f *testing.F) {
	data := readFile(f, "testdata/gemma.model")
	var m protoModel
	if err := m.read(data); err != nil {
		f.Fatal(err)
	}
	v := &vocabulary{pieces: m.pieces}
	var tokenizers []*Tokenizer
	for _, file := range []string{"testdata/gemma.model", "testdata/gemma.json", "testdata/odd.model"} {
		tokenizer, err := Open(file)
		if err != nil {
			f.Fatal(err)
		}
		tokenizers = append(tokenizers, tokenizer)
	}
	gemma := tokenizers[0]
	for _, text := range []string{"a photo of a red box", " \n\n\n▁▁<mask>quq uq▁", "<eos>\x00\xff\xe4\xbd箱🤖", strings.Repeat("red", 50)} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for i, tokenizer := range tokenizers {
			for _, id := range tokenizer.Encode(nil, text) {
				if id < 0 || int(id) >= tokenizer.Vocabulary() {
					t.Fatalf("tokenizer %d: id %d in a vocabulary of %d", i, id, tokenizer.Vocabulary())
				}
				if id == tokenizer.Pad() || id == tokenizer.EOS() {
					t.Fatalf("tokenizer %d: control symbol %d out of text", i, id)
				}
			}
		}
		ids := gemma.Encode([]int32{}, text)
		// ▁ cannot be told from a space any more, nor broken UTF-8 from what stands for it.
		if got, want := v.decode(ids), strings.ReplaceAll(string([]rune(text)), space, " "); got != want {
			t.Fatalf("%q became %q on the way there and back", want, got)
		}
		if utf8.RuneCountInString(text) < 200 {
			if want := slow(v, text); !slices.Equal(ids, want) {
				t.Fatalf("%q: %d, want %d", text, ids, want)
			}
		}
	})
}

// decode is the text of ids.
func (v *vocabulary) decode(ids []int32) string {
	var text []byte
	for _, id := range ids {
		if p := v.pieces[id]; p.kind == pieceByte {
			b, _ := byteOf(p.text)
			text = append(text, b)
		} else {
			text = append(text, strings.ReplaceAll(p.text, space, " ")...)
		}
	}
	return string(text)
}
