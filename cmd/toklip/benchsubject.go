package main

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/toklip/toklip/cmd/toklip/tensorrt"
	"github.com/toklip/toklip/engine"
	"github.com/toklip/toklip/engine/onnxruntime"
	"github.com/toklip/toklip/model"
	"github.com/toklip/toklip/trt"
)

// benchSubject is a backend to be measured: what differs between them.
type benchSubject struct {
	backend engine.Backend
	threads int
	weights int64 // bytes of the networks' files
	// bare runs the networks on a frame of every camera with nothing around them.
	bare  func(frames []*engine.Frame) (time.Duration, error)
	close func() error

	gpu *gpu // nil for ONNX Runtime

	mu       sync.Mutex
	counting bool
	times    []trt.Times
}

// openSubject loads the model.
func (f *backendFlags) openSubject(ctx context.Context, opened *openedModel, opts benchOptions, stderr io.Writer) (*benchSubject, error) {
	if f.onTensorRT() {
		return f.openGPUSubject(ctx, opened, opts, stderr)
	}
	library, err := openRuntime(f.library)
	if err != nil {
		return nil, err
	}
	s := &benchSubject{threads: f.threads, weights: opened.weights()}
	if s.threads == 0 {
		s.threads = onnxruntime.PhysicalCores()
	}
	graphs, err := library.Load(opened.spec, onnxruntime.Options{Threads: s.threads, MaxBatch: cpuBatch})
	if err != nil {
		return nil, err
	}
	if s.backend, err = engine.NewBackend(graphs); err != nil {
		return nil, errors.Join(err, graphs.Close())
	}
	s.close = s.backend.Close
	// The networks' inputs are what the last frame left there.
	s.bare = func(frames []*engine.Frame) (time.Duration, error) {
		begun := time.Now()
		for range frames {
			ids, err := graphs.Tokenize(1)
			if err != nil {
				return 0, err
			}
			copy(graphs.TokenIDs(), ids)
			if _, _, err := graphs.Encode(1); err != nil {
				return 0, err
			}
		}
		return time.Since(begun), nil
	}
	return s, nil
}

func (f *backendFlags) openGPUSubject(ctx context.Context, opened *openedModel, opts benchOptions, stderr io.Writer) (*benchSubject, error) {
	s := &benchSubject{}
	run := tensorrtRun(f.tensorrt.TensorRT)
	run.CUDAGraph, run.Kernels, run.InFlight = !opts.noGraph, !opts.noKernels, opts.inFlight
	run.Streams = 2 * opts.cameras // of the daemon's cameras, and as many for bare runs
	run.Observe = s.observe
	gpu, err := f.openGPU(ctx, opened, opts.cameras, run, stderr)
	if err != nil {
		return nil, err
	}
	s.gpu, s.backend, s.close = gpu, gpu.Loaded, gpu.Close
	for _, n := range gpu.Networks {
		if g, err := opened.manifest.Graph(n.Role, n.Precision, model.BackendTensorRT); err == nil {
			s.weights += graphSize(opened.manifest, g)
		}
	}
	s.bare = func(frames []*engine.Frame) (time.Duration, error) {
		batch := make([]trt.Frame, len(frames))
		for i, frame := range frames {
			batch[i] = tensorrt.FrameOf(frame, opened.spec.Resize)
			batch[i].Stream, batch[i].Fresh = opts.cameras+i, true
		}
		begun := time.Now()
		_, err := gpu.Bare(batch)
		return time.Since(begun), err
	}
	return s, nil
}

// networks is what a batch takes without the daemon. On a GPU that is all of its work, pre-processing included.
func (s *benchSubject) networks(t engine.Stages) time.Duration {
	d := t.Tokenize + t.Encode
	if s.gpu != nil {
		d += t.Preprocess
	}
	return d
}

// observe takes the GPU's times of a batch.
func (s *benchSubject) observe(t trt.Times) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.counting {
		s.times = append(s.times, t)
	}
}

// count says whether what comes is measured or warms up.
func (s *benchSubject) count(yes bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counting = yes
}

// describe fills in what only a GPU has.
func (s *benchSubject) describe(report *benchReport) {
	if s.gpu != nil {
		report.Device, report.InFlight, report.Agreement = s.gpu.Device, s.gpu.Describe().InFlight, s.gpu.Report.String()
	}
}

// finish fills in what is known at the end.
func (s *benchSubject) finish(report *benchReport) {
	if s.gpu == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	graph := len(s.times) > 0 && s.times[len(s.times)-1].Graph
	kernels := s.gpu.OnGPU()
	report.CUDAGraph, report.Kernels = &graph, &kernels
}

// stages are the GPU's own times.
func (s *benchSubject) stages() []benchStage {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gpu == nil {
		return nil
	}
	var all []benchStage
	for _, one := range []struct {
		name, what string
		of         func(trt.Times) time.Duration
	}{
		{"gpu upload", "pixels to the GPU's memory", func(t trt.Times) time.Duration { return t.Upload }},
		{"gpu preproc", "resize and normalise", func(t trt.Times) time.Duration { return t.Preprocess }},
		{"gpu tokenize", "tokenizer network", func(t trt.Times) time.Duration { return t.Tokenizer }},
		{"gpu search", "codebook search, comparison, packing", func(t trt.Times) time.Duration { return t.Search }},
		{"gpu encode", "token encoder network", func(t trt.Times) time.Duration { return t.Encoder }},
		{"gpu download", "results to the CPU", func(t trt.Times) time.Duration { return t.Download }},
		{"gpu total", "from the first command to the last", func(t trt.Times) time.Duration { return t.Total }},
	} {
		samples := make([]time.Duration, len(s.times))
		for i, t := range s.times {
			samples[i] = one.of(t)
		}
		all = append(all, stage(one.name, one.what, samples))
	}
	return all
}
