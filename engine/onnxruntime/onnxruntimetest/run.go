// Package onnxruntimetest lets tests run graphs on the real ONNX Runtime.
package onnxruntimetest

import (
	"context"

	"github.com/toklip/toklip/engine/onnxruntime"
)

// Open loads the library that [onnxruntime.FindLibrary] finds. A test on a machine
// without it is to fail: `make deps` brings it, which the error says.
func Open() (*onnxruntime.Runtime, error) {
	path, err := onnxruntime.FindLibrary("")
	if err != nil {
		return nil, err
	}
	return onnxruntime.Open(path)
}

// Tensor stands for every package's own type of what goes into a graph and comes out.
type Tensor interface {
	~struct {
		Shape   []int64
		Float32 []float32
		Int32   []int32
	}
}

// Run is [onnxruntime.Runtime.Run] with default options on the caller's type of tensor.
func Run[T Tensor](ctx context.Context, file string, inputs []map[string]T, outputs []string) ([]map[string]T, error) {
	library, err := Open()
	if err != nil {
		return nil, err
	}
	results, err := library.Run(ctx, file, convert[T, onnxruntime.Tensor](inputs), outputs, onnxruntime.Options{})
	if err != nil {
		return nil, err
	}
	return convert[onnxruntime.Tensor, T](results), nil
}

func convert[From, To Tensor](list []map[string]From) []map[string]To {
	out := make([]map[string]To, len(list))
	for i, tensors := range list {
		out[i] = make(map[string]To, len(tensors))
		for name, t := range tensors {
			out[i][name] = To(t)
		}
	}
	return out
}
