// Package trttest lets tests use the binding without a GPU: it builds libtoklip_trt_test.so, the
// implementation of the shim's interface that runs graphs on the CPU through ONNX Runtime.
//
//	func TestMain(m *testing.M) { trttest.Main(m) }
//
//	func TestX(t *testing.T) {
//		lib := trttest.Open(t)
//		trttest.Orders(t, "submit out-of-memory 1") // faults, see csrc/test/orders.h
//		...
//	}
//
// What is missing fails a test; nothing is skipped.
package trttest

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/toklip/toklip/trt"
	"go.uber.org/goleak"
)

// buildTimeout is how long a full build may take on a slow and busy machine.
const buildTimeout = 10 * time.Minute

// OrdersVariable is the environment variable that names the file of orders for the implementation.
const OrdersVariable = "TOKLIP_TRT_TEST_ORDERS"

// Root is the folder of the repository.
func Root(tb testing.TB) string {
	tb.Helper()
	dir, err := os.Getwd()
	if err != nil {
		tb.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			tb.Fatal("no go.mod above the working directory")
		}
		dir = up
	}
}

// Shim builds the implementation for tests, where something of csrc changed, and returns its path.
// Test processes that run at the same time wait for each other.
func Shim(tb testing.TB) string {
	tb.Helper()
	return made(tb, forTests, "toklip_trt_test", "libtoklip_trt_test.so")
}

// Program builds a program or library of csrc/test by the name of its CMake target, as Shim does, and
// returns its path.
func Program(tb testing.TB, target string) string {
	tb.Helper()
	return made(tb, forTests, target, target)
}

// variant is a folder of .cache/build with the options it is configured with.
type variant struct {
	folder  string
	options []string
}

var forTests = variant{"csrc-test", []string{"-DTOKLIP_TRT_TESTS=ON", "-DTOKLIP_TRT_SHIM=OFF"}}

// made is the path of a file that a CMake target makes.
func made(tb testing.TB, v variant, target, file string) string {
	tb.Helper()
	root := Root(tb)
	// go test keeps results as long as no file changed that the test looked at. It cannot see what CMake
	// looks at, so look here.
	err := filepath.WalkDir(filepath.Join(root, "csrc"), func(path string, _ os.DirEntry, err error) error {
		if err == nil {
			_, err = os.Stat(path)
		}
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	path, err := builds.path(v.folder+"/"+target, func() (string, error) { return build(root, v, target, file) })
	if err != nil {
		tb.Fatal(err)
	}
	return path
}

// builds holds what was built: one build a process and target is enough.
var builds onceEach

type onceEach struct {
	mu   sync.Mutex
	done map[string]func() (string, error)
}

func (o *onceEach) path(key string, build func() (string, error)) (string, error) {
	o.mu.Lock()
	once := o.done[key]
	if once == nil {
		if o.done == nil {
			o.done = map[string]func() (string, error){}
		}
		once = sync.OnceValues(build)
		o.done[key] = once
	}
	o.mu.Unlock()
	return once()
}

// build makes a target and returns the path of its file.
func build(root string, v variant, target, file string) (string, error) {
	dir := filepath.Join(root, ".cache", "build", v.folder)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(dir+".lock", os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), buildTimeout)
	defer cancel()
	// Configured every time: a new folder of csrc, or a new option, is seen.
	for _, args := range [][]string{
		append([]string{"-S", filepath.Join(root, "csrc"), "-B", dir}, v.options...),
		{"--build", dir, "--target", target, "-j2"},
	} {
		cmd := exec.CommandContext(ctx, "cmake", args...)
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("cmake %s: %w (cmake 3.16, a C++17 compiler and make are needed: make deps)\n%s", strings.Join(args, " "), err, out)
		}
	}
	var found string
	err = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && d.Name() == file {
			found = path
			return filepath.SkipAll
		}
		return err
	})
	if err != nil {
		return "", err
	}
	if found == "" {
		return "", fmt.Errorf("cmake made no %s in %s", file, dir)
	}
	return found, nil
}

// Options are those to open the implementation for tests with. It is allowed in the test's environment.
func Options(tb testing.TB) trt.Options {
	tb.Helper()
	tb.Setenv(trt.AllowTestVariable, "1")
	return trt.Options{Shim: Shim(tb), Logger: Logger(tb, slog.LevelWarn), Forgotten: forgotten.add}
}

// Open opens the implementation for tests. The test fails if the library cannot be closed at its end,
// because something of it is still open.
func Open(tb testing.TB) *trt.Library {
	tb.Helper()
	lib, err := trt.Open(Options(tb))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := lib.Close(); err != nil {
			tb.Errorf("at the end of the test: %v", err)
		}
	})
	return lib
}

// Orders gives orders to the implementation, lines as csrc/test/orders.h has them, until the end of the
// test or the next call. They replace orders given before.
func Orders(tb testing.TB, lines ...string) {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "orders")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		tb.Fatal(err)
	}
	tb.Setenv(OrdersVariable, path)
}

// Main runs a package's tests and fails if they forgot to close a handle or to end a goroutine.
func Main(m *testing.M) {
	code := m.Run()
	for _, f := range forgotten.all() {
		fmt.Fprintf(os.Stderr, "trttest: a %s was never closed, made at %s\n", f.Kind, f.Where)
		code = 1
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// forgotten is what the garbage collector found in this process: Main's and Options' common ground.
var forgotten handles

type handles struct {
	mu   sync.Mutex
	list []trt.Forgotten
}

func (h *handles) add(f trt.Forgotten) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.list = append(h.list, f)
}

// all collects garbage until alarms had their chance to ring.
func (h *handles) all() []trt.Forgotten {
	for range 3 {
		runtime.GC()
		time.Sleep(20 * time.Millisecond)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.list
}

// Logger writes what is of that level or above to the test's log.
func Logger(tb testing.TB, level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(output{tb}, &slog.HandlerOptions{Level: level}))
}

type output struct{ tb testing.TB }

func (o output) Write(b []byte) (int, error) {
	o.tb.Logf("%s", strings.TrimSuffix(string(b), "\n"))
	return len(b), nil
}
