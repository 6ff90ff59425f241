// Package gpu tests the daemon on TensorRT as its users meet it, without a GPU: the built program, a real broker, real
// camera workers, and the implementation of the shim for tests, which runs engines on the CPU and fails when it is told to.
package gpu
