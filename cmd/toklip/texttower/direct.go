package texttower

import (
	"context"
	"fmt"
	"sync"

	"github.com/toklip/toklip/engine/onnxruntime"
	"github.com/toklip/toklip/model/sentencepiece"
)

// batch is how many texts go to the tower between two looks at the context, and how many are lost at most when it is cancelled.
const batch = 8

// Direct runs the tower in this process. Calls wait for each other.
type Direct struct {
	tower
	tokenizer func() (*sentencepiece.Tokenizer, error)

	turn   chan struct{} // holds an item while somebody uses what follows
	loaded *onnxruntime.Text
	closed bool
}

var _ Embedder = (*Direct)(nil)

// NewDirect checks the model as [Check] does and loads nothing yet.
func NewDirect(opts Options) (*Direct, error) {
	d := &Direct{turn: make(chan struct{}, 1)}
	if err := d.init(opts); err != nil {
		return nil, err
	}
	d.tokenizer = sync.OnceValues(d.openTokenizer)
	return d, nil
}

// Embed implements [Embedder]. Cancelling ctx ends it after the few texts that are under way.
func (d *Direct) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	w, err := d.want(texts)
	if err != nil {
		return nil, err
	}
	if len(w.missing()) == 0 {
		return w.result(), nil
	}
	select {
	case d.turn <- struct{}{}:
		defer func() { <-d.turn }()
	case <-ctx.Done():
		return nil, fmt.Errorf("embed texts: %w", context.Cause(ctx))
	}
	if d.closed {
		return nil, fmt.Errorf("embed texts: %w", ErrClosed)
	}
	d.look(w) // whoever had the turn may have made them
	if err := d.embed(ctx, w, w.missing()); err != nil {
		return nil, fmt.Errorf("embed texts: %w", err)
	}
	return w.result(), nil
}

func (d *Direct) embed(ctx context.Context, w *wanted, missing []int) error {
	if len(missing) == 0 {
		return nil
	}
	d.Computing(len(missing))
	tokenizer, err := d.tokenizer()
	if err != nil {
		return err
	}
	if err := d.load(); err != nil {
		return err
	}
	length, dim := d.Manifest.Text.Context, d.Manifest.Encoder.EmbeddingDim
	ids := make([]int32, 0, batch*length)
	for len(missing) > 0 {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		now := missing[:min(batch, len(missing))]
		missing = missing[len(now):]
		ids = ids[:0]
		for _, i := range now {
			ids = tokenizer.Prompt(ids, w.texts[i], length)
		}
		embeddings, err := d.loaded.Embed(ctx, ids)
		if err != nil {
			return err
		}
		for n, i := range now {
			if err := d.take(w, i, embeddings[n*dim:(n+1)*dim:(n+1)*dim]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *Direct) load() error {
	if d.loaded != nil {
		return nil
	}
	path, err := onnxruntime.FindLibrary(d.Library)
	if err != nil {
		return err
	}
	library, err := onnxruntime.Open(path)
	if err != nil {
		return err
	}
	d.loaded, err = library.LoadText(onnxruntime.TextSpec{
		File: d.graph.File.Path(d.Dir), Context: d.Manifest.Text.Context, Vocabulary: d.Manifest.Text.Vocabulary, EmbeddingDim: d.Manifest.Encoder.EmbeddingDim,
	}, onnxruntime.Options{Threads: d.Threads})
	return err
}

func (d *Direct) openTokenizer() (*sentencepiece.Tokenizer, error) {
	path := d.Manifest.Text.Tokenizer.Path(d.Dir)
	tokenizer, err := sentencepiece.Open(path)
	if err != nil {
		return nil, err
	}
	if have, most := tokenizer.Vocabulary(), d.Manifest.Text.Vocabulary; have > most {
		return nil, fmt.Errorf("tokenizer %s has %d pieces, the model's text tower knows %d: it belongs to another model", path, have, most)
	}
	return tokenizer, nil
}

// Tokens are the padded ids [Context] of a text as the tower gets them.
func (d *Direct) Tokens(text string) ([]int32, error) {
	if err := CheckText(text); err != nil {
		return nil, err
	}
	tokenizer, err := d.tokenizer()
	if err != nil {
		return nil, err
	}
	return tokenizer.Prompt(nil, text, d.Manifest.Text.Context), nil
}

// Close waits for a running call and frees everything. Calling it again does nothing.
func (d *Direct) Close() error {
	d.turn <- struct{}{}
	defer func() { <-d.turn }()
	d.closed = true
	if d.loaded == nil {
		return nil
	}
	err := d.loaded.Close()
	d.loaded = nil
	return err
}
