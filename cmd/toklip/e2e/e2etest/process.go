// Package e2etest starts built programs and a real broker, for end-to-end tests.
package e2etest

import (
	"bufio"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/toklip/toklip/capture/capturetest"
)

// Patience bounds every wait: far more than a busy machine needs, so that only what never comes fails.
const Patience = 60 * time.Second

// Build builds toklip to a path, with flags of go build.
func Build(path string, flags ...string) error {
	args := append([]string{"build", "-o", path}, flags...)
	if out, err := exec.Command("go", append(args, "github.com/toklip/toklip/cmd/toklip")...).CombinedOutput(); err != nil {
		return fmt.Errorf("build toklip: %w\n%s", err, out)
	}
	return nil
}

// Process is a started program whose output is kept.
type Process struct {
	*exec.Cmd
	name  string
	lines chan string         // of standard output
	Out   *capturetest.Output // of standard error
	Ended chan struct{}
	Err   error // once it has ended
}

// Start runs a program in an environment, nil for this process's; it is ended when the test is, if it still runs then.
func Start(t *testing.T, env []string, name string, args ...string) *Process {
	t.Helper()
	p := &Process{Cmd: exec.Command(name, args...), name: filepath.Base(name), lines: make(chan string, 1000), Out: &capturetest.Output{}, Ended: make(chan struct{})}
	p.Env = env
	stdout, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.Stderr = p.Out
	if err := p.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	go func() {
		scanner := bufio.NewScanner(stdout)
		scanner.Buffer(nil, 16<<20)
		for scanner.Scan() {
			select {
			case p.lines <- scanner.Text():
			default: // nobody reads on
			}
		}
		p.Err = p.Wait()
		close(p.Ended)
	}()
	t.Cleanup(func() {
		_ = p.Process.Kill() // it may have ended
		<-p.Ended
		if strings.Contains(p.Out.String(), "WARNING: DATA RACE") {
			t.Error("a data race")
		}
		if t.Failed() {
			t.Logf("%s %v wrote:\n%s", p.name, args, p.Out)
		}
	})
	return p
}

// Lines are those of standard output that nobody has read yet.
func (p *Process) Lines() <-chan string { return p.lines }

// Line waits for the next line of standard output.
func (p *Process) Line(t *testing.T) string {
	t.Helper()
	select {
	case line := <-p.lines:
		return line
	case <-p.Ended:
		select {
		case line := <-p.lines:
			return line
		default:
		}
		t.Fatalf("%s ended (%v) without a further line:\n%s", p.name, p.Err, p.Out)
	case <-time.After(Patience):
		t.Fatalf("%s wrote no line in %v:\n%s", p.name, Patience, p.Out)
	}
	return ""
}

// LineWith waits for a line that contains text.
func (p *Process) LineWith(t *testing.T, text string) string {
	t.Helper()
	for end := time.Now().Add(Patience); time.Now().Before(end); {
		if line := p.Line(t); strings.Contains(line, text) {
			return line
		}
	}
	t.Fatalf("%s wrote no line with %q in %v", p.name, text, Patience)
	return ""
}

// Stop sends SIGTERM and returns the exit code and how long the end took.
func (p *Process) Stop(t *testing.T) (int, time.Duration) {
	t.Helper()
	begun := time.Now()
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatalf("stop %s: %v", p.name, err)
	}
	select {
	case <-p.Ended:
	case <-time.After(Patience):
		t.Fatalf("%s did not end after SIGTERM:\n%s", p.name, p.Out)
	}
	return p.ProcessState.ExitCode(), time.Since(begun)
}

// FreePort is a loopback port that was free a moment ago.
func FreePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// Mosquitto starts a real broker on the port.
func Mosquitto(t *testing.T, port string) *Process {
	t.Helper()
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		path = "/usr/sbin/mosquitto" // not in everybody's PATH
	}
	p := Start(t, nil, path, "-p", port)
	WaitFor(t, "mosquitto listens", func() bool {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err != nil {
			return false
		}
		c.Close()
		return true
	})
	return p
}

// WaitFor polls until the condition holds.
func WaitFor(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(Patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if condition() {
			return
		}
	}
	t.Fatalf("waited %v in vain: %s", Patience, what)
}
