package onnxruntime

import (
	"errors"
	"fmt"
	"sync"

	"github.com/toklip/toklip/engine"
	ort "github.com/yalue/onnxruntime_go"
)

// Name of the backend in descriptions.
const Name = "onnxruntime"

// Graphs are the loaded networks of a model. It is the engine.Graphs of this package;
// see there for who may call what at the same time.
type Graphs struct {
	about engine.Description
	model *engine.Model

	tokenizing sync.Mutex // held while the tokenizer runs
	encoding   sync.Mutex // held while the encoder runs; after tokenizing where both are
	closed     bool       // written with both held
	tokenizer  *session
	encoder    *session // nil for a model without
}

var _ engine.Graphs = (*Graphs)(nil)

func imageSpec(m *engine.Model) tensorSpec {
	s := int64(m.ImageSize)
	return tensorSpec{name: "image", kind: ort.TensorElementDataTypeFloat, dims: []int64{3, s, s}}
}

func idsSpec(m *engine.Model) tensorSpec {
	return tensorSpec{name: "ids", kind: ort.TensorElementDataTypeInt32, dims: []int64{int64(m.Tokens())}}
}

func encoderOutputs(m *engine.Model) []tensorSpec {
	return []tensorSpec{
		{name: "features", kind: ort.TensorElementDataTypeFloat, dims: []int64{int64(m.Tokens()), int64(m.FeatureDim)}},
		{name: "embedding", kind: ort.TensorElementDataTypeFloat, dims: []int64{int64(m.EmbeddingDim)}},
	}
}

// Load loads tokenizer and encoder of the model and refuses them where names, types or
// shapes of their tensors are not the model's. The model must not change afterwards.
func (r *Runtime) Load(m *engine.Model, opts Options) (_ *Graphs, err error) {
	if err := m.Validate(); err != nil {
		return nil, &engine.Error{Op: "load", Permanent: true, Err: err}
	}
	opts, err = opts.withDefaults()
	if err != nil {
		return nil, &engine.Error{Op: "load", Permanent: true, Err: fmt.Errorf("model %q: %w", m.Name, err)}
	}
	g := &Graphs{model: m, about: engine.Description{
		Name: Name, Version: r.version, Precision: m.Precision, MaxBatch: opts.MaxBatch, InFlight: 1, Model: m,
	}}
	if opts.Overlap {
		g.about.InFlight = 2
	}
	defer func() {
		if err != nil {
			err = &engine.Error{Op: "load", Permanent: true, Err: errors.Join(err, g.Close())}
		}
	}()
	g.tokenizer, err = loadSession("tokenizer", m.Tokenizer, []tensorSpec{imageSpec(m)}, []tensorSpec{idsSpec(m)}, opts)
	if err != nil {
		return nil, err
	}
	if m.Encoder != "" {
		g.encoder, err = loadSession("encoder", m.Encoder, []tensorSpec{idsSpec(m)}, encoderOutputs(m), opts)
		if err != nil {
			return nil, err
		}
	}
	return g, nil
}

// NewBackend loads the model as Load does and composes the CPU's backend of it.
func (r *Runtime) NewBackend(m *engine.Model, opts Options) (engine.Backend, error) {
	g, err := r.Load(m, opts)
	if err != nil {
		return nil, err
	}
	b, err := engine.NewBackend(g)
	if err != nil {
		return nil, errors.Join(err, g.Close())
	}
	return b, nil
}

// Describe says what runs the graphs.
func (g *Graphs) Describe() engine.Description { return g.about }

// Images is the tokenizer's input, f32 [MaxBatch,3,S,S]. It stays the same slice, and
// must not be touched after Close.
func (g *Graphs) Images() []float32 { return g.tokenizer.in[0].floats }

// Tokenize computes the ids [n,N] of the first n images. Ids outside the codebook are
// an error: the graph does not belong to the model.
func (g *Graphs) Tokenize(n int) ([]int32, error) {
	g.tokenizing.Lock()
	defer g.tokenizing.Unlock()
	if g.closed {
		return nil, engine.ErrClosed
	}
	if err := g.checkBatch(n); err != nil {
		return nil, &engine.Error{Op: "tokenize", Err: err}
	}
	if err := g.tokenizer.do(n); err != nil {
		return nil, &engine.Error{Op: "tokenize", Err: err}
	}
	ids := g.tokenizer.out[0].ints[:n*g.model.Tokens()]
	if err := g.model.CheckIDs(ids); err != nil {
		return nil, &engine.Error{Op: "tokenize", Permanent: true, Err: fmt.Errorf("%q: %w", g.model.Tokenizer, err)}
	}
	return ids, nil
}

// TokenIDs is the encoder's input, int32 [MaxBatch,N]; nil for a model without
// encoder. It stays the same slice, and must not be touched after Close.
func (g *Graphs) TokenIDs() []int32 {
	if g.encoder == nil {
		return nil
	}
	return g.encoder.in[0].ints
}

// Encode computes features [n,N,D] and embeddings [n,E] of the first n sets of ids. An
// id outside the codebook is an error and nothing is run.
func (g *Graphs) Encode(n int) (features, embeddings []float32, err error) {
	g.encoding.Lock()
	defer g.encoding.Unlock()
	if g.closed {
		return nil, nil, engine.ErrClosed
	}
	if g.encoder == nil {
		return nil, nil, &engine.Error{Op: "encode", Permanent: true, Err: fmt.Errorf("model %q has no encoder", g.model.Name)}
	}
	if err := g.checkBatch(n); err != nil {
		return nil, nil, &engine.Error{Op: "encode", Err: err}
	}
	tokens := n * g.model.Tokens()
	if err := g.model.CheckIDs(g.encoder.in[0].ints[:tokens]); err != nil {
		return nil, nil, &engine.Error{Op: "encode", Err: err}
	}
	if err := g.encoder.do(n); err != nil {
		return nil, nil, &engine.Error{Op: "encode", Err: err}
	}
	return g.encoder.out[0].floats[:tokens*g.model.FeatureDim], g.encoder.out[1].floats[:n*g.model.EmbeddingDim], nil
}

// Close waits for running calls and frees the sessions; the weights' memory goes back to the system. Calling it again does
// nothing.
func (g *Graphs) Close() error {
	g.tokenizing.Lock()
	defer g.tokenizing.Unlock()
	g.encoding.Lock()
	defer g.encoding.Unlock()
	if g.closed {
		return nil
	}
	g.closed = true
	var errs []error
	for _, s := range [...]*session{g.tokenizer, g.encoder} {
		if s != nil {
			errs = append(errs, s.close())
		}
	}
	trim()
	return errors.Join(errs...)
}

func (g *Graphs) checkBatch(n int) error {
	if n < 1 || n > g.about.MaxBatch {
		return fmt.Errorf("batch of %d, must be 1 to %d", n, g.about.MaxBatch)
	}
	return nil
}
