package onnxruntime

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/toklip/toklip/engine"
	ort "github.com/yalue/onnxruntime_go"
)

// poolBatch is how many regions run at once. Keys and values of a frame are computed for each run.
const poolBatch = 1024

// Pool is a model's attention pool on its own: it makes an embedding of any region of a frame. It serves one goroutine at a
// time.
type Pool struct {
	model *engine.Model
	mu    sync.Mutex // Close against Pool
	run   *variable
	out   []float32
}

// LoadPool loads pool.onnx after comparing its tensors with the model.
func (r *Runtime) LoadPool(file string, m *engine.Model, opts Options) (*Pool, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	if m.FeatureDim < 1 || m.EmbeddingDim < 1 {
		return nil, fmt.Errorf("load attention pool: model %q has no encoder", m.Name)
	}
	n, d := int64(m.Tokens()), int64(m.FeatureDim)
	run, err := loadVariable("attention pool", file,
		[]tensorSpec{
			{name: "features", kind: ort.TensorElementDataTypeFloat, dims: []int64{n, d}, fixed: true},
			{name: "mask", kind: ort.TensorElementDataTypeFloat, dims: []int64{n}},
		},
		[]tensorSpec{{name: "embedding", kind: ort.TensorElementDataTypeFloat, dims: []int64{int64(m.EmbeddingDim)}}}, opts)
	if err != nil {
		return nil, err
	}
	return &Pool{model: m, run: run}, nil
}

// Pool computes the embeddings [regions*E] of the regions of a frame: features [N*D] are the encoder's, masks [regions*N] say with 1
// which tokens a region's embedding sees, and 0 elsewhere. Every region needs a token. A region of all tokens has the frame's own
// embedding. The slice is valid until the next call.
func (p *Pool) Pool(features, masks []float32, regions int) ([]float32, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.run.run == nil {
		return nil, engine.ErrClosed
	}
	n, e := p.model.Tokens(), p.model.EmbeddingDim
	if want := n * p.model.FeatureDim; len(features) != want {
		return nil, fmt.Errorf("pool regions: %d features, model %q has %d tokens of %d: %d", len(features), p.model.Name, n, p.model.FeatureDim, want)
	}
	if regions < 1 || len(masks) != regions*n {
		return nil, fmt.Errorf("pool regions: masks of %d values for %d regions of %d tokens", len(masks), regions, n)
	}
	for i := range regions {
		if err := checkMask(masks[i*n : (i+1)*n]); err != nil {
			return nil, fmt.Errorf("pool regions: region %d: %w", i, err)
		}
	}
	p.out = slices.Grow(p.out[:0], regions*e)[:regions*e]
	for at := 0; at < regions; at += poolBatch {
		k := min(poolBatch, regions-at)
		in := []buffer{{floats: features}, {floats: masks[at*n : (at+k)*n]}}
		if err := p.run.do(k, in, []buffer{{floats: p.out[at*e : (at+k)*e]}}, nil); err != nil {
			return nil, err
		}
	}
	return p.out, nil
}

// checkMask finds values that are neither 0 nor 1, and a mask without a 1: softmax over nothing would see all tokens.
func checkMask(mask []float32) error {
	seen := false
	for i, v := range mask {
		if v != 0 && v != 1 {
			return fmt.Errorf("its mask has %v at token %d, where 0 or 1 may stand", v, i)
		}
		seen = seen || v == 1
	}
	if !seen {
		return errors.New("its mask holds no token")
	}
	return nil
}

// Close waits for a running Pool and frees the graph. Calling it again does nothing.
func (p *Pool) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.run.close()
}
