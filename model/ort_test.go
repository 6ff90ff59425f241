package model

import (
	"context"

	"github.com/toklip/toklip/engine/onnxruntime/onnxruntimetest"
)

// ortRunner runs graphs on ONNX Runtime, as the program does.
type ortRunner struct{}

func (ortRunner) Run(ctx context.Context, file string, inputs []map[string]Tensor, outputs []string) ([]map[string]Tensor, error) {
	return onnxruntimetest.Run(ctx, file, inputs, outputs)
}
