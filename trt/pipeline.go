package trt

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"
	"time"
	"unsafe"
)

// PipelineOptions say what a pipeline is made of. Begin with DefaultPipelineOptions.
type PipelineOptions struct {
	Tokenizer *Engine // image [B,3,S,S] fp32 or fp16 -> latents fp32 [B,C,R,C'] or ids int32 [B,N]
	Encoder   *Engine // ids int32 [B,N] -> features fp32 [B,N,D], embedding fp32 [B,E]; nil: tokens only

	ImageSize    int // S, pixels
	Tokens       int // N of a frame
	FeatureDim   int // D; 0 without encoder
	EmbeddingDim int // E; 0 without encoder

	Codebook     []float32 // [CodebookSize, CodebookDim], vectors of any length; needed with latents; copied
	CodebookSize int
	CodebookDim  int
	Mean, Std    [3]float32 // of R, G, B in [0,1]

	BatchMax   int           // most frames in one batch; the engines' profiles must allow it
	StreamsMax int           // stream numbers are below it
	InFlight   int           // 1, or 2: the tokenizer of the next batch runs under the encoder of this one
	CUDAGraph  bool          // capture each batch size after its first run
	Kernels    bool          // use the CUDA kernels where they fit the GPU; else the CPU does their work
	Timeout    time.Duration // longest wait for a batch
}

// DefaultPipelineOptions are one frame a batch, one batch in flight, 64 streams, graphs and kernels
// where they can be, and a wait of ten seconds.
func DefaultPipelineOptions() PipelineOptions {
	return PipelineOptions{
		Mean: [3]float32{0.5, 0.5, 0.5}, Std: [3]float32{0.5, 0.5, 0.5},
		BatchMax: 1, StreamsMax: 64, InFlight: 1, CUDAGraph: true, Kernels: true, Timeout: 10 * time.Second,
	}
}

// Pipeline turns frames into ids, features and embeddings. A thread of its own makes its calls, with
// InFlight 2 a second one waits for batches.
//
// Its methods may be called from any goroutine. Process is one batch from begin to end. With InFlight
// 2, one goroutine submits while another waits; batches end in their order.
type Pipeline struct {
	run     *run
	cleanup runtime.Cleanup
}

// NewPipeline makes a pipeline of engines of this library, which must stay open as long as it.
func (l *Library) NewPipeline(o PipelineOptions) (*Pipeline, error) {
	const op = "make pipeline"
	invalid := func(format string, args ...any) (*Pipeline, error) {
		return nil, &Error{op, ErrInvalid, fmt.Sprintf(format, args...)}
	}
	switch {
	case o.Tokenizer == nil:
		return invalid("it needs a tokenizer")
	case o.Tokenizer.library != l, o.Encoder != nil && o.Encoder.library != l:
		return invalid("its engines were loaded by another library")
	case o.InFlight != 1 && o.InFlight != 2:
		return invalid("%d batches in flight: 1 or 2 can be", o.InFlight)
	case o.BatchMax < 1 || o.BatchMax > 1<<10:
		return invalid("largest batch of %d frames: 1 to 1024 can be", o.BatchMax)
	case o.Timeout < time.Millisecond || o.Timeout.Milliseconds() > math.MaxUint32:
		return invalid("timeout %v: a millisecond to 49 days can be", o.Timeout)
	case o.CodebookDim < 0 || o.CodebookSize < 0 || o.Codebook != nil && len(o.Codebook) != o.CodebookSize*o.CodebookDim:
		return invalid("codebook of %d values is not %d x %d", len(o.Codebook), o.CodebookSize, o.CodebookDim)
	}
	var pins arena
	defer pins.free()
	arg := pipelineArg{
		mean: o.Mean, std: o.Std, cudaGraph: o.CUDAGraph, kernels: o.Kernels, timeoutMS: uint32(o.Timeout.Milliseconds()),
		codebook: pinned(&pins, o.Codebook),
	}
	if err := numbers(
		number{"image size", o.ImageSize, &arg.imageSize}, number{"number of tokens", o.Tokens, &arg.tokens},
		number{"feature size", o.FeatureDim, &arg.featureDim}, number{"embedding size", o.EmbeddingDim, &arg.embeddingDim},
		number{"codebook size", o.CodebookSize, &arg.codebookSize}, number{"codebook dimension", o.CodebookDim, &arg.codebookDim},
		number{"largest batch", o.BatchMax, &arg.batchMax}, number{"number of streams", o.StreamsMax, &arg.streamsMax},
		number{"batches in flight", o.InFlight, &arg.inFlight},
	); err != nil {
		return invalid("%v", err)
	}

	// An engine is locked before its library. Locked twice it would be for ever.
	engines := []*Engine{o.Tokenizer}
	if o.Encoder != nil && o.Encoder != o.Tokenizer {
		engines = append(engines, o.Encoder)
	}
	slices.SortFunc(engines, func(a, b *Engine) int { return a.number - b.number })
	for _, e := range engines {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.handle == nil {
			return nil, fmt.Errorf("%s: engine: %w", op, ErrClosed)
		}
	}
	arg.tokenizer = o.Tokenizer.handle
	if o.Encoder != nil {
		arg.encoder = o.Encoder.handle
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.handle == nil {
		return nil, closed(op)
	}
	var handle unsafe.Pointer
	if err := l.result(op, l.api.pipelineNew(l.handle, &arg, &handle)); err != nil {
		return nil, err
	}
	for _, e := range engines {
		e.users++
	}
	l.pipelines++
	p := &Pipeline{run: newRun(l, engines, handle, o)}
	p.cleanup = watch(p, l.ring, "pipeline", caller())
	return p, nil
}

// Process handles one batch of 1 to BatchMax frames and fills results[:len(frames)]. It is exactly
// one call into C and allocates nothing. ctx counts until the batch begins: once it has, Process waits
// for it. ErrBusy while a submitted batch is under way. On an error no result is filled, and streams of
// the batch have no frame before; ErrInvalid names a frame that cannot be, then no frame was handled.
func (p *Pipeline) Process(ctx context.Context, frames []Frame, results []Result) (Times, error) {
	return p.run.process(ctx, frames, results)
}

// Submit begins a batch of 1 to BatchMax frames. It returns once the pixels were read and the work is
// enqueued. ErrBusy if InFlight batches are under way. On an error the batch has not begun. ctx counts
// until it begins. One call into C, nothing allocated.
func (p *Pipeline) Submit(ctx context.Context, frames []Frame) error {
	return p.run.submit(ctx, frames)
}

// Wait ends the oldest batch under way and fills results for its frames, in their order; results has
// room for them. ctx counts until the wait begins; it ends after the pipeline's timeout at the latest.
// ErrInvalid if no batch is under way or results is too short. On any other error the batch is gone,
// and its streams have no frame before. One call into C, nothing allocated.
func (p *Pipeline) Wait(ctx context.Context, results []Result) (Times, error) {
	return p.run.wait(ctx, results)
}

// Close waits for calls and batches under way and frees the pipeline.
func (p *Pipeline) Close() error {
	p.run.close()
	p.cleanup.Stop()
	return nil
}
