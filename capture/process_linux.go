package capture

import (
	"bufio"
	"context"
	"errors"
	"fmt"

	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is a running worker as the daemon sees it.
type process struct {
	pid     int
	control *channel
	notify  *os.File // a byte for each new frame

	// exited is closed once the process was reaped; state and last are valid then.
	exited chan struct{}
	state  string
	output *output

	mu   sync.Mutex
	gone bool // reaped or about to be: the id may be another's soon

	group sync.WaitGroup
}

// startProcess starts the worker with its control socket, notification pipe and
// output connected.
func startProcess(o *Options, log *slog.Logger) (_ *process, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make control socket: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "control"), os.NewFile(uintptr(fds[1]), "control")
	defer ours.Close() // newChannel duplicates it.
	defer theirs.Close()
	// A pipe and not an eventfd: its ends are separate open descriptions, so that
	// the worker's mode (never wait) and ours (wait in the poller) are independent.
	notify, childNotify, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make notification pipe: %w", err)
	}
	defer childNotify.Close()
	p := &process{notify: notify, exited: make(chan struct{})}
	defer func() {
		if err != nil {
			_ = p.notify.Close()
			if p.control != nil {
				_ = p.control.close()
			}
		}
	}()
	if p.control, err = newChannel(ours); err != nil {
		return nil, err
	}
	outRead, outWrite, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make output pipe: %w", err)
	}
	defer outWrite.Close()

	cmd := exec.Command(o.WorkerPath, "--node", o.Node, "--camera", o.Name)
	cmd.Env = append(os.Environ(), o.WorkerEnv...)
	cmd.Stdout, cmd.Stderr = outWrite, outWrite
	cmd.ExtraFiles = []*os.File{theirs, childNotify}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		// The worker's helpers end with it, and a Ctrl-C in our terminal is ours alone.
		Setpgid: true,
		// Besides the closed control socket: ends a worker that hangs in a driver.
		Pdeathsig: syscall.SIGKILL,
	}
	started := make(chan error, 1)
	p.group.Add(1)
	go p.live(cmd, started)
	if err := <-started; err != nil {
		p.group.Wait()
		_ = outRead.Close()
		return nil, fmt.Errorf("start %s: %w", o.WorkerPath, err)
	}
	p.output = &output{log: log, redact: o.Source.Redact}
	p.group.Add(1)
	go func() {
		defer p.group.Done()
		defer outRead.Close()
		p.output.read(outRead, p.exited)
	}()
	return p, nil
}

// live starts the process and waits for it, on a thread of its own: Linux sends
// the parent-death signal when the *thread* that forked ends (golang/go#27505).
func (p *process) live(cmd *exec.Cmd, started chan<- error) {
	defer p.group.Done()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := cmd.Start()
	if err == nil {
		p.pid = cmd.Process.Pid
	}
	started <- err
	if err != nil {
		return
	}
	// Wait without reaping, so that the id stays ours until the rest of the group
	// has been ended.
	for {
		err := unix.Waitid(unix.P_PID, p.pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	p.mu.Lock()
	_ = unix.Kill(-p.pid, unix.SIGKILL)
	p.gone = true
	p.mu.Unlock()
	p.state = "exit status 0"
	if err := cmd.Wait(); err != nil {
		p.state = err.Error()
	}
	close(p.exited)
}

// signal reaches the worker and its helpers, never a later process with its id.
func (p *process) signal(sig unix.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.gone {
		_ = unix.Kill(-p.pid, sig)
	}
}

// end asks the worker to stop, ends it with SIGTERM and after grace with SIGKILL,
// and waits until nothing of it is left.
func (p *process) end(grace time.Duration) {
	select {
	case <-p.exited:
	default:
		_ = p.control.send(command{Command: commandStop}, -1)
		p.signal(unix.SIGTERM)
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-p.exited:
		case <-timer.C:
			p.signal(unix.SIGKILL)
			// A process in uninterruptible sleep (a driver that hangs in the kernel)
			// stays; nothing can be done but wait.
			<-p.exited
		}
	}
	_ = p.control.close()
	_ = p.notify.Close()
	p.group.Wait()
}

// events receives the worker's packets until the socket closes.
func (p *process) events(ctx context.Context, to chan<- message) {
	p.group.Add(1)
	go func() {
		defer p.group.Done()
		defer close(to)
		for {
			packet, fd, err := p.control.receive()
			if err != nil {
				return
			}
			m := message{fd: fd}
			m.event, m.err = decodeEvent(packet)
			select {
			case to <- m:
			case <-ctx.Done():
				m.discard()
			}
		}
	}()
}

// frames calls wake for each notification, which may stand for several frames.
func (p *process) frames(wake func()) {
	p.group.Add(1)
	go func() {
		defer p.group.Done()
		var tokens [256]byte
		for {
			if _, err := p.notify.Read(tokens[:]); err != nil {
				return
			}
			wake()
		}
	}()
}

// message is a packet as decoded.
type message struct {
	event event
	err   error
	fd    int
}

func (m message) discard() {
	if m.fd >= 0 {
		_ = unix.Close(m.fd)
	}
}

// output passes a worker's output to the log, line by line and no faster than a
// person could read, and remembers the end of it.
type output struct {
	log    *slog.Logger
	redact func(string) string

	mu    sync.Mutex
	cause string // the first line that looks like the cause of a death
	last  string
}

const (
	outputBurst  = 20 // lines
	outputPerSec = 5
)

func (o *output) read(r *os.File, exited <-chan struct{}) {
	// A helper process may hold the pipe open after the worker's end.
	done := make(chan struct{})
	var group sync.WaitGroup
	group.Add(1)
	go func() {
		defer group.Done()
		select {
		case <-exited:
			_ = r.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		case <-done:
		}
	}()
	defer group.Wait()
	defer close(done)

	tokens, last, suppressed := float64(outputBurst), time.Now(), 0
	lines := bufio.NewReaderSize(r, 4096)
	for {
		text, more, err := lines.ReadLine()
		if err != nil {
			if suppressed > 0 {
				o.log.Info("worker output suppressed", "lines", suppressed)
			}
			return
		}
		for more && err == nil { // Too long: the rest is of no use.
			_, more, err = lines.ReadLine()
		}
		line := o.redact(string(text))
		if line == "" {
			continue
		}
		o.keep(line)
		now := time.Now()
		tokens = min(outputBurst, tokens+now.Sub(last).Seconds()*outputPerSec)
		last = now
		if tokens < 1 {
			suppressed++
			continue
		}
		tokens--
		if suppressed > 0 {
			o.log.Info("worker output suppressed", "lines", suppressed)
			suppressed = 0
		}
		o.log.Info("worker output", "line", line)
	}
}

func (o *output) keep(line string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last = line
	if o.cause != "" {
		return
	}
	// What the C++ runtime prints of an uncaught exception; the first line of a
	// Go crash, of a signal and of an assertion.
	for _, mark := range []string{"what():", "panic:", "fatal error:", "SIGSEGV", "SIGBUS", "Assertion"} {
		if strings.Contains(line, mark) {
			o.cause = strings.TrimSpace(line)
		}
	}
}

// lastWords is the line that best tells why a worker died, "" if it said nothing.
func (o *output) lastWords() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.cause != "" {
		return o.cause
	}
	return o.last
}
