package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/toklip/toklip/api"
	"github.com/toklip/toklip/cmd/toklip/config"
	"github.com/toklip/toklip/cmd/toklip/tensorrt"
	"github.com/toklip/toklip/engine"
	"github.com/toklip/toklip/engine/onnxruntime"
	"github.com/toklip/toklip/model"
	"github.com/toklip/toklip/trt"
)

// accelerator chooses the daemon's backend and changes it while the pipeline runs: ONNX Runtime serves while engines are
// built and whenever TensorRT cannot.
type accelerator struct {
	cfg     config.Engine
	log     *slog.Logger
	model   *openedModel // as ONNX Runtime runs it
	source  tensorrt.Source
	run     tensorrt.RunOptions
	changed func() // another backend serves
	news    func() // condition says something else

	pipeline *engine.Pipeline // from serve on
	failed   chan error       // permanent errors of the backend in use; holds one

	// Of begin, and then of serve's goroutine.
	machine *tensorrt.Machine // nil while TensorRT could not be opened, or must not be
	missing *tensorrt.Missing // what begin found to be built; nil afterwards
	serving engine.Backend
	dead    bool // serving is a TensorRT that failed and was closed, and ONNX Runtime could not take over

	mu       sync.Mutex
	loaded   *tensorrt.Loaded   // what serves; nil while that is ONNX Runtime
	building *tensorrt.Progress // nil while nothing is built
	trouble  string             // why TensorRT does not serve though it should; empty while that is no trouble
}

// newAccelerator prepares for a model and so many cameras.
func newAccelerator(cfg config.Engine, opened *openedModel, cameras int, log *slog.Logger) *accelerator {
	a := &accelerator{cfg: cfg, log: log, model: opened, failed: make(chan error, 1)}
	// More frames than cameras never meet in a batch, and engines are best at the batch they were built for.
	a.source = tensorrtSource(cfg.TensorRT, opened, cfg.Precision, min(cfg.MaxBatch, max(1, cameras)))
	a.run = tensorrtRun(cfg.TensorRT)
	a.run.Streams = max(64, cameras)
	return a
}

// begin opens the first backend: TensorRT if its engines are there, so that the CPU's weights need never be read, else ONNX
// Runtime. It is an error if only TensorRT is wanted and cannot be had on this machine.
func (a *accelerator) begin(ctx context.Context) (engine.Backend, error) {
	if a.wanted() {
		err := a.open()
		if err == nil {
			err = a.load(ctx)
		}
		var missing *tensorrt.Missing
		switch {
		case err == nil:
			return a.serving, nil
		case ctx.Err() != nil:
			return nil, errors.Join(err, a.close())
		case errors.As(err, &missing):
			a.missing, a.building = missing, &tensorrt.Progress{Step: "preparing to build engines"}
		case a.cfg.Backend == model.BackendTensorRT && hopeless(err) && !errors.Is(err, model.ErrTooFar):
			return nil, errors.Join(fmt.Errorf("backend tensorrt: %w; `toklip doctor` says what there is, backend = \"auto\" runs without", err), a.close())
		case errors.Is(err, trt.ErrNoLibrary) || errors.Is(err, trt.ErrNoDevice):
			a.log.Info("TensorRT is not used", "because", err)
			a.giveUp() // as if nothing else had been asked for
		default:
			a.log.Warn("TensorRT is not used", "because", err)
			a.trouble = "TensorRT is not used: " + err.Error()
			if hopeless(err) {
				a.giveUp()
			}
		}
	}
	backend, err := a.openONNXRuntime()
	if err != nil {
		return nil, errors.Join(err, a.close())
	}
	a.serving = backend
	return backend, nil
}

// wanted reports whether TensorRT is to be tried.
func (a *accelerator) wanted() bool { return a.cfg.Backend != model.BackendONNXRuntime }

// hopeless reports whether trying again, with nothing changed, is of no use.
func hopeless(err error) bool {
	for _, target := range []error{
		model.ErrTooFar, model.ErrNoReference, model.ErrNoGraph, model.ErrCorrupt,
		trt.ErrInvalid, trt.ErrABIMismatch, trt.ErrNoLibrary, trt.ErrWrongVersion, trt.ErrNoDevice, trt.ErrBadModel, trt.ErrUnsupported,
	} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// giveUp has TensorRT tried no more, and frees what it holds of the GPU.
func (a *accelerator) giveUp() {
	a.cfg.Backend = model.BackendONNXRuntime
	if a.machine == nil {
		return
	}
	if err := a.machine.Close(); err != nil {
		a.log.Warn("TensorRT was not closed in order", "error", err)
	}
	a.machine = nil
}

// open opens TensorRT if it is not open.
func (a *accelerator) open() (err error) {
	if a.machine == nil {
		a.machine, err = tensorrt.Open(tensorrtOptions(a.cfg.TensorRT, a.log))
		if err == nil {
			info := a.machine.Info()
			a.log.Info("TensorRT found", "version", info.Version.String(), "device", a.machine.DeviceName(), "library", info.Path, "shim", info.Shim)
		}
	}
	return err
}

// load makes TensorRT's backend the one that serves, as far as this type is concerned.
func (a *accelerator) load(ctx context.Context) error {
	loaded, err := a.machine.Load(ctx, a.source, a.run)
	if err != nil {
		return err
	}
	a.serving = loaded
	a.mu.Lock()
	a.loaded, a.building, a.trouble = loaded, nil, ""
	a.mu.Unlock()
	return nil
}

func (a *accelerator) openONNXRuntime() (engine.Backend, error) {
	library, err := openRuntime(a.cfg.ONNXRuntimeLibrary)
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	backend, err := library.NewBackend(a.model.spec, onnxruntime.Options{Threads: a.cfg.Threads, MaxBatch: cpuBatch})
	if err != nil {
		return nil, err
	}
	a.log.Info("model loaded", "model", a.model.manifest.Name, "backend", onnxruntime.Name, "precision", a.model.spec.Precision, "duration", round(time.Since(begun)))
	return backend, nil
}

// close frees everything, once serve has ended.
func (a *accelerator) close() error {
	var errs []error
	if a.serving != nil {
		errs = append(errs, a.serving.Close())
	}
	if a.machine != nil {
		errs = append(errs, a.machine.Close())
	}
	return errors.Join(errs...)
}

// condition is what the state topic says of it: how far building is, nil while nothing is built, and what keeps TensorRT
// from serving.
func (a *accelerator) condition() (building *api.Progress, trouble string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if p := a.building; p != nil {
		building = &api.Progress{Step: p.Step, Phase: p.Phase, Done: p.Done, ElapsedNS: p.Elapsed.Nanoseconds(), LeftNS: p.Left.Nanoseconds()}
	}
	return building, a.trouble
}

// describe adds what info says of engines.
func (a *accelerator) describe(info *api.Info) {
	info.Engines = []api.EngineInfo{}
	a.mu.Lock()
	loaded := a.loaded
	a.mu.Unlock()
	if loaded == nil || info.Backend != tensorrt.Name {
		return
	}
	info.Device = loaded.Device
	for _, n := range loaded.Networks {
		info.Engines = append(info.Engines, api.EngineInfo{Role: n.Role, Precision: n.Precision, Key: n.Key.ID()})
	}
	r := loaded.Report
	info.Agreement = &api.Agreement{Frames: r.Frames, Tokens: r.TokenAgreement, FeatureCosine: r.FeatureCosine, EmbeddingCosine: r.EmbeddingCosine}
}
