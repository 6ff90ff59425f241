package trt

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"unsafe"
)

// ShimVariable is the environment variable that may name the shim's file. It counts where
// Options.Shim is empty.
const ShimVariable = "TOKLIP_TRT_SHIM"

// AllowTestVariable is the environment variable that, set to 1, lets the implementation for tests
// be opened, which runs graphs on the CPU and must never serve anybody.
const AllowTestVariable = "TOKLIP_TRT_ALLOW_TEST"

// Options say what to open. The zero value finds everything.
type Options struct {
	// Shim is the path of the shim. Empty: ShimVariable, else the one that fits the TensorRT found.
	// Where it is given, TensorRT is opened by the shim, from TensorRT or by its soname.
	Shim string
	// TensorRT is the path of libnvinfer or libtensorrt_rtx. Empty: by soname, see Probe.
	TensorRT string
	// Parser is the path of the ONNX parser, CUDA that of libcuda. Empty: by soname.
	Parser, CUDA string
	// Device is the ordinal of the GPU.
	Device int
	// CPUOnly lets TensorRT 10 parse models without a GPU, for checks; building is impossible then.
	CPUOnly bool
	// Logger takes the lines that TensorRT logs. Nil: they are dropped.
	Logger *slog.Logger
	// Forgotten is called, from any goroutine, for a handle that was dropped without Close. Nil: an
	// error is logged.
	Forgotten func(Forgotten)
}

// Info says what library was opened.
type Info struct {
	Family  string  `json:"family"` // "trt8", "trt10", "trt11" or "rtx"; "test" for the implementation for tests
	Version Version `json:"version"`
	Path    string  `json:"path"`    // of the TensorRT library
	Shim    string  `json:"shim"`    // path of the shim
	ABI     uint32  `json:"abi"`     // of the shim
	Headers Version `json:"headers"` // of TensorRT that the shim was compiled with; Build is 0
	Kernels string  `json:"kernels"` // GPU architectures whose kernels the shim has, such as "sm_72 sm_87"; empty: none
}

// Version is a version of TensorRT.
type Version struct {
	Major int `json:"major"`
	Minor int `json:"minor"`
	Patch int `json:"patch"`
	Build int `json:"build"` // 0 where the library does not tell
}

// String gives "10.3.0.30", or "8.5.2" where the build is not known.
func (v Version) String() string {
	if v.Build == 0 {
		return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Patch)
	}
	return fmt.Sprintf("%d.%d.%d.%d", v.Major, v.Minor, v.Patch, v.Build)
}

// Device describes the GPU.
type Device struct {
	Name        string `json:"name"`       // as the driver calls it, such as "Orin"
	SM          int    `json:"sm"`         // compute capability times ten: 87 is sm_87
	Driver      int    `json:"driver"`     // CUDA version of the driver: 12060 is 12.6
	DLACores    int    `json:"dla_cores"`  // that this TensorRT can use
	Integrated  bool   `json:"integrated"` // shares its memory with the CPU
	Kernels     bool   `json:"kernels"`    // pre-processing, search and comparison run on the GPU
	MemoryTotal uint64 `json:"memory_total"`
	MemoryFree  uint64 `json:"memory_free"` // as the driver counts; on an integrated GPU ask /proc/meminfo
}

// Library is an opened TensorRT. Its methods may be called from any goroutine.
type Library struct {
	api  abi
	info Info
	log  *drain
	ring alarm

	// mu guards the handle, which C wants used by one thread at a time, and the counts of children,
	// those of engines included.
	mu        sync.Mutex
	handle    unsafe.Pointer // nil once closed
	builds    int
	engines   int
	pipelines int
	loaded    int // engines so far, closed ones included
	cleanup   runtime.Cleanup
}

// Open opens TensorRT and its shim: the best of what Probe finds. No GPU is needed. The error is
// ErrNoLibrary where something is not installed, with a text that says what and how to get it,
// ErrWrongVersion and ErrABIMismatch where versions do not fit.
func Open(o Options) (*Library, error) { return open(system{}, o, caller()) }

func open(ld loader, o Options, where string) (*Library, error) {
	const op = "open TensorRT"
	found := probe(ld, o, false)
	if found.Use < 0 {
		return nil, nothingToOpen(op, found)
	}
	use := found.Libraries[found.Use]
	object, err := ld.open(use.Shim)
	if err != nil {
		return nil, &Error{op, ErrNoLibrary, fmt.Sprintf("shim %s: %v", use.Shim, err)}
	}
	api, err := ld.bind(object)
	if err != nil {
		if e := (*Error)(nil); errors.As(err, &e) {
			return nil, &Error{op, e.Code, fmt.Sprintf("shim %s: %s", use.Shim, e.Message)}
		}
		return nil, fmt.Errorf("%s: shim %s: %w", op, use.Shim, err)
	}

	l := &Library{api: api, ring: newAlarm(o)}
	var pins arena
	defer pins.free()
	nvinfer := use.Path
	if nvinfer == "" {
		nvinfer = o.TensorRT
	}
	arg := openArg{cpuOnly: o.CPUOnly}
	var errs [4]error
	arg.nvinfer, errs[0] = pins.text("path of TensorRT", nvinfer)
	arg.parser, errs[1] = pins.text("path of the ONNX parser", parserPath(o))
	arg.cuda, errs[2] = pins.text("path of the CUDA driver", o.CUDA)
	errs[3] = numbers(number{"device", o.Device, &arg.device})
	if err := errors.Join(errs[:]...); err != nil {
		return nil, &Error{op, ErrInvalid, err.Error()}
	}
	var handle unsafe.Pointer // a variable of its own: C must not see the rest of l
	if e := api.open(abiVersion, &arg, &handle); e != nil {
		return nil, take(api, op, e)
	}
	l.handle = handle
	l.info = describe(api, l.handle)
	l.info.Shim = use.Shim
	if l.info.Family == "test" && os.Getenv(AllowTestVariable) != "1" {
		err := &Error{op, ErrUnsupported, fmt.Sprintf("shim %s is the implementation for tests, which runs on the CPU: set %s=1 to test with it", use.Shim, AllowTestVariable)}
		if e := api.libraryFree(l.handle); e != nil {
			return nil, errors.Join(err, take(api, "close TensorRT", e))
		}
		return nil, err
	}
	l.log = newDrain(api, l.handle, o.Logger)
	l.log.take()
	l.cleanup = watch(l, l.ring, "library", where)
	return l, nil
}

// nothingToOpen makes an error of what a probe did not find.
func nothingToOpen(op string, found Found) error {
	code := ErrNoLibrary
	for _, l := range found.Libraries {
		if l.Path != "" && len(l.ShimTried) == 0 {
			code = ErrWrongVersion
		}
	}
	text := "nothing found"
	if len(found.Missing) > 0 {
		text = strings.TrimSuffix(found.Missing[0], ".")
	}
	return &Error{op, code, text}
}

// parserPath is the parser that was asked for, or the one beside a TensorRT that was.
func parserPath(o Options) string {
	if o.Parser != "" || o.TensorRT == "" {
		return o.Parser
	}
	for _, f := range families {
		if path := filepath.Join(filepath.Dir(o.TensorRT), f.parser); filepath.Base(o.TensorRT) == f.soname {
			if _, err := os.Stat(path); err == nil {
				return path
			}
		}
	}
	return ""
}

// describe asks an opened library what it is.
func describe(api abi, handle unsafe.Pointer) Info {
	var a libraryArg
	api.libraryDescribe(handle, &a)
	return Info{
		Family:  text(a.family[:]),
		Path:    text(a.path[:]),
		Version: Version{int(a.major), int(a.minor), int(a.patch), int(a.build)},
		Headers: Version{int(a.headersMajor), int(a.headersMinor), int(a.headersPatch), 0},
		Kernels: text(a.kernels[:]),
		ABI:     abiVersion,
	}
}

// take makes an error of one of C's and frees that.
func take(api abi, op string, e unsafe.Pointer) error {
	defer api.errorFree(e)
	return &Error{op, api.errorCode(e), api.errorMessage(e)}
}

// result is the end of a call of op: nil, or the error; what was logged meanwhile is handed over.
func (l *Library) result(op string, e unsafe.Pointer) error {
	l.log.take()
	if e == nil {
		return nil
	}
	return take(l.api, op, e)
}

// closed is the error of a closed handle.
func closed(op string) error { return fmt.Errorf("%s: %w", op, ErrClosed) }

// Info says what was opened. The answer never changes.
func (l *Library) Info() Info { return l.info }

// Device looks for the GPU. The error is ErrNoDevice without one.
func (l *Library) Device() (Device, error) {
	const op = "look for the GPU"
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.handle == nil {
		return Device{}, closed(op)
	}
	var a deviceArg
	if err := l.result(op, l.api.deviceDescribe(l.handle, &a)); err != nil {
		return Device{}, err
	}
	return Device{
		Name: text(a.name[:]), SM: int(a.sm), Driver: int(a.driver), DLACores: int(a.dlaCores),
		Integrated: a.integrated, Kernels: a.kernels, MemoryTotal: a.memoryTotal, MemoryFree: a.memoryFree,
	}, nil
}

// Reset throws the CUDA context away after ErrDeviceLost or ErrTimeout, so that the next handle gets
// a fresh one. ErrBusy while there are engines, pipelines or builds. It may fail: some errors last as
// long as the process.
func (l *Library) Reset() error {
	const op = "reset the GPU"
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.handle == nil {
		return closed(op)
	}
	if err := l.children(op); err != nil {
		return err
	}
	return l.result(op, l.api.deviceReset(l.handle))
}

// Close frees the library. It refuses with ErrBusy while engines, pipelines or builds are open.
func (l *Library) Close() error {
	const op = "close TensorRT"
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.handle == nil {
		return nil
	}
	if err := l.children(op); err != nil {
		return err
	}
	l.log.end()
	e := l.api.libraryFree(l.handle)
	// Whatever it says, the handle is not used again: nobody could tell what state it is in.
	l.handle = nil
	l.cleanup.Stop()
	if e != nil {
		return take(l.api, op, e)
	}
	return nil
}

// children is the error of a parent that has some. l.mu is held.
func (l *Library) children(op string) error {
	if l.builds+l.engines+l.pipelines == 0 {
		return nil
	}
	return &Error{op, ErrBusy, fmt.Sprintf("%d pipelines, %d engines and %d builds are still open: close them first", l.pipelines, l.engines, l.builds)}
}
