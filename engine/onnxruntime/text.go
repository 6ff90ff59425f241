package onnxruntime

import (
	"context"
	"errors"
)

// TextSpec describes a model's text tower.
type TextSpec struct {
	File         string // text.onnx: ids int32[batch,Context] -> embedding float32[batch,EmbeddingDim]
	Context      int    // ids of a text, padding included
	Vocabulary   int    // ids are below it
	EmbeddingDim int
}

// Text is a loaded text tower.
type Text struct{}

// LoadText loads a text tower after comparing its tensors with the spec. Its weights stay in the mapped file, where the
// system can take them back at any time.
func (r *Runtime) LoadText(spec TextSpec, opts Options) (*Text, error) {
	return nil, errors.New("load text tower: not there yet")
}

// Embed computes the embeddings [n*EmbeddingDim] of n texts, given their ids [n*Context] as the tokenizer pads them.
// They are as the model gives them, not normalised; the slice is new. Texts run a few at a time, between which ctx is looked at.
func (t *Text) Embed(ctx context.Context, ids []int32) ([]float32, error) { return nil, nil }

// Close waits for a running Embed and gives the memory back. Calling it again does nothing.
func (t *Text) Close() error { return nil }
