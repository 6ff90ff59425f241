package trt

import (
	"fmt"
	"log/slog"
	"runtime"
)

// Forgotten describes a handle that the garbage collector found unclosed.
type Forgotten struct {
	Kind  string // "library", "engine" or "pipeline"
	Where string // file:line that made it
}

// alarm is rung for forgotten handles.
type alarm func(Forgotten)

func newAlarm(o Options) alarm {
	if o.Forgotten != nil {
		return o.Forgotten
	}
	logger := o.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return func(f Forgotten) { logger.Error("handle was dropped without Close", "kind", f.Kind, "made", f.Where) }
}

// caller is the place that called the exported function that calls caller.
func caller() string {
	if _, file, line, ok := runtime.Caller(2); ok {
		return fmt.Sprintf("%s:%d", file, line)
	}
	return "unknown place"
}

// watch arms the alarm for a handle; its Close stops what watch returns. Nothing that lives as long as
// the program may refer to the handle, or the alarm can never ring.
func watch[T any](handle *T, ring alarm, kind, where string) runtime.Cleanup {
	return runtime.AddCleanup(handle, ring, Forgotten{kind, where})
}
