package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"time"

	"github.com/toklip/toklip/capture"
	"gocv.io/x/gocv"
)

// file plays a video file, at the pace of its time stamps or as fast as it can be
// decoded.
type file struct {
	*video
	path   string
	api    gocv.VideoCaptureAPI
	asFast bool
	loop   bool
	info   capture.Info

	pace   pacer
	frames uint64 // of this round
	timer  *time.Timer
}

func openFile(s capture.Source) (capture.Grabber, error) {
	st, err := os.Stat(s.Path)
	if err != nil {
		return nil, err
	}
	if st.IsDir() {
		return nil, errors.New("a folder; write images:// to play pictures")
	}
	// Low-latency settings for streams (nobuffer) cost a file its first picture.
	if err := os.Unsetenv(ffmpegVariable); err != nil {
		return nil, err
	}
	f := &file{path: s.Path, api: gocv.VideoCaptureFFmpeg, asFast: s.AsFast, loop: s.Loop}
	if s.Backend == "gstreamer" {
		f.api = gocv.VideoCaptureGstreamer
	}
	if f.video, err = openVideo(s.Path, f.api); err != nil {
		return nil, fmt.Errorf("no video that %s can decode: %w", s.Backend, err)
	}
	f.info = capture.Info{FPS: f.fps(), Clock: capture.ClockFile, Backend: s.Backend}
	f.pace.period = time.Second / 25
	if f.info.FPS > 0 {
		f.pace.period = time.Duration(float64(time.Second) / f.info.FPS)
	}
	return f, nil
}

func (f *file) Info() capture.Info { return f.info }

func (f *file) Grab(ctx context.Context, dst []byte) (capture.Shot, error) {
	if err := ctx.Err(); err != nil {
		return capture.Shot{}, err
	}
	shot, err := f.read(dst)
	if errors.Is(err, errNoFrame) && f.loop && f.frames > 0 {
		if err := f.rewind(); err != nil {
			return shot, err
		}
		shot, err = f.read(dst)
	}
	if errors.Is(err, errNoFrame) {
		return shot, io.EOF
	}
	if err != nil {
		return shot, err
	}
	f.frames++
	shot.Clock = capture.ClockFile
	if f.asFast {
		shot.At = capture.Now()
		return shot, nil
	}
	now := capture.Now()
	due := f.pace.due(now.Mono, f.vc.Get(gocv.VideoCapturePosMsec))
	if err := f.sleep(ctx, time.Duration(due-now.Mono)); err != nil {
		return shot, err
	}
	shot.At = capture.Now().AtMono(due)
	return shot, nil
}

func (f *file) sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	if f.timer == nil {
		f.timer = time.NewTimer(d)
	} else {
		f.timer.Reset(d)
	}
	select {
	case <-f.timer.C:
		return nil
	case <-ctx.Done():
		f.timer.Stop()
		return ctx.Err()
	}
}

// rewind begins again. Opening anew costs some milliseconds and, unlike seeking,
// works with every container.
func (f *file) rewind() error {
	f.frames = 0
	f.pace.newRound()
	vc, err := gocv.VideoCaptureFileWithAPI(f.path, f.api)
	if err != nil || !vc.IsOpened() {
		if vc != nil {
			_ = vc.Close()
		}
		return fmt.Errorf("loop: %s cannot be opened again", f.path)
	}
	old := f.vc
	f.vc = vc
	return old.Close()
}

func (f *file) Close() error {
	if f.timer != nil {
		f.timer.Stop()
	}
	return f.close()
}

// pacer maps the time stamps of a recording to moments when they are due.
type pacer struct {
	period time.Duration // assumed between frames without a sensible stamp

	started bool
	anchor  int64 // CLOCK_MONOTONIC in ns at position 0 of this round
	last    int64 // position of the last frame in this round, ns; -1 before the first
}

// due is when the frame at the position (ms) is to be shown, CLOCK_MONOTONIC in
// ns. A player more than a second late, or a recording with a hole, goes on from
// now instead of hurrying.
func (p *pacer) due(now int64, posMsec float64) int64 {
	if !p.started {
		p.started, p.last = true, -1
		p.anchor = math.MinInt64
	}
	pos := p.last + int64(p.period)
	if p.last < 0 {
		pos = 0
	}
	if stamp := int64(posMsec * 1e6); posMsec >= 0 && posMsec < 1e10 && stamp > p.last {
		pos = stamp
	}
	switch {
	case p.anchor == math.MinInt64:
		p.anchor = now - pos
	case p.last < 0 && pos > 0:
		p.anchor -= pos // A round's first frame follows the last round at once.
	}
	p.last = pos
	due := p.anchor + pos
	if late := now - due; late > int64(time.Second) || late < -10*int64(time.Second) {
		p.anchor += late
		due = now
	}
	return due
}

// newRound puts position 0 one period after the last frame.
func (p *pacer) newRound() {
	if p.started {
		p.anchor += p.last + int64(p.period)
		p.last = -1
	}
}
