package trt_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/toklip/toklip/trt"
	"github.com/toklip/toklip/trt/trttest"
)

// A libcuda of ours says that there is a GPU, and the real TensorRT finds none: what it does then must become an error, as on
// a machine whose driver is too old. TensorRT 10 returns numbers such as 0x238 in place of objects, RTX returns nothing
// and logs two errors, of which the first tells more.

func openWithFakeDriver(t *testing.T, headers string, library ...string) *trt.Library {
	t.Helper()
	if _, err := os.Stat("/dev/nvidiactl"); err == nil {
		t.Skip("this machine has a GPU, and TensorRT will find it")
	}
	lib, err := trt.Open(trt.Options{
		Shim:     trttest.RealShim(t, headers),
		TensorRT: trttest.Nvidia(t, library...),
		CUDA:     trttest.Program(t, "toklip_fake_cuda_new"),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lib.Close(); err != nil {
			t.Error(err)
		}
	})
	return lib
}

func TestTensorRT10FindsNoGPU(t *testing.T) {
	lib := openWithFakeDriver(t, "trt-10.16", "trt-10.15", "lib", "libnvinfer.so.10")
	device, err := lib.Device()
	if err != nil {
		t.Fatal(err)
	}
	if device.Name == "" || device.DLACores != 0 {
		t.Errorf("%+v", device)
	}
	plan := make([]byte, 64)
	copy(plan, "ftrt")
	copy(plan[24:], []byte{10, 15, 1, 29})
	_, err = lib.Load(plan, -1)
	found(t, err, "cannot make a runtime", "35")
	onnx := filepath.Join(t.TempDir(), "x.onnx")
	if err := os.WriteFile(onnx, oneNode(17, "Relu", "relu", onnxFloat), 0o644); err != nil {
		t.Fatal(err)
	}
	o := trt.DefaultBuildOptions()
	o.ONNX, o.Plan = onnx, filepath.Join(t.TempDir(), "x.plan")
	found(t, lib.Build(t.Context(), o, nil), "cannot make a builder", "35")
	_, err = lib.Network(onnx)
	found(t, err, "cannot make a builder", "35")
	if err := lib.Reset(); err != nil {
		t.Error(err)
	}
	if _, err := lib.Device(); err != nil {
		t.Errorf("after a reset: %v", err)
	}
}

func TestRTXFindsNoGPU(t *testing.T) {
	lib := openWithFakeDriver(t, "rtx-1.7", "rtx-1.7", "lib", "libtensorrt_rtx.so.1")
	_, networks := graphs(t, "tiny", "encoder.fp16.onnx")
	layers := filepath.Join(t.TempDir(), "layers.json")
	o := trt.DefaultBuildOptions()
	o.ONNX, o.Plan, o.Layers = networks[0].file, filepath.Join(t.TempDir(), "x.plan"), layers
	// Builds all the same; what needs the GPU is left out.
	if err := lib.Build(t.Context(), o, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(layers); err == nil {
		t.Error("layers were written, of an engine that could not be loaded")
	}
	plan, err := os.ReadFile(o.Plan)
	if err != nil {
		t.Fatal(err)
	}
	_, err = lib.Load(plan, -1)
	found(t, err, "deserializeCudaEngine", "cudaError 35")
}

// found checks the error of TensorRT's not finding a GPU.
func found(t *testing.T, err error, words ...string) {
	t.Helper()
	if !errors.Is(err, trt.ErrNoDevice) {
		t.Errorf("want no device: %v", err)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("want %q in: %v", w, err)
		}
	}
}
