package trt

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

func phase(name string, fraction float64) progressArg {
	p := progressArg{fraction: fraction}
	copy(p.phase[:], name)
	return p
}

func TestBuild(t *testing.T) {
	f := newFake(t)
	lib := f.openLibrary(Options{})
	f.phases = []progressArg{phase("", 0), phase("", 0), phase("Parsing", 0.1), phase("Building", 0.5), phase("Building", 1)}
	f.buildGate = make(chan struct{})
	o := DefaultBuildOptions()
	o.ONNX, o.Plan, o.TimingCache, o.Layers = "a.onnx", "a.plan", "t.cache", "l.json"
	o.BatchOpt, o.BatchMax, o.Workspace, o.OptimizationLevel, o.Threads, o.DLACore = 2, 4, 1<<33, 5, 3, 1
	o.FP16, o.VersionCompatible, o.Compatibility, o.ComputeCapabilities = true, true, AmperePlus, []int{86, 89}
	var seen []Progress
	err := lib.Build(t.Context(), o, func(p Progress) {
		seen = append(seen, p)
		if p.Fraction == 0.5 {
			close(f.buildGate)
		}
		if err := lib.Close(); !errors.Is(err, ErrBusy) {
			t.Errorf("the library closes while a build runs: %v", err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := []Progress{{"Parsing", 0.1}, {"Building", 0.5}, {"Building", 1}}; !slices.Equal(seen, want) {
		t.Errorf("progress %v, not %v", seen, want)
	}
	b := f.build
	if b.onnxText != "a.onnx" || b.planText != "a.plan" || b.timingText != "t.cache" || b.layersText != "l.json" ||
		b.batchMin != 1 || b.batchOpt != 2 || b.batchMax != 4 || b.workspace != 1<<33 || b.optimizationLevel != 5 || b.threads != 3 ||
		b.dlaCore != 1 || !b.fp16 || !b.versionCompatible || b.compatibility != 2 || !slices.Equal(b.capabilityList, []int32{86, 89}) {
		t.Errorf("built with %+v", b)
	}
	if n := f.called("build cancel"); n != 0 {
		t.Errorf("cancelled %d times", n)
	}
}

func TestBuildFails(t *testing.T) {
	f := newFake(t)
	lib := f.openLibrary(Options{})
	f.next["build run"] = fakeError{ErrBadModel, "no importer for Frobnicate"}
	o := DefaultBuildOptions()
	o.ONNX = "a.onnx"
	if err := lib.Build(t.Context(), o, nil); !errors.Is(err, ErrBadModel) || err.Error() != `build engine of "a.onnx": no importer for Frobnicate` {
		t.Error(err)
	}
	f.next["build new"] = fakeError{ErrInvalid, "batch"}
	if err := lib.Build(t.Context(), o, nil); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
	o.Plan = "a\x00"
	if err := lib.Build(t.Context(), o, nil); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
	o.Plan, o.BatchMax = "", 1<<40
	if err := lib.Build(t.Context(), o, nil); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "largest batch 1099511627776") {
		t.Error(err)
	}
}

func TestBuildCancel(t *testing.T) {
	f := newFake(t)
	lib := f.openLibrary(Options{})
	stopped := errors.New("the user left")
	ctx, cancel := context.WithCancelCause(t.Context())
	f.phases = []progressArg{phase("Building", 0.5)}
	f.buildGate = make(chan struct{})
	err := lib.Build(ctx, DefaultBuildOptions(), func(Progress) { cancel(stopped) })
	if !errors.Is(err, ErrCancelled) || !errors.Is(err, stopped) {
		t.Errorf("%v", err)
	}
	if f.called("build cancel") != 1 || f.called("build free") != 1 {
		t.Errorf("calls %v", f.calls)
	}
	// Before it began.
	if err := lib.Build(ctx, DefaultBuildOptions(), nil); !errors.Is(err, ErrCancelled) || !errors.Is(err, stopped) || f.called("build new") != 1 {
		t.Errorf("%v", err)
	}
}

// TensorRT 8 goes on until it is done: the call is waited for, not abandoned.
func TestBuildThatCannotBeCancelled(t *testing.T) {
	f := newFake(t)
	lib := f.openLibrary(Options{})
	f.uncancel, f.buildGate = true, make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- lib.Build(ctx, DefaultBuildOptions(), nil) }()
	cancel()
	select {
	case err := <-done: // cancelled before it began
		if f.called("build run") > 0 {
			t.Fatalf("did not wait: %v", err)
		}
	case <-time.After(3 * progressInterval):
		close(f.buildGate)
		if err := <-done; err != nil {
			t.Errorf("it was built, but %v", err)
		}
	}
}

func TestBuildPanic(t *testing.T) {
	f := newFake(t)
	lib := f.openLibrary(Options{})
	f.phases = []progressArg{phase("Building", 0.5)}
	f.buildGate = make(chan struct{})
	defer func() {
		if r := recover(); r != "in progress" {
			t.Errorf("recovered %v", r)
		}
		if f.called("build free") != 1 {
			t.Error("the build was not freed")
		}
	}()
	_ = lib.Build(t.Context(), DefaultBuildOptions(), func(Progress) { panic("in progress") })
}

func TestNetwork(t *testing.T) {
	f := newFake(t)
	lib := f.openLibrary(Options{})
	n, err := lib.Network("a.onnx")
	if err != nil || n.Layers != 7 || n.Inputs[0].Name != "image" || n.Outputs[0].Type != "int32" || !slices.Equal(n.Inputs[0].Shape, []int64{-1, 3, 64, 64}) {
		t.Errorf("%+v, %v", n, err)
	}
	if _, err := lib.Network("broken.onnx"); err == nil || !strings.Contains(err.Error(), "broken.onnx") {
		t.Error(err)
	}
	f.next["network"] = fakeError{ErrFile, "cannot read"}
	if _, err := lib.Network("a.onnx"); !errors.Is(err, ErrFile) {
		t.Error(err)
	}
}
