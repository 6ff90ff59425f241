package texttower

import (
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/toklip/toklip/model"
	"github.com/toklip/toklip/model/sentencepiece"
)

// tower is what both embedders know of a model's text tower.
type tower struct {
	Options
	graph  model.Graph
	name   string      // for the cache: everything but the text that an embedding depends on
	warned atomic.Bool // that the cache cannot be written
}

func (t *tower) init(opts Options) error {
	if err := Check(opts.Dir, opts.Manifest); err != nil {
		return err
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Computing == nil {
		opts.Computing = func(int) {}
	}
	graph, err := opts.Manifest.TextGraph()
	if err != nil {
		return err
	}
	t.Options, t.graph = opts, graph
	t.name = opts.Manifest.Text.Hash + " " + opts.Manifest.Text.Precision
	return nil
}

// weights is the size of the tower's files in bytes.
func (t *tower) weights() int64 {
	total := t.graph.File.Size
	for _, file := range t.graph.Data {
		total += file.Size
	}
	return total
}

// wanted is what a call asks for: each text once.
type wanted struct {
	texts      []string    // as they were given first
	keys       []string    // the same, canonical: what the cache knows them by
	embeddings [][]float32 // nil where missing
	at         []int       // where the texts of the call are
}

// want looks for texts in the cache.
func (t *tower) want(texts []string) (*wanted, error) {
	w := &wanted{at: make([]int, len(texts))}
	seen := make(map[string]int, len(texts))
	for i, text := range texts {
		if err := CheckText(text); err != nil {
			return nil, fmt.Errorf("embed texts: %w", err)
		}
		key := sentencepiece.Canonical(text)
		at, ok := seen[key]
		if !ok {
			at = len(w.texts)
			seen[key] = at
			w.texts, w.keys = append(w.texts, text), append(w.keys, key)
		}
		w.at[i] = at
	}
	w.embeddings = make([][]float32, len(w.texts))
	t.look(w)
	return w, nil
}

// look looks into the cache for what is missing.
func (t *tower) look(w *wanted) {
	if t.Cache == nil {
		return
	}
	for i, key := range w.keys {
		if w.embeddings[i] != nil {
			continue
		}
		if e, ok := t.Cache.Get(t.name, key); ok && len(e) == t.Manifest.Encoder.EmbeddingDim {
			w.embeddings[i] = e
		}
	}
}

// missing are the texts that the tower has to run for.
func (w *wanted) missing() []int {
	var missing []int
	for i, e := range w.embeddings {
		if e == nil {
			missing = append(missing, i)
		}
	}
	return missing
}

// result is an embedding for each text of the call.
func (w *wanted) result() [][]float32 {
	all := make([][]float32, len(w.at))
	for i, at := range w.at {
		all[i] = w.embeddings[at]
	}
	return all
}

// take takes what the tower made of a text.
func (t *tower) take(w *wanted, i int, embedding []float32) error {
	if len(embedding) != t.Manifest.Encoder.EmbeddingDim {
		return fmt.Errorf("text %.60q: the tower gave %d numbers, the model's embeddings have %d", w.texts[i], len(embedding), t.Manifest.Encoder.EmbeddingDim)
	}
	zero := true
	for n, v := range embedding {
		if v-v != 0 { // an infinity or not a number
			return fmt.Errorf("text %.60q: the tower gave %v as number %d of the embedding: its weights are damaged, or too large for %s",
				w.texts[i], v, n, t.Manifest.Text.Precision)
		}
		zero = zero && v == 0
	}
	if zero {
		return fmt.Errorf("text %.60q: the tower gave an embedding of zeros: its weights are damaged", w.texts[i])
	}
	w.embeddings[i] = embedding
	if t.Cache == nil {
		return nil
	}
	if err := t.Cache.Put(t.name, w.keys[i], embedding); err != nil && !t.warned.Swap(true) {
		t.Logger.Warn("text embeddings are not kept: each start needs the text tower", "error", err)
	}
	return nil
}
