package source

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/toklip/toklip/capture"
	"gocv.io/x/gocv"
)

// v4l2 reads a Linux video device.
type v4l2 struct {
	*video
	info capture.Info
}

func openV4L2(s capture.Source) (capture.Grabber, error) {
	if err := checkDevice(s.Path); err != nil {
		return nil, err
	}
	v, err := openVideo(s.Path, gocv.VideoCaptureV4L2)
	if err != nil {
		if busy := capture.Busy(s.Path); busy != "" {
			return nil, errors.New(busy)
		}
		return nil, fmt.Errorf("the device cannot be opened as a camera; it may be busy (a process of another user is seen by root alone) or no capture device (a camera has several nodes: try the next number): %w", err)
	}
	// The pixel format first: it decides which sizes and rates there are.
	if s.Encoding != "" {
		v.vc.Set(gocv.VideoCaptureFOURCC, v.vc.ToCodec(fmt.Sprintf("%-4s", strings.ToUpper(s.Encoding))))
	}
	if s.Width > 0 && s.Height > 0 {
		v.vc.Set(gocv.VideoCaptureFrameWidth, float64(s.Width))
		v.vc.Set(gocv.VideoCaptureFrameHeight, float64(s.Height))
	}
	if s.FPS > 0 {
		v.vc.Set(gocv.VideoCaptureFPS, s.FPS)
	}
	if !v.vc.IsOpened() {
		_ = v.close()
		return nil, fmt.Errorf("the device refuses %dx%d, %v fps, format %q: see `v4l2-ctl --list-formats-ext`", s.Width, s.Height, s.FPS, s.Encoding)
	}
	return &v4l2{video: v, info: capture.Info{FPS: v.fps(), Clock: capture.ClockDriver, Backend: "v4l2"}}, nil
}

// checkDevice says what OpenCV does not: whether the device is there and ours to open.
func checkDevice(path string) error {
	st, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		have, _ := filepath.Glob("/dev/video*")
		if len(have) == 0 {
			return fmt.Errorf("no such device, and no /dev/video* at all: is the camera plugged in, is the device passed to the container?")
		}
		return fmt.Errorf("no such device; there are %s", strings.Join(have, ", "))
	}
	if err != nil {
		return err
	}
	if st.Mode()&os.ModeCharDevice == 0 {
		return errors.New("not a video device; for a file write file://")
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("%w: add the user to group video", err)
	}
	if err != nil {
		if busy := capture.Busy(path); busy != "" {
			return errors.New(busy)
		}
		return err
	}
	return f.Close()
}

func (c *v4l2) Info() capture.Info { return c.info }

func (c *v4l2) Grab(ctx context.Context, dst []byte) (capture.Shot, error) {
	shot, err := c.read(dst)
	if ctx.Err() != nil {
		return shot, ctx.Err()
	}
	if errors.Is(err, errNoFrame) {
		return shot, errors.New("the device gives no frame: unplugged, busy or out of USB bandwidth")
	}
	if err != nil {
		return shot, err
	}
	shot.At, shot.Clock = driverStamp(capture.Now(), c.vc.Get(gocv.VideoCapturePosMsec))
	return shot, nil
}

func (c *v4l2) Close() error { return c.close() }

// driverStamp reads the V4L2 buffer's time, CLOCK_MONOTONIC in ms. A driver that
// stamps nothing, or from another clock, gives a time far from now: then the
// moment of reading counts.
func driverStamp(now capture.Stamp, posMsec float64) (capture.Stamp, capture.Clock) {
	if math.IsNaN(posMsec) || posMsec <= 0 || posMsec > math.MaxInt64/2e6 {
		return now, capture.ClockRead
	}
	mono := int64(posMsec * 1e6)
	if age := now.Mono - mono; age < 0 || age > 5e9 {
		return now, capture.ClockRead
	}
	return now.AtMono(mono), capture.ClockDriver
}
