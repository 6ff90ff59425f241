package model

import (
	"errors"
	"fmt"
	"math"
)

// Text describes what the checkpoint brought for scoring texts, and the text tower as it stands in the folder. Folders of
// versions 1 and 2 have Present, Tensors, LogitScale and LogitBias alone.
type Text struct {
	Present bool `toml:"present" json:"present"` // the checkpoint has a text tower
	Tensors int  `toml:"tensors" json:"tensors"` // how many tensors it has
	// LogitScale and LogitBias make a score of a cosine: see [Text.Scoring].
	LogitScale *float64 `toml:"logit_scale,omitempty" json:"logit_scale,omitempty"`
	LogitBias  *float64 `toml:"logit_bias,omitempty" json:"logit_bias,omitempty"`

	// Precision is what the weights of text.onnx are stored in, "fp32" or "fp16"; empty: the folder has no text tower, and
	// neither what follows.
	Precision  string `toml:"precision,omitempty" json:"precision,omitempty"`
	Context    int    `toml:"context,omitempty" json:"context,omitempty"`       // L: ids of a text, padding included
	Vocabulary int    `toml:"vocabulary,omitempty" json:"vocabulary,omitempty"` // rows of the token embedding; ids are below it
	Width      int    `toml:"width,omitempty" json:"width,omitempty"`
	Depth      int    `toml:"depth,omitempty" json:"depth,omitempty"` // transformer blocks
	Heads      int    `toml:"heads,omitempty" json:"heads,omitempty"`
	// Hash is the SHA-256 over names, shapes and float32 values of the text tower's tensors, its heads and the tokenizer
	// file: text embeddings of folders with equal hash and precision are equal.
	Hash string `toml:"hash,omitempty" json:"hash,omitempty"`
	// Tokenizer is the file that cuts texts into ids, "tokenizer.model" or "tokenizer.json"; nil where none was given.
	Tokenizer *File `toml:"tokenizer,omitempty" json:"tokenizer,omitempty"`
}

// ErrNoLogit is wrapped by [Text.Scoring] and [Text.Logit] where the checkpoint does not say how a cosine becomes a score.
var ErrNoLogit = errors.New("the model does not tell how a cosine becomes a score")

// Scoring gives what SigLIP makes a logit of a cosine with, scale·cosine + bias (arXiv 2303.15343): exp(logit_scale) and
// logit_bias of the checkpoint. The error wraps [ErrNoLogit].
func (t Text) Scoring() (scale, bias float64, err error) {
	switch {
	case t.LogitScale == nil:
		return 0, 0, fmt.Errorf("%w: its checkpoint has no logit_scale", ErrNoLogit)
	case t.LogitBias == nil:
		return 0, 0, fmt.Errorf("%w: its checkpoint has no logit_bias, as SigLIP's do", ErrNoLogit)
	}
	return math.Exp(*t.LogitScale), *t.LogitBias, nil
}

// Logit makes the logit of the cosine of an image's and a text's embedding, and the probability that the text is true of the
// image, which is its sigmoid. The error is that of [Text.Scoring].
func (t Text) Logit(cosine float64) (logit, score float64, err error) {
	scale, bias, err := t.Scoring()
	if err != nil {
		return 0, 0, err
	}
	logit = scale*cosine + bias
	return logit, 1 / (1 + math.Exp(-logit)), nil
}

// TextGraph finds the text tower. The error wraps [ErrNoGraph] and says how to get one.
func (m *Manifest) TextGraph() (Graph, error) {
	if graphs := m.ofRole(RoleText); len(graphs) > 0 {
		return graphs[0], nil
	}
	switch {
	case !m.Text.Present:
		return Graph{}, fmt.Errorf("model %q: text tower: %w: its checkpoint has none; texts need a checkpoint with text.* tensors", m.Name, ErrNoGraph)
	case m.FormatVersion < 3:
		return Graph{}, fmt.Errorf("model %q: text tower: %w: the folder was made by an older toklip; import the checkpoint again", m.Name, ErrNoGraph)
	}
	return Graph{}, fmt.Errorf("model %q: text tower: %w: it was left out; import the checkpoint again with --text-precision %s or %s",
		m.Name, ErrNoGraph, FP32, FP16)
}

// PoolGraph finds the attention pool that makes embeddings of regions. The error wraps [ErrNoGraph].
func (m *Manifest) PoolGraph() (Graph, error) {
	if graphs := m.ofRole(RolePool); len(graphs) > 0 {
		return graphs[0], nil
	}
	return Graph{}, fmt.Errorf("model %q: attention pool for regions: %w: the folder was made by an older toklip; import the checkpoint again",
		m.Name, ErrNoGraph)
}

// ofRole are the graphs of a role, in the manifest's order.
func (m *Manifest) ofRole(role string) []Graph {
	var graphs []Graph
	for _, g := range m.Graphs {
		if g.Role == role {
			graphs = append(graphs, g)
		}
	}
	return graphs
}

// validateText finds values of the text tower that no importer writes.
func (m *Manifest) validateText() error {
	t := m.Text
	for _, v := range []struct {
		key   string
		value *float64
	}{{"logit_scale", t.LogitScale}, {"logit_bias", t.LogitBias}} {
		if v.value != nil && (math.IsNaN(*v.value) || math.IsInf(*v.value, 0)) {
			return fmt.Errorf("text.%s = %v: must be a number", v.key, *v.value)
		}
	}
	graphs := m.ofRole(RoleText)
	for _, g := range graphs {
		if g.Precision != t.Precision {
			return fmt.Errorf("text.precision = %q: the text tower's graph is in %q", t.Precision, g.Precision)
		}
	}
	if len(graphs) > 1 {
		return fmt.Errorf("%d graphs of the text tower are listed", len(graphs))
	}
	if t.Precision == "" {
		return nil
	}
	if len(graphs) == 0 {
		return fmt.Errorf("text.precision = %q: no [[graph]] of role %q is listed", t.Precision, RoleText)
	}
	if t.Precision != FP32 && t.Precision != FP16 {
		return fmt.Errorf("text.precision = %q: must be %q or %q", t.Precision, FP32, FP16)
	}
	for _, n := range []struct {
		key   string
		value int
		most  int
	}{
		{"context", t.Context, 1 << 14}, {"vocabulary", t.Vocabulary, 1 << 24}, {"width", t.Width, 1 << 14}, {"depth", t.Depth, 1 << 14}, {"heads", t.Heads, 1 << 14},
	} {
		if n.value < 1 || n.value > n.most {
			return fmt.Errorf("text.%s = %d: must be from 1 to %d", n.key, n.value, n.most)
		}
	}
	if t.Hash == "" {
		return errors.New(`key "text.hash" is missing`)
	}
	return nil
}
