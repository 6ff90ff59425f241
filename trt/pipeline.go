package trt

import (
	"context"
	"time"
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
// two batches in flight a second one waits.
//
// Its methods may be called from any goroutine. Process is one batch from begin to end. With InFlight
// 2, one goroutine submits while another waits; batches end in their order.
type Pipeline struct{}

// Process handles one batch of 1 to BatchMax frames and fills results[:len(frames)]. It is exactly
// one call into C and allocates nothing. ctx counts until the batch begins: once it has, Process waits
// for it. ErrBusy while a submitted batch is under way. On an error no result is filled, and streams of
// the batch have no frame before; ErrInvalid names a frame that cannot be, then no frame was handled.
func (p *Pipeline) Process(ctx context.Context, frames []Frame, results []Result) (Times, error) {
	return Times{}, ErrClosed
}

// Submit begins a batch of 1 to BatchMax frames. It returns once the pixels were read and the work is
// enqueued. ErrBusy if InFlight batches are under way. On an error the batch has not begun. ctx counts
// until it begins.
func (p *Pipeline) Submit(ctx context.Context, frames []Frame) error { return ErrClosed }

// Wait ends the oldest batch under way and fills results for its frames, in their order; results has
// room for them. ctx counts until the wait begins; it ends after the pipeline's timeout at the latest.
// ErrInvalid if no batch is under way. On any other error the batch is gone.
func (p *Pipeline) Wait(ctx context.Context, results []Result) (Times, error) {
	return Times{}, ErrClosed
}

// Close waits for calls and batches under way and frees the pipeline.
func (p *Pipeline) Close() error { return nil }
