// Package sentencepiece turns text into token ids as the text tower was trained to read them: SentencePiece's byte-pair encoding with
// byte fallback, in the form that Gemma and SigLIP 2 use.
//
//	t, err := sentencepiece.Open("tokenizer.model") // or Hugging Face's tokenizer.json of the same tokenizer
//	...
//	ids := t.Prompt(nil, "A photo of a red_box!", 64) // canonical, encoded, end of sentence, padded
package sentencepiece

import "errors"

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

// FileName is the name that files of the format usually have, "tokenizer.model" or "tokenizer.json".
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
	format   Format
	pieces   []string
	pad, eos int32
}

// Open reads a tokenizer file; what kind it is shows in its content, not in its name.
func Open(path string) (*Tokenizer, error) { return nil, errors.ErrUnsupported }

// Parse reads a tokenizer from the content of its file. It keeps nothing of data.
func Parse(data []byte) (*Tokenizer, error) { return nil, errors.ErrUnsupported }

// Format is the kind of file the tokenizer was read from.
func (t *Tokenizer) Format() Format { return t.format }

// Vocabulary is the number of ids: all that Encode and Prompt return are at least 0 and below it.
func (t *Tokenizer) Vocabulary() int { return len(t.pieces) }

// Pad is the id that prompts are filled up with, 0 in SigLIP 2.
func (t *Tokenizer) Pad() int32 { return t.pad }

// EOS is the id that ends a prompt, 1 in SigLIP 2.
func (t *Tokenizer) EOS() int32 { return t.eos }

// Encode appends the ids of text to dst: the text as it is, neither made canonical nor with symbols for beginning and end.
func (t *Tokenizer) Encode(dst []int32, text string) []int32 { return dst }

// Prompt appends the ids of text as the text tower takes them, context of them: the canonical text encoded, cut to context-1, then
// the end of sentence, then padding.
func (t *Tokenizer) Prompt(dst []int32, text string, context int) []int32 { return dst }

// Decode is the text of ids.
func (t *Tokenizer) Decode(ids []int32) string { return "" }

// Canonical is the text as the text tower was trained on.
func Canonical(text string) string { return text }
