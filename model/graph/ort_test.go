package graph

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	ort "github.com/yalue/onnxruntime_go"
)

// startORT finds ONNX Runtime once; the environment lives until the test process ends.
var startORT = sync.OnceValue(func() error {
	lib, err := filepath.Abs("../../.cache/lib/libonnxruntime.so")
	if err != nil {
		return err
	}
	if _, err := os.Stat(lib); err != nil {
		return fmt.Errorf("ONNX Runtime is not there; run: make deps (%w)", err)
	}
	ort.SetSharedLibraryPath(lib)
	return ort.InitializeEnvironment()
})

// run executes a graph once and returns its float32 outputs, and its int32 output "ids".
func run(t testing.TB, file string, input any, shape []int64, inputName string, outputs ...string) (map[string][]float32, []int32) {
	t.Helper()
	if err := startORT(); err != nil {
		t.Fatal(err)
	}
	opts, err := ort.NewSessionOptions()
	if err != nil {
		t.Fatal(err)
	}
	defer opts.Destroy()
	s, err := ort.NewDynamicAdvancedSession(file, []string{inputName}, outputs, opts)
	if err != nil {
		t.Fatalf("load %s: %v", filepath.Base(file), err)
	}
	defer s.Destroy()
	var in ort.Value
	switch v := input.(type) {
	case []float32:
		in, err = ort.NewTensor(ort.NewShape(shape...), v)
	case []int32:
		in, err = ort.NewTensor(ort.NewShape(shape...), v)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer in.Destroy()
	out := make([]ort.Value, len(outputs))
	if err := s.Run([]ort.Value{in}, out); err != nil {
		t.Fatalf("run %s: %v", filepath.Base(file), err)
	}
	floats := map[string][]float32{}
	var ids []int32
	for i, v := range out {
		switch v := v.(type) {
		case *ort.Tensor[float32]:
			floats[outputs[i]] = append([]float32{}, v.GetData()...)
		case *ort.Tensor[int32]:
			ids = append([]int32{}, v.GetData()...)
		default:
			t.Fatalf("output %q is a %T", outputs[i], v)
		}
		v.Destroy()
	}
	return floats, ids
}
