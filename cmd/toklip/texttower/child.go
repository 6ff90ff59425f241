package texttower

import (
	"context"
	"errors"
	"time"
)

// ChildOptions are those of [NewChild].
type ChildOptions struct {
	Options
	Idle  time.Duration // how long the process stays after its last text; 0: 30 s
	Queue int           // how many calls may wait while one runs; 0: 16
	// Program and Name are the file and name of the program that is started as `NAME text --json ...`; empty: this program.
	Program, Name string
}

// Child runs the tower in a process of its own, `toklip text --json`, which starts at the first text that is not cached and ends
// after some idle time, with [Child.Close], or with this process, however that ends. It has a lower priority, and the kernel
// picks it first where memory runs out.
type Child struct{ opts ChildOptions }

var _ Embedder = (*Child)(nil)

// NewChild checks the model as [Check] does and starts nothing yet.
func NewChild(opts ChildOptions) (*Child, error) { return &Child{opts}, nil }

// Embed implements [Embedder]. Calls are served one after the other; one too many fails with [ErrBusy]. Cancelling ctx ends the
// process if it is busy with this call. What was embedded until then is cached.
func (c *Child) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	return nil, errors.New("not written yet")
}

// Running reports whether the process is there, for states and tests.
func (c *Child) Running() bool { return false }

// Close ends the process, fails calls that wait, and waits for all of it. Calling it again does nothing.
func (c *Child) Close() error { return nil }
