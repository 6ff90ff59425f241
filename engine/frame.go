package engine

import (
	"sync/atomic"

	"github.com/toklip/toklip/engine/preprocess"
)

// PixelFormat is the layout of a frame's pixels; preprocess names them.
type PixelFormat = preprocess.Format

// Releaser takes the memory of frames back, for instance the slot of a shared-memory
// ring the pixels lie in. It is called from goroutines of the pipeline and of whoever
// offers frames, at most once for each life of a frame, and must not block.
type Releaser interface {
	ReleaseFrame(*Frame)
}

// Frame is one picture of a camera with its capture time. Pixels may point into
// shared memory or a buffer of a driver: nothing is copied before they were resized.
//
// A frame has one owner at a time, who alone may read it and who calls Release. A
// source may use Frame values again: Release ends one life, Reset begins the next.
type Frame struct {
	Pixels []byte // rows of Stride bytes; planar formats as package preprocess lays them out
	Width  int    // pixels
	Height int    // pixels
	Stride int    // bytes from one row to the next
	Format PixelFormat

	Camera      string // name of the camera; Camera.Offer sets it
	Sequence    uint64 // counts the camera's frames, also those dropped; never set back
	CaptureWall int64  // capture time, ns since 1970 UTC
	CaptureMono int64  // capture time, ns of CLOCK_MONOTONIC; 0 = unknown, then the time of Offer counts
	Clock       string // where CaptureWall comes from, such as "driver", "rtp" or "read"
	Lost        Lost   // frames before this one that never got here, handed through to the result

	Slot int // free for the Releaser: which of its slots holds the pixels

	releaser Releaser
	held     atomic.Bool
}

// Lost counts the frames of a camera that its source lost, by cause.
type Lost struct {
	Capture uint64 // overtaken by a newer one before they left the source
	Rate    uint64 // above the source's rate limit
	Broken  uint64 // could not be decoded
}

// Reset begins a life of the frame: r is told when it ends. All other fields keep
// what they hold and are the caller's to fill. r may be nil for memory that the
// garbage collector owns.
func (f *Frame) Reset(r Releaser) {
	f.releaser = r
	f.held.Store(true)
}

// Release ends the owner's use of the frame; its pixels must not be touched
// afterwards. Calling it again before the next Reset does nothing.
func (f *Frame) Release() {
	if f.held.CompareAndSwap(true, false) && f.releaser != nil {
		f.releaser.ReleaseFrame(f)
	}
}
