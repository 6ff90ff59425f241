package trt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unsafe"
)

// Compatibility says which GPUs a plan must run on.
type Compatibility int32

const (
	ThisDevice     Compatibility = 0 // the very GPU it was built on
	SameCapability Compatibility = 1 // GPUs of the same compute capability (TensorRT 10.9 and later)
	AmperePlus     Compatibility = 2 // Ampere and newer (8.6 and later; not on Jetson)
)

// BuildOptions say what to build and how. Begin with DefaultBuildOptions.
type BuildOptions struct {
	ONNX        string // the model; its weights lie beside it
	Plan        string // written when all went well; an existing file is replaced
	TimingCache string // read if it is there, written afterwards; empty: none
	Layers      string // the engine inspector's JSON is written there, if there is a GPU; empty: not

	BatchMin, BatchOpt, BatchMax int // of the first dimension of every input

	Workspace           uint64 // bytes; 0: TensorRT's own limit
	OptimizationLevel   int    // 0 to 5, -1: TensorRT's own; 8.6 and later
	Threads             int    // 0: TensorRT's own
	DLACore             int    // -1: none; else what can runs there, the rest on the GPU
	FP16                bool   // TensorRT 8 only: allow FP16 where the graph says so
	VersionCompatible   bool   // later versions of this major can read the plan too (8.6 and later)
	Compatibility       Compatibility
	ComputeCapabilities []int // TensorRT for RTX: such as 86, 89; nil: portable
}

// DefaultBuildOptions are a batch of 1, no DLA, and TensorRT's own choices.
func DefaultBuildOptions() BuildOptions {
	return BuildOptions{BatchMin: 1, BatchOpt: 1, BatchMax: 1, OptimizationLevel: -1, DLACore: -1}
}

// Progress says how far a build is.
type Progress struct {
	Phase    string  `json:"phase"`    // what TensorRT is doing, in its words; empty before it begins
	Fraction float64 `json:"fraction"` // of the whole, 0 to 1, never falling; negative: this TensorRT does not tell (8.x)
}

// Network describes a parsed model.
type Network struct {
	Inputs  []TensorInfo `json:"inputs"`
	Outputs []TensorInfo `json:"outputs"`
	Layers  int          `json:"layers"`
}

// TensorInfo describes an input or output.
type TensorInfo struct {
	Name  string  `json:"name"`
	Type  string  `json:"type"` // "fp32", "fp16", "int32", "int8", "uint8", "bool" or "int64"
	Shape []int64 `json:"shape"`
}

// progressInterval is how often a build is asked how far it is.
const progressInterval = 100 * time.Millisecond

// Build makes a plan file of an ONNX file. It takes seconds to many minutes; progress, which may be
// nil, is called meanwhile from the caller's goroutine, whenever there is news. Cancelling ctx asks
// TensorRT to stop and waits until it has: soon from TensorRT 10 on, at the end of the build with 8.x,
// which cannot be stopped but with its process. The error then wraps ErrCancelled and the context's
// cause; a build that ends well nevertheless is no error. On an error no plan is left.
func (l *Library) Build(ctx context.Context, o BuildOptions, progress func(Progress)) error {
	op := fmt.Sprintf("build engine of %q", o.ONNX)
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("%s: %w: %w", op, ErrCancelled, err)
	}
	build, err := l.newBuild(op, o)
	if err != nil {
		return err
	}
	ended := make(chan unsafe.Pointer, 1)
	go func() { ended <- l.api.buildRun(build) }()
	var last Progress
	report := func() {
		l.log.take()
		if progress == nil {
			return
		}
		var a progressArg
		l.api.buildProgress(build, &a)
		if p := (Progress{text(a.phase[:]), a.fraction}); p != last {
			last = p
			progress(p)
		}
	}
	running := true
	defer func() {
		if running { // progress panicked: the call must not be abandoned
			l.api.buildCancel(build)
			if e := <-ended; e != nil {
				l.api.errorFree(e)
			}
		}
		l.api.buildFree(build)
		l.mu.Lock()
		l.builds--
		l.mu.Unlock()
	}()
	tick := time.NewTicker(progressInterval)
	defer tick.Stop()
	cancelled := ctx.Done()
	for {
		select {
		case e := <-ended:
			running = false
			report()
			err := l.result(op, e)
			if errors.Is(err, ErrCancelled) && ctx.Err() != nil {
				err = fmt.Errorf("%w: %w", err, context.Cause(ctx))
			}
			return err
		case <-tick.C:
			report()
		case <-cancelled:
			cancelled = nil
			l.api.buildCancel(build)
		}
	}
}

// newBuild checks the options.
func (l *Library) newBuild(op string, o BuildOptions) (unsafe.Pointer, error) {
	var pins arena
	defer pins.free()
	arg := buildArg{
		workspace: o.Workspace, fp16: o.FP16, versionCompatible: o.VersionCompatible, compatibility: int32(o.Compatibility),
		capabilityCount: uintptr(len(o.ComputeCapabilities)),
	}
	capabilities := make([]int32, len(o.ComputeCapabilities))
	ns := []number{
		{"smallest batch", o.BatchMin, &arg.batchMin}, {"best batch", o.BatchOpt, &arg.batchOpt}, {"largest batch", o.BatchMax, &arg.batchMax},
		{"optimization level", o.OptimizationLevel, &arg.optimizationLevel}, {"number of threads", o.Threads, &arg.threads},
		{"DLA core", o.DLACore, &arg.dlaCore},
	}
	for i, c := range o.ComputeCapabilities {
		ns = append(ns, number{"compute capability", c, &capabilities[i]})
	}
	var errs [5]error
	errs[0] = numbers(ns...)
	arg.onnx, errs[1] = pins.text("ONNX file", o.ONNX)
	arg.plan, errs[2] = pins.text("plan file", o.Plan)
	arg.timingCache, errs[3] = pins.text("timing cache", o.TimingCache)
	arg.layers, errs[4] = pins.text("layers file", o.Layers)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, &Error{op, ErrInvalid, err.Error()}
	}
	arg.capabilities = pinned(&pins, capabilities)

	l.mu.Lock()
	defer l.mu.Unlock()
	if l.handle == nil {
		return nil, closed(op)
	}
	var build unsafe.Pointer
	if err := l.result(op, l.api.buildNew(l.handle, &arg, &build)); err != nil {
		return nil, err
	}
	l.builds++
	return build, nil
}

// Network parses an ONNX file and describes it.
func (l *Library) Network(onnx string) (Network, error) {
	op := fmt.Sprintf("read network %q", onnx)
	var pins arena
	defer pins.free()
	path, err := pins.text("ONNX file", onnx)
	if err != nil {
		return Network{}, &Error{op, ErrInvalid, err.Error()}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.handle == nil {
		return Network{}, closed(op)
	}
	var s unsafe.Pointer
	if err := l.result(op, l.api.networkDescribe(l.handle, path, &s)); err != nil {
		return Network{}, err
	}
	defer l.api.stringFree(s)
	var n Network
	if err := json.Unmarshal([]byte(l.api.stringCopy(s)), &n); err != nil {
		return Network{}, fmt.Errorf("%s: the shim's description: %w", op, err)
	}
	return n, nil
}
