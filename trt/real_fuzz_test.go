package trt_test

import (
	"errors"
	"testing"

	"github.com/toklip/toklip/trt"
	"github.com/toklip/toklip/trt/trttest"
)

// FuzzPlan loads anything: what is no plan is told as such, and what could be one fails for want of a GPU. Nothing
// crashes.
func FuzzPlan(f *testing.F) {
	shim, library := trttest.RealShim(f, "rtx-1.7"), trttest.Nvidia(f, "rtx-1.7", "lib", "libtensorrt_rtx.so.1")
	header := make([]byte, 64)
	copy(header, "vtrt")
	copy(header[24:], []byte{1, 7, 1, 116})
	f.Add(header)
	f.Add(header[:27])
	f.Add([]byte("ftrt"))
	f.Add([]byte{})
	lib, err := trt.Open(trt.Options{Shim: shim, TensorRT: library, CUDA: "/missing/libcuda.so.1"})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := lib.Close(); err != nil {
			f.Error(err)
		}
	})
	f.Fuzz(func(t *testing.T, plan []byte) {
		engine, err := lib.Load(plan, -1)
		switch {
		case engine != nil || err == nil:
			t.Fatal("it loads")
		case len(plan) >= 28 && string(plan[:4]) == "vtrt" && string(plan[24:27]) == "\x01\x07\x01":
			if !errors.Is(err, trt.ErrNoDevice) {
				t.Fatal(err)
			}
		case !errors.Is(err, trt.ErrBadPlan):
			t.Fatal(err)
		}
	})
}
