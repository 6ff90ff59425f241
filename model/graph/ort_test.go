package graph

import (
	"testing"

	"github.com/toklip/toklip/engine/onnxruntime"
	"github.com/toklip/toklip/engine/onnxruntime/onnxruntimetest"
)

// run executes a graph once and returns its float32 outputs, and its int32 output "ids".
func run(t testing.TB, file string, input any, shape []int64, inputName string, outputs ...string) (map[string][]float32, []int32) {
	t.Helper()
	in := onnxruntime.Tensor{Shape: shape}
	switch v := input.(type) {
	case []float32:
		in.Float32 = v
	case []int32:
		in.Int32 = v
	}
	results, err := onnxruntimetest.Run(t.Context(), file, []map[string]onnxruntime.Tensor{{inputName: in}}, outputs)
	if err != nil {
		t.Fatal(err)
	}
	floats := map[string][]float32{}
	var ids []int32
	for name, v := range results[0] {
		if v.Int32 != nil {
			ids = v.Int32
		} else {
			floats[name] = v.Float32
		}
	}
	return floats, ids
}
