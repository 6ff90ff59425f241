package onnxruntime

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/toklip/toklip/engine"
	ort "github.com/yalue/onnxruntime_go"
)

// textBatch is how many texts run at once.
const textBatch = 8

// TextSpec describes a model's text tower.
type TextSpec struct {
	File         string // text.onnx: ids int32[batch,Context] -> embedding float32[batch,EmbeddingDim]
	Context      int    // ids of a text, padding included
	Vocabulary   int    // ids are below it
	EmbeddingDim int
}

func (s TextSpec) validate() error {
	for _, v := range [...]struct {
		name  string
		value int
	}{{"context", s.Context}, {"vocabulary", s.Vocabulary}, {"embedding dimension", s.EmbeddingDim}} {
		if v.value < 1 {
			return fmt.Errorf("the text tower's %s is %d: must be at least 1", v.name, v.value)
		}
	}
	if s.File == "" {
		return errors.New("the text tower has no file")
	}
	return nil
}

// Text is a loaded text tower. It may be used by several goroutines; one runs at a time.
type Text struct {
	spec TextSpec
	mu   sync.Mutex
	run  *variable
}

// LoadText loads a text tower after comparing its tensors with the spec. Its weights stay in the mapped file, where the
// system can take them back at any time: they are not packed, and fp16 ones are widened one after the other as they are needed.
// What a run takes beside them, 0.1 GB at full size, lasts until Close.
func (r *Runtime) LoadText(spec TextSpec, opts Options) (*Text, error) {
	if err := spec.validate(); err != nil {
		return nil, fmt.Errorf("load text tower: %w", err)
	}
	run, err := loadVariable("text tower", spec.File,
		[]tensorSpec{{name: "ids", kind: ort.TensorElementDataTypeInt32, dims: []int64{int64(spec.Context)}}},
		[]tensorSpec{{name: "embedding", kind: ort.TensorElementDataTypeFloat, dims: []int64{int64(spec.EmbeddingDim)}}},
		opts, leaveWeights)
	if err != nil {
		return nil, err
	}
	return &Text{spec: spec, run: run}, nil
}

// Embed computes the embeddings [n*EmbeddingDim] of n texts, given their ids [n*Context] as the tokenizer pads them.
// They are as the model gives them, not normalised; the slice is new. An id outside the vocabulary is an error and nothing is run.
// Cancelling ctx ends a run between two of its operators.
func (t *Text) Embed(ctx context.Context, ids []int32) ([]float32, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.run.run == nil {
		return nil, engine.ErrClosed
	}
	length := t.spec.Context
	if len(ids) == 0 || len(ids)%length != 0 {
		return nil, fmt.Errorf("embed texts: %d ids: a text has %d", len(ids), length)
	}
	for i, id := range ids {
		if id < 0 || int(id) >= t.spec.Vocabulary {
			return nil, fmt.Errorf("embed texts: text %d, id %d of %d is %d, outside the vocabulary of %d: is this the model's tokenizer?",
				i/length, i%length, length, id, t.spec.Vocabulary)
		}
	}
	options, err := ort.NewRunOptions()
	if err != nil {
		return nil, fmt.Errorf("embed texts: %w", err)
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		_ = options.Terminate() // it fails, as Destroy does, only on options that are gone
	})
	defer func() {
		if !stop() {
			<-ended
		}
		_ = options.Destroy()
	}()
	texts := len(ids) / length
	out := make([]float32, texts*t.spec.EmbeddingDim)
	for at := 0; at < texts; at += textBatch {
		n := min(textBatch, texts-at)
		in := buffer{ints: ids[at*length : (at+n)*length]}
		to := buffer{floats: out[at*t.spec.EmbeddingDim : (at+n)*t.spec.EmbeddingDim]}
		err := t.run.do(n, []buffer{in}, []buffer{to}, options)
		if stopped := ctx.Err(); stopped != nil {
			return nil, fmt.Errorf("embed texts: %d of %d done: %w", at, texts, stopped)
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Close waits for a running Embed and gives the memory back. Calling it again does nothing.
func (t *Text) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.run.close()
}
