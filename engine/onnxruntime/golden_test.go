package onnxruntime_test

import (
	"path/filepath"
	"testing"

	"github.com/toklip/toklip/engine/enginetest"
	"github.com/toklip/toklip/engine/onnxruntime"
	"github.com/toklip/toklip/model/npy"
)

// tinyGoldens are what PyTorch computed for the tiny model.
func tinyGoldens(tb testing.TB) enginetest.Goldens {
	tb.Helper()
	arrays, err := npy.LoadNPZ(filepath.Join(repository(tb), "testdata", "reference", "golden", "tiny.npz"))
	if err != nil {
		tb.Fatal(err)
	}
	return enginetest.NewGoldens(tb, arrays)
}

func TestGoldensTiny(t *testing.T) {
	r := openRuntime(t)
	m := buildModel(t, "tiny", "fp32")
	g, err := r.Load(m, onnxruntime.Options{MaxBatch: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	d, err := r.LoadDecoder(m, onnxruntime.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	enginetest.RunGoldens(t, m, tinyGoldens(t), g.EncodeImage, d.Decode)
}
