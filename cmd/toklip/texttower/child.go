package texttower

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/toklip/toklip/cmd/toklip/child"
)

// ChildOptions are those of [NewChild].
type ChildOptions struct {
	Options
	Idle  time.Duration // how long the process stays after its last text; 0: it ends right then
	Queue int           // how many calls may wait while one runs; 0: 16
	// Stall is how long the process may neither answer nor compute before it counts as hanging, and a twelfth of how long it may
	// compute without an answer; 0: 5 min.
	Stall time.Duration
	// Program and Name are the file and name of the program that is started as `NAME text --json ...`; empty: this program.
	Program, Name string
}

// Child runs the tower in a process of its own, `toklip text --json`, which starts at the first text that is not cached and ends
// after some idle time, with [Child.Close], or with this process, however that ends. It has a lower priority, and the kernel
// picks it first where memory runs out.
type Child struct {
	tower
	program child.Program
	idle    time.Duration
	stall   time.Duration

	requests chan *request
	stop     context.CancelCauseFunc
	done     chan struct{} // closed when run has returned
	pid      atomic.Int64  // of the process; 0 while there is none
}

var _ Embedder = (*Child)(nil)

// request is a call of Embed that needs the tower.
type request struct {
	ctx    context.Context
	wanted *wanted
	ended  chan error // one item
}

// Priorities of the process: frames come first, and so does the daemon where memory runs out (1000 is the most).
const (
	niceness    = 10
	oomScoreAdj = 1000
)

// NewChild checks the model as [Check] does and starts no process yet.
func NewChild(opts ChildOptions) (*Child, error) {
	c := &Child{idle: opts.Idle, stall: opts.Stall, done: make(chan struct{})}
	if err := c.init(opts.Options); err != nil {
		return nil, err
	}
	if c.stall <= 0 {
		c.stall = 5 * time.Minute
	}
	if opts.Queue <= 0 {
		opts.Queue = 16
	}
	c.requests = make(chan *request, opts.Queue)
	// What comes back is cached here. The hash keeps a folder that was replaced meanwhile from answering for this one.
	args := []string{"text", "--model", c.Dir, "--json", "--text-cache", "none", "--text-hash", c.Manifest.Text.Hash}
	if c.Threads > 0 {
		args = append(args, "--threads", strconv.Itoa(c.Threads))
	}
	if c.Library != "" {
		args = append(args, "--onnxruntime-library", c.Library)
	}
	c.program = child.This(append(args, "-")...)
	if opts.Program != "" {
		c.program.Path = opts.Program
	}
	if opts.Name != "" {
		c.program.Args[0] = opts.Name
	}
	c.program.Stdin, c.program.Nice, c.program.OOMScoreAdj = true, niceness, oomScoreAdj
	ctx, stop := context.WithCancelCause(context.Background())
	c.stop = stop
	go c.run(ctx)
	return c, nil
}

// Embed implements [Embedder]. Calls are served one after the other; one too many fails with [ErrBusy]. Cancelling ctx ends the
// process if it is busy with this call. What was embedded until then is cached.
func (c *Child) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	w, err := c.want(texts)
	if err != nil {
		return nil, err
	}
	if len(w.missing()) == 0 {
		return w.result(), nil
	}
	r := &request{ctx, w, make(chan error, 1)}
	select {
	case <-c.done:
		return nil, fmt.Errorf("embed texts: %w", ErrClosed)
	case <-ctx.Done():
		return nil, fmt.Errorf("embed texts: %w", context.Cause(ctx))
	case c.requests <- r:
	default:
		return nil, fmt.Errorf("embed texts: %w: %d calls wait for it already; try again later", ErrBusy, cap(c.requests))
	}
	select {
	case err = <-r.ended:
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-c.done:
		select {
		case err = <-r.ended:
		default: // it came when nobody looked any more
			err = ErrClosed
		}
	}
	if err != nil {
		return nil, fmt.Errorf("embed texts: %w", err)
	}
	return w.result(), nil
}

// PID is the number of the process, for states and tests; 0 while there is none.
func (c *Child) PID() int { return int(c.pid.Load()) }

// Close ends the process, fails calls that wait, and waits for all of it. Calling it again does nothing.
func (c *Child) Close() error {
	c.stop(ErrClosed)
	<-c.done
	return nil
}

// run serves calls until the context ends.
func (c *Child) run(ctx context.Context) {
	defer close(c.done)
	var s *session
	defer func() { c.finish(s, "this process ends") }()
	idle := time.NewTimer(c.idle)
	defer idle.Stop()
	for {
		select {
		case <-ctx.Done():
			return // whoever waits sees done
		case r := <-c.requests:
			var err error
			s, err = c.serve(ctx, s, r)
			r.ended <- err
			idle.Reset(c.idle)
		case <-idle.C:
			s = c.finish(s, "it was idle")
		case <-s.gone():
			c.Logger.Warn("the text process ended unasked", "pid", s.process.PID(), "error", s.fault(errEnded))
			s = c.finish(s, "it was gone")
		}
	}
}

// serve answers a call with the session, if there is one, and returns that of the next call.
func (c *Child) serve(ctx context.Context, s *session, r *request) (*session, error) {
	c.look(r.wanted) // the call before may have made them
	missing := r.wanted.missing()
	both, cancel := context.WithCancelCause(r.ctx)
	defer cancel(nil)
	defer context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })()
	if len(missing) > 0 && both.Err() == nil {
		c.Computing(len(missing))
	}
	for len(missing) > 0 {
		if both.Err() != nil {
			return s, context.Cause(both)
		}
		fresh := s == nil
		if fresh {
			var err error
			if s, err = c.begin(); err != nil {
				return nil, err
			}
		}
		err := s.embed(both, r.wanted, missing)
		if err == nil {
			return s, nil
		}
		if both.Err() != nil {
			return c.finish(s, "its call was cancelled"), context.Cause(both)
		}
		s = c.finish(s, "of a fault")
		// One that served before may have died while nobody looked: that is not this call's fault.
		if fresh || len(r.wanted.missing()) < len(missing) {
			return nil, err
		}
		c.Logger.Warn("the text process is started again", "error", err)
	}
	return s, nil
}

// begin starts the process.
func (c *Child) begin() (*session, error) {
	// Its end is this type's business alone.
	process, err := c.program.Start(context.Background())
	if err != nil {
		return nil, err
	}
	c.pid.Store(int64(process.PID()))
	c.Logger.Info("text process started", "pid", process.PID())
	if process.Unadjusted != nil {
		c.Logger.Warn("where memory runs out the kernel may end this process instead of the text process", "error", process.Unadjusted)
	}
	return newSession(c, process), nil
}

// finish ends a session, which may be nil, and returns what is there then: none.
func (c *Child) finish(s *session, why string) *session {
	if s != nil {
		s.end()
		c.pid.Store(0)
		c.Logger.Info("text process ended", "pid", s.process.PID(), "because", why)
	}
	return nil
}
