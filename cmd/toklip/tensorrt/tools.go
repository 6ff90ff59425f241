package tensorrt

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/toklip/toklip/engine"
	"github.com/toklip/toklip/model"
	"github.com/toklip/toklip/trt"
)

// EncodeImage runs one picture that is pre-processed already: image is f32 [3,S,S] in RGB planes, normalised. It returns
// new slices: ids [N], features [N*D], embedding [E]. It is for tools; it must not be called while a batch is under way.
func (b *Backend) EncodeImage(image []float32) (ids []int32, features, embedding []float32, err error) {
	s := b.model.ImageSize
	if want := 3 * s * s; len(image) != want {
		return nil, nil, nil, fmt.Errorf("encode image: %d values, model %q takes [3,%d,%d]: %d", len(image), b.model.Name, s, s, want)
	}
	b.waiting.Lock()
	defer b.waiting.Unlock()
	if b.closed {
		return nil, nil, nil, engine.ErrClosed
	}
	var results [1]trt.Result
	frame := trt.Frame{Tensor: image, Width: s, Height: s, Pixels: trt.Image, Resize: trt.Squash, Fresh: true}
	if _, err := b.pipeline.Process(context.Background(), []trt.Frame{frame}, results[:]); err != nil {
		return nil, nil, nil, fmt.Errorf("encode image: %w", err)
	}
	b.keep(&b.streams[0], nil)
	b.streams[0].fresh.Store(true)
	r := results[0]
	return slices.Clone(r.IDs), slices.Clone(r.Features), slices.Clone(r.Embedding), nil
}

// Bare runs a batch of frames, straight from memory, with nothing of the backend's own around the one call into C. It is
// for measurements, and must not be called while a batch is under way. Streams of the frames must be none that the pipeline's
// batches have.
func (b *Backend) Bare(frames []trt.Frame) (trt.Times, error) {
	b.waiting.Lock()
	defer b.waiting.Unlock()
	if b.closed {
		return trt.Times{}, engine.ErrClosed
	}
	return b.pipeline.Process(context.Background(), frames, b.results[:len(frames)])
}

// Decoder turns ids back into pictures. It serves one goroutine at a time.
type Decoder struct {
	spec   *engine.Model
	engine *trt.Engine
	planes []float32
}

// LoadDecoder puts the model's decoder on the GPU. As with Load, an engine that has to be built first is an error of type
// *Missing.
func (m *Machine) LoadDecoder(s Source) (*Decoder, error) {
	networks, err := m.Networks(s, model.RoleDecoder)
	if err != nil {
		return nil, err
	}
	cache, err := m.opts.Cache()
	if err != nil {
		return nil, err
	}
	engines, err := m.engines(context.Background(), cache, networks)
	if err != nil {
		return nil, err
	}
	return &Decoder{spec: s.Spec, engine: engines[0], planes: make([]float32, 3*s.Spec.ImageSize*s.Spec.ImageSize)}, nil
}

// Decode gives the decoder's output for ids [N]: f32 [3,S,S], RGB planes, nominally in [-1,1]. The slice is valid until
// the next call.
func (d *Decoder) Decode(ids []int32) ([]float32, error) {
	if len(ids) != d.spec.Tokens() {
		return nil, fmt.Errorf("decode: %d tokens, model %q has a grid of %dx%d", len(ids), d.spec.Name, d.spec.Rows, d.spec.Cols)
	}
	if err := d.spec.CheckIDs(ids); err != nil {
		return nil, fmt.Errorf("decode: %w", err)
	}
	s := int64(d.spec.ImageSize)
	err := d.engine.Run(
		[]trt.Tensor{{Name: model.TensorIDs, Shape: []int64{1, int64(len(ids))}, Data: ids}},
		[]trt.Tensor{{Name: model.TensorImage, Shape: []int64{1, 3, s, s}, Data: d.planes}})
	if errors.Is(err, trt.ErrClosed) {
		return nil, engine.ErrClosed
	}
	if err != nil {
		return nil, fmt.Errorf("decode: %w", err)
	}
	return d.planes, nil
}

// DecodeRGB gives the picture for ids [N] as S x S pixels of 3 bytes, R, G, B, row by row, values outside [-1,1] cut.
func (d *Decoder) DecodeRGB(ids []int32) ([]byte, error) {
	planes, err := d.Decode(ids)
	if err != nil {
		return nil, err
	}
	return d.spec.Pixels(planes), nil
}

// Close frees the decoder. Calling it again does nothing.
func (d *Decoder) Close() error { return d.engine.Close() }
