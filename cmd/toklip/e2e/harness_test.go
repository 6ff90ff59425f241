package e2e

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/toklip/toklip/capture/capturetest"
)

// patience bounds every wait: far more than a busy machine needs, so that only what never comes fails.
const patience = 60 * time.Second

// node names the daemons of this test process: others may run on the machine, even other checkouts' tests.
var node = fmt.Sprintf("e2e-%d", os.Getpid())

var built struct {
	sync.Once
	toklip string
	err    error
}

// programs builds toklip and its worker once and returns their paths. Locks of nodes that the test starts lie in a folder
// of its own, so that another run of the tests on this machine is not in the way.
func programs(t *testing.T) (toklip, worker string) {
	t.Helper()
	worker = capturetest.Worker(t)
	built.Do(func() {
		built.toklip = filepath.Join(filepath.Dir(worker), "toklip")
		cmd := exec.Command("go", "build", "-o", built.toklip, "github.com/toklip/toklip/cmd/toklip")
		if out, err := cmd.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("build toklip: %w\n%s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	t.Setenv("TMPDIR", t.TempDir())
	return built.toklip, worker
}

// reference is a file of testdata/reference.
func reference(t *testing.T, parts ...string) string {
	t.Helper()
	root, err := capturetest.Root()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(append([]string{root, "testdata", "reference"}, parts...)...)
}

// tinyModel makes the tiny synthetic model.
func tinyModel(t *testing.T, toklip string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tiny")
	if out, err := exec.Command(toklip, "model", "synth", "--preset", "tiny", "--out", dir).CombinedOutput(); err != nil {
		t.Fatalf("make the model: %v\n%s", err, out)
	}
	return dir
}

// process is a started program whose output is kept.
type process struct {
	*exec.Cmd
	name  string
	lines chan string // of standard output
	out   *capturetest.Output
	ended chan struct{}
	err   error
}

// start runs a program; it is ended when the test is, if it still runs then.
func start(t *testing.T, name string, args ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(name, args...), name: filepath.Base(name), lines: make(chan string, 1000), out: &capturetest.Output{}, ended: make(chan struct{})}
	stdout, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.Stderr = p.out
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
		p.err = p.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		_ = p.Process.Kill() // it may have ended
		<-p.ended
		if t.Failed() {
			t.Logf("%s wrote:\n%s", p.name, p.out)
		}
	})
	return p
}

// line waits for the next line of standard output.
func (p *process) line(t *testing.T) string {
	t.Helper()
	select {
	case line := <-p.lines:
		return line
	case <-p.ended:
		select {
		case line := <-p.lines:
			return line
		default:
		}
		t.Fatalf("%s ended (%v) without a further line:\n%s", p.name, p.err, p.out)
	case <-time.After(patience):
		t.Fatalf("%s wrote no line in %v:\n%s", p.name, patience, p.out)
	}
	return ""
}

// lineWith waits for a line that contains text.
func (p *process) lineWith(t *testing.T, text string) string {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if line := p.line(t); strings.Contains(line, text) {
			return line
		}
	}
	t.Fatalf("%s wrote no line with %q in %v", p.name, text, patience)
	return ""
}

// stop sends SIGTERM and returns the exit code and how long the end took.
func (p *process) stop(t *testing.T) (int, time.Duration) {
	t.Helper()
	begun := time.Now()
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatalf("stop %s: %v", p.name, err)
	}
	select {
	case <-p.ended:
	case <-time.After(patience):
		t.Fatalf("%s did not end after SIGTERM:\n%s", p.name, p.out)
	}
	return p.ProcessState.ExitCode(), time.Since(begun)
}

// freePort is a loopback port that was free a moment ago.
func freePort(t *testing.T) string {
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

// mosquitto starts a real broker on the port.
func mosquitto(t *testing.T, port string) *process {
	t.Helper()
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		path = "/usr/sbin/mosquitto" // not in everybody's PATH
	}
	p := start(t, path, "-p", port)
	waitFor(t, "mosquitto listens", func() bool {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err != nil {
			return false
		}
		c.Close()
		return true
	})
	return p
}

// subscribe starts an independent client that prints "topic payload" lines, the payload in hex with binary set.
func subscribe(t *testing.T, port string, binary bool, topics ...string) *process {
	t.Helper()
	format := "%t %p"
	if binary {
		format = "%t %x"
	}
	args := []string{"-p", port, "-F", format}
	for _, topic := range topics {
		args = append(args, "-t", topic)
	}
	return start(t, "mosquitto_sub", args...)
}

// waitFor polls until the condition holds.
func waitFor(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if condition() {
			return
		}
	}
	t.Fatalf("waited %v in vain: %s", patience, what)
}

// configure writes a configuration file.
func configure(t *testing.T, text string, values ...any) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "toklip.toml")
	if err := os.WriteFile(path, fmt.Appendf(nil, strings.ReplaceAll(text, "@NODE@", node), values...), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
