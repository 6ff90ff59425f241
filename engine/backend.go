package engine

import (
	"errors"
	"fmt"
	"time"

	"github.com/toklip/toklip/engine/preprocess"
)

// Backend handles batches of frames: pre-processing, tokenizer, comparison with each
// stream's last ids, token encoder.
//
// A batch goes through Submit and then, if that returned nil, through Wait. Submit is
// called by one goroutine at a time and Wait by one at a time, Wait in the order of
// Submit; when Description.InFlight is above 1, Submit of the next batches may run
// while Wait of an earlier one does, up to that many batches in all. A backend on a
// GPU enqueues in Submit and synchronises in Wait; the CPU's runs the tokenizer in
// Submit and the encoder in Wait. Both return after a bounded time whatever happens:
// neither can be cancelled, whoever stops waits for them.
//
// Either may fail with an [Error]; all frames of the batch then count as failed and
// the backend must be fit for the next batch unless the error is permanent. A frame
// that cannot be handled by itself gets Item.Err and leaves its neighbours unharmed.
type Backend interface {
	// Describe says what the backend is. The answer never changes.
	Describe() Description
	// Submit begins a batch of at least one and at most Description.MaxBatch items, no
	// two of the same stream. It fills IDs and Changed of the results at the latest in
	// Wait. Frames are released, with Item.ReleaseFrame, as soon as their pixels were read,
	// in Wait at the latest.
	Submit(*Batch) error
	// Wait ends the batch: every item then has either Err or a complete Result.
	Wait(*Batch) error
	// Close waits for running calls and frees everything. Further calls of Submit and
	// Wait fail with ErrClosed, of Close do nothing.
	Close() error
}

// Description says what a backend is and may be asked for.
type Description struct {
	Name      string // such as "onnxruntime"
	Version   string // of the library beneath
	Precision string // of the token encoder, such as "fp32" or "int8"
	MaxBatch  int    // most frames in a batch
	InFlight  int    // most batches between Submit and the end of Wait
	Model     *Model // never changes
}

// Batch is some frames on their way through a backend, at most one of each stream.
// It is used by one goroutine at a time.
type Batch struct {
	Items []Item

	// Times the backend measured; Wait, Queue and Total are the pipeline's.
	Stages Stages

	pool   *resultPool
	number uint64 // counts the pipeline's batches from 1
	begun  int64  // ns of CLOCK_MONOTONIC, just before Submit
	queued int64  // ns of CLOCK_MONOTONIC, when Submit returned
}

// Item is one frame of a batch.
type Item struct {
	// Stream numbers the source of the frame, densely from 0. A backend keeps the last
	// ids and the last result of each stream. Numbers are used again after a camera went;
	// that is harmless, because features follow from ids alone and the pipeline makes a
	// camera's first result a keyframe that is not Reused.
	Stream int
	// Frame is the picture; nil once it was released.
	Frame *Frame
	// Resize says how the frame becomes the network's square.
	Resize preprocess.Mode
	// Result takes what comes of it. Its header fields are filled, IDs and Changed have
	// their lengths. Where the stream has no last ids, the backend sets Keyframe and
	// fills Changed.
	Result *Result
	// Err says why this frame alone gave no result; it wraps ErrFrame.
	Err error

	same bool    // ids equal those of the stream before; used by the CPU's backend during Wait
	cam  *Camera // kept by the pipeline
	at   int64   // time of Offer, ns of CLOCK_MONOTONIC; kept by the pipeline
	lost Drops   // of the camera as of Offer; kept by the pipeline
}

// ReleaseFrame ends the use of the frame's pixels; calling it again does nothing.
func (it *Item) ReleaseFrame() {
	if it.Frame != nil {
		it.Frame.Release()
		it.Frame = nil
	}
}

// NewBatch makes an empty batch for results of model m. Tools and tests use it to
// call a backend directly; a pipeline makes its own.
func NewBatch(m *Model) *Batch { return &Batch{pool: newResultPool(m)} }

// Add puts a frame into the batch, which owns it from now on, with a result whose
// header says what the frame says.
func (b *Batch) Add(stream int, f *Frame, resize preprocess.Mode) *Item {
	r := b.pool.result()
	r.Camera, r.Sequence = f.Camera, f.Sequence
	r.CaptureWall, r.CaptureMono, r.Clock, r.Lost = f.CaptureWall, f.CaptureMono, f.Clock, f.Lost
	r.Width, r.Height, r.Format, r.Resize = f.Width, f.Height, f.Format, resize
	b.Items = append(b.Items, Item{Stream: stream, Frame: f, Resize: resize, Result: r})
	return &b.Items[len(b.Items)-1]
}

// Clear releases all frames and results and empties the batch for its next use.
func (b *Batch) Clear() {
	for i := range b.Items {
		b.Items[i].ReleaseFrame()
		if r := b.Items[i].Result; r != nil {
			r.Release()
		}
		b.Items[i] = Item{}
	}
	b.Items = b.Items[:0]
	b.Stages = Stages{}
}

// Process runs the batch through Submit and Wait.
func Process(backend Backend, b *Batch) error {
	if err := backend.Submit(b); err != nil {
		return err
	}
	return backend.Wait(b)
}

// Errors a caller may branch on.
var (
	// ErrClosed is what a closed backend returns.
	ErrClosed = errors.New("backend is closed")
	// ErrFrame is what every error about a single frame wraps.
	ErrFrame = errors.New("bad frame")
)

// Error is what a backend fails with.
type Error struct {
	Op        string // what it was doing, such as "tokenize"
	Permanent bool   // trying again on this backend is of no use: it has to be replaced
	Err       error
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %v", e.Op, e.Err) }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// IsPermanent reports whether the backend that returned err has to be replaced. An
// error that is no [Error] is taken for transient.
func IsPermanent(err error) bool {
	if errors.Is(err, ErrClosed) {
		return true
	}
	var e *Error
	return errors.As(err, &e) && e.Permanent
}

// PanicError is what a panic in a backend becomes.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("backend panicked: %v", e.Value) }

// Graphs executes the networks of one model on tensors it owns. [NewBackend] makes a
// Backend of it.
//
// Images and Tokenize belong to one goroutine at a time, TokenIDs and Encode to
// another; where Concurrent reports true, both may work at once. Close waits for
// running calls; afterwards Tokenize and Encode fail with ErrClosed.
type Graphs interface {
	// Describe says what executes them; InFlight is 2 where Tokenize and Encode may run
	// at once and that pays.
	Describe() Description
	// Images is the tokenizer's input: MaxBatch pictures, f32 [3,S,S] each, normalised.
	Images() []float32
	// Tokenize computes the ids of the first n images, [n,N], valid until the next call.
	// Every id is inside the codebook.
	Tokenize(n int) ([]int32, error)
	// TokenIDs is the encoder's input: MaxBatch times N ids.
	TokenIDs() []int32
	// Encode computes features [n,N,D] and embeddings [n,E] of the first n sets of ids,
	// valid until the next call. It is not called for a model without encoder.
	Encode(n int) (features, embeddings []float32, err error)
	Close() error
}

// since is the time from start, ns of the same clock.
func since(start, now int64) time.Duration { return time.Duration(now - start) }
