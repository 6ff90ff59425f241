package trt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
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
	dead     bool
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

// ---- library

func (f *fake) open(abi uint32, o *openArg, out *unsafe.Pointer) unsafe.Pointer {
	e, end := f.begin("open", true)
	defer end()
	if e != nil {
		return e
	}
	f.opened = append(f.opened, openArg2{abi, cText(o.nvinfer), cText(o.parser), cText(o.cuda), o.device, o.cpuOnly})
	*out = f.newHandle("library")
	return nil
}
func (f *fake) libraryFree(l unsafe.Pointer) unsafe.Pointer {
	return f.free("library free", "library", l)
}
func (f *fake) libraryDescribe(l unsafe.Pointer, out *libraryArg) {
	_, end := f.begin("describe", false, l)
	defer end()
	*out = f.info
}
func (f *fake) logTake(l unsafe.Pointer, severity *int32, text []byte, dropped *uint64) bool {
	_, end := f.begin("log", true, l)
	defer end()
	f.mu.Lock()
	defer f.mu.Unlock()
	*dropped, f.lost = f.lost, 0
	if len(f.lines) == 0 {
		return false
	}
	*severity = f.lines[0].severity
	n := copy(text[:len(text)-1], f.lines[0].text)
	text[n] = 0
	f.lines = f.lines[1:]
	return true
}
func (f *fake) deviceDescribe(l unsafe.Pointer, out *deviceArg) unsafe.Pointer {
	e, end := f.begin("device", false, l)
	defer end()
	if e == nil {
		*out = f.device
	}
	return e
}
func (f *fake) deviceReset(l unsafe.Pointer) unsafe.Pointer {
	e, end := f.begin("reset", false, l)
	defer end()
	if f.get(l).children > 0 {
		f.errorf(ErrBusy, "handles are open")
	}
	return e
}

// ---- build

func (f *fake) buildNew(l unsafe.Pointer, o *buildArg, out *unsafe.Pointer) unsafe.Pointer {
	e, end := f.begin("build new", false, l)
	defer end()
	if e != nil {
		return e
	}
	f.build = buildArg2{*o, cText(o.onnx), cText(o.plan), cText(o.timingCache), cText(o.layers), slices.Clone(view[int32](o.capabilities, int(o.capabilityCount)))}
	*out = f.newHandle("build", l)
	return nil
}
func (f *fake) buildRun(b unsafe.Pointer) unsafe.Pointer {
	e, end := f.begin("build run", true, b)
	defer end()
	h := f.get(b)
	f.mu.Lock()
	h.users["build run"]++
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(h.users, "build run")
	}()
	if f.buildGate != nil {
		gone := h.gone
		if f.uncancel {
			gone = nil
		}
		select {
		case <-f.buildGate:
		case <-gone:
			return f.errorf(ErrCancelled, "the build was cancelled")
		}
	}
	return e
}
func (f *fake) buildProgress(b unsafe.Pointer, out *progressArg) {
	_, end := f.begin("build progress", true, b)
	defer end()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.phases) > 0 {
		*out = f.phases[0]
		if len(f.phases) > 1 {
			f.phases = f.phases[1:]
		}
	}
}
func (f *fake) buildCancel(b unsafe.Pointer) {
	_, end := f.begin("build cancel", true, b)
	defer end()
	close(f.get(b).gone)
}
func (f *fake) buildFree(b unsafe.Pointer) { f.free("build free", "build", b) }
func (f *fake) networkDescribe(l unsafe.Pointer, onnx uintptr, json *unsafe.Pointer) unsafe.Pointer {
	e, end := f.begin("network", false, l)
	defer end()
	if e == nil {
		*json = f.newString(f.network(cText(onnx)))
	}
	return e
}

func (f *fake) network(path string) string {
	if path == "broken.onnx" {
		return "{"
	}
	return `{"inputs":[{"name":"image","type":"fp32","shape":[-1,3,64,64]}],"outputs":[{"name":"ids","type":"int32","shape":[-1,16]}],"layers":7}`
}

// ---- engine

func (f *fake) engineLoad(l unsafe.Pointer, plan []byte, dla int32, out *unsafe.Pointer) unsafe.Pointer {
	e, end := f.begin("load", false, l)
	defer end()
	if e != nil {
		return e
	}
	if !strings.HasPrefix(string(plan), "plan") {
		return f.errorf(ErrBadPlan, "the plan is no plan")
	}
	*out = f.newHandle("engine", l)
	return nil
}
func (f *fake) engineFree(e unsafe.Pointer) unsafe.Pointer { return f.free("engine free", "engine", e) }
func (f *fake) engineLayers(e unsafe.Pointer, json *unsafe.Pointer) unsafe.Pointer {
	err, end := f.begin("layers", false, e)
	defer end()
	if err == nil {
		*json = f.newString(`{"Layers":[]}`)
	}
	return err
}

// engineRun notes its inputs and fills outputs with 1, 2, 3 ...
func (f *fake) engineRun(e unsafe.Pointer, in, out []tensorArg) unsafe.Pointer {
	err, end := f.begin("run", false, e)
	defer end()
	if err != nil {
		return err
	}
	for _, t := range in {
		shape := view[int64](t.shape, int(t.rank))
		var values any
		switch t.typ {
		case typeFP32:
			values = view[float32](t.data, int(t.size)/4)
		case typeFP16:
			values = view[uint16](t.data, int(t.size)/2)
		case typeInt32:
			values = view[int32](t.data, int(t.size)/4)
		}
		f.ran = append(f.ran, fmt.Sprint(cText(t.name), " ", shape, " ", values))
	}
	for _, t := range out {
		switch t.typ {
		case typeFP32:
			for i, v := range view[float32](t.data, int(t.size)/4) {
				view[float32](t.data, int(t.size)/4)[i] = v + float32(i+1)
			}
		case typeInt32:
			for i := range view[int32](t.data, int(t.size)/4) {
				view[int32](t.data, int(t.size)/4)[i] = int32(i + 1)
			}
		}
	}
	return nil
}

// ---- pipeline

func (f *fake) pipelineNew(l unsafe.Pointer, o *pipelineArg, out *unsafe.Pointer) unsafe.Pointer {
	e, end := f.begin("pipeline new", false, l, o.tokenizer)
	defer end()
	if e != nil {
		return e
	}
	parents := []unsafe.Pointer{l, o.tokenizer}
	if o.encoder != nil {
		parents = append(parents, o.encoder)
	}
	f.pipeline, f.codebook = *o, slices.Clone(view[float32](o.codebook, int(o.codebookSize*o.codebookDim)))
	*out = f.newHandle("pipeline", parents...)
	f.get(*out).options = *o
	return nil
}
func (f *fake) pipelineFree(p unsafe.Pointer) { f.free("pipeline free", "pipeline", p) }

// handle makes results of frames: id i is byte i of the pixels plus the stream.
func (f *fake) handle(h *fakeHandle, frames []frameArg) ([]resultArg, unsafe.Pointer) {
	o := h.options
	results := make([]resultArg, len(frames))
	for i, fr := range frames {
		if fr.data == 0 || fr.size == 0 || fr.stream >= o.streamsMax {
			return nil, f.errorf(ErrInvalid, "frame %d: %d bytes of stream %d", i, fr.size, fr.stream)
		}
		pixels := view[byte](fr.data, int(fr.size))
		ids := make([]int32, o.tokens)
		for j := range ids {
			ids[j] = int32(pixels[j%len(pixels)]) + fr.stream
		}
		packed := make([]byte, 4*len(ids))
		for j, id := range ids {
			binary.LittleEndian.PutUint32(packed[4*j:], uint32(id))
		}
		changed := make([]uint64, (len(ids)+63)/64)
		last := h.last[fr.stream]
		r := &results[i]
		r.fresh = fr.fresh || last == nil
		for j := range ids {
			if r.fresh || last[j] != ids[j] {
				changed[j/64] |= 1 << (j % 64)
				r.changedCount++
			}
		}
		h.last[fr.stream] = ids
		r.encoded = o.encoder != nil && r.changedCount > 0
		h.keep = append(h.keep, ids, packed, changed)
		r.ids, r.packed, r.packedSize, r.changed = addr(ids), addr(packed), uintptr(len(packed)), addr(changed)
		if r.encoded {
			features := make([]float32, o.tokens*o.featureDim)
			for j := range features {
				features[j] = float32(ids[j/int(o.featureDim)])
			}
			embedding, unit := make([]float32, o.embeddingDim), make([]float32, o.embeddingDim)
			for j := range embedding {
				embedding[j] = float32(fr.width)
				unit[j] = float32(1 / math.Sqrt(float64(len(unit))))
			}
			h.keep = append(h.keep, features, embedding, unit)
			r.features, r.embedding, r.unit = addr(features), addr(embedding), addr(unit)
		}
	}
	return results, nil
}

func addr[T any](s []T) uintptr { return uintptr(unsafe.Pointer(&s[0])) }

// hold keeps a call of a pipeline waiting, if the test wants it.
func (f *fake) hold(fn string) {
	if f.gate != nil {
		f.inCall <- fn
		<-f.gate
	}
}

func (f *fake) pipelineSubmit(p unsafe.Pointer, frames []frameArg) unsafe.Pointer {
	e, end := f.begin("submit", false, p)
	defer end()
	f.hold("submit")
	if e != nil {
		return e
	}
	h := f.get(p)
	f.mu.Lock()
	full := len(h.batches) >= int(h.options.inFlight)
	f.mu.Unlock()
	if full {
		return f.errorf(ErrBusy, "all batches are under way")
	}
	results, e := f.handle(h, frames)
	if e != nil {
		return e
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	h.batches = append(h.batches, results)
	return nil
}

func (f *fake) pipelineWait(p unsafe.Pointer, results []resultArg, times *timesArg) unsafe.Pointer {
	e, end := f.begin("wait", false, p)
	defer end()
	f.hold("wait")
	h := f.get(p)
	f.mu.Lock()
	if len(h.batches) == 0 {
		f.fault("wait: without a batch")
		f.mu.Unlock()
		return f.errorf(ErrInvalid, "no batch is under way")
	}
	batch := h.batches[0]
	h.batches = h.batches[1:]
	f.mu.Unlock()
	if e != nil {
		return e
	}
	if len(results) != len(batch) {
		return f.errorf(ErrInvalid, "room for %d results, %d frames", len(results), len(batch))
	}
	copy(results, batch)
	*times = f.times
	return nil
}

func (f *fake) pipelineProcess(p unsafe.Pointer, frames []frameArg, results []resultArg, times *timesArg) unsafe.Pointer {
	e, end := f.begin("process", false, p)
	defer end()
	f.hold("process")
	if e != nil {
		return e
	}
	r, e := f.handle(f.get(p), frames)
	if e != nil {
		return e
	}
	copy(results, r)
	*times = f.times
	return nil
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
