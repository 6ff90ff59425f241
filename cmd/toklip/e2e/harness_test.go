package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/toklip/toklip/capture/capturetest"
	"github.com/toklip/toklip/cmd/toklip/e2e/e2etest"
)

// node names the daemons of this test process: others may run on the machine, even other checkouts' tests.
var node = fmt.Sprintf("e2e-%d", os.Getpid())

var built struct {
	sync.Once
	toklip string
	err    error
}

// programs builds toklip and its worker once and returns their paths. Locks and states of nodes that the test starts lie in
// folders of its own, so that another run of the tests on this machine is not in the way.
func programs(t *testing.T) (toklip, worker string) {
	t.Helper()
	worker = capturetest.Worker(t)
	built.Do(func() {
		built.toklip = filepath.Join(filepath.Dir(worker), "toklip")
		built.err = e2etest.Build(built.toklip)
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	t.Setenv("TMPDIR", t.TempDir())
	t.Setenv("XDG_STATE_HOME", t.TempDir())
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

// start runs a program; it is ended when the test is, if it still runs then.
func start(t *testing.T, name string, args ...string) *e2etest.Process {
	t.Helper()
	return e2etest.Start(t, nil, name, args...)
}

// subscribe starts an independent client that prints "topic payload" lines, the payload in hex with binary set.
func subscribe(t *testing.T, port string, binary bool, topics ...string) *e2etest.Process {
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

// configure writes a configuration file.
func configure(t *testing.T, text string, values ...any) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "toklip.toml")
	if err := os.WriteFile(path, fmt.Appendf(nil, strings.ReplaceAll(text, "@NODE@", node), values...), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
