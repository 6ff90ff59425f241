package capture

import (
	"fmt"
	"time"
)

// vitals are what a session knows of its worker. Times are CLOCK_MONOTONIC in ns,
// 0 for never.
type vitals struct {
	started   int64
	greeted   int64 // hello received and answered
	opened    int64
	lastFrame int64
	lastSign  int64 // packet or heartbeat
	fps       float64
	doing     string // what it does while it opens
}

// verdict is what vitals say about now.
type verdict struct {
	state  State
	reason string
	kill   bool // the worker must be ended; reason says why
}

// stallAfter is when missing frames count as a stall: a slow source is given
// three of its periods.
func (o *Options) stallAfter(fps float64) time.Duration {
	d := o.StallAfter
	if fps > 0 {
		d = max(d, time.Duration(3/fps*float64(time.Second)))
	}
	return d
}

// judge is a pure function of what is known and the time.
func (v vitals) judge(now int64, o *Options) verdict {
	since := func(t int64) time.Duration { return time.Duration(now - t) }
	stall := o.stallAfter(v.fps)
	switch {
	case v.greeted == 0:
		if since(v.started) > o.OpenTimeout {
			return verdict{Connecting, fmt.Sprintf("the worker did not answer within %v", o.OpenTimeout), true}
		}
		return verdict{Connecting, "starting the worker", false}
	case since(v.lastSign) > o.SilenceTimeout:
		state := Stalled
		if v.lastFrame == 0 {
			state = Connecting
		}
		return verdict{state, fmt.Sprintf("the worker hangs: no sign of life for %v", o.SilenceTimeout), true}
	case v.opened == 0:
		if since(v.greeted) > o.OpenTimeout {
			return verdict{Connecting, fmt.Sprintf("the source did not open within %v", o.OpenTimeout), true}
		}
		return verdict{Connecting, v.doing, false}
	case v.lastFrame == 0:
		limit := max(o.PictureTimeout, stall)
		if since(v.opened) > limit {
			return verdict{NoPicture, fmt.Sprintf("connected, but no picture within %v", limit), true}
		}
		return verdict{NoPicture, "connected, waiting for the first picture", false}
	case since(v.lastFrame) > max(o.FrameTimeout, 2*stall):
		return verdict{Stalled, fmt.Sprintf("no frame for %v", max(o.FrameTimeout, 2*stall)), true}
	case since(v.lastFrame) > stall:
		return verdict{Stalled, fmt.Sprintf("no frame for more than %v", stall), false}
	}
	return verdict{Online, "", false}
}
