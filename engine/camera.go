package engine

import (
	"fmt"
	"time"

	"github.com/toklip/toklip/engine/preprocess"
)

// CameraConfig describes a camera of a pipeline.
type CameraConfig struct {
	Name   string          // unique in the pipeline, not empty
	MaxFPS float64         // frames a second let through, on average; 0: all
	Resize preprocess.Mode // how its frames become the network's square
}

// Camera is a source of frames in a pipeline: a slot that holds the newest one. Its
// methods may be called by several goroutines, but frames keep their order only if
// one goroutine offers them.
type Camera struct {
	p      *Pipeline
	name   string
	stream int

	// Guarded by p.mu.
	resize    preprocess.Mode
	interval  int64 // least ns between frames, 0: no limit
	due       int64 // when the next frame may pass, ns of CLOCK_MONOTONIC
	frame     *Frame
	offered   int64 // when frame was, ns of CLOCK_MONOTONIC
	dropped   Drops // stats.drops when frame was offered
	waiting   int64 // since when the slot holds one, ns of CLOCK_MONOTONIC
	removed   bool
	stats     cameraStats
	failed    uint64 // number of the last batch that failed with a frame of it; 0: a result of a later one came
	keyframe  int64  // capture time of the last keyframe, ns of CLOCK_MONOTONIC
	lastShape shape  // of the last result; zero before the first and after a swap
}

// shape is what makes cells of two results look at different places if it differs.
type shape struct {
	width, height int
	format        PixelFormat
	resize        preprocess.Mode
}

// Name of the camera.
func (c *Camera) Name() string { return c.name }

// SetMaxFPS changes the camera's rate limit; 0 takes it away.
func (c *Camera) SetMaxFPS(fps float64) error {
	interval, err := rateInterval(fps)
	if err != nil {
		return fmt.Errorf("camera %q: %w", c.name, err)
	}
	c.p.mu.Lock()
	c.interval, c.due = interval, 0
	c.p.mu.Unlock()
	return nil
}

func rateInterval(fps float64) (int64, error) {
	switch {
	case fps == 0:
		return 0, nil
	case !(fps >= 0.001 && fps <= 10000):
		return 0, fmt.Errorf("rate limit of %v frames a second: use 0 for none, or 0.001 to 10000", fps)
	}
	return int64(float64(time.Second) / fps), nil
}

// Offer gives the pipeline a frame, which it owns from now on. It never blocks and
// never copies: the frame takes the camera's slot, and the frame that waited there is
// released and counted as Replaced; one above the rate limit is released and counted
// as Rate; one for a removed camera or an ended pipeline as Closed.
func (c *Camera) Offer(f *Frame) {
	now := c.p.clock.now()
	f.Camera = c.name
	if f.CaptureMono == 0 {
		f.CaptureMono = now
	}
	c.p.mu.Lock()
	c.stats.offered++
	out := f
	switch {
	case c.removed || c.p.ended:
		c.stats.drops.Closed++
	case !c.pass(f.CaptureMono):
		c.stats.drops.Rate++
	default:
		if out = c.frame; out != nil {
			c.stats.drops.Replaced++
		} else {
			c.waiting = now
		}
		c.frame, c.offered, c.dropped = f, now, c.stats.drops
	}
	c.p.mu.Unlock()
	if out != f {
		c.p.notify()
	}
	if out != nil {
		out.Release()
	}
}

// pass decides by the rate limit. Frames that pass are due one interval after
// another, so that the average holds; an eighth of it is allowed for jitter, without
// which a source of just the allowed rate would lose every second frame. After a
// pause the schedule begins anew. Called with p.mu held.
func (c *Camera) pass(captured int64) bool {
	if c.interval == 0 {
		return true
	}
	if captured < c.due-c.interval/8 && captured > c.due-2*c.interval {
		return false
	}
	if captured-c.due > c.interval || captured < c.due-c.interval/8 {
		c.due = captured
	}
	c.due += c.interval
	return true
}
