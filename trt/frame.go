package trt

import "time"

// Pixels says how the pixels of a frame lie in memory.
type Pixels int32

const (
	BGR   Pixels = 1 // 3 bytes a pixel
	RGB   Pixels = 2 // 3 bytes a pixel
	BGRX  Pixels = 3 // 4 bytes a pixel, the fourth is ignored
	Gray  Pixels = 4 // 1 byte a pixel
	NV12  Pixels = 5 // a plane of Y, then at Stride*Height a plane of U,V pairs of half the height
	YUYV  Pixels = 6 // 4 bytes for 2 pixels: Y0 U Y1 V
	Image Pixels = 7 // no picture but the network's own input in Frame.Tensor
)

// Resize says how a picture becomes the network's square of S x S.
type Resize int32

const (
	Squash   Resize = 1 // straight to S x S
	Shortest Resize = 2 // shorter edge to S, the middle cut out
	Longest  Resize = 3 // longer edge to S, the rest filled with 0
)

// Frame is a picture for a pipeline. Its memory is read until Submit or Process returns and may be of
// Go or of C.
type Frame struct {
	Data          []byte    // the pixels; nil for Image
	Tensor        []float32 // for Image: [3,S,S], RGB, normalised; else nil
	Width, Height int       // pixels; S for Image
	Stride        int       // bytes from one row to the next; 0 for Image
	Pixels        Pixels
	Resize        Resize
	Stream        int  // whose frame it is, below StreamsMax: ids are compared with the stream's frame before; no stream twice in a batch
	Fresh         bool // compare with nothing: as if the stream had no frame before
}

// Result is what came of a frame. Its slices lie in the pipeline's memory: they hold until the next
// Wait, Process or Close of the pipeline, and are read only.
type Result struct {
	IDs          []int32   // [N]
	Packed       []byte    // the ids in ceil(log2(codebook)) bits each, little-endian bit order
	Changed      []uint64  // [ceil(N/64)] bit i%64 of word i/64: id i differs from the stream's frame before; all N if Fresh
	ChangedCount int       // bits set in Changed
	Fresh        bool      // there was nothing to compare with
	Encoded      bool      // the encoder ran for this frame; if not, the three below are nil
	Features     []float32 // [N*D], row by row
	Embedding    []float32 // [E] as the model gives it
	Unit         []float32 // [E] the embedding at length 1
}

// Times are the times on the GPU of one batch; 0 where something did not run or is part of another.
type Times struct {
	Upload, Preprocess, Tokenizer, Search, Encoder, Download time.Duration

	Total time.Duration // from the first command to the last
	Graph bool          // ran as a CUDA graph
}
