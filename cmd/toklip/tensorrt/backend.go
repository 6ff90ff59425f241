package tensorrt

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/toklip/toklip/engine"
	"github.com/toklip/toklip/engine/preprocess"
	"github.com/toklip/toklip/trt"
)

// Name of the backend in descriptions.
const Name = "tensorrt"

// patience is how many batches may fail in a row of something that may pass, such as memory that is short,
// until the backend is given up.
const patience = 5

// pipeline is what the backend needs of a trt.Pipeline.
type pipeline interface {
	Process(ctx context.Context, frames []trt.Frame, results []trt.Result) (trt.Times, error)
	Submit(ctx context.Context, frames []trt.Frame) error
	Wait(ctx context.Context, results []trt.Result) (trt.Times, error)
	Close() error
}

// Backend is the engine.Backend over a pipeline of TensorRT. With one batch in flight Submit checks the
// frames and Wait makes the one call into C; with two, Submit enqueues and Wait synchronises, one call each.
// The pipeline compares ids and skips the token encoder; here the last result of each stream is kept, which
// a frame with equal ids shares.
type Backend struct {
	about engine.Description
	model *engine.Model

	submitting sync.Mutex // held during Submit
	waiting    sync.Mutex // held during Wait; after submitting where both are
	closed     bool       // written with both held

	pipeline pipeline
	free     func() error                 // what the pipeline stood on; called after its end
	frames   []trt.Frame                  // Submit's; with one batch in flight Wait reads them
	pending  atomic.Pointer[engine.Batch] // submitted and not waited for, with one batch in flight
	results  []trt.Result                 // Wait's
	streams  []stream
	failed   atomic.Int32    // batches in a row
	observe  func(trt.Times) // told of every batch's times; may be nil
}

var _ engine.Backend = (*Backend)(nil)

// stream is what is kept of one camera.
type stream struct {
	last  *engine.Result // of its last frame; nil before the first and after a failure; Wait's
	fresh atomic.Bool    // the pipeline must compare its next frame with nothing
}

// newBackend makes a backend of a pipeline that takes stream numbers below streams. It owns the pipeline from
// now on, and calls free, which may be nil, once that has ended.
func newBackend(p pipeline, about engine.Description, streams int, free func() error) *Backend {
	return &Backend{
		about: about, model: about.Model, pipeline: p, free: free,
		frames: make([]trt.Frame, 0, about.MaxBatch), results: make([]trt.Result, about.MaxBatch), streams: make([]stream, streams),
	}
}

// Describe implements engine.Backend.
func (b *Backend) Describe() engine.Description { return b.about }

// Submit implements engine.Backend.
func (b *Backend) Submit(batch *engine.Batch) error {
	b.submitting.Lock()
	defer b.submitting.Unlock()
	if b.closed {
		return engine.ErrClosed
	}
	if n := len(batch.Items); n < 1 || n > b.about.MaxBatch {
		return &engine.Error{Op: "submit", Err: fmt.Errorf("batch of %d frames, must be 1 to %d", n, b.about.MaxBatch)}
	}
	if b.about.InFlight == 1 && b.pending.Load() != nil {
		return &engine.Error{Op: "submit", Err: errors.New("a batch is under way, and one at a time is taken")}
	}
	b.frames = b.frames[:0]
	for i := range batch.Items {
		it := &batch.Items[i]
		if it.Err = b.check(it); it.Err != nil {
			it.ReleaseFrame()
			continue
		}
		b.frames = append(b.frames, b.frame(it))
	}
	if b.about.InFlight == 1 {
		b.pending.Store(batch)
		return nil
	}
	if len(b.frames) == 0 {
		return nil
	}
	err := b.pipeline.Submit(context.Background(), b.frames)
	b.release(batch)
	if err != nil {
		for i := range batch.Items {
			if it := &batch.Items[i]; it.Err == nil {
				b.streams[it.Stream].fresh.Store(true)
			}
		}
		return b.asError("submit", err)
	}
	return nil
}

// release ends the use of the batch's pixels.
func (b *Backend) release(batch *engine.Batch) {
	clear(b.frames) // nothing keeps them alive
	for i := range batch.Items {
		batch.Items[i].ReleaseFrame()
	}
}

// check finds frames that the pipeline would refuse together with their neighbours.
func (b *Backend) check(it *engine.Item) error {
	f := it.Frame
	g := preprocess.Geometry{Width: f.Width, Height: f.Height, Format: f.Format, Size: b.model.ImageSize, Mode: it.Resize}
	err := g.Check(f.Pixels, f.Stride)
	if err == nil && (it.Stream < 0 || it.Stream >= len(b.streams)) {
		err = fmt.Errorf("stream number %d, must be 0 to %d", it.Stream, len(b.streams)-1)
	}
	if err != nil {
		return fmt.Errorf("%w: camera %q, sequence %d: %w", engine.ErrFrame, f.Camera, f.Sequence, err)
	}
	return nil
}

// frame describes a frame that check found good.
func (b *Backend) frame(it *engine.Item) trt.Frame {
	f := FrameOf(it.Frame, it.Resize)
	f.Stream, f.Fresh = it.Stream, b.streams[it.Stream].fresh.Swap(false)
	return f
}

// FrameOf describes a frame, which preprocess.Geometry.Check takes, as the binding does.
func FrameOf(f *engine.Frame, mode preprocess.Mode) trt.Frame {
	return trt.Frame{Data: f.Pixels, Width: f.Width, Height: f.Height, Stride: f.Stride, Pixels: pixels(f.Format), Resize: resize(mode)}
}

func pixels(f engine.PixelFormat) trt.Pixels {
	return [...]trt.Pixels{
		preprocess.BGR8: trt.BGR, preprocess.RGB8: trt.RGB, preprocess.BGRx8: trt.BGRX,
		preprocess.Gray8: trt.Gray, preprocess.NV12: trt.NV12, preprocess.YUYV: trt.YUYV,
	}[f]
}

func resize(m preprocess.Mode) trt.Resize {
	return [...]trt.Resize{preprocess.Squash: trt.Squash, preprocess.Shortest: trt.Shortest, preprocess.Longest: trt.Longest}[m]
}

// Wait implements engine.Backend.
func (b *Backend) Wait(batch *engine.Batch) error {
	b.waiting.Lock()
	defer b.waiting.Unlock()
	if b.closed {
		return engine.ErrClosed
	}
	n := 0
	for i := range batch.Items {
		if batch.Items[i].Err == nil {
			n++
		}
	}
	var times trt.Times
	var err error
	results := b.results[:n]
	if b.about.InFlight == 1 {
		if b.pending.Load() != batch {
			return &engine.Error{Op: "wait", Err: errors.New("the batch was not submitted")}
		}
		if n > 0 {
			times, err = b.pipeline.Process(context.Background(), b.frames, results)
		}
		b.release(batch)
		b.pending.Store(nil)
	} else if n > 0 {
		times, err = b.pipeline.Wait(context.Background(), results)
	}
	if err != nil {
		b.drop(batch)
		return b.asError("run", err)
	}
	if n == 0 {
		return nil
	}
	b.failed.Store(0)
	stages(&batch.Stages, &times)
	if b.observe != nil {
		b.observe(times)
	}
	for i := range batch.Items {
		it := &batch.Items[i]
		if it.Err != nil {
			continue
		}
		it.Err = b.take(it, &results[0])
		results = results[1:]
	}
	return nil
}

// take copies what came of a frame, or shares it with the stream's result before.
func (b *Backend) take(it *engine.Item, from *trt.Result) error {
	s, r := &b.streams[it.Stream], it.Result
	if copy(r.IDs, from.IDs) != len(r.IDs) || copy(r.Changed, from.Changed) != len(r.Changed) {
		return fmt.Errorf("%w: camera %q, sequence %d: the pipeline gave %d ids, the model has %d", engine.ErrFrame, r.Camera, r.Sequence, len(from.IDs), len(r.IDs))
	}
	r.Keyframe = from.Fresh
	same := !from.Fresh && s.last != nil && slices.Equal(s.last.IDs, r.IDs)
	switch {
	case same && r.ShareEncoding(s.last):
		// Even where the encoder ran: it is enqueued before it is known whether it must run.
	case from.Encoded || b.model.Encoder == "":
		r.BeginEncoding()
		copy(r.Features, from.Features)
		copy(r.Embedding, from.Embedding)
	default:
		// Its neighbour in time failed after this one had been compared with it: what it would repeat never came.
		b.keep(s, nil)
		s.fresh.Store(true)
		return fmt.Errorf("%w: camera %q, sequence %d: it repeats a frame whose result was lost", engine.ErrFrame, r.Camera, r.Sequence)
	}
	b.keep(s, r)
	return nil
}

// stages sorts the GPU's times under the names of the engine. What is part of something else counts there.
func stages(to *engine.Stages, t *trt.Times) {
	to.Preprocess = t.Upload + t.Preprocess
	to.Tokenize = t.Tokenizer + t.Search
	to.Encode = t.Encoder
	if to.Encode > 0 {
		to.Encode += t.Download
	} else {
		to.Tokenize += t.Download
	}
	if to.Tokenize == 0 {
		to.Tokenize = max(0, t.Total-to.Preprocess-to.Encode)
	}
}

// keep makes r the stream's last result.
func (b *Backend) keep(s *stream, r *engine.Result) {
	if s.last != nil {
		s.last.Release()
	}
	if r != nil {
		r.Retain()
	}
	s.last = r
}

// drop takes the last result from each stream of the batch: it failed.
func (b *Backend) drop(batch *engine.Batch) {
	for i := range batch.Items {
		if n := batch.Items[i].Stream; n >= 0 && n < len(b.streams) {
			b.keep(&b.streams[n], nil)
			b.streams[n].fresh.Store(true)
		}
	}
}

// asError says what a failure means to whoever runs the backend.
func (b *Backend) asError(op string, err error) error {
	if errors.Is(err, trt.ErrClosed) {
		return engine.ErrClosed
	}
	failed := b.failed.Add(1)
	gone := errors.Is(err, trt.ErrDeviceLost) || errors.Is(err, trt.ErrTimeout)
	if !gone && failed >= patience {
		return &engine.Error{Op: op, Permanent: true, Err: fmt.Errorf("%d batches failed in a row, the last: %w", failed, err)}
	}
	return &engine.Error{Op: op, Permanent: gone, Err: err}
}

// Close implements engine.Backend.
func (b *Backend) Close() error {
	b.submitting.Lock()
	defer b.submitting.Unlock()
	b.waiting.Lock()
	defer b.waiting.Unlock()
	if b.closed {
		return nil
	}
	b.closed = true
	for i := range b.streams {
		b.keep(&b.streams[i], nil)
	}
	err := b.pipeline.Close()
	if b.free != nil {
		err = errors.Join(err, b.free())
	}
	if err != nil {
		return fmt.Errorf("close backend %q: %w", b.about.Name, err)
	}
	return nil
}
