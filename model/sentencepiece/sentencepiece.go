// Package sentencepiece turns text into token ids as the text tower was trained to read them: SentencePiece's byte-pair encoding with
// byte fallback, in the form that Gemma and SigLIP 2 use.
//
//	t, err := sentencepiece.Open("tokenizer.model") // or Hugging Face's tokenizer.json of the same tokenizer
//	...
//	ids := t.Prompt(nil, "A photo of a red_box!", 64) // canonical, encoded, end of sentence, padded
//
// # Words
//
// A piece is an entry of the vocabulary, its id the place there. Pieces have a space written as ▁ (U+2581), so that "a red box" is
// made of, say, a, ▁red and ▁box. The encoder begins with single characters and merges the two neighbours whose merge ranks first, the
// leftmost of equals, until no neighbours merge. In tokenizer.model any two neighbours merge whose text is a piece, ranked by the
// piece's score; tokenizer.json lists the pairs that merge, in their order. A character that is no piece becomes the pieces of its
// UTF-8 bytes, <0x00> to <0xFF>, or the unknown piece where a vocabulary has no bytes.
//
// User-defined symbols, such as Gemma's runs of line feeds, are found before anything is merged, the longest first, and merge with
// nothing. Control symbols (padding, end of sentence) are never made from text: "<eos>" typed by somebody is five characters like
// any other. This is where tokenizer.json's own library differs, which does find them in text unless told otherwise.
//
// # Files
//
// Formats: sentencepiece_model.proto of https://github.com/google/sentencepiece, and the JSON form of
// https://github.com/huggingface/tokenizers. Neither is followed further than such tokenizers go: unigram models, tables that rewrite
// characters (nmt_nfkc), byte-level BPE and the like are refused with the reason.
package sentencepiece

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
)

// Limits of what is read.
const (
	MaxFileBytes  = 128 << 20 // of a tokenizer file; Gemma's are 4 MB and 34 MB
	MaxVocabulary = 1 << 22   // pieces
	MaxPieceBytes = 8000      // of one piece; SentencePiece itself stops there
)

// Errors that callers tell apart.
var (
	// ErrFormat is wrapped where a file is neither kind of tokenizer, damaged or cut short.
	ErrFormat = errors.New("not a valid tokenizer file")
	// ErrUnsupported is wrapped where a file is valid but of a kind this package does not encode with: a unigram model, a normaliser
	// that rewrites characters, a byte-level BPE.
	ErrUnsupported = errors.New("unsupported kind of tokenizer")
)

// Format is the kind of file that a tokenizer was read from.
type Format uint8

// The formats.
const (
	Proto Format = iota + 1 // tokenizer.model, SentencePiece's protobuf
	JSON                    // tokenizer.json, of Hugging Face's tokenizers
)

// FileName is the name that files of the format usually have, "tokenizer.model" or "tokenizer.json"; empty for a value that is none
// of the constants.
func (f Format) FileName() string {
	switch f {
	case Proto:
		return "tokenizer.model"
	case JSON:
		return "tokenizer.json"
	}
	return ""
}

// Tokenizer encodes text. It never changes once made and may be used by several goroutines at once.
type Tokenizer struct {
	format     Format
	vocabulary int
	pad, eos   int32
	unknown    int32       // the piece of what has no piece; used only without byte fallback
	bytes      *[256]int32 // pieces of the bytes, nil without byte fallback

	pieces  map[string]int32 // by text: those that text may become, so no control symbols
	longest int              // bytes of the longest of them
	merges  merges
	unused  []bool // by id: pieces that merging goes through and that are taken apart again; nil if there are none

	literals   matcher // symbols found in the text as it is given, before it is normalised; only tokenizer.json has such
	normaliser normaliser
	symbols    matcher // symbols found in the normalised text

	scratch sync.Pool // of *scratch
}

// Open reads a tokenizer file; what kind it is shows in its content, not in its name.
func Open(path string) (*Tokenizer, error) {
	data, err := read(path)
	if err != nil {
		return nil, fmt.Errorf("read tokenizer: %w", err)
	}
	t, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("read tokenizer %q: %w", path, err)
	}
	return t, nil
}

var errTooLarge = fmt.Errorf("%w: larger than %d MiB, which none is", ErrFormat, MaxFileBytes>>20)

// read reads a file, of one too large at most a byte more than may be.
func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > MaxFileBytes {
		return nil, fmt.Errorf("%q: %w", path, errTooLarge)
	}
	var b bytes.Buffer
	b.Grow(int(info.Size()) + bytes.MinRead)
	_, err = b.ReadFrom(io.LimitReader(f, MaxFileBytes+1))
	return b.Bytes(), err
}

// Parse reads a tokenizer from the content of its file. It keeps nothing of data.
func Parse(data []byte) (*Tokenizer, error) {
	if len(data) > MaxFileBytes {
		return nil, errTooLarge
	}
	var t *Tokenizer
	var err error
	if looksLikeJSON(data) {
		t, err = parseJSON(data)
	} else if err = foreign(data); err == nil {
		t, err = parseProto(data)
	}
	if err != nil {
		return nil, err
	}
	t.scratch.New = func() any { return new(scratch) }
	return t, nil
}

// looksLikeJSON tells whether data begins as a JSON object does. A model of SentencePiece begins with 0x0a, which is also a line feed;
// as such a model, a line feed and {" would be a piece of 123 bytes without its text at the beginning, which no writer makes.
func looksLikeJSON(data []byte) bool {
	const white = " \t\r\n"
	rest, ok := bytes.CutPrefix(bytes.TrimLeft(bytes.TrimPrefix(data, []byte("\ufeff")), white), []byte("{"))
	rest = bytes.TrimLeft(rest, white)
	return ok && len(rest) > 0 && (rest[0] == '"' || rest[0] == '}')
}

// foreign recognises what lies in a tokenizer's place most often.
func foreign(data []byte) error {
	has := func(prefixes ...string) bool {
		return slices.ContainsFunc(prefixes, func(p string) bool {
			return len(data) >= len(p) && bytes.EqualFold(data[:len(p)], []byte(p))
		})
	}
	switch {
	case len(data) == 0:
		return fmt.Errorf("%w: it is empty", ErrFormat)
	case has("version https://git-lfs"):
		return fmt.Errorf("%w: a Git LFS pointer, not the tokenizer itself; fetch it with: git lfs pull", ErrFormat)
	case has("<!doctype", "<html"):
		return fmt.Errorf("%w: a web page, perhaps one asking to log in or to accept a licence; download the file itself", ErrFormat)
	}
	return nil
}

// Format is the kind of file the tokenizer was read from.
func (t *Tokenizer) Format() Format { return t.format }

// Vocabulary is the number of ids: all that Encode and Prompt return are at least 0 and below it.
func (t *Tokenizer) Vocabulary() int { return t.vocabulary }

// Pad is the id that prompts are filled up with, 0 in SigLIP 2.
func (t *Tokenizer) Pad() int32 { return t.pad }

// EOS is the id that ends a prompt, 1 in SigLIP 2.
func (t *Tokenizer) EOS() int32 { return t.eos }

// Prompt appends the ids of text as the text tower takes them, context of them: the canonical text encoded, cut to context-1, then
// the end of sentence, then padding. Nothing is appended for a context below 1.
func (t *Tokenizer) Prompt(dst []int32, text string, context int) []int32 {
	if context < 1 {
		return dst
	}
	start := len(dst)
	dst = t.Encode(slices.Grow(dst, context), Canonical(text))
	dst = append(dst[:min(len(dst), start+context-1)], t.eos)
	for len(dst) < start+context {
		dst = append(dst, t.pad)
	}
	return dst
}

// ending finds the ids of padding and end of sentence among the control symbols of a vocabulary, each by the first of its names that is
// there.
func ending(controls map[string]int32, padNames, eosNames []string) (pad, eos int32, err error) {
	if pad, err = control(controls, "padding", padNames); err != nil {
		return 0, 0, err
	}
	eos, err = control(controls, "the end of sentence", eosNames)
	return pad, eos, err
}

func control(controls map[string]int32, purpose string, names []string) (int32, error) {
	for _, name := range names {
		if id, ok := controls[name]; ok {
			return id, nil
		}
	}
	return 0, fmt.Errorf("%w: no control symbol for %s, none of %q; prompts need one", ErrUnsupported, purpose, slices.Compact(names))
}
