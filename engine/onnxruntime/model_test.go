package onnxruntime_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/toklip/toklip/engine"
	"github.com/toklip/toklip/engine/onnxruntime"
	"github.com/toklip/toklip/engine/onnxruntime/onnxruntimetest"
	"github.com/toklip/toklip/engine/preprocess"
	"github.com/toklip/toklip/model"
	"github.com/toklip/toklip/model/synth"
	"go.uber.org/goleak"
)

// models are built once for all tests of the package, in a folder of TestMain's.
var models struct {
	sync.Mutex
	dir  string
	made map[string]*model.Manifest
}

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "toklip-onnxruntime-test-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		models.dir, models.made = dir, map[string]*model.Manifest{}
		code := m.Run()
		if code == 0 {
			if err := goleak.Find(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
		}
		return code
	}())
}

// openRuntime loads the real library; a machine without it fails, for `make deps` brings it.
func openRuntime(tb testing.TB) *onnxruntime.Runtime {
	tb.Helper()
	r, err := onnxruntimetest.Open()
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// runner lets the importer measure the int8 encoder.
type runner struct{}

func (runner) Run(ctx context.Context, file string, inputs []map[string]model.Tensor, outputs []string) ([]map[string]model.Tensor, error) {
	return onnxruntimetest.Run(ctx, file, inputs, outputs)
}

// buildModel imports a synthetic model of that preset, fp32 and int8, and describes it
// with the encoder of that precision.
func buildModel(tb testing.TB, preset, precision string) *engine.Model {
	tb.Helper()
	models.Lock()
	defer models.Unlock()
	dir := filepath.Join(models.dir, preset)
	if keep := os.Getenv("TOKLIP_TEST_MODELS"); keep != "" {
		dir = filepath.Join(keep, preset)
	}
	m := models.made[preset]
	if m == nil {
		var err error
		if m, err = model.Load(dir); err != nil {
			config, err := synth.Preset(preset)
			if err != nil {
				tb.Fatal(err)
			}
			checkpoint, err := synth.New(config, "", false)
			if err != nil {
				tb.Fatal(err)
			}
			defer checkpoint.Close()
			m, err = model.Import(context.Background(), checkpoint, dir, model.Options{
				Precisions: []string{model.FP32, model.Int8}, Runner: runner{}, Floor: 0.9,
			})
			if err != nil {
				tb.Fatal(err)
			}
		}
		models.made[preset] = m
	}
	resize, err := preprocess.ParseMode(m.Image.Resize)
	if err != nil {
		tb.Fatal(err)
	}
	spec := &engine.Model{
		Name: preset, Precision: precision, ImageSize: m.Image.Size, Rows: m.Tokens.Rows, Cols: m.Tokens.Cols,
		FeatureDim: m.Encoder.FeatureDim, EmbeddingDim: m.Encoder.EmbeddingDim, Codebook: m.Tokens.Codebook, Resize: resize,
	}
	for c := range 3 {
		spec.Mean[c], spec.Std[c] = float32(m.Image.Mean[c]), float32(m.Image.Std[c])
	}
	for _, part := range []struct {
		role, precision string
		file            *string
	}{
		{model.RoleTokenizer, model.FP32, &spec.Tokenizer},
		{model.RoleEncoder, precision, &spec.Encoder},
		{model.RoleDecoder, model.FP32, &spec.Decoder},
	} {
		g, err := m.Graph(part.role, part.precision, model.BackendONNXRuntime)
		if err != nil {
			tb.Fatal(err)
		}
		*part.file = g.File.Path(dir)
	}
	return spec
}

// repository is the folder of go.mod.
func repository(tb testing.TB) string {
	tb.Helper()
	dir, err := os.Getwd()
	if err != nil {
		tb.Fatal(err)
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
	}
	tb.Fatal("no go.mod above the working directory")
	return ""
}
