package main

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/toklip/toklip/cmd/toklip/tensorrt"
	"github.com/toklip/toklip/engine"
	"github.com/toklip/toklip/engine/onnxruntime"
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
		} else if err = a.attempt(ctx); a.loaded != nil {
			continue
		}
		if ctx.Err() != nil || !a.wanted() && !a.dead {
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

// attempt tries to have a backend serve that does not: ONNX Runtime in place of a dead one, then TensorRT, which is given up where
// trying again is of no use. After an error it is worth another attempt.
func (a *accelerator) attempt(ctx context.Context) error {
	if a.dead {
		a.takeOver(ctx)
	}
	if !a.wanted() {
		return nil
	}
	err := a.improve(ctx)
	if err != nil && ctx.Err() == nil && hopeless(err) {
		a.giveUp()
		a.complain("TensorRT is not used: " + err.Error())
		return nil
	}
	return err
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
