package trt

import (
	"context"
	"fmt"
	"log/slog"
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

// Forgotten describes a handle that the garbage collector found unclosed.
type Forgotten struct {
	Kind  string // "library", "engine" or "pipeline"
	Where string // file:line that made it
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
type Library struct{}

// Open opens TensorRT and its shim: the best of what Probe finds. No GPU is needed. The error is
// ErrNoLibrary where something is not installed, with a text that says what and how to get it,
// ErrWrongVersion and ErrABIMismatch where versions do not fit.
func Open(o Options) (*Library, error) { return nil, &Error{"open TensorRT", ErrNoLibrary, ""} }

// Info says what was opened. The answer never changes.
func (l *Library) Info() Info { return Info{} }

// Device looks for the GPU. The error is ErrNoDevice without one.
func (l *Library) Device() (Device, error) { return Device{}, ErrClosed }

// Reset throws the CUDA context away after ErrDeviceLost or ErrTimeout, so that the next handle gets
// a fresh one. ErrBusy while there are engines or pipelines. It may fail: some errors last as long
// as the process.
func (l *Library) Reset() error { return ErrClosed }

// Close frees the library. It refuses with ErrBusy while engines, pipelines or builds are open.
func (l *Library) Close() error { return nil }

// Build makes a plan file of an ONNX file. It takes seconds to many minutes; progress, which may be
// nil, is called meanwhile from the caller's goroutine. Cancelling ctx asks TensorRT to stop and
// waits until it has: soon from TensorRT 10 on, at the end of the build with 8.x, which cannot be
// stopped but with its process. The error then wraps ErrCancelled and the context's cause. On an
// error no plan is left.
func (l *Library) Build(ctx context.Context, o BuildOptions, progress func(Progress)) error {
	return ErrClosed
}

// Network parses an ONNX file and describes it.
func (l *Library) Network(onnx string) (Network, error) { return Network{}, ErrClosed }

// Load puts a plan on the GPU. The plan is read during the call only. dlaCore is the one the plan
// was built for, -1 for none. ErrBadPlan where the plan is damaged, foreign or of another version.
func (l *Library) Load(plan []byte, dlaCore int) (*Engine, error) { return nil, ErrClosed }

// NewPipeline makes a pipeline of loaded engines, which must stay open as long as it.
func (l *Library) NewPipeline(o PipelineOptions) (*Pipeline, error) { return nil, ErrClosed }
