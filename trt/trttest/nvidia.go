package trttest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Nvidia is the path of something that tools/trt/deps.sh fetches, in .cache/nvidia. It fails the test where
// that is missing.
func Nvidia(tb testing.TB, elements ...string) string {
	tb.Helper()
	path := filepath.Join(append([]string{Root(tb), ".cache", "nvidia"}, elements...)...)
	if _, err := os.Stat(path); err != nil {
		tb.Fatalf("%v: run tools/trt/deps.sh, which fetches it (make test does)", err)
	}
	return path
}

// RealShim builds the shim over TensorRT with a set of TensorRT's headers, a folder of .cache/nvidia/headers
// such as "rtx-1.7" or "trt-10.16", without CUDA kernels, and returns its path.
func RealShim(tb testing.TB, headers string) string {
	tb.Helper()
	name := "toklip_trt_rtx"
	if version, ok := strings.CutPrefix(headers, "trt-"); ok {
		major, _, _ := strings.Cut(version, ".")
		name = "toklip_trt" + major
	}
	return made(tb, overTensorRT(tb, headers), name, "lib"+name+".so")
}

// RealExample builds the C program of csrc/examples against the same shim and returns its path.
func RealExample(tb testing.TB, headers string) string {
	tb.Helper()
	return made(tb, overTensorRT(tb, headers), "toklip_describe", "describe")
}

func overTensorRT(tb testing.TB, headers string) variant {
	tb.Helper()
	return variant{"shim-" + headers, []string{
		"-DTOKLIP_TRT_TESTS=OFF", "-DTOKLIP_STRICT=ON", "-DTOKLIP_TRT_HEADERS=" + Nvidia(tb, "headers", headers), "-DTOKLIP_CUDA_ARCHS=OFF",
	}}
}
