package trt

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// fake is a machine: its dynamic loader and the shim behind it, in plain Go. It does what
// toklip_trt.h says and notes whatever its user does that the header forbids.
type fake struct {
	t       *testing.T
	objects map[string]*fakeObject // by path or soname

	mu     sync.Mutex
	faults []string // what the user did wrong
	live   map[unsafe.Pointer]*fakeHandle
	calls  map[string]int
	next   map[string]fakeError // error of the next call of a function
	lines  []fakeLine
	lost   uint64
	info   libraryArg
	device deviceArg
	opened []openArg2

	// Of builds.
	phases    []progressArg
	build     buildArg2
	uncancel  bool          // as TensorRT 8: cancel does nothing
	buildGate chan struct{} // a build ends when it is closed; nil: at once
	// Of engines and pipelines.
	ran      []string
	threads  map[string]map[int]bool // by function: threads that called it
	gate     chan struct{}           // calls of pipelines wait for it; nil: not
	inCall   chan string             // told when a gated call has begun
	times    timesArg
	pipeline pipelineArg
	codebook []float32
}

type openArg2 struct {
	abi                   uint32
	nvinfer, parser, cuda string
	device                int32
	cpuOnly               bool
}

type buildArg2 struct {
	buildArg
	onnxText, planText, timingText, layersText string
	capabilityList                             []int32
}

type fakeObject struct {
	path    string
	problem string // it does not open
	version int32  // getInferLibVersion
	build   int32
	driver  int32
	abi     uint32
	symbols []string
}

type fakeHandle struct {
	kind     string
	parent   []unsafe.Pointer
	children int
	users    map[string]int // calls under way
	error    fakeError
	text     []byte
	batches  [][]resultArg
	keep     []any // memory that results point to
	last     map[int32][]int32
	gone     chan struct{} // of a build: cancelled
	options  pipelineArg
}

type fakeError struct {
	code Code
	text string
}

type fakeLine struct {
	severity int32
	text     string
}

var (
	_ abi    = (*fake)(nil)
	_ loader = fakeLoader{}
)

// newFake is a machine with TensorRT 10.3 and its shim in the loader's path. At the end of the test
// it tells what the binding did wrong.
func newFake(t *testing.T) *fake {
	f := &fake{
		t: t, live: map[unsafe.Pointer]*fakeHandle{}, calls: map[string]int{}, next: map[string]fakeError{}, threads: map[string]map[int]bool{},
		objects: map[string]*fakeObject{
			"libnvinfer.so.10":        {path: "/lib/libnvinfer.so.10.3.0", version: 100300, build: 30, symbols: []string{"getInferLibVersion", "getInferLibBuildVersion"}},
			"libtoklip_trt10.so":      {path: "/lib/libtoklip_trt10.so", abi: 1, symbols: []string{"toklip_trt_abi"}},
			"/lib/libtoklip_trt10.so": {path: "/lib/libtoklip_trt10.so", abi: 1, symbols: []string{"toklip_trt_abi"}},
			"libcuda.so.1":            {path: "/lib/libcuda.so.1", driver: 12060, symbols: []string{"cuDriverGetVersion"}},
		},
	}
	copy(f.info.family[:], "trt10")
	copy(f.info.path[:], "/lib/libnvinfer.so.10.3.0")
	copy(f.info.kernels[:], "sm_87")
	f.info.major, f.info.minor, f.info.build, f.info.headersMajor, f.info.headersMinor = 10, 3, 30, 10, 16
	copy(f.device.name[:], "Orin")
	f.device.sm, f.device.driver, f.device.integrated, f.device.memoryTotal = 87, 12060, true, 8<<30
	t.Setenv(ShimVariable, "")
	t.Setenv(AllowTestVariable, "")
	t.Cleanup(func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, h := range f.live {
			f.faults = append(f.faults, h.kind+" was never freed")
		}
		for _, s := range f.faults {
			t.Errorf("the binding broke the interface: %s", s)
		}
	})
	return f
}

// open opens the fake's library and closes it at the end of the test.
func (f *fake) openLibrary(o Options) *Library {
	f.t.Helper()
	if o.Forgotten == nil {
		o.Forgotten = forgotten.add
	}
	lib, err := open(fakeLoader{f}, o, caller())
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		if err := lib.Close(); err != nil {
			f.t.Error(err)
		}
	})
	return lib
}

func (f *fake) fault(format string, args ...any) {
	f.faults = append(f.faults, fmt.Sprintf(format, args...))
}

// ---- loader

type fakeLoader struct{ *fake }

// fakeSymbol is what a symbol points to.
type fakeSymbol struct {
	object *fakeObject
	name   string
}

func (l fakeLoader) open(path string) (unsafe.Pointer, error) {
	o := l.objects[path]
	if o == nil {
		return nil, fmt.Errorf("%s: cannot open shared object file: No such file or directory", path)
	}
	if o.problem != "" {
		return nil, errors.New(path + ": " + o.problem)
	}
	return unsafe.Pointer(o), nil
}

func (l fakeLoader) symbol(object unsafe.Pointer, name string) unsafe.Pointer {
	o := (*fakeObject)(object)
	if !slices.Contains(o.symbols, name) {
		return nil
	}
	return unsafe.Pointer(&fakeSymbol{o, name})
}

func (l fakeLoader) file(symbol unsafe.Pointer) string { return (*fakeSymbol)(symbol).object.path }

func (l fakeLoader) version(symbol unsafe.Pointer) int32 {
	if s := (*fakeSymbol)(symbol); s.name == "getInferLibBuildVersion" {
		return s.object.build
	}
	return (*fakeSymbol)(symbol).object.version
}

func (l fakeLoader) driverVersion(symbol unsafe.Pointer) (int32, int32) {
	if v := (*fakeSymbol)(symbol).object.driver; v > 0 {
		return v, 0
	}
	return 0, 999
}

func (l fakeLoader) bind(object unsafe.Pointer) (abi, error) {
	if v := (*fakeObject)(object).abi; v != abiVersion {
		return nil, &Error{"open shim", ErrABIMismatch, fmt.Sprintf("it speaks version %d", v)}
	}
	return l.fake, nil
}

// ---- handles and errors

// begin notes a call of a function on handles and returns the error it was told to make; the handles must
// be live and used by nobody else, unless any says that any thread may.
func (f *fake) begin(fn string, any bool, handles ...unsafe.Pointer) (unsafe.Pointer, func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls[fn]++
	if f.threads[fn] == nil {
		f.threads[fn] = map[int]bool{}
	}
	f.threads[fn][syscall.Gettid()] = true
	for _, p := range handles {
		h := f.live[p]
		if h == nil {
			f.fault("%s: of a handle that is not live", fn)
			continue
		}
		for other := range h.users {
			pair := fn == "submit" && other == "wait" || fn == "wait" && other == "submit"
			if !any && !pair {
				f.fault("%s: while another thread is in %s of the same %s", fn, other, h.kind)
			}
		}
		if !any {
			h.users[fn]++
		}
	}
	end := func() {
		if any {
			return
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, p := range handles {
			if h := f.live[p]; h != nil {
				if h.users[fn]--; h.users[fn] == 0 {
					delete(h.users, fn)
				}
			}
		}
	}
	if e, ok := f.next[fn]; ok {
		delete(f.next, fn)
		return f.newLocked("error", fakeError{e.code, e.text}), end
	}
	return nil, end
}

func (f *fake) newLocked(kind string, e fakeError, parents ...unsafe.Pointer) unsafe.Pointer {
	h := &fakeHandle{kind: kind, error: e, parent: parents, users: map[string]int{}, last: map[int32][]int32{}, gone: make(chan struct{})}
	for _, p := range parents {
		f.live[p].children++
	}
	f.live[unsafe.Pointer(h)] = h
	return unsafe.Pointer(h)
}

func (f *fake) newHandle(kind string, parents ...unsafe.Pointer) unsafe.Pointer {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.newLocked(kind, fakeError{}, parents...)
}

func (f *fake) errorf(code Code, format string, args ...any) unsafe.Pointer {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.newLocked("error", fakeError{code, fmt.Sprintf(format, args...)})
}

func (f *fake) free(fn, kind string, p unsafe.Pointer) unsafe.Pointer {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls[fn]++
	h := f.live[p]
	switch {
	case h == nil:
		f.fault("%s: twice", fn)
		return nil
	case h.kind != kind:
		f.fault("%s: of a %s", fn, h.kind)
	case h.children > 0:
		f.fault("%s: with %d children", fn, h.children)
		return f.newLocked("error", fakeError{ErrBusy, "it has children"})
	case len(h.users) > 0:
		f.fault("%s: while %v is under way", fn, h.users)
	}
	for _, parent := range h.parent {
		if f.live[parent] == nil {
			f.fault("%s: after its parent", fn)
			continue
		}
		f.live[parent].children--
	}
	delete(f.live, p)
	return nil
}

func (f *fake) get(p unsafe.Pointer) *fakeHandle {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.live[p]
}

func (f *fake) errorCode(e unsafe.Pointer) Code {
	_, end := f.begin("error code", false, e)
	defer end()
	return f.get(e).error.code
}
func (f *fake) errorMessage(e unsafe.Pointer) string {
	_, end := f.begin("error message", false, e)
	defer end()
	return f.get(e).error.text
}
func (f *fake) errorFree(e unsafe.Pointer)         { f.free("error free", "error", e) }
func (f *fake) stringCopy(s unsafe.Pointer) string { return string(f.get(s).text) }
func (f *fake) stringFree(s unsafe.Pointer)        { f.free("string free", "string", s) }

func (f *fake) newString(s string) unsafe.Pointer {
	p := f.newHandle("string")
	f.get(p).text = []byte(s)
	return p
}

// cText is the text at an address that the binding gave.
func cText(p uintptr) string {
	if p == 0 {
		return ""
	}
	var b []byte
	for q := *(*unsafe.Pointer)(unsafe.Pointer(&p)); *(*byte)(q) != 0; q = unsafe.Add(q, 1) {
		b = append(b, *(*byte)(q))
	}
	return string(b)
}

// called is how often a function was called.
func (f *fake) called(fn string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[fn]
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("timed out: %s", what)
		}
	}
}
