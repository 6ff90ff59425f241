// Package texttower turns texts into embeddings with a model's text tower.
//
// The tower of a published model is 2.7 GB in fp32 and needed for seconds, so both embedders look into a cache on disk first and
// load it at the first text that is not there:
//
//   - [Direct] runs it in this process, for commands that end soon,
//   - [Child] runs it in a process of its own, for the daemon: all memory goes back to the system when it ends, and where memory
//     runs out the kernel ends that process and not the daemon.
package texttower

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"unicode/utf8"

	"github.com/toklip/toklip/engine/labels"
	"github.com/toklip/toklip/model"
	"github.com/toklip/toklip/model/sentencepiece"
	"github.com/toklip/toklip/model/textcache"
)

// Errors of a model folder that cannot embed texts. What wraps them says what to do.
var (
	ErrNoTower     = errors.New("the model has no text tower")
	ErrNoTokenizer = errors.New("the model has no text tokenizer")
)

// Errors of an embedder. What wraps ErrBusy says how many wait.
var (
	ErrBusy   = errors.New("the text tower is busy")
	ErrClosed = errors.New("the text tower was closed")
)

// MaxTextBytes is the length of the longest text. A published model reads 63 pieces, some hundred bytes.
const MaxTextBytes = labels.MaxTextBytes

// Embedder makes embeddings of texts. It may be used from any goroutine.
type Embedder interface {
	// Embed returns an embedding [E] for each text, in the order of the texts, as the model gives it: not normalised. Texts that
	// are equal once made canonical are embedded once and share memory: do not change it. A text that [CheckText] refuses
	// fails the call before anything is run.
	Embed(ctx context.Context, texts []string) ([][]float32, error)
}

// Options are those of both embedders.
type Options struct {
	Dir      string           // model folder
	Manifest *model.Manifest  // of that folder
	Cache    *textcache.Cache // nil: none
	Library  string           // file of ONNX Runtime; empty: found by itself
	Threads  int              // for the tower; 0: one for each physical core
	Logger   *slog.Logger     // nil: none
	// Computing is called before the tower runs for a call, with how many of its texts were not cached; nil: nobody. Where the tower is
	// not loaded yet, seconds pass at full size.
	Computing func(texts int)
}

// CheckText refuses what is no text for a tower: an empty one, invalid UTF-8, more than MaxTextBytes bytes, and one of which
// nothing is left once made canonical.
func CheckText(text string) error {
	switch {
	case text == "":
		return errors.New("the text is empty")
	case len(text) > MaxTextBytes:
		return fmt.Errorf("text %.60q... has %d bytes: at most %d are possible", text, len(text), MaxTextBytes)
	case !utf8.ValidString(text):
		return fmt.Errorf("text %.60q is not valid UTF-8", text)
	case sentencepiece.Canonical(text) == "":
		return fmt.Errorf("text %.60q is nothing but punctuation and spaces, which the model does not see", text)
	}
	return nil
}

// Check says whether the model folder can embed texts. The error wraps [ErrNoTower] or [ErrNoTokenizer] and says what to do.
func Check(dir string, m *model.Manifest) error {
	graph, err := m.TextGraph()
	if err != nil {
		return &unable{ErrNoTower, err}
	}
	if m.Text.Tokenizer == nil {
		return &unable{ErrNoTokenizer, fmt.Errorf("model %q in %s has no text tokenizer: import its checkpoint again, and name the tokenizer's file: "+
			"toklip model import CKPT --out %s --tokenizer tokenizer.model", m.Name, dir, dir)}
	}
	if t := &m.Text; t.Context < 1 || t.Vocabulary < 1 || t.Hash == "" || m.Encoder.EmbeddingDim < 1 {
		return &unable{ErrNoTower, fmt.Errorf("model %q in %s: %s does not describe the text tower %s: import the checkpoint again",
			m.Name, dir, model.ManifestFile, graph.File.Name)}
	}
	return nil
}

// unable is why a model folder cannot embed texts.
type unable struct{ kind, err error }

func (e *unable) Error() string   { return e.err.Error() }
func (e *unable) Unwrap() []error { return []error{e.kind, e.err} }
