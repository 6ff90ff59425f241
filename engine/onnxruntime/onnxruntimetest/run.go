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

// Run is [onnxruntime.RunAs] with default options, on the library that Open finds.
func Run[T onnxruntime.AnyTensor](ctx context.Context, file string, inputs []map[string]T, outputs []string) ([]map[string]T, error) {
	library, err := Open()
	if err != nil {
		return nil, err
	}
	return onnxruntime.RunAs(ctx, library, file, inputs, outputs, onnxruntime.Options{})
}
