// Package source opens cameras, streams and files with OpenCV, through GoCV, as
// the grabbers a capture worker hands frames over from.
//
// It is linked into toklip-capture alone. An exception thrown inside OpenCV ends
// the process and a driver may block a call for ever; both are for the camera
// that supervises the worker to see, and no code here tries to survive them.
//
// What opens what: V4L2 devices OpenCV's V4L2 backend; RTSP and files FFmpeg (or
// GStreamer, if asked for); CSI cameras and free pipelines GStreamer; image
// folders OpenCV's decoders; test patterns plain Go.
package source

import (
	"context"
	"fmt"

	"github.com/toklip/toklip/capture"
	"github.com/toklip/toklip/capture/pattern"
)

// Open opens any source. It is a capture.Opener.
//
// An RTSP source sets OPENCV_FFMPEG_CAPTURE_OPTIONS in this process's
// environment, which OpenCV reads at each opening: one source a process.
func Open(ctx context.Context, s capture.Source) (capture.Grabber, error) {
	switch s.Kind {
	case capture.Test:
		return pattern.Open(ctx, s)
	case capture.Images:
		return openImages(s)
	case capture.V4L2:
		return openV4L2(s)
	case capture.CSI, capture.Gst:
		return openPipeline(s)
	case capture.RTSP:
		return openRTSP(s)
	case capture.File:
		return openFile(s)
	}
	return nil, fmt.Errorf("source kind %q is unknown", s.Kind)
}
