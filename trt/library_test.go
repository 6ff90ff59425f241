package trt

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/toklip/toklip/capture/capturetest"
)

func TestOpen(t *testing.T) {
	f := newFake(t)
	lib := f.openLibrary(Options{Device: 1, CUDA: "/opt/libcuda.so", CPUOnly: true})
	want := Info{
		Family: "trt10", Version: Version{10, 3, 0, 30}, Path: "/lib/libnvinfer.so.10.3.0", Shim: "/lib/libtoklip_trt10.so", ABI: 1,
		Headers: Version{Major: 10, Minor: 16}, Kernels: "sm_87",
	}
	if got := lib.Info(); got != want {
		t.Errorf("info %+v, not %+v", got, want)
	}
	if got, want := f.opened[0], (openArg2{1, "/lib/libnvinfer.so.10.3.0", "", "/opt/libcuda.so", 1, true}); got != want {
		t.Errorf("opened with %+v, not %+v", got, want)
	}
	d, err := lib.Device()
	if want := (Device{Name: "Orin", SM: 87, Driver: 12060, Integrated: true, MemoryTotal: 8 << 30}); err != nil || d != want {
		t.Errorf("device %+v, %v, not %+v", d, err, want)
	}
	if err := lib.Close(); err != nil {
		t.Error(err)
	}
	if err := lib.Close(); err != nil {
		t.Errorf("the second time: %v", err)
	}
	if n := f.called("library free"); n != 1 {
		t.Errorf("freed %d times", n)
	}
	for name, call := range map[string]func() error{
		"device":  func() error { _, err := lib.Device(); return err },
		"reset":   lib.Reset,
		"network": func() error { _, err := lib.Network("x"); return err },
		"build":   func() error { return lib.Build(t.Context(), DefaultBuildOptions(), nil) },
		"load":    func() error { _, err := lib.Load([]byte("plan"), -1); return err },
	} {
		if err := call(); !errors.Is(err, ErrClosed) {
			t.Errorf("%s of a closed library: %v", name, err)
		}
	}
}

func TestOpenFails(t *testing.T) {
	f := newFake(t)
	f.next["open"] = fakeError{ErrWrongVersion, "headers of 10.16 cannot drive it"}
	_, err := open(fakeLoader{f}, Options{}, "")
	var e *Error
	if !errors.As(err, &e) || e.Code != ErrWrongVersion || err.Error() != "open TensorRT: headers of 10.16 cannot drive it" {
		t.Errorf("%v", err)
	}
	if _, err := open(fakeLoader{f}, Options{CUDA: "a\x00b"}, ""); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), `"a\x00b"`) {
		t.Errorf("zero byte: %v", err)
	}
	if _, err := open(fakeLoader{f}, Options{Device: 1 << 40}, ""); !errors.Is(err, ErrInvalid) {
		t.Errorf("device: %v", err)
	}
	f.objects["/lib/libtoklip_trt10.so"].abi = 2
	if _, err := open(fakeLoader{f}, Options{}, ""); !errors.Is(err, ErrABIMismatch) || !strings.Contains(err.Error(), "/lib/libtoklip_trt10.so") {
		t.Errorf("another version: %v", err)
	}
}

// The implementation for tests must never serve anybody by accident.
func TestOpenRefusesTestImplementation(t *testing.T) {
	f := newFake(t)
	f.info.family = [8]byte{'t', 'e', 's', 't'}
	if _, err := open(fakeLoader{f}, Options{}, ""); !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), AllowTestVariable) {
		t.Errorf("%v", err)
	}
	if n := f.called("library free"); n != 1 {
		t.Errorf("freed %d times", n)
	}
	t.Setenv(AllowTestVariable, "1")
	if lib := f.openLibrary(Options{}); lib.Info().Family != "test" {
		t.Errorf("%+v", lib.Info())
	}
}

func TestShimVariable(t *testing.T) {
	f := newFake(t)
	shim := filepath.Join(t.TempDir(), "shim.so")
	if err := os.WriteFile(shim, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	f.objects[shim] = &fakeObject{path: shim, abi: 1, symbols: []string{"toklip_trt_abi"}}
	t.Setenv(ShimVariable, shim)
	if got := f.openLibrary(Options{}).Info().Shim; got != shim {
		t.Errorf("opened %q", got)
	}
	if f.opened[0].nvinfer != "" {
		t.Errorf("the shim was told TensorRT's path %q", f.opened[0].nvinfer)
	}
}

// A TensorRT that was given by its path has its parser beside it.
func TestParserBesideTensorRT(t *testing.T) {
	f := newFake(t)
	dir := t.TempDir()
	nvinfer, parser := filepath.Join(dir, "libnvinfer.so.10"), filepath.Join(dir, "libnvonnxparser.so.10")
	f.objects[nvinfer] = &fakeObject{path: nvinfer, version: 100300, symbols: []string{"getInferLibVersion"}}
	f.openLibrary(Options{TensorRT: nvinfer})
	if err := os.WriteFile(parser, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	f.openLibrary(Options{TensorRT: nvinfer})
	f.openLibrary(Options{TensorRT: nvinfer, Parser: "/other.so"})
	for i, want := range []string{"", parser, "/other.so"} {
		if got := f.opened[i]; got.nvinfer != nvinfer || got.parser != want {
			t.Errorf("opened with %+v, not parser %q", got, want)
		}
	}
}

func TestParentsRefuseToClose(t *testing.T) {
	f := newFake(t)
	lib := f.openLibrary(Options{})
	tokenizer, encoder, p := f.pipelineOf(lib, 2)
	for name, call := range map[string]func() error{"library": lib.Close, "tokenizer": tokenizer.Close, "encoder": encoder.Close, "reset": lib.Reset} {
		if err := call(); !errors.Is(err, ErrBusy) {
			t.Errorf("%s closes with a pipeline open: %v", name, err)
		}
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if err := lib.Close(); !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), "2 engines") {
		t.Errorf("library closes with engines open: %v", err)
	}
	CloseAll(t, p, encoder, encoder, tokenizer, lib, tokenizer, lib)
}

func TestReset(t *testing.T) {
	f := newFake(t)
	lib := f.openLibrary(Options{})
	f.next["reset"] = fakeError{ErrDeviceLost, "the error lasts as long as the process"}
	if err := lib.Reset(); !errors.Is(err, ErrDeviceLost) {
		t.Error(err)
	}
	if err := lib.Reset(); err != nil {
		t.Error(err)
	}
}

func TestErrors(t *testing.T) {
	err := fmt.Errorf("start: %w", &Error{"load engine", ErrBadPlan, "the plan is of version 8.6.1"})
	if !errors.Is(err, ErrBadPlan) || errors.Is(err, ErrBadModel) || err.Error() != "start: load engine: the plan is of version 8.6.1" {
		t.Errorf("%v", err)
	}
	seen := map[string]bool{}
	for c := ErrInvalid; c <= ErrInternal; c++ {
		if s := c.Error(); seen[s] || strings.Contains(s, "unknown") {
			t.Errorf("code %d says %q", c, s)
		} else {
			seen[s] = true
		}
	}
	if s := Code(99).Error(); s != "unknown code 99" {
		t.Errorf("%q", s)
	}
	if s := (&Error{Op: "x", Code: ErrBusy}).Error(); s != "x: busy" {
		t.Errorf("%q", s)
	}
}

func TestLog(t *testing.T) {
	f := newFake(t)
	var out capturetest.Output
	logger := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug - 4}))
	f.lines = []fakeLine{{1, "an error"}, {2, "a warning"}, {3, "an info"}, {4, "a detail"}, {9, "a puzzle"}, {2, strings.Repeat("x", 5000)}}
	f.lost = 3
	lib := f.openLibrary(Options{Logger: logger})
	got := out.String()
	for _, want := range []string{
		`level=ERROR msg=tensorrt line="an error"`, `level=WARN msg=tensorrt line="a warning"`, `level=DEBUG msg=tensorrt line="an info"`,
		`level=DEBUG-4 msg=tensorrt line="a detail"`, `level=WARN msg=tensorrt line="a puzzle"`, "line=" + strings.Repeat("x", 4095) + "\n",
		`msg="lines that TensorRT logged were lost" count=3`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
	// After a call.
	f.mu.Lock()
	f.lines = []fakeLine{{2, "of the device"}}
	f.mu.Unlock()
	if _, err := lib.Device(); err != nil || !strings.Contains(out.String(), "of the device") {
		t.Errorf("%v, log %s", err, out.String())
	}
	// By itself: a frame makes no call for it.
	f.mu.Lock()
	f.lines = []fakeLine{{2, "of a frame"}}
	f.mu.Unlock()
	eventually(t, "line is handed over", func() bool { return strings.Contains(out.String(), "of a frame") })
	// At the end.
	f.mu.Lock()
	f.lines = []fakeLine{{2, "the last one"}}
	f.mu.Unlock()
	if err := lib.Close(); err != nil || !strings.Contains(out.String(), "the last one") {
		t.Errorf("%v, log %s", err, out.String())
	}
}

// drop makes handles and forgets them.
//
//go:noinline
func drop(t *testing.T, f *fake, o Options) *Library {
	lib, err := open(fakeLoader{f}, o, caller())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lib.Load([]byte("plan"), -1); err != nil {
		t.Fatal(err)
	}
	return lib
}

func TestForgottenHandle(t *testing.T) {
	f := newFake(t)
	var rung alarms
	lib := drop(t, f, Options{Forgotten: rung.add})
	eventually(t, "alarm for the engine", func() bool { runtime.GC(); return len(rung.all()) == 1 })
	if a := rung.all()[0]; a.Kind != "engine" || !strings.Contains(a.Where, "library_test.go:") {
		t.Errorf("%+v", a)
	}
	if n := f.called("engine free"); n != 0 {
		t.Error("the alarm freed the engine")
	}
	runtime.KeepAlive(lib)
	lib = nil
	eventually(t, "alarm for the library", func() bool { runtime.GC(); return len(rung.all()) == 2 })
	f.mu.Lock() // what was forgotten on purpose is no fault
	defer f.mu.Unlock()
	clear(f.live)
	_ = lib
}

func TestForgottenPipeline(t *testing.T) {
	f := newFake(t)
	var rung alarms
	lib := f.openLibrary(Options{Forgotten: rung.add})
	var r *run
	func() {
		_, _, p := f.pipelineOf(lib, 2)
		r = p.run
	}()
	eventually(t, "alarm for the pipeline", func() bool { runtime.GC(); return len(rung.all()) >= 1 })
	if a := rung.all()[0]; a.Kind != "pipeline" || !strings.Contains(a.Where, "pipeline_test.go:") {
		t.Errorf("%+v", a)
	}
	engines := r.engines
	r.close()
	for _, e := range engines {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A closed handle rings no alarm.
func TestClosedHandleIsNotForgotten(t *testing.T) {
	f := newFake(t)
	var rung alarms
	func() {
		lib := f.openLibrary(Options{Forgotten: rung.add})
		a, b, p := f.pipelineOf(lib, 1)
		CloseAll(t, p, a, b, lib)
	}()
	for range 3 {
		runtime.GC()
		time.Sleep(5 * time.Millisecond)
	}
	if l := rung.all(); len(l) > 0 {
		t.Errorf("%+v", l)
	}
}
