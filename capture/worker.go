package capture

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A Grabber reads the pictures of one opened source, for one goroutine.
type Grabber interface {
	// Info describes the open source.
	Info() Info
	// Grab waits for the next picture. dst is memory for a picture of the geometry
	// that the last Grab returned, or nil; a grabber that can writes there and
	// returns a Shot with nil Pixels.
	//
	// io.EOF says that the source ended, an error wrapping ErrBroken that this
	// picture is lost and the next may be tried; any other error ends the source.
	// Grab should return soon once ctx ends, as far as it can.
	Grab(ctx context.Context, dst []byte) (Shot, error)
	// Close frees the device and all memory.
	Close() error
}

// Info describes an open source.
type Info struct {
	// FPS is the rate the source says it has, 0 if it says nothing.
	FPS float64
	// Clock is the best clock of the source; a Shot may fall back to ClockRead.
	Clock Clock
	// Backend is what opened it: ffmpeg, gstreamer, v4l2, images, pattern.
	Backend string
}

// A Shot is one picture from a Grabber.
type Shot struct {
	Geometry
	// Pixels stay valid until the next Grab; nil: the picture is in dst.
	Pixels []byte
	At     Stamp
	Clock  Clock
}

// ErrBroken marks a picture that could not be decoded, in a source that goes on.
var ErrBroken = errors.New("broken picture")

// An Opener opens a source. It must not keep ctx.
type Opener func(ctx context.Context, s Source) (Grabber, error)

// WorkerOptions are what [Work] needs.
type WorkerOptions struct {
	// Version is the program's version, compared with the daemon's.
	Version string
	// Open opens the source the daemon names.
	Open Opener
	// Orphaned is called, from another goroutine, when the daemon is gone. It should
	// end the process: the grabber may hang in a driver.
	Orphaned func()
}

// Work is the life of a worker process that a [Camera] started: it shakes hands
// over descriptor 3, opens the source it is told and hands frames over until the
// source ends, ctx ends or the daemon says so. A process calls it once.
//
// It returns the error that ended the source; the daemon was told.
func Work(ctx context.Context, o WorkerOptions) error {
	control := os.NewFile(controlFD, "control")
	var st unix.Stat_t
	if err := unix.Fstat(controlFD, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return fmt.Errorf("descriptor %d is not the daemon's control socket: %s is started by toklip, not by hand (try --probe URI)", controlFD, WorkerName)
	}
	// Helpers that a library starts must not keep these open after our end.
	unix.CloseOnExec(controlFD)
	unix.CloseOnExec(notifyFD)
	ch, err := newChannel(control)
	_ = control.Close()
	if err != nil {
		return err
	}
	defer ch.close()
	if err := unix.SetNonblock(notifyFD, true); err != nil {
		return fmt.Errorf("descriptor %d, the notification pipe: %w", notifyFD, err)
	}
	defer unix.Close(notifyFD)

	if err := ch.send(event{Event: eventHello, Protocol: protocolVersion, Version: o.Version, PID: os.Getpid()}, -1); err != nil {
		return fmt.Errorf("greet the daemon: %w", err)
	}
	packet, _, err := ch.receive()
	if err != nil {
		return fmt.Errorf("daemon's first command: %w", err)
	}
	first, err := decodeCommand(packet)
	if err != nil || first.Command == commandStop {
		return err
	}

	ctx, cancel := context.WithCancel(ctx)
	w := &worker{ch: ch, notify: notifyFD, slots: first.Slots}
	var group sync.WaitGroup
	group.Add(2)
	go func() {
		defer group.Done()
		w.listen(ctx, cancel, o.Orphaned)
	}()
	go func() {
		defer group.Done()
		w.heartbeats(ctx)
	}()
	err = w.serve(ctx, first, o.Open)
	cancel()
	if w.out != nil {
		defer munmap(w.out.mem)
	}
	// Ends listen.
	_ = ch.conn.CloseRead()
	group.Wait()
	return err
}

// worker is the state of Work; its serve owns it.
type worker struct {
	ch     *channel
	notify int
	slots  int

	// out is the segment in use. serve alone changes it, under beating, so that it
	// may read it without.
	out     *segmentWriter
	beating sync.Mutex

	generation uint32
	sequence   uint64
	published  uint64
	drops      Drops

	brokenTold time.Time
}

// listen reads the daemon's commands until it is gone or says stop.
func (w *worker) listen(ctx context.Context, stop context.CancelFunc, orphaned func()) {
	for {
		packet, fd, err := w.ch.receive()
		if fd >= 0 {
			_ = unix.Close(fd)
		}
		if err != nil {
			// Closed by ourselves: Work ends, or panics and should say so first.
			if ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
				stop()
				orphaned()
			}
			return
		}
		if c, err := decodeCommand(packet); err == nil && c.Command == commandStop {
			stop()
		}
	}
}

// heartbeats tells the daemon that this process is scheduled, whatever the
// grabber does.
func (w *worker) heartbeats(ctx context.Context) {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		w.beating.Lock()
		if w.out != nil {
			w.out.beat()
		}
		w.beating.Unlock()
		if n%4 == 0 {
			_ = w.ch.send(event{Event: eventStats}, -1)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (w *worker) serve(ctx context.Context, open command, opener Opener) error {
	err := w.capture(ctx, open, opener)
	switch {
	case ctx.Err() != nil:
		return nil
	case errors.Is(err, io.EOF) && w.published > 0:
		return w.ch.send(event{Event: eventEOF}, -1)
	case errors.Is(err, io.EOF):
		err = errors.New("the source ended without one readable picture")
	}
	message := err.Error()
	if len(message) > 4000 {
		message = message[:4000]
	}
	return errors.Join(err, w.ch.send(event{Event: eventError, Message: message}, -1))
}

func (w *worker) capture(ctx context.Context, open command, opener Opener) (err error) {
	src, err := ParseSource(open.URI)
	if err != nil {
		return err
	}
	src = src.withHints(open.Width, open.Height, open.FPS)
	g, err := opener(ctx, src)
	if err != nil {
		return fmt.Errorf("open %s: %w", src, err)
	}
	defer func() {
		if e := g.Close(); e != nil && err == nil {
			err = fmt.Errorf("close %s: %w", src, e)
		}
	}()
	info := g.Info()
	if math.IsNaN(info.FPS) || info.FPS < 0 || info.FPS > maxFPS {
		info.FPS = 0 // Drivers and containers say strange things.
	}
	if err := w.ch.send(event{Event: eventOpened, FPS: info.FPS, Clock: info.Clock.String(), Backend: info.Backend}, -1); err != nil {
		return err
	}
	limit := newRateLimit(src.FPS, open.FPS)
	var last Geometry
	for ctx.Err() == nil {
		var dst []byte
		out := w.out
		if out != nil && out.Geometry == last {
			dst = out.begin()
		}
		shot, err := g.Grab(ctx, dst)
		if errors.Is(err, ErrBroken) {
			w.broken(err)
			continue
		}
		if err != nil {
			return err
		}
		last = shot.Geometry
		w.sequence++
		if !limit.allow(shot.At.Mono) {
			w.drops.Rate++
			w.account()
			continue
		}
		if err := w.hand(out, shot, dst != nil); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// hand publishes a shot, or counts it as dropped if no slot is free.
func (w *worker) hand(out *segmentWriter, shot Shot, begun bool) error {
	if shot.Pixels != nil && len(shot.Pixels) < shot.Bytes() {
		return fmt.Errorf("picture of %d bytes, %dx%d needs %d", len(shot.Pixels), shot.Width, shot.Height, shot.Bytes())
	}
	switch {
	case out == nil || out.Geometry != shot.Geometry:
		if shot.Pixels == nil {
			return errors.New("the grabber changed the geometry of a picture it wrote in place")
		}
		var err error
		if out, err = w.newSegment(shot.Geometry); err != nil {
			return err
		}
		copy(out.begin(), shot.Pixels)
	case !begun:
		w.drops.NoSlot++
		w.account()
		return nil
	case shot.Pixels != nil:
		copy(out.begin(), shot.Pixels)
	}
	out.publish(w.sequence, shot.At, shot.Clock, w.drops)
	w.published++
	return w.signal()
}

func (w *worker) newSegment(g Geometry) (*segmentWriter, error) {
	if err := g.check(); err != nil {
		return nil, fmt.Errorf("the source's pictures: %w", err)
	}
	l := layout{Geometry: g, slots: w.slots, generation: w.generation + 1}
	fd, mem, err := newMemfd(l.total())
	if err != nil {
		return nil, err
	}
	out := newSegmentWriter(mem, l, w.sequence-1, w.drops)
	w.beating.Lock()
	old := w.out
	w.out = out
	w.beating.Unlock()
	if old != nil {
		munmap(old.mem)
	}
	w.generation++
	err = w.ch.send(event{Event: eventSegment, Generation: w.generation}, fd)
	_ = unix.Close(fd)
	return out, err
}

func (w *worker) broken(err error) {
	w.sequence++
	w.drops.Broken++
	w.account()
	if time.Since(w.brokenTold) > time.Second {
		w.brokenTold = time.Now()
		_ = w.ch.send(event{Event: eventBroken, Message: err.Error()}, -1)
	}
}

func (w *worker) account() {
	if w.out != nil {
		w.out.account(w.sequence, w.drops)
	}
}

// signal puts a byte into the pipe, which does not block; a full pipe means that
// the daemon has been told often enough.
func (w *worker) signal() error {
	if _, err := unix.Write(w.notify, []byte{1}); err != nil && !errors.Is(err, unix.EAGAIN) {
		return fmt.Errorf("notify the daemon: %w", err)
	}
	return nil
}

// withHints fills what the URI left open.
func (s Source) withHints(width, height int, fps float64) Source {
	if s.Kind == V4L2 || s.Kind == CSI {
		if s.Width == 0 && s.Height == 0 {
			s.Width, s.Height = width, height
		}
		if s.FPS == 0 {
			s.FPS = fps
		}
	}
	return s
}

// rateLimit thins a stream to a rate, evenly.
type rateLimit struct {
	period, next float64 // ns
	started      bool
}

// newRateLimit takes the lowest rate that is not zero; none: no limit.
func newRateLimit(rates ...float64) *rateLimit {
	r := &rateLimit{}
	for _, fps := range rates {
		if fps > 0 {
			r.period = max(r.period, 1e9/fps)
		}
	}
	return r
}

// allow tells whether the frame captured at t (ns) is due. A frame may come a
// quarter of a period early, so that jitter does not halve the rate.
func (r *rateLimit) allow(t int64) bool {
	now := float64(t)
	if r.period == 0 {
		return true
	}
	if r.started && now < r.next-r.period/4 && now > r.next-2*r.period {
		return false
	}
	if !r.started || r.next+r.period < now || now <= r.next-2*r.period {
		r.next = now
	}
	r.started = true
	r.next += r.period
	return true
}
