package source

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/toklip/toklip/capture"
	"gocv.io/x/gocv"
)

// pipeline reads a GStreamer pipeline that ends in appsink.
type pipeline struct {
	*video
	info capture.Info
}

func openPipeline(s capture.Source) (capture.Grabber, error) {
	text := s.Path
	if s.Kind == capture.CSI {
		text = csiPipeline(s)
	}
	return openGstreamer(text, capture.ClockRead)
}

// csiPipeline reads a Jetson's CSI camera through Argus. nvvidconv gives 4 bytes a
// pixel without use of the CPU; BGR would need videoconvert, which does not.
func csiPipeline(s capture.Source) string {
	var b strings.Builder
	fmt.Fprintf(&b, "nvarguscamerasrc sensor-id=%d", s.SensorID)
	if s.SensorMode >= 0 {
		fmt.Fprintf(&b, " sensor-mode=%d", s.SensorMode)
	}
	b.WriteString(" ! video/x-raw(memory:NVMM),format=NV12")
	if s.Width > 0 {
		fmt.Fprintf(&b, ",width=%d", s.Width)
	}
	if s.Height > 0 {
		fmt.Fprintf(&b, ",height=%d", s.Height)
	}
	if s.FPS > 0 {
		fmt.Fprintf(&b, ",framerate=%d/1000", int(s.FPS*1000+0.5))
	}
	fmt.Fprintf(&b, " ! nvvidconv flip-method=%d ! video/x-raw,format=BGRx ! appsink drop=true max-buffers=1 sync=false", s.Flip)
	return b.String()
}

func openGstreamer(text string, clock capture.Clock) (*pipeline, error) {
	v, err := openVideo(text, gocv.VideoCaptureGstreamer)
	if err != nil {
		return nil, fmt.Errorf("GStreamer pipeline %q did not start (see the worker's output; try it with gst-launch-1.0 and fakesink for appsink): %w", text, err)
	}
	return &pipeline{video: v, info: capture.Info{FPS: v.fps(), Clock: clock, Backend: "gstreamer"}}, nil
}

func (p *pipeline) Info() capture.Info { return p.info }

func (p *pipeline) Grab(ctx context.Context, dst []byte) (capture.Shot, error) {
	shot, err := p.read(dst)
	if ctx.Err() != nil {
		return shot, ctx.Err()
	}
	if errors.Is(err, errNoFrame) {
		return shot, errors.New("the pipeline ended or gave no frame in time")
	}
	if err != nil {
		return shot, err
	}
	// NV12 and I420 come as one channel and half as many rows again.
	if high := int(p.vc.Get(gocv.VideoCaptureFrameHeight)); shot.Format == capture.Gray8 && high > 0 && shot.Height == high*3/2 {
		return shot, fmt.Errorf("the pipeline delivers NV12 or I420: put `videoconvert ! video/x-raw,format=BGR` before appsink")
	}
	shot.At, shot.Clock = capture.Now(), p.info.Clock
	return shot, nil
}

func (p *pipeline) Close() error { return p.close() }
