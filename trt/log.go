package trt

import (
	"context"
	"log/slog"
	"sync"
	"time"
	"unsafe"
)

// Levels of what TensorRT logs. Its "info" speaks of memory and tactics, many lines a build: a
// program's debug.
var levels = map[int32]slog.Level{1: slog.LevelError, 2: slog.LevelWarn, 3: slog.LevelDebug, 4: slog.LevelDebug - 4}

// drainInterval is how often lines are taken that nobody asked for: those of frames.
const drainInterval = time.Second

// drain hands TensorRT's lines to a logger: after calls, while building, and once a second, so that
// a frame costs no call for it.
type drain struct {
	api     abi
	library unsafe.Pointer
	logger  *slog.Logger

	mu   sync.Mutex
	line *[4096]byte // an object of its own: C must not see the rest of drain

	stop chan struct{}
	done chan struct{}
}

// newDrain starts draining. A nil logger drops the lines where they wait.
func newDrain(api abi, library unsafe.Pointer, logger *slog.Logger) *drain {
	d := &drain{api: api, library: library, logger: logger, line: new([4096]byte), stop: make(chan struct{}), done: make(chan struct{})}
	if logger == nil {
		close(d.done)
		return d
	}
	go func() {
		defer close(d.done)
		tick := time.NewTicker(drainInterval)
		defer tick.Stop()
		for {
			select {
			case <-d.stop:
				return
			case <-tick.C:
				d.take()
			}
		}
	}()
	return d
}

// take hands over what waits.
func (d *drain) take() {
	if d.logger == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var severity int32
	var dropped, lost uint64
	// No more lines than can wait: one that logs without end must not hold us.
	for range 1024 {
		dropped = 0
		more := d.api.logTake(d.library, &severity, d.line[:], &dropped)
		lost += dropped
		if !more {
			break
		}
		level, ok := levels[severity]
		if !ok {
			level = slog.LevelWarn
		}
		d.logger.Log(context.Background(), level, "tensorrt", "line", text(d.line[:]))
	}
	if lost > 0 {
		d.logger.Warn("lines that TensorRT logged were lost", "count", lost)
	}
}

// end stops draining and hands over what is left. The library is freed afterwards.
func (d *drain) end() {
	close(d.stop)
	<-d.done
	d.take()
}
