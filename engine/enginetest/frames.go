package enginetest

import (
	"sync/atomic"

	"github.com/toklip/toklip/engine"
	"github.com/toklip/toklip/engine/preprocess"
)

// NewFrame draws a picture of that size and format: soft waves whose phase depends on
// seed, so that pictures of different seeds differ everywhere. Its stride is a little
// longer than a row.
func NewFrame(width, height int, format engine.PixelFormat, seed uint64) *engine.Frame {
	f := &engine.Frame{
		Width: width, Height: height, Format: format, Stride: format.RowBytes(width) + 16,
		Camera: "test", Sequence: seed, Clock: "test", CaptureWall: int64(seed), CaptureMono: int64(seed) + 1,
	}
	f.Pixels = make([]byte, format.FrameBytes(width, height, f.Stride))
	perPixel := max(1, format.RowBytes(width)/width)
	phase := uint32(seed*2654435761) >> 7
	for i := range f.Pixels {
		x, y := uint32(i%f.Stride/perPixel), uint32(i/f.Stride)
		channel := uint32(i % f.Stride % perPixel)
		f.Pixels[i] = wave((x*1024/uint32(width) + phase*(channel+1))) / 2
		f.Pixels[i] += wave(y*1024/uint32(height)*(channel+1)+phase*3) / 2
	}
	f.Reset(nil)
	return f
}

// wave rises from 0 to 255 and falls back in 512 steps.
func wave(i uint32) byte {
	if i %= 512; i > 255 {
		return byte(511 - i)
	}
	return byte(i)
}

// copyFrame is the same picture as a frame of its own.
func copyFrame(f *engine.Frame) *engine.Frame {
	c := &engine.Frame{
		Pixels: f.Pixels, Width: f.Width, Height: f.Height, Stride: f.Stride, Format: f.Format,
		Camera: f.Camera, Sequence: f.Sequence, CaptureWall: f.CaptureWall, CaptureMono: f.CaptureMono, Clock: f.Clock,
	}
	c.Reset(nil)
	return c
}

// counter counts frames that come back.
type counter struct{ n atomic.Int64 }

func (c *counter) ReleaseFrame(*engine.Frame) { c.n.Add(1) }

// tensor is what the network sees of a frame.
func tensor(f *engine.Frame, size int, mode preprocess.Mode) ([]float32, error) {
	r, err := preprocess.New(preprocess.Geometry{Width: f.Width, Height: f.Height, Format: f.Format, Size: size, Mode: mode})
	if err != nil {
		return nil, err
	}
	dst := make([]float32, 3*size*size)
	return dst, r.Tensor(dst, f.Pixels, f.Stride)
}
