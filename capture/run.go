package capture

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// Run captures until ctx ends or a source without loop has given its last frame
// and that was taken by Next. It then has left nothing behind: no process, no
// goroutine, no descriptor, no memory but that of unreleased frames. It returns
// within a second plus StopTimeout of ctx's end, unless the kernel cannot end the
// worker.
//
// Faults of camera or worker are no errors here; they are restarted and show in
// Status. Run returns nil, or an error if it is called a second time.
func (c *Camera) Run(ctx context.Context) error {
	c.mu.Lock()
	again := c.ran
	c.ran = true
	c.mu.Unlock()
	if again {
		return fmt.Errorf("camera %q: Run was called twice", c.opt.Name)
	}

	failures, started := 0, false
	for ctx.Err() == nil {
		if !c.isEnabled() {
			failures, started = 0, false // switched on again it starts afresh, which is no restart
			c.setState(Disabled, "switched off")
			select {
			case <-c.kick:
			case <-ctx.Done():
			}
			continue
		}
		if started {
			c.mu.Lock()
			c.status.Restarts++
			c.mu.Unlock()
		}
		started = true
		end := c.session(ctx)
		if ctx.Err() != nil {
			break
		}
		if end.eof {
			c.finish(ctx)
			return nil
		}
		if end.off || !c.isEnabled() {
			// off: it may have been switched on again while the worker ended.
			failures, started = 0, false
			continue
		}
		if end.online >= c.opt.Backoff.Stable {
			failures = 0
		}
		failures++
		pause := c.opt.Backoff.Pause(failures, rand.Float64())
		c.log.Warn("camera failed", "reason", end.reason, "failures", failures, "pause", pause.Round(time.Millisecond))
		c.setState(Connecting, fmt.Sprintf("%s; next attempt after %v", end.reason, pause.Round(100*time.Millisecond)))
		c.pause(ctx, pause)
	}
	c.setState(Disabled, "stopped")
	close(c.ended)
	c.dropSegment()
	return nil
}

// pause waits, less if the camera is switched off or ctx ends.
func (c *Camera) pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for c.isEnabled() {
		select {
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		case <-c.kick:
		}
	}
}

// finish keeps the last frame until it is taken.
func (c *Camera) finish(ctx context.Context) {
	c.mu.Lock()
	c.status.Ended = true
	c.mu.Unlock()
	c.setState(Disabled, "the source has ended")
	close(c.ended)
	for {
		c.mu.Lock()
		left := c.current != nil && c.current.latest() > c.count.last
		c.mu.Unlock()
		if !left {
			break
		}
		select {
		case <-c.drained:
			continue
		case <-ctx.Done():
		}
		break
	}
	c.dropSegment()
}

// setState changes the state, tells the log and OnStatus, and does nothing if
// nothing changed.
func (c *Camera) setState(s State, reason string) {
	c.mu.Lock()
	if c.status.State == s && c.status.Reason == reason {
		c.mu.Unlock()
		return
	}
	c.status.State, c.status.Reason, c.status.Since = s, reason, time.Now()
	snapshot := c.statusLocked()
	c.mu.Unlock()
	c.log.Info("camera "+string(s), "reason", reason)
	if c.opt.OnStatus != nil {
		c.opt.OnStatus(snapshot)
	}
}

// sessionEnd says how a worker's life ended.
type sessionEnd struct {
	eof    bool
	off    bool // it was switched off
	reason string
	online time.Duration // between its first and last frame
}

// session is one worker's life: start, watch, end.
func (c *Camera) session(ctx context.Context) (end sessionEnd) {
	c.setState(Connecting, "starting the worker")
	p, err := startProcess(&c.opt, c.log)
	if err != nil {
		return sessionEnd{reason: err.Error()}
	}
	inner, cancel := context.WithCancel(ctx)
	s := &session{c: c, p: p, v: vitals{started: MonotonicNow()}}
	s.progress = make(chan struct{}, 1)
	messages := make(chan message)
	p.events(inner, messages)
	p.frames(func() {
		poke(c.wake)
		poke(s.progress)
	})
	c.mu.Lock()
	c.status.PID = p.pid
	c.mu.Unlock()

	end = s.watch(ctx, messages)

	cancel()
	p.end(c.opt.StopTimeout)
	for m := range messages { // closed by now; at most one was on its way
		m.discard()
	}
	if words := p.output.lastWords(); words != "" && s.died {
		end.reason += ": " + words
	}
	if s.v.lastFrame > 0 {
		end.online = time.Duration(s.v.lastFrame - s.firstFrame)
	}
	c.mu.Lock()
	c.status.PID = 0
	if c.current != nil {
		c.count.observe(c.current)
	}
	if !end.eof {
		c.count.endWorker()
		if c.current != nil {
			c.current.unref()
			c.current = nil
		}
	}
	c.mu.Unlock()
	return end
}

// session is the watching of one worker.
type session struct {
	c        *Camera
	p        *process
	v        vitals
	progress chan struct{}

	firstFrame int64
	lastSeen   uint64 // sequence
	generation uint32
	died       bool
}

// watch follows the worker until it must end or has ended.
func (s *session) watch(ctx context.Context, messages <-chan message) sessionEnd {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return sessionEnd{reason: "stopped"}
		case <-s.c.kick:
			if !s.c.isEnabled() {
				return sessionEnd{off: true, reason: "switched off"}
			}
		case m, ok := <-messages:
			if !ok {
				messages = nil
				// The socket closes as the process ends; wait for its exit state.
				continue
			}
			if end, over := s.handle(m); over {
				return end
			}
		case <-s.p.exited:
			return s.afterExit(messages)
		case <-s.progress:
		case <-tick.C:
		}
		if end, over := s.check(); over {
			return end
		}
	}
}

// afterExit reads what the worker said before it went: its error tells more than
// its exit state, and an eof makes it no fault.
func (s *session) afterExit(messages <-chan message) sessionEnd {
	_ = s.p.control.conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
	for messages != nil {
		m, ok := <-messages
		if !ok {
			break
		}
		if end, over := s.handle(m); over {
			return end
		}
	}
	s.died = true
	return sessionEnd{reason: "the worker ended by itself: " + s.p.state}
}

func (s *session) check() (sessionEnd, bool) {
	now := MonotonicNow()
	c := s.c
	c.mu.Lock()
	if m := c.current; m != nil {
		if n := m.latest(); n > s.lastSeen {
			s.lastSeen = n
			s.v.lastFrame = now
			if s.firstFrame == 0 {
				s.firstFrame = now
			}
		}
		// A heartbeat from the future cannot be one.
		if beat := m.heartbeat(); beat <= now {
			s.v.lastSign = max(s.v.lastSign, beat)
		}
	}
	c.mu.Unlock()
	judged := s.v.judge(now, &c.opt)
	c.setState(judged.state, judged.reason)
	return sessionEnd{reason: judged.reason}, judged.kill
}

// handle takes one message in; over says that the session ends with it.
func (s *session) handle(m message) (end sessionEnd, over bool) {
	defer m.discard()
	fail := func(err error) (sessionEnd, bool) {
		return sessionEnd{reason: s.c.opt.Source.Redact(err.Error())}, true
	}
	if m.err != nil {
		return fail(m.err)
	}
	now := MonotonicNow()
	s.v.lastSign = now
	e := m.event
	if (s.v.greeted == 0) != (e.Event == eventHello) {
		return fail(fmt.Errorf("capture worker sent %q out of turn", e.Event))
	}
	switch e.Event {
	case eventHello:
		if err := s.greet(e); err != nil {
			return fail(err)
		}
		s.v.greeted = now
		s.v.doing = "opening " + s.c.opt.Source.String()
	case eventOpened:
		s.v.opened, s.v.fps = now, e.FPS
		s.c.mu.Lock()
		s.c.status.FPS, s.c.status.Clock = e.FPS, e.Clock
		s.c.mu.Unlock()
		s.c.log.Info("source opened", "backend", e.Backend, "fps", e.FPS, "clock", e.Clock)
	case eventSegment:
		if err := s.adopt(m); err != nil {
			return fail(err)
		}
	case eventBroken:
		s.c.log.Warn("broken picture", "error", s.c.opt.Source.Redact(e.Message))
	case eventError:
		return fail(errors.New(e.Message))
	case eventEOF:
		return sessionEnd{eof: true, reason: "the source has ended"}, true
	}
	return sessionEnd{}, false
}

// greet answers the worker's hello with the source to open, if it is of our kind.
func (s *session) greet(e event) error {
	o := &s.c.opt
	if e.Protocol != protocolVersion {
		return fmt.Errorf("worker %s speaks protocol %d, this program speaks %d: install toklip and %s of one build",
			o.WorkerPath, e.Protocol, protocolVersion, WorkerName)
	}
	if o.Version != "" && e.Version != "" && o.Version != e.Version {
		return fmt.Errorf("worker %s is version %s, this program is %s: install toklip and %s of one build",
			o.WorkerPath, e.Version, o.Version, WorkerName)
	}
	return s.p.control.send(command{
		Command: commandOpen, URI: o.Source.URI(), Width: o.Width, Height: o.Height, FPS: o.FPS, Slots: o.Slots,
	}, -1)
}

// adopt maps a segment the worker sent and makes it the one frames come from.
func (s *session) adopt(m message) error {
	if m.fd < 0 {
		return errors.New("capture worker announced shared memory and sent none")
	}
	mapped, err := openMapping(m.fd)
	if err != nil {
		return err
	}
	if mapped.generation != m.event.Generation || mapped.generation <= s.generation {
		mapped.unref()
		return fmt.Errorf("capture worker sent segment %d as %d after %d", mapped.generation, m.event.Generation, s.generation)
	}
	s.generation = mapped.generation
	c := s.c
	c.mu.Lock()
	if c.current != nil {
		c.count.observe(c.current)
		c.current.unref()
	}
	c.current = mapped
	c.status.Width, c.status.Height, c.status.Format = mapped.Width, mapped.Height, mapped.Format.String()
	c.mu.Unlock()
	poke(c.wake)
	return nil
}

// poke puts a token into a channel with room for one, unless one is there.
func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
