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
	if _, err := onnxruntimetest.Open(); err != nil {
		t.Fatal(err)
	}
	options, err := ort.NewSessionOptions()
	if err != nil {
		t.Fatal(err)
	}
	defer options.Destroy()
	optimised := filepath.Join(dir, "optimised.onnx")
	if err := options.SetOptimizedModelFilePath(optimised); err != nil {
		t.Fatal(err)
	}
	session, err := ort.NewDynamicAdvancedSession(filepath.Join(dir, "encoder.onnx"), []string{"ids"}, []string{"features", "embedding"}, options)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Destroy()
	m, err := onnx.ReadFile(optimised)
	if err != nil {
		t.Fatal(err)
	}
	ops := m.Ops()
	fused := ops["LayerNormalization"] + ops["com.microsoft.SkipLayerNormalization"] + ops["com.microsoft.LayerNormalization"]
	if want := 2*a.Depth + 2; fused != want || ops["ReduceMean"] > 0 {
		t.Errorf("%d norms were fused, want %d: %v", fused, want, ops)
	}
}
