package onnxruntime_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/toklip/toklip/engine"
	"github.com/toklip/toklip/engine/onnxruntime"
	"github.com/toklip/toklip/model/onnx"
)

// openChild is set for a process that opens one file and prints what happened: a
// process cannot load two libraries.
const openChild = "TOKLIP_TEST_OPEN"

func TestOpenErrors(t *testing.T) {
	if path := os.Getenv(openChild); path != "" {
		_, err := onnxruntime.Open(path)
		fmt.Println("open:", err)
		return
	}
	dir := t.TempDir()
	text := filepath.Join(dir, "text.so")
	if err := os.WriteFile(text, []byte("no library"), 0o755); err != nil {
		t.Fatal(err)
	}
	other, err := filepath.Glob("/lib/*-linux-gnu/libm.so.6")
	if err != nil || len(other) == 0 {
		t.Fatalf("no libm.so.6 to try: %v", err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "gone.so"): "is missing",
		text:                          "not a shared library for this machine",
		other[0]:                      "but not ONNX Runtime",
	} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestOpenErrors$")
		cmd.Env = append(os.Environ(), openChild+"="+path)
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) || !strings.Contains(string(out), filepath.Base(strings.TrimSuffix(path, ".6"))) {
			t.Errorf("open %s: %v, want %q:\n%s", path, err, want, out)
		}
	}
}

func TestOpenIsOncePerProcess(t *testing.T) {
	r := openRuntime(t)
	if !strings.HasPrefix(r.Version(), "1.") || !filepath.IsAbs(r.Path()) {
		t.Errorf("version %q at %q", r.Version(), r.Path())
	}
	var all sync.WaitGroup
	for range 4 {
		all.Add(1)
		go func() {
			defer all.Done()
			if again, err := onnxruntime.Open(r.Path()); err != nil || again != r {
				t.Errorf("open again: %v, %v", again, err)
			}
		}()
	}
	all.Wait()
	if _, err := onnxruntime.Open(os.Args[0]); err == nil || !strings.Contains(err.Error(), "loaded") {
		t.Errorf("open another file: error %v", err)
	}
	if _, err := onnxruntime.Open(""); err == nil {
		t.Error("open of no path succeeded")
	}
}

// TestLoadRefuses: whatever does not fit the model is refused at load, in words that
// name the file and what is wrong.
func TestLoadRefuses(t *testing.T) {
	r := openRuntime(t)
	good := buildModel(t, "tiny", "fp32")
	dir := t.TempDir()
	damaged := filepath.Join(dir, "damaged.onnx")
	content, err := os.ReadFile(good.Tokenizer)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(damaged, content[:len(content)/2], 0o644); err != nil {
		t.Fatal(err)
	}
	bare := filepath.Join(dir, "bare.onnx") // without its weights beside it
	if err := os.WriteFile(bare, content, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		edit func(*engine.Model)
		want []string
	}{
		{"no file", func(m *engine.Model) { m.Tokenizer = dir + "/gone.onnx" }, []string{"tokenizer", "gone.onnx", "no such file"}},
		{"folder", func(m *engine.Model) { m.Encoder = dir }, []string{"encoder", "folder"}},
		{"damaged", func(m *engine.Model) { m.Tokenizer = damaged }, []string{"damaged.onnx", "import the model again"}},
		{"no weights", func(m *engine.Model) { m.Tokenizer = bare }, []string{"bare.onnx", "weights file is missing"}},
		{"wrong graph", func(m *engine.Model) { m.Encoder = m.Decoder }, []string{"decoder.onnx", `no output "features"`, `"image"`}},
		{"swapped", func(m *engine.Model) { m.Tokenizer = m.Encoder }, []string{`no input "image"`, `"ids"`}},
		{"image size", func(m *engine.Model) { m.ImageSize = 128 }, []string{`input "image" is float32 [?,3,64,64]`, "[batch,3,128,128]"}},
		{"grid", func(m *engine.Model) { m.Rows = 5 }, []string{`output "ids"`, "[batch,20]"}},
		{"features", func(m *engine.Model) { m.FeatureDim = 95 }, []string{`output "features"`, "[batch,16,95]"}},
		{"embedding", func(m *engine.Model) { m.EmbeddingDim = 1 }, []string{`output "embedding"`, "[batch,1]"}},
		{"nothing", func(m *engine.Model) { *m = engine.Model{Name: "empty"} }, []string{`"empty"`, "image size is 0"}},
		{"normalisation", func(m *engine.Model) { m.Mean[0] = 0.48 }, []string{"mean [0.48 0.5 0.5]"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := *good
			test.edit(&m)
			b, err := r.NewBackend(&m, onnxruntime.Options{MaxBatch: 1})
			if err == nil {
				b.Close()
				t.Fatal("it was loaded")
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error does not say %q: %v", want, err)
				}
			}
		})
	}
	if _, err := r.Load(good, onnxruntime.Options{Threads: -1}); err == nil || !engine.IsPermanent(err) {
		t.Errorf("negative threads: error %v, want a permanent one", err)
	}
}

// TestIDsOutsideTheCodebook: a codebook smaller than the graph's is noticed when ids
// come that it does not hold.
func TestIDsOutsideTheCodebook(t *testing.T) {
	r := openRuntime(t)
	m := *buildModel(t, "tiny", "fp32")
	m.Codebook = 2
	g, err := r.Load(&m, onnxruntime.Options{MaxBatch: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if _, err := g.Tokenize(1); err == nil || !strings.Contains(err.Error(), "outside the codebook of 2") || !engine.IsPermanent(err) {
		t.Errorf("tokenize: error %v", err)
	}
	ids := make([]int32, m.Tokens())
	ids[3] = -1
	if _, _, err := g.EncodeIDs(ids); err == nil || !strings.Contains(err.Error(), "token 3 has id -1") || engine.IsPermanent(err) {
		t.Errorf("encode: error %v", err)
	}
	if _, _, _, err := g.EncodeImage(make([]float32, 5)); err == nil || !strings.Contains(err.Error(), "[3,64,64]") {
		t.Errorf("encode image: error %v", err)
	}
}

func TestTokenizerAlone(t *testing.T) {
	m := *buildModel(t, "tiny", "fp32")
	m.Encoder, m.FeatureDim, m.EmbeddingDim = "", 0, 0
	g, err := openRuntime(t).Load(&m, onnxruntime.Options{MaxBatch: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	golden := tinyGoldens(t)
	ids, features, embedding, err := g.EncodeImage(golden.Images[:3*64*64])
	if err != nil || len(ids) != 16 || features != nil || embedding != nil {
		t.Errorf("%d ids, %d features, %d embedding, %v", len(ids), len(features), len(embedding), err)
	}
	if _, _, err := g.Encode(1); !engine.IsPermanent(err) {
		t.Errorf("encode without encoder: error %v", err)
	}
}

func TestDecodeRGB(t *testing.T) {
	m := buildModel(t, "tiny", "fp32")
	d, err := openRuntime(t).LoadDecoder(m, onnxruntime.Options{})
	if err != nil {
		t.Fatal(err)
	}
	golden := tinyGoldens(t)
	pixels, err := d.DecodeRGB(golden.IDs[:16])
	if err != nil {
		t.Fatal(err)
	}
	area := m.ImageSize * m.ImageSize
	for i, got := range pixels {
		want := min(max((float64(golden.Decoded[i%3*area+i/3])+1)/2*255, 0), 255)
		if diff := float64(got) - want; diff > 0.51 || diff < -0.51 {
			t.Fatalf("byte %d is %d, want %.3f rounded", i, got, want)
		}
	}
	for _, ids := range [][]int32{nil, make([]int32, 17), append(make([]int32, 15), 512)} {
		if _, err := d.DecodeRGB(ids); err == nil {
			t.Errorf("%d ids ending in a bad one were decoded", len(ids))
		}
	}
	for range 2 {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := d.Decode(golden.IDs[:16]); !errors.Is(err, engine.ErrClosed) {
		t.Errorf("decode after close: error %v", err)
	}
	none := *m
	none.Decoder = ""
	if _, err := openRuntime(t).LoadDecoder(&none, onnxruntime.Options{}); err == nil {
		t.Error("a decoder was loaded of a model without")
	}
}

func TestRunErrors(t *testing.T) {
	r := openRuntime(t)
	m := buildModel(t, "tiny", "fp32")
	ids := onnxruntime.Tensor{Shape: []int64{1, 16}, Int32: make([]int32, 16)}
	run := func(ctx context.Context, file string, t onnxruntime.Tensor, name, out string) error {
		_, err := r.Run(ctx, file, []map[string]onnxruntime.Tensor{{name: t}}, []string{out}, onnxruntime.Options{})
		return err
	}
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	for name, err := range map[string]error{
		"no such file":  run(context.Background(), m.Encoder+"x", ids, "ids", "embedding"),
		"no values":     run(context.Background(), m.Encoder, onnxruntime.Tensor{Shape: []int64{1, 16}}, "ids", "embedding"),
		"no shape":      run(context.Background(), m.Encoder, onnxruntime.Tensor{Int32: ids.Int32}, "ids", "embedding"),
		"short":         run(context.Background(), m.Encoder, onnxruntime.Tensor{Shape: []int64{2, 16}, Int32: ids.Int32}, "ids", "embedding"),
		"wrong input":   run(context.Background(), m.Encoder, ids, "idz", "embedding"),
		"wrong output":  run(context.Background(), m.Encoder, ids, "ids", "embeddin"),
		"wrong length":  run(context.Background(), m.Encoder, onnxruntime.Tensor{Shape: []int64{1, 15}, Int32: ids.Int32}, "ids", "embedding"),
		"out of bounds": run(context.Background(), m.Encoder, onnxruntime.Tensor{Shape: []int64{1, 16}, Int32: append([]int32{1 << 30}, ids.Int32[1:]...)}, "ids", "embedding"),
		"cancelled":     run(cancelled, m.Encoder, ids, "ids", "embedding"),
	} {
		if err == nil || !strings.Contains(err.Error(), "encoder.onnx") {
			t.Errorf("%s: error %v, want one naming the file", name, err)
		}
	}
	if err := run(context.Background(), m.Encoder, ids, "ids", "embedding"); err != nil {
		t.Errorf("a good run after the bad ones: %v", err)
	}
}

// TestRunOutputWithoutDimensions: the binding makes no tensor of a single number, and leaves something behind that must not be freed.
func TestRunOutputWithoutDimensions(t *testing.T) {
	g := onnx.NewGraph("net")
	x := g.Input("x", onnx.Float32, onnx.Fixed(3))
	g.Output(g.Op("Abs", "rows", []string{x}), onnx.Float32, onnx.Fixed(3))
	g.Output(g.Op("ReduceMax", "most", []string{x}, onnx.Int("keepdims", 0)), onnx.Float32)
	file := filepath.Join(t.TempDir(), "net.onnx")
	if _, err := g.WriteFile(file); err != nil {
		t.Fatal(err)
	}
	in := []map[string]onnxruntime.Tensor{{"x": {Shape: []int64{3}, Float32: []float32{1, -2, 3}}}}
	r := openRuntime(t)
	if _, err := r.Run(t.Context(), file, in, []string{"rows", "most"}, onnxruntime.Options{}); err == nil || !strings.Contains(err.Error(), "shape") {
		t.Errorf("error %v", err)
	}
	got, err := r.Run(t.Context(), file, in, []string{"rows"}, onnxruntime.Options{})
	if err != nil || !slices.Equal(got[0]["rows"].Float32, []float32{1, 2, 3}) {
		t.Errorf("afterwards: %v, %v", got, err)
	}
}
