package onnxruntime

import (
	"errors"

	"github.com/toklip/toklip/engine"
)

// Pool is a model's attention pool on its own: it makes an embedding of any region of a frame.
type Pool struct{}

// LoadPool loads pool.onnx after comparing its tensors with the model.
func (r *Runtime) LoadPool(file string, m *engine.Model, opts Options) (*Pool, error) {
	return nil, errors.New("load attention pool: not there yet")
}

// Pool computes the embeddings [regions*E] of the regions of a frame: features [N*D] are the encoder's, masks [regions*N] say with 1
// which tokens a region's embedding sees, and 0 elsewhere. Every region needs a token. The slice is valid until the next call.
func (p *Pool) Pool(features, masks []float32, regions int) ([]float32, error) { return nil, nil }

// Close waits for a running Pool and frees the graph. Calling it again does nothing.
func (p *Pool) Close() error { return nil }
