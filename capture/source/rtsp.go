package source

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"time"

	"github.com/toklip/toklip/capture"
	"gocv.io/x/gocv"
)

// ffmpegVariable is read by OpenCV's FFmpeg backend at each opening.
const ffmpegVariable = "OPENCV_FFMPEG_CAPTURE_OPTIONS"

// ioTimeout ends FFmpeg's waiting for the network. It is below the camera's
// FrameTimeout, so that a lost stream ends with its own words and not by a kill.
const ioTimeout = 5 * time.Second

// rtsp reads a network stream. Each read takes the oldest picture FFmpeg has; the
// worker reads without pause, so that pictures pile up nowhere and the newest is
// in the slot (CAP_PROP_BUFFERSIZE does not reach FFmpeg, opencv/opencv#13145).
type rtsp struct {
	*video
	info capture.Info
}

func openRTSP(s capture.Source) (capture.Grabber, error) {
	if s.Backend == "gstreamer" {
		transport := ""
		if s.Transport == "tcp" {
			transport = "protocols=tcp "
		}
		return openGstreamer(fmt.Sprintf("rtspsrc location=%q latency=100 %s! decodebin ! videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false",
			s.URL, transport), capture.ClockRead)
	}
	if err := os.Setenv(ffmpegVariable, ffmpegOptions(s.Transport, loadedLibavformat())); err != nil {
		return nil, err
	}
	v, err := openVideo(s.URL, gocv.VideoCaptureFFmpeg)
	if err != nil {
		return nil, fmt.Errorf("no answer, no such stream, wrong credentials, or no video in it (see the worker's output): %w", err)
	}
	return &rtsp{video: v, info: capture.Info{FPS: v.fps(), Clock: capture.ClockRTP, Backend: "ffmpeg"}}, nil
}

// ffmpegOptions are low-latency settings and a time limit for the network. FFmpeg
// renamed the limit: stimeout up to libavformat 58, where timeout means "be a
// server", timeout from 59 on, which no longer knows stimeout.
func ffmpegOptions(transport string, libavformat int) string {
	o := []string{"rtsp_transport;" + transport, "fflags;nobuffer", "flags;low_delay"}
	limit := fmt.Sprint(ioTimeout.Microseconds())
	switch {
	case libavformat >= 59:
		o = append(o, "timeout;"+limit)
	case libavformat > 0:
		o = append(o, "stimeout;"+limit)
	}
	return strings.Join(o, "|")
}

// loadedLibavformat is the major version of the libavformat in this process, 0 if
// it cannot be told. OpenCV's videoio links it or loads it as a plug-in.
func loadedLibavformat() int {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return 0
	}
	return majorOf(string(maps), "libavformat.so.")
}

func majorOf(maps, library string) int {
	_, after, ok := strings.Cut(maps, library)
	if !ok {
		return 0
	}
	n := 0
	if _, err := fmt.Sscanf(after, "%d", &n); err != nil {
		return 0
	}
	return n
}

func (r *rtsp) Info() capture.Info { return r.info }

func (r *rtsp) Grab(ctx context.Context, dst []byte) (capture.Shot, error) {
	shot, err := r.read(dst)
	if ctx.Err() != nil {
		return shot, ctx.Err()
	}
	if errors.Is(err, errNoFrame) {
		return shot, errors.New("the stream ended: server gone, connection lost or nothing sent for " + ioTimeout.String())
	}
	if err != nil {
		return shot, err
	}
	shot.At, shot.Clock = streamStamp(capture.Now(),
		r.vc.Get(propStreamOpenTimeUsec), r.vc.Get(gocv.VideoCapturePosMsec))
	return shot, nil
}

func (r *rtsp) Close() error { return r.close() }

// streamStamp turns a stream's own time into a moment on our clocks. It takes FFmpeg's wall time of the stream's beginning (µs; from the RTCP
// sender reports, absurd before the first) and the picture's time since then
// (ms). A camera whose clock is not set gives times far from now: then, and
// without reports, the moment of reading counts.
func streamStamp(now capture.Stamp, openUsec, posMsec float64) (capture.Stamp, capture.Clock) {
	const earliest = 1e15 // 2001, in µs: below it, it is no wall time
	if math.IsNaN(openUsec) || openUsec < earliest || math.IsNaN(posMsec) || posMsec < 0 {
		return now, capture.ClockRead
	}
	wall := int64(openUsec)*1000 + int64(posMsec*1e6)
	if age := time.Duration(now.Wall - wall); age < -time.Second || age > 10*time.Second {
		return now, capture.ClockRead
	}
	return now.AtWall(wall), capture.ClockRTP
}
