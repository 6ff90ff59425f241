package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/toklip/toklip/capture"
	"github.com/toklip/toklip/engine"
	"github.com/toklip/toklip/engine/preprocess"
)

// heldFrames is how many frames of a camera the pipeline may hold at once: one in
// the camera's slot, one in each of two batches, and one on its way.
const heldFrames = 4

// feed moves frames from a camera's shared memory into the pipeline. Nothing is
// copied and, once it runs, nothing allocated: frames are used in turn, each
// taken back when the pipeline releases it.
type feed struct {
	from *capture.Camera
	to   *engine.Camera
	slot [heldFrames]heldFrame
	free chan *heldFrame
}

// heldFrame is one frame as both sides know it.
type heldFrame struct {
	captured capture.Frame
	offered  engine.Frame
}

func newFeed(from *capture.Camera, to *engine.Camera) *feed {
	f := &feed{from: from, to: to, free: make(chan *heldFrame, heldFrames)}
	for i := range f.slot {
		f.slot[i].offered.Slot = i
		f.free <- &f.slot[i]
	}
	return f
}

// run feeds until the source has ended or ctx has. It returns nil in both cases;
// frames still in the pipeline come back later, by themselves.
func (f *feed) run(ctx context.Context) error {
	for {
		var held *heldFrame
		select {
		case held = <-f.free:
		case <-ctx.Done():
			return nil
		}
		if err := f.from.NextInto(ctx, &held.captured); err != nil {
			if ctx.Err() != nil || errors.Is(err, io.EOF) || errors.Is(err, capture.ErrStopped) {
				return nil
			}
			return err
		}
		in, out := &held.captured, &held.offered
		format, err := pixelFormat(in.Format)
		if err != nil {
			in.Release()
			return fmt.Errorf("camera %s: %w", f.to.Name(), err)
		}
		out.Pixels, out.Width, out.Height, out.Stride, out.Format = in.Pixels, in.Width, in.Height, in.Stride, format
		out.Sequence, out.CaptureWall, out.CaptureMono, out.Clock = in.Sequence, in.CaptureWall, in.CaptureMono, in.Clock.String()
		out.Lost = lostInCapture(in.Drops)
		out.Reset(f)
		f.to.Offer(out)
	}
}

// lostInCapture puts a camera's losses under the causes that messages name.
func lostInCapture(d capture.Drops) engine.Lost {
	return engine.Lost{Capture: d.Superseded + d.NoSlot + d.Restart, Rate: d.Rate, Broken: d.Broken}
}

// ReleaseFrame takes a frame back from the pipeline.
func (f *feed) ReleaseFrame(frame *engine.Frame) {
	held := &f.slot[frame.Slot]
	held.captured.Release()
	f.free <- held
}

func pixelFormat(format capture.PixelFormat) (engine.PixelFormat, error) {
	switch format {
	case capture.BGR8:
		return preprocess.BGR8, nil
	case capture.BGRx8:
		return preprocess.BGRx8, nil
	case capture.Gray8:
		return preprocess.Gray8, nil
	}
	return 0, fmt.Errorf("pixel format %s is not supported", format)
}
