package capture

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"
)

// ErrStopped is returned by Next after the camera's Run has returned because its
// context ended.
var ErrStopped = errors.New("capture: camera stopped")

// Options say what a [Camera] captures and how patient it is. Zero values mean
// the defaults given.
type Options struct {
	// Name identifies the camera in logs and in the worker's command line.
	// Required; lower-case letters, digits and dashes.
	Name string
	// Source is what to open. Required.
	Source Source
	// Width, Height in pixels and FPS ask the source for a geometry and a rate, if
	// the URI itself says nothing. A source that cannot choose ignores Width and
	// Height; FPS then limits the rate (see Drops.Rate).
	Width, Height int
	FPS           float64
	// Node tags the worker, so that FindOrphans of the same node finds it after a
	// crash. Default "toklip".
	Node string
	// Version is this program's version; a worker of another one is refused.
	// Empty: only the protocol version must match.
	Version string
	// WorkerPath is the worker program. Default: toklip-capture beside this
	// program, else on PATH (see FindWorker).
	WorkerPath string
	// WorkerEnv is added to the worker's environment.
	WorkerEnv []string
	// Logger gets the camera's life and the worker's output. Default: discard.
	Logger *slog.Logger
	// OnStatus is called with each change of state or reason, in order, from the
	// goroutine of Run. It must not block.
	OnStatus func(Status)
	// Slots is how many frames the shared memory holds, 3 to 16, default 6. Slots-2
	// frames may be held unreleased at a time without loss.
	Slots int

	// OpenTimeout ends a worker that has not opened its source. Default 20 s.
	OpenTimeout time.Duration
	// PictureTimeout ends a worker whose open source gave no first picture. Default 15 s.
	PictureTimeout time.Duration
	// StallAfter is how long frames may be missing before the state is stalled.
	// Default 2 s; a slow source gets three periods of its rate.
	StallAfter time.Duration
	// FrameTimeout is how long frames may be missing before the worker is
	// restarted. Default 10 s; at least twice StallAfter's effective value.
	FrameTimeout time.Duration
	// SilenceTimeout is how long the worker's heartbeat may be missing before the
	// worker counts as hung. Default 5 s.
	SilenceTimeout time.Duration
	// StopTimeout is the time a worker has between SIGTERM and SIGKILL. Default 1 s.
	StopTimeout time.Duration
	// Backoff is the pause between workers.
	Backoff Backoff
}

// A Camera captures one source through a worker process. All methods but Next and
// NextInto may be called from any goroutine; those two from one goroutine at a
// time. Run must be called once.
type Camera struct {
	opt Options
	log *slog.Logger

	// wake has room for one token: a new frame may be there, or something else
	// that Next must look at happened.
	wake chan struct{}
	// ended is closed when nothing more will come.
	ended chan struct{}
	// drained tells Run that a frame was taken after the source ended.
	drained chan struct{}
	// kick tells Run that enabled changed.
	kick chan struct{}

	mu      sync.Mutex
	status  Status
	ran     bool
	enabled bool
	current *mapping // segment of the running or last worker, nil before
	count   counts
}

// New checks the options and returns a camera that is not yet running. It fails
// if a required option is missing or out of range, or the worker program cannot
// be found.
func New(o Options) (*Camera, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	c := &Camera{
		opt:     o,
		log:     o.Logger.With("camera", o.Name),
		wake:    make(chan struct{}, 1),
		ended:   make(chan struct{}),
		drained: make(chan struct{}, 1),
		kick:    make(chan struct{}, 1),
		enabled: true,
	}
	c.status = Status{
		Name: o.Name, State: Connecting, Reason: "not started", Since: time.Now(),
		Source: o.Source.String(),
	}
	return c, nil
}

func (o *Options) complete() error {
	if !validName(o.Name) {
		return fmt.Errorf("camera name %q: use lower-case letters, digits and dashes, at most 64", o.Name)
	}
	if o.Source.Kind == "" {
		return fmt.Errorf("camera %q has no source: fill Options.Source from ParseSource", o.Name)
	}
	if o.Node == "" {
		o.Node = "toklip"
	}
	if !validName(o.Node) {
		return fmt.Errorf("camera %q: node %q: use lower-case letters, digits and dashes, at most 64", o.Name, o.Node)
	}
	if o.Width < 0 || o.Height < 0 || o.Width > maxSide || o.Height > maxSide {
		return fmt.Errorf("camera %q: size %dx%d is out of range, at most %d a side", o.Name, o.Width, o.Height, maxSide)
	}
	if !(o.FPS >= 0 && o.FPS <= maxFPS) {
		return fmt.Errorf("camera %q: fps %v is out of range 0 to %d", o.Name, o.FPS, maxFPS)
	}
	if o.Slots == 0 {
		o.Slots = 6
	}
	if o.Slots < minSlots || o.Slots > maxSlots {
		return fmt.Errorf("camera %q: %d slots, must be %d to %d", o.Name, o.Slots, minSlots, maxSlots)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{
		{&o.OpenTimeout, 20 * time.Second},
		{&o.PictureTimeout, 15 * time.Second},
		{&o.StallAfter, 2 * time.Second},
		{&o.FrameTimeout, 10 * time.Second},
		{&o.SilenceTimeout, 5 * time.Second},
		{&o.StopTimeout, time.Second},
	} {
		if *d.v < 0 {
			return fmt.Errorf("camera %q: negative timeout %v", o.Name, *d.v)
		}
		if *d.v == 0 {
			*d.v = d.def
		}
	}
	if err := o.Backoff.complete(); err != nil {
		return fmt.Errorf("camera %q: %w", o.Name, err)
	}
	var err error
	if o.WorkerPath, err = FindWorker(o.WorkerPath); err != nil {
		return fmt.Errorf("camera %q: %w", o.Name, err)
	}
	return nil
}

// Status is the camera's state now.
func (c *Camera) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.statusLocked()
}

func (c *Camera) statusLocked() Status {
	s := c.status
	if c.current != nil {
		c.count.observe(c.current)
	}
	s.Frames, s.Captured, s.Drops = c.count.delivered, c.count.captured(), c.count.drops()
	return s
}

// SetEnabled switches the camera off (its worker ends, the device is free for
// others) or on again. A camera starts enabled.
func (c *Camera) SetEnabled(on bool) {
	c.mu.Lock()
	c.enabled = on
	c.mu.Unlock()
	poke(c.kick)
}

func (c *Camera) isEnabled() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.enabled
}

// Next waits for a frame newer than the last one and returns it; see NextInto.
func (c *Camera) Next(ctx context.Context) (*Frame, error) {
	f := new(Frame)
	if err := c.NextInto(ctx, f); err != nil {
		return nil, err
	}
	return f, nil
}

// NextInto waits for a frame newer than the last one and fills f with the newest
// there is, in place of whatever f held (which is released). It allocates
// nothing. The caller owns f and must Release it; frames held back beyond
// Options.Slots-2 make the worker drop.
//
// Errors: io.EOF after the last frame of a source that ended, ErrStopped after
// Run returned for another reason, the context's error.
func (c *Camera) NextInto(ctx context.Context, f *Frame) error {
	f.Release()
	for {
		if c.take(f) {
			return nil
		}
		select {
		case <-c.wake:
			continue
		case <-ctx.Done():
			return ctx.Err()
		case <-c.ended:
		}
		if c.take(f) {
			return nil
		}
		c.dropSegment()
		if c.Status().Ended {
			return io.EOF
		}
		return ErrStopped
	}
}

// take fills f from the current segment, if that has a frame not yet delivered.
func (c *Camera) take(f *Frame) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current == nil || !c.current.acquire(f, c.count.last) {
		return false
	}
	c.count.deliver(f)
	if c.status.Ended {
		poke(c.drained)
	}
	return true
}

func (c *Camera) dropSegment() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current != nil {
		c.count.observe(c.current)
		c.current.unref()
		c.current = nil
	}
}

func validName(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' {
			return false
		}
	}
	return true
}
