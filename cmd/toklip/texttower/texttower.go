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
	"log/slog"

	"github.com/toklip/toklip/model"
	"github.com/toklip/toklip/model/textcache"
)

// Errors of a model folder that cannot embed texts. What wraps them says what to do.
var (
	ErrNoTower     = errors.New("the model has no text tower")
	ErrNoTokenizer = errors.New("the model has no text tokenizer")
)

// ErrBusy is wrapped by [Child.Embed] when too many callers wait already.
var ErrBusy = errors.New("the text tower is busy")

// Limits of a text and of a command line. A request to an [Embedder] may have any number of texts.
const (
	MaxTextBytes = 1000
	MaxLabels    = 1000
)

// Embedder makes embeddings of texts. It may be used from any goroutine.
type Embedder interface {
	// Embed returns an embedding [E] for each text, in the order of the texts, as the model gives it: not normalised. Texts that
	// are equal once made canonical are embedded once and may share memory: do not change it. A text that [CheckText] refuses
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
	// Loading is called before the tower is loaded, which takes seconds at full size, with how many texts it is for; nil: nobody.
	// Daemons count with it, commands say why they are slow.
	Loading func(texts int)
}

// CheckText refuses what is no text for a tower: an empty one, invalid UTF-8, more than MaxTextBytes bytes, and one of which
// nothing is left once made canonical.
func CheckText(text string) error { return errors.New("not written yet") }

// Check says whether the model folder can embed texts. The error wraps [ErrNoTower] or [ErrNoTokenizer] and says what to do.
func Check(dir string, m *model.Manifest) error { return errors.New("not written yet") }
