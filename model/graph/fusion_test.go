package graph

import (
	"path/filepath"
	"testing"

	"github.com/toklip/toklip/engine/onnxruntime/onnxruntimetest"
	"github.com/toklip/toklip/model/onnx"
	ort "github.com/yalue/onnxruntime_go"
)

// TestNormsAreFused: ONNX Runtime makes one operator of every LayerNorm that is written out for TensorRT.
func TestNormsAreFused(t *testing.T) {
	dir, a := build(t, synthetic(t, "tiny", false), Config{}, Options{})
	ops := optimised(t, filepath.Join(dir, "encoder.onnx"), "features", "embedding")
	if want := 2*a.Depth + 2; norms(ops) != want || ops["ReduceMean"] > 0 {
		t.Errorf("%d norms were fused, want %d: %v", norms(ops), want, ops)
	}
}

// TestTextStaysNarrow: ONNX Runtime does not widen fp16 weights at load, and fuses the norms around them.
func TestTextStaysNarrow(t *testing.T) {
	dir, a := buildText(t, synthetic(t, "tiny", true), Config{}, fp16)
	ops := optimised(t, filepath.Join(dir, "text.onnx"), "embedding")
	matrices := 4*a.Text.Depth + 1
	if ops["Slice"] < matrices || ops["Cast"] != matrices+1 || norms(ops) != 2*a.Text.Depth+1 {
		t.Errorf("of %d matrices and %d norms: %v", matrices, 2*a.Text.Depth+1, ops)
	}
}

func norms(ops map[string]int) int {
	return ops["LayerNormalization"] + ops["com.microsoft.SkipLayerNormalization"] + ops["com.microsoft.LayerNormalization"]
}

// optimised counts the operators that ONNX Runtime makes of a graph of ids.
func optimised(t *testing.T, file string, outputs ...string) map[string]int {
	t.Helper()
	if _, err := onnxruntimetest.Open(); err != nil {
		t.Fatal(err)
	}
	options, err := ort.NewSessionOptions()
	if err != nil {
		t.Fatal(err)
	}
	defer options.Destroy()
	to := filepath.Join(filepath.Dir(file), "optimised.onnx")
	if err := options.SetOptimizedModelFilePath(to); err != nil {
		t.Fatal(err)
	}
	session, err := ort.NewDynamicAdvancedSession(file, []string{"ids"}, outputs, options)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Destroy()
	m, err := onnx.ReadFile(to)
	if err != nil {
		t.Fatal(err)
	}
	return m.Ops()
}
