package tensorrt_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/toklip/toklip/cmd/toklip/tensorrt"
	"github.com/toklip/toklip/engine"
	"github.com/toklip/toklip/engine/onnxruntime/onnxruntimetest"
	"github.com/toklip/toklip/model"
	"github.com/toklip/toklip/model/synth"
	"github.com/toklip/toklip/trt"
	"github.com/toklip/toklip/trt/trttest"
)

func TestMain(m *testing.M) { trttest.Main(m) }

// runner lets the importer make a reference.
type runner struct{}

func (runner) Run(ctx context.Context, file string, inputs []map[string]model.Tensor, outputs []string) ([]map[string]model.Tensor, error) {
	return onnxruntimetest.Run(ctx, file, inputs, outputs)
}

// tiny is the tiny model, with everything TensorRT wants.
type tiny struct {
	dir      string
	manifest *model.Manifest
}

// importTiny makes it.
func importTiny(tb testing.TB) tiny {
	tb.Helper()
	return importPreset(tb, "tiny")
}

// importPreset makes a model of synthetic weights, of any size.
func importPreset(tb testing.TB, preset string) tiny {
	tb.Helper()
	arch, err := synth.Preset(preset)
	if err != nil {
		tb.Fatal(err)
	}
	weights, err := synth.New(arch, "", false)
	if err != nil {
		tb.Fatal(err)
	}
	defer weights.Close()
	dir := filepath.Join(tb.TempDir(), preset)
	m, err := model.Import(tb.Context(), weights, dir, model.Options{Runner: runner{}, Precisions: []string{model.FP32, model.FP16, model.Int8}})
	if err != nil {
		tb.Fatal(err)
	}
	return tiny{dir, m}
}

// source is the model in a precision, for batches of so many frames.
func (t tiny) source(precision string, batch int) tensorrt.Source {
	m := t.manifest
	spec := &engine.Model{
		Name: m.Name, Precision: precision, ImageSize: m.Image.Size, Rows: m.Tokens.Rows, Cols: m.Tokens.Cols,
		FeatureDim: m.Encoder.FeatureDim, EmbeddingDim: m.Encoder.EmbeddingDim, Codebook: m.Tokens.Codebook,
	}
	for c := range 3 {
		spec.Mean[c], spec.Std[c] = float32(m.Image.Mean[c]), float32(m.Image.Std[c])
	}
	return tensorrt.Source{Dir: t.dir, Manifest: m, Spec: spec, Precision: precision, Batch: batch, OptimizationLevel: -1, DLACore: -1}
}

// open opens the implementation for tests, with a cache in dir.
func open(tb testing.TB, dir string) *tensorrt.Machine {
	tb.Helper()
	tb.Setenv(trt.AllowTestVariable, "1")
	m, err := tensorrt.Open(tensorrt.Options{Shim: trttest.Shim(tb), CacheDir: dir, Logger: trttest.Logger(tb, slog.LevelInfo)})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := m.Close(); err != nil {
			tb.Errorf("close TensorRT: %v", err)
		}
	})
	return m
}

// build builds what the source needs, in this process.
func build(tb testing.TB, m *tensorrt.Machine, s tensorrt.Source, roles ...string) []tensorrt.Built {
	tb.Helper()
	if len(roles) == 0 {
		roles = []string{model.RoleTokenizer, model.RoleEncoder}
	}
	networks, err := m.Networks(s, roles...)
	if err != nil {
		tb.Fatal(err)
	}
	built, err := m.Build(tb.Context(), networks, false, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return built
}

var run = tensorrt.RunOptions{CUDAGraph: true, Kernels: true, InFlight: 1}
