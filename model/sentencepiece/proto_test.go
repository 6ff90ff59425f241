package sentencepiece

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// varints appends fields of a trainer_spec or normalizer_spec.
func varints(numbersAndValues ...uint64) func([]byte) []byte {
	return func(b []byte) []byte {
		for i := 0; i < len(numbersAndValues); i += 2 {
			b = appendVarint(b, protowire.Number(numbersAndValues[i]), numbersAndValues[i+1])
		}
		return b
	}
}

// TestBrokenProto wants each mistake named.
func TestBrokenProto(t *testing.T) {
	good := func() *vocabulary { return gemmaLike().learn("ab", "a", "b") }
	with := func(change func(*vocabulary)) []byte {
		v := good()
		change(v)
		return v.proto()
	}
	for name, c := range map[string]struct {
		data []byte
		want error
		text string
	}{
		"cut short":       {good().proto()[:2000], ErrFormat, "SentencePiece model: field 1 at byte "},
		"cut in the spec": {good().proto()[:len(good().proto())-1], ErrFormat, "unexpected EOF"},
		"no protobuf":     {[]byte("\xff\xff\xff\xff"), ErrFormat, "at byte 0 of 4"},
		"PNG":             {[]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\x0d"), ErrFormat, "field at byte 10 of 12"},
		"no pieces":       {new(vocabulary).proto(), ErrFormat, "without pieces"},
		"wrong wire type": {append(good().proto(), appendVarint(nil, fieldPieces, 1)...), ErrFormat, "piece 263: pieces has wire type 0"},
		"empty piece":     {with(func(v *vocabulary) { v.learn("") }), ErrFormat, "piece 263: it has no text"},
		"long piece":      {with(func(v *vocabulary) { v.learn(strings.Repeat("x", MaxPieceBytes+1)) }), ErrFormat, "piece 263: 8001 bytes"},
		"broken text":     {with(func(v *vocabulary) { v.learn("a\xff") }), ErrFormat, `piece 263: "a\xff" is no valid UTF-8`},
		"score":           {with(func(v *vocabulary) { v.add(pieceNormal, float32(math.NaN()), "c") }), ErrFormat, `"c" has a score that is not a number`},
		"type":            {with(func(v *vocabulary) { v.add(7, 0, "c") }), ErrFormat, `"c" is of type 7`},
		"twice":           {with(func(v *vocabulary) { v.learn("a") }), ErrFormat, `pieces 261 and 263 are both "a"`},
		"control twice":   {with(func(v *vocabulary) { v.add(pieceControl, 0, "<pad>") }), ErrFormat, `pieces 0 and 263 are both "<pad>"`},
		"two unknown":     {with(func(v *vocabulary) { v.add(pieceUnknown, 0, "<unk2>") }), ErrFormat, "pieces 3 and 263 are both the unknown one"},
		"no unknown":      {with(func(v *vocabulary) { v.pieces[3].kind = pieceControl }), ErrFormat, "none of its 263 pieces is the unknown one"},
		"byte missing":    {with(func(v *vocabulary) { v.pieces[4+0x41].kind = pieceNormal }), ErrFormat, `the piece "<0x41>" is missing`},
		"byte named else": {with(func(v *vocabulary) { v.add(pieceByte, 0, "<0x4g>") }), ErrFormat, `"<0x4g>" is said to be the piece of a byte`},
		"bytes unused":    {with(func(v *vocabulary) { v.byteFallback = false }), ErrFormat, "byte_fallback is off"},
		"no padding":      {with(func(v *vocabulary) { v.pieces[0].text = "<nothing>" }), ErrUnsupported, `no control symbol for padding, none of ["<pad>"]`},
		"no end":          {with(func(v *vocabulary) { v.pieces[1].kind = pieceUser }), ErrUnsupported, "no control symbol for the end of sentence"},
		"unigram":         {with(func(v *vocabulary) { v.trainer = varints(fieldModelType, 1) }), ErrUnsupported, "of kind unigram; Gemma's and SigLIP 2's are BPE"},
		"type of model":   {with(func(v *vocabulary) { v.trainer = varints(fieldModelType, 9) }), ErrUnsupported, "of kind type 9"},
		"suffix":          {with(func(v *vocabulary) { v.trainer = varints(fieldSuffix, 1) }), ErrUnsupported, "treat_whitespace_as_suffix"},
		"plain spaces":    {with(func(v *vocabulary) { v.normalizer = varints(fieldEscape, 0) }), ErrUnsupported, "escape_whitespaces is off"},
		"characters rewritten": {with(func(v *vocabulary) {
			v.normalizer = func(b []byte) []byte { return appendBytes(b, fieldCharsMap, []byte("table")) }
		}), ErrUnsupported, "normalization_rule_name=identity"},
		"empty":       {nil, ErrFormat, "it is empty"},
		"LFS pointer": {[]byte("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), ErrFormat, "git lfs pull"},
		"web page":    {[]byte("<!DOCTYPE html><html>"), ErrFormat, "a web page"},
	} {
		t.Run(name, func(t *testing.T) {
			tokenizer, err := Parse(c.data)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("error %q, want one of kind %q with %q", err, c.want, c.text)
			}
			if tokenizer != nil {
				t.Error("a tokenizer beside the error")
			}
		})
	}
}

// TestProtoDefaults reads a model that leaves out what its schema has defaults for: then it is of kind unigram.
func TestProtoDefaults(t *testing.T) {
	var piece []byte
	piece = appendBytes(piece, fieldPiece, []byte("a"))
	if _, err := Parse(appendBytes(nil, fieldPieces, piece)); !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "unigram") {
		t.Errorf("error %v, want that unigram models are not supported", err)
	}
	// The names of padding and end come from the model, if it tells them.
	v := gemmaLike().learn("a")
	v.pieces[0].text, v.pieces[1].text = "[PAD]", "[END]"
	v.trainer = func(b []byte) []byte {
		return appendBytes(appendBytes(b, fieldPadPiece, []byte("[PAD]")), fieldEOSPiece, []byte("[END]"))
	}
	tokenizer, err := Parse(v.proto())
	if err != nil {
		t.Fatal(err)
	}
	if tokenizer.Pad() != 0 || tokenizer.EOS() != 1 {
		t.Errorf("padding %d and end %d, want 0 and 1", tokenizer.Pad(), tokenizer.EOS())
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(filepath.Join(dir, "none.model")); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "none.model") {
		t.Errorf("a file that is not there: %v", err)
	}
	bad := filepath.Join(dir, "bad.model")
	if err := os.WriteFile(bad, []byte("<html>"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(bad); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), bad) {
		t.Errorf("a web page: %v, want the file's name in it", err)
	}
	// A sparse file of more bytes than are read.
	huge := filepath.Join(dir, "huge.model")
	if err := os.WriteFile(huge, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(huge, MaxFileBytes+1); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(huge); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("a huge file: %v", err)
	}
	// The name does not matter.
	v := gemmaLike().learn("a")
	for format, data := range map[Format][]byte{Proto: v.proto(), JSON: append([]byte("\ufeff\n "), v.json(false)...)} {
		path := filepath.Join(dir, "any")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		tokenizer, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if tokenizer.Format() != format {
			t.Errorf("told %q from the content, want %q", tokenizer.Format().FileName(), format.FileName())
		}
	}
}
