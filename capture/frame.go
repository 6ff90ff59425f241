package capture

import (
	"fmt"
	"sync/atomic"
	"time"
)

// PixelFormat says how a pixel lies in memory.
type PixelFormat uint32

// The pixel formats a worker delivers: what OpenCV gives, not converted.
const (
	BGR8  PixelFormat = 1 // 3 bytes a pixel: blue, green, red
	Gray8 PixelFormat = 2 // 1 byte a pixel
	BGRx8 PixelFormat = 3 // 4 bytes a pixel: blue, green, red, unused
)

// BytesPerPixel is 1, 3 or 4; 0 for an unknown format.
func (f PixelFormat) BytesPerPixel() int {
	switch f {
	case Gray8:
		return 1
	case BGR8:
		return 3
	case BGRx8:
		return 4
	}
	return 0
}

// String names the format as status messages do: BGR8, GRAY8, BGRX8.
func (f PixelFormat) String() string {
	switch f {
	case BGR8:
		return "BGR8"
	case Gray8:
		return "GRAY8"
	case BGRx8:
		return "BGRX8"
	}
	return fmt.Sprintf("PixelFormat(%d)", uint32(f))
}

// Clock says who made a capture time.
type Clock uint32

// The clocks, best first.
const (
	// ClockDriver is the kernel driver's stamp, taken when the sensor's data arrived.
	ClockDriver Clock = 1
	// ClockRTP is the stream's own time, tied to wall time by an RTCP sender report.
	ClockRTP Clock = 2
	// ClockRead is the moment the worker had the decoded picture in hand: late by
	// exposure, transport and decoding.
	ClockRead Clock = 3
	// ClockFile is the moment the picture of a recording was due, or, played as
	// fast as possible, the moment it was read.
	ClockFile Clock = 4
	// ClockGenerated is the moment a test pattern was drawn.
	ClockGenerated Clock = 5
)

// String is the name used in messages: driver, rtp, read, file, generated.
func (c Clock) String() string {
	switch c {
	case ClockDriver:
		return "driver"
	case ClockRTP:
		return "rtp"
	case ClockRead:
		return "read"
	case ClockFile:
		return "file"
	case ClockGenerated:
		return "generated"
	}
	return fmt.Sprintf("Clock(%d)", uint32(c))
}

// Drops counts frames that were captured and not delivered, by cause. The counts
// only grow during the life of a [Camera].
type Drops struct {
	// Superseded frames were replaced by a newer one before Next took them.
	Superseded uint64 `json:"superseded"`
	// NoSlot frames found every slot of the shared memory held by unreleased frames.
	NoSlot uint64 `json:"no_slot"`
	// Rate frames came faster than the configured rate.
	Rate uint64 `json:"rate"`
	// Broken frames could not be decoded.
	Broken uint64 `json:"broken"`
	// Restart frames were lost with a worker that ended.
	Restart uint64 `json:"restart"`
}

// Total is the sum over all causes.
func (d Drops) Total() uint64 {
	return d.Superseded + d.NoSlot + d.Rate + d.Broken + d.Restart
}

// A Frame is one picture with its capture time, lying in memory shared with the
// worker. It is filled by [Camera.Next] or [Camera.NextInto].
//
// Pixels may be read, from any goroutine, until Release; they are never written
// meanwhile. A Frame must not be copied after it was filled.
type Frame struct {
	// Pixels holds Height rows of Stride bytes each, the first row on top.
	Pixels []byte
	// Width and Height are in pixels, Stride in bytes.
	Width, Height, Stride int
	Format                PixelFormat

	// Sequence numbers the captured frames of the camera from 1 on. It grows over
	// worker restarts, and by more than one where frames were dropped:
	// Sequence = frames delivered so far, this one included, + Drops.Total().
	Sequence uint64
	// CaptureWall is the capture time in ns since the Unix epoch, made by Clock.
	CaptureWall int64
	// CaptureMono is the same moment on CLOCK_MONOTONIC in ns; compare with [MonotonicNow].
	CaptureMono int64
	Clock       Clock
	// Drops are the camera's losses up to this frame.
	Drops Drops

	hold     *mapping
	slot     int
	released atomic.Bool
}

// Release gives the frame's memory back to the worker and sets Pixels to nil. It
// may be called more than once and from any goroutine.
func (f *Frame) Release() {
	if f.hold == nil || f.released.Swap(true) {
		return
	}
	f.Pixels = nil
	f.hold.release(f.slot)
}

// Age is the time since capture.
func (f *Frame) Age() time.Duration {
	return time.Duration(MonotonicNow() - f.CaptureMono)
}
