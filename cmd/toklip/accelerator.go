package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strconv"
	"strings"
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

// How long TensorRT is left alone after it failed: twice as long each time, and from the beginning after it ran well for
// longer than the longest.
const (
	shortestPause = time.Second
	longestPause  = 5 * time.Minute
)

// progressInterval is how often progress is published, at most.
const progressInterval = time.Second

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

// serve keeps the best backend in the pipeline until ctx ends. It never fails: without TensorRT, ONNX Runtime serves.
func (a *accelerator) serve(ctx context.Context, pipeline *engine.Pipeline) error {
	a.pipeline = pipeline
	pause := shortestPause
	for ctx.Err() == nil && (a.wanted() || a.dead) {
		var err error
		if a.loaded != nil {
			begun := time.Now()
			err = a.use(ctx)
			if time.Since(begun) > longestPause {
				pause = shortestPause
			}
		} else {
			if a.dead {
				a.takeOver(ctx)
			}
			if a.wanted() {
				if err = a.improve(ctx); err == nil {
					continue
				}
			}
			if err != nil && ctx.Err() == nil && hopeless(err) {
				a.giveUp()
				a.complain("TensorRT is not used: " + err.Error())
				err = nil
			}
			if !a.wanted() && !a.dead {
				return nil
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			a.complain(fmt.Sprintf("TensorRT is not used: %v; next attempt in %v", err, pause))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = min(2*pause, longestPause)
	}
	return nil
}

// use has TensorRT serve until it fails for good, and ONNX Runtime then. The engines' report is written beside: a busy disk
// must not keep ONNX Runtime from taking over.
func (a *accelerator) use(ctx context.Context) error {
	loaded, kept := a.loaded, make(chan struct{})
	go func() {
		defer close(kept)
		loaded.Keep(ctx)
	}()
	defer func() { <-kept }()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case err := <-a.failed:
		a.fallBack(ctx, err)
		return err
	}
}

// complain tells of what keeps TensorRT from serving.
func (a *accelerator) complain(trouble string) {
	who := onnxruntime.Name
	if a.dead {
		who = "nothing"
	}
	a.log.Warn("TensorRT does not serve", "because", trouble, "serves", who)
	a.mu.Lock()
	a.trouble, a.building = trouble, nil
	a.mu.Unlock()
	a.news()
}

// improve builds what is missing, loads and judges it, and has TensorRT serve.
func (a *accelerator) improve(ctx context.Context) error {
	if err := a.open(); err != nil {
		return err
	}
	old := a.serving
	missing := a.missing
	a.missing = nil
	var err error
	if missing == nil {
		err = a.load(ctx)
	}
	if missing != nil || errors.As(err, &missing) {
		for i, n := range missing.Networks {
			a.log.Info("engine has to be built", "network", n.String(), "key", n.Key.ID(), "because", missing.Why[i])
		}
		if err = a.build(ctx, missing); err == nil {
			err = a.load(ctx)
		}
	}
	if err == nil {
		err = a.swap(ctx, old, a.serving)
	}
	if errors.Is(err, trt.ErrDeviceLost) || errors.Is(err, trt.ErrTimeout) {
		a.reset(ctx)
	}
	return err
}

// build runs the building process.
func (a *accelerator) build(ctx context.Context, missing *tensorrt.Missing) error {
	a.tell(tensorrt.Progress{Step: "preparing to build engines"})
	defer func() {
		a.mu.Lock()
		a.building = nil
		a.mu.Unlock()
	}()
	last := time.Now()
	limit := time.Duration(len(missing.Networks)) * a.cfg.TensorRT.BuildTimeout.Std()
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not done in %v, which engine.tensorrt.build_timeout allows", limit))
	defer cancel()
	built, err := tensorrt.ThisProgram(buildArgs(a.cfg.TensorRT, a.source, missing, niceness)...).Run(ctx, func(p tensorrt.Progress) {
		if step := a.progress().Step; p.Step != step || time.Since(last) >= progressInterval {
			last = time.Now()
			a.tell(p)
		}
	})
	if err != nil {
		return err
	}
	for _, b := range built {
		a.log.Info("engine built", "role", b.Role, "precision", b.Precision, "key", b.ID, "bytes", b.Size, "seconds", b.Seconds)
	}
	return nil
}

func (a *accelerator) tell(p tensorrt.Progress) {
	a.mu.Lock()
	a.building = &p
	a.mu.Unlock()
	a.news()
}

func (a *accelerator) progress() tensorrt.Progress {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.building == nil {
		return tensorrt.Progress{}
	}
	return *a.building
}

// swap has the pipeline use another backend and closes the old one.
func (a *accelerator) swap(ctx context.Context, from, to engine.Backend) error {
	_, err := a.pipeline.Swap(ctx, to)
	if err != nil {
		a.serving = from
		a.mu.Lock()
		a.loaded = nil
		a.mu.Unlock()
		return errors.Join(err, to.Close())
	}
	a.dead = false
	a.forgetFailure() // the old one's last error is none of the new one's
	a.changed()
	if err := from.Close(); err != nil {
		a.log.Warn("the backend before was not closed in order", "error", err)
	}
	debug.FreeOSMemory()
	return nil
}

// fallBack has ONNX Runtime serve instead of a TensorRT that failed for good, and frees the GPU.
func (a *accelerator) fallBack(ctx context.Context, cause error) {
	a.dead = true
	a.complain("TensorRT failed: " + cause.Error())
	old := a.serving
	a.mu.Lock()
	a.loaded = nil
	a.mu.Unlock()
	a.takeOver(ctx)
	if err := old.Close(); err != nil {
		a.log.Warn("TensorRT was not closed in order", "error", err)
	}
	a.reset(ctx)
	a.forgetFailure()
}

// takeOver has ONNX Runtime serve in place of a dead backend. If it cannot, every frame fails, and the state says so, until it
// can, or TensorRT is back.
func (a *accelerator) takeOver(ctx context.Context) {
	backend, err := a.openONNXRuntime()
	if err == nil {
		if _, err = a.pipeline.Swap(ctx, backend); err != nil {
			err = errors.Join(err, backend.Close())
		}
	}
	switch {
	case err == nil:
		a.serving, a.dead = backend, false
		a.changed()
	case ctx.Err() == nil:
		a.log.Error("ONNX Runtime cannot take over", "error", err)
	}
}

// resetPatience is how long a GPU may take to give its context up before the state says that it does not.
const resetPatience = 5 * time.Second

// reset gives TensorRT a fresh context of the GPU. Where the GPU hangs, the driver may wait for ever: nobody can interrupt
// that, and ONNX Runtime serves meanwhile. If ctx ends first, it goes on until the process ends, which is soon.
func (a *accelerator) reset(ctx context.Context) {
	machine, done := a.machine, make(chan error, 1)
	go func() { done <- machine.Reset() }()
	patience := time.NewTimer(resetPatience)
	defer patience.Stop()
	for {
		select {
		case err := <-done:
			if err != nil {
				a.log.Warn("the GPU's context was not renewed; a restart of the daemon does it", "error", err)
			}
			return
		case <-patience.C:
			a.complain("the GPU hangs and does not give its context up; unless it does, TensorRT serves again after a restart of the daemon")
		case <-ctx.Done():
			return
		}
	}
}

// backendFailed is told of every error of the pipeline's backend. It does not block.
func (a *accelerator) backendFailed(err error) {
	if engine.IsPermanent(err) {
		select {
		case a.failed <- err:
		default:
		}
	}
}

// forgetFailure drops an error of a backend that no longer serves.
func (a *accelerator) forgetFailure() {
	select {
	case err := <-a.failed:
		a.log.Debug("error of a backend that was replaced", "error", err)
	default:
	}
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

// tensorrtOptions are the configuration's, as TensorRT's package wants them.
func tensorrtOptions(c config.TensorRT, log *slog.Logger) tensorrt.Options {
	return tensorrt.Options{
		Shim: c.Shim, NVInfer: c.NVInfer, Parser: c.Parser, CUDA: c.CUDA, Device: c.Device, CacheDir: c.CacheDir, Plans: c.Plans,
		Logger: log.With("part", "tensorrt"),
	}
}

func tensorrtSource(c config.TensorRT, opened *openedModel, precision string, batch int) tensorrt.Source {
	return tensorrt.Source{
		Dir: opened.dir, Manifest: opened.manifest, Spec: opened.spec, Precision: tensorrt.Precision(opened.manifest, precision), Batch: batch,
		Workspace: c.Workspace.Bytes(), OptimizationLevel: c.OptimizationLevel, VersionCompatible: c.VersionCompatible, DLACore: c.DLACore,
	}
}

func tensorrtRun(c config.TensorRT) tensorrt.RunOptions {
	return tensorrt.RunOptions{
		InFlight: c.InFlight, CUDAGraph: c.CUDAGraph, Kernels: c.Kernels, Timeout: c.Timeout.Std(),
		Floors: model.Floors{Tokens: c.TokenFloor, Features: c.FeatureFloor, Embedding: c.EmbeddingFloor},
	}
}

// niceness is how much a build beside everything else gives way.
const niceness = 10

// buildArgs is the command line that builds what is missing.
func buildArgs(c config.TensorRT, s tensorrt.Source, missing *tensorrt.Missing, nice int) []string {
	roles := make([]string, len(missing.Networks))
	for i, n := range missing.Networks {
		roles[i] = n.Role
	}
	out := []string{
		"engine", "build", "--json", "--nice=" + strconv.Itoa(nice), "--model=" + s.Dir, "--precision=" + s.Precision, "--role=" + strings.Join(roles, ","),
		"--batch=" + strconv.Itoa(s.Batch),
	}
	if missing.Damaged {
		out = append(out, "--again")
	}
	return append(out, tensorrtArgs(c)...)
}
