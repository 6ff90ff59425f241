// Package onnxruntime runs a model's graphs on ONNX Runtime: the backend for machines
// without an NVIDIA GPU, and the one that serves while engines for a GPU are built.
//
// The shared library is opened while the program runs, so that the program builds and
// starts without it:
//
//	path, err := onnxruntime.FindLibrary("")
//	runtime, err := onnxruntime.Open(path)
//	backend, err := runtime.NewBackend(model, onnxruntime.Options{})
//
// The binding underneath keeps the library and its environment in global variables of
// its own, so a process has one Runtime: Open gives the same to everybody, and the
// library stays loaded until the process ends.
//
// Sessions run on preallocated tensors whose memory is pinned, bound once for every
// place of a batch: a run allocates nothing in Go. All sessions share one arena for
// what lies between.
package onnxruntime
