// Package child starts programs that work for this one: mostly this one again, as `toklip engine build --json` or
// `toklip text --json`, for work that takes much memory or whose faults must not end the daemon.
//
// A child ends with this process, however that ends, and what it said last on its standard error is kept for the error.
package child

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// killAfter is how long a process has to end by itself when it is told to, and how long its output may stay open after it ended.
const killAfter = time.Second

// lastWords is how much is kept of a process's standard error, bytes.
const lastWords = 2048

// Program says what is started, and how.
type Program struct {
	Path string   // of its file
	Args []string // its name first, as in os.Args
	// Stdin says that [Process.In] is wanted; without it there is nothing to read.
	Stdin bool
	// Nice is the least niceness of all its threads, 0 to 19.
	Nice int
	// OOMScoreAdj makes the kernel choose this process (1000) or others where memory runs out; 0: as this process has it.
	OOMScoreAdj int
}

// This is the running program, whatever happened to its file since.
func This(args ...string) Program {
	return Program{Path: "/proc/self/exe", Args: append([]string{os.Args[0]}, args...)}
}

// Process is a started program. [Process.Wait] must be called in the end.
type Process struct {
	Out io.Reader      // its standard output; ends when the process does
	In  io.WriteCloser // its standard input; nil unless asked for
	// Unadjusted says why the kernel was not told OOMScoreAdj, which does not keep the process from its work; nil if it was.
	Unadjusted error

	process *os.Process
	tail    tail
	done    chan struct{}
	err     error // valid once done is closed
}

// Start starts the program. Cancelling ctx ends it and whatever it started, by SIGTERM and then SIGKILL, within a second and a bit.
func (p Program) Start(ctx context.Context) (*Process, error) {
	out, in := io.Pipe()
	child := &Process{Out: out, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		// Linux sends the signal of the parent's death when the thread that forked ends (golang/go#27505).
		runtime.LockOSThread()
		if p.Nice == 0 {
			defer runtime.UnlockOSThread()
		} else if err := lowerPriority(p.Nice); err != nil { // of this thread, which therefore ends with the goroutine
			started <- err
			return
		}
		cmd := exec.CommandContext(ctx, p.Path)
		cmd.Args = p.Args
		cmd.Stdout, cmd.Stderr = in, &child.tail
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) } // with whatever it started
		cmd.WaitDelay = killAfter
		// A Ctrl-C in the terminal is for this process, which then ends that one.
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
		var err error
		if p.Stdin {
			child.In, err = cmd.StdinPipe()
		}
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			started <- err
			return
		}
		child.process = cmd.Process
		if p.OOMScoreAdj != 0 {
			child.Unadjusted = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", cmd.Process.Pid), strconv.AppendInt(nil, int64(p.OOMScoreAdj), 10), 0)
		}
		started <- nil
		child.err = cmd.Wait()
		_ = in.Close() // never fails
		close(child.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", strings.Join(p.Args, " "), err)
	}
	return child, nil
}

// lowerPriority makes the calling thread as nice as told. Linux keeps niceness by thread, a new process takes it from the thread
// that forks, and without privileges it only grows.
func lowerPriority(nice int) error {
	// The system call gives 20 less the niceness (getpriority(2), "C library/kernel differences").
	now, err := syscall.Getpriority(syscall.PRIO_PROCESS, 0)
	if err == nil && 20-now < nice {
		err = syscall.Setpriority(syscall.PRIO_PROCESS, 0, nice)
	}
	if err != nil {
		return fmt.Errorf("lower priority to %d: %w", nice, err)
	}
	return nil
}

// PID is the process's number.
func (p *Process) PID() int { return p.process.Pid }

// CPU is how long the process has computed, in all its threads; it is 0 for one that has ended.
func (p *Process) CPU() time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.process.Pid))
	if err != nil {
		return 0
	}
	// The name, in brackets, may hold anything. Of what follows, fields 14 and 15 of proc_pid_stat(5) are user and system time in
	// ticks, of which Linux shows 100 a second everywhere.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	const first, user, system = 3, 14, 15
	if len(fields) <= system-first {
		return 0
	}
	var ticks int64
	for _, field := range []string{fields[user-first], fields[system-first]} {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0
		}
		ticks += n
	}
	return time.Duration(ticks) * (time.Second / 100)
}

// Kill ends the process and whatever it started at once.
func (p *Process) Kill() {
	if p.process.Signal(syscall.Signal(0)) == nil { // else it was waited for, and its number may be another's by now
		_ = syscall.Kill(-p.process.Pid, syscall.SIGKILL)
	}
}

// Done is closed when the process has ended and its output was read.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait drops the output that was not read, waits until the process has ended and says how, as [exec.Cmd.Wait] does.
func (p *Process) Wait() error {
	_, _ = io.Copy(io.Discard, p.Out) // never fails
	<-p.done
	return p.err
}

// LastWords is the end of what the process wrote to its standard error, in one line.
func (p *Process) LastWords() string { return p.tail.String() }

// tail keeps the end of what is written.
type tail struct {
	mu   sync.Mutex
	text []byte
}

// Write implements io.Writer.
func (w *tail) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text = append(w.text, p...)
	if over := len(w.text) - lastWords; over > 0 {
		w.text = append(w.text[:0], w.text[over:]...)
	}
	return len(p), nil
}

// String is what was kept, in one line.
func (w *tail) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(strings.FieldsFunc(string(bytes.TrimSpace(w.text)), func(r rune) bool { return r == '\n' || r == '\r' }), " | ")
}
