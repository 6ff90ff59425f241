package model

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/toklip/toklip/model/checkpoint"
	"github.com/toklip/toklip/model/graph"
	"github.com/toklip/toklip/model/synth"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func tiny(t testing.TB, salt string, text bool) *synth.Checkpoint {
	t.Helper()
	c, err := synth.Preset("tiny")
	if err != nil {
		t.Fatal(err)
	}
	r, err := synth.New(c, salt, text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// onlyEntry checks that the folder holds nothing but what is named: no temporary folder may stay.
func onlyEntry(t *testing.T, parent string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(parent)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if !slices.Equal(got, names) {
		t.Errorf("the folder holds %q, want %q", got, names)
	}
}

func TestImport(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "robot-eyes")
	stages := map[string]int64{}
	created := time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("x", 3600))
	m, err := Import(t.Context(), tiny(t, "", true), dir, Options{
		Precisions: []string{FP32, FP16, Int8}, Source: "a test", Licence: "none", Created: created, Runner: ortRunner{},
		Progress: func(stage string, done, total int64) {
			if done > total || done < stages[stage] {
				t.Errorf("%s: %d of %d after %d", stage, done, total, stages[stage])
			}
			stages[stage] = done
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"hashes", "tokenizer.onnx", "encoder.onnx", "encoder.int8.onnx", "tokenizer.fp16.onnx", "encoder.fp16.onnx",
		"encoder.qdq.onnx", "decoder.onnx", "text.onnx", "hashes of the text tower", "reference", "measure int8", "measure int8 for TensorRT", "measure fp16"} {
		if stages[s] == 0 {
			t.Errorf("no progress of stage %q: %v", s, stages)
		}
	}
	onlyEntry(t, parent, "robot-eyes")
	onlyEntry(t, dir, "codebook.npy", "decoder.onnx", "decoder.onnx.data", "encoder.fp16.onnx", "encoder.fp16.onnx.data", "encoder.int8.onnx",
		"encoder.int8.onnx.data", "encoder.onnx", "encoder.onnx.data", "encoder.qdq.onnx", "encoder.qdq.onnx.data", "model.toml", "pool.onnx", "reference.npz",
		"text.onnx", "text.onnx.data", "tokenizer.fp16.onnx", "tokenizer.fp16.onnx.data", "tokenizer.latents.onnx", "tokenizer.onnx", "tokenizer.onnx.data")

	if m.Int8 == nil || m.Int8.FeatureCosine < 0.995 || m.Int8.FeatureCosine >= 1 || m.Int8.EmbeddingCosine < 0.995 || m.Int8.Grids != grids || m.Int8.Floor != DefaultFloor {
		t.Errorf("int8 figures %+v", m.Int8)
	}
	loaded, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprintf("%+v", deref(loaded)) != fmt.Sprintf("%+v", deref(m)) {
		t.Errorf("loaded  %+v\nwritten %+v", deref(loaded), deref(m))
	}
	if m.Name != "robot-eyes" || m.Image.Size != 64 || m.Tokens != (TokenSpec{4, 4, 512, 8, 9}) || m.Tokens.Count() != 16 ||
		m.Encoder != (Encoder{96, 96, 3, 4}) || !m.Text.Present || *m.Text.LogitScale != float64(float32(4.7)) || *m.Text.LogitBias != -16.5 ||
		m.Created != time.Date(2026, 1, 2, 2, 4, 5, 0, time.UTC) || m.Image.Resize != "squash" {
		t.Errorf("manifest %+v", deref(m))
	}
	var seen int64
	if err := loaded.Verify(t.Context(), dir, func(done, total int64) { seen = total - done }); err != nil || seen != 0 {
		t.Errorf("verify: %v, %d bytes left", err, seen)
	}
	t.Logf("fp16 %+v\nint8 for TensorRT %+v", *m.FP16, *m.QDQ)
	if q := m.FP16; q.TokenAgreement < 0.98 || q.ClearTokenAgreement < q.TokenAgreement || q.FeatureCosine < 0.9999 || q.FeatureCosine >= 1 || q.Grids != grids || q.TokenFloor != 0.98 {
		t.Errorf("fp16 figures %+v", q)
	}
	if q := m.QDQ; q.TokenAgreement != 0 || q.FeatureCosine < 0.98 || q.FeatureCosine > 0.9999 || q.EmbeddingCosine < 0.99 || q.Grids != grids {
		t.Errorf("figures of int8 for TensorRT %+v", q)
	}
	if c := m.Calibration; c.By != "toklip model import" || c.Frames != grids || c.Method != "max" || c.Created != m.Created {
		t.Errorf("calibration %+v", c)
	}
	for role, precisions := range map[string]map[string]string{
		RoleTokenizer: {FP32: "tokenizer.latents.onnx", FP16: "tokenizer.fp16.onnx"},
		RoleEncoder:   {FP32: "encoder.onnx", FP16: "encoder.fp16.onnx", Int8: "encoder.qdq.onnx"},
		RoleDecoder:   {FP32: "decoder.onnx"},
	} {
		for precision, want := range precisions {
			if g, err := m.Graph(role, precision, BackendTensorRT); err != nil || g.File.Name != want {
				t.Errorf("%s %s for TensorRT: %q, %v", role, precision, g.File.Name, err)
			}
		}
	}
	for _, backend := range []string{BackendONNXRuntime, BackendTensorRT} {
		for _, role := range []string{RoleTokenizer, RoleEncoder, RoleDecoder} {
			if _, err := m.Graph(role, FP32, backend); err != nil {
				t.Error(err)
			}
		}
	}
	if g, err := m.Graph(RoleEncoder, Int8, BackendONNXRuntime); err != nil || g.File.Name != "encoder.int8.onnx" || len(g.Data) != 2 {
		t.Errorf("int8 graph %+v, %v", g, err)
	}
	if _, err := m.Graph(RoleEncoder, FP16, BackendONNXRuntime); !errors.Is(err, ErrNoGraph) ||
		!strings.Contains(err.Error(), `encoder in precision fp16 for backend onnxruntime: no such graph in the model (there is fp32, int8;`) {
		t.Errorf("error %v", err)
	}
}

// deref makes a manifest printable with its pointers followed.
func deref(m *Manifest) any {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return string(text)
}

// TestHashes: equal values hash the same from every format, other values differently.
func TestHashes(t *testing.T) {
	imported := func(r checkpoint.Reader, opts Options) *Manifest {
		t.Helper()
		m, err := Import(t.Context(), r, filepath.Join(t.TempDir(), "m"), opts)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	first := imported(tiny(t, "", true), Options{})
	path := filepath.Join(t.TempDir(), "tiny.safetensors")
	if err := checkpoint.WriteSafetensorsFile(t.Context(), path, tiny(t, "", true), nil); err != nil {
		t.Fatal(err)
	}
	file, err := checkpoint.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	vq, err := checkpoint.Open("../testdata/reference/golden/tiny_vq_only.pt")
	if err != nil {
		t.Fatal(err)
	}
	defer vq.Close()
	two, err := checkpoint.Merge(vq, checkpoint.Select(file, func(n string) bool { return !strings.HasPrefix(n, "visual.trunk.vq.") }))
	if err != nil {
		t.Fatal(err)
	}
	four := Options{Config: graph.Config{Heads: 4}}
	for name, m := range map[string]*Manifest{
		"safetensors":        imported(file, four),
		"two files":          imported(two, four),
		"without text":       imported(tiny(t, "", false), Options{}),
		"with int8":          imported(tiny(t, "", true), Options{Precisions: []string{Int8}, Runner: ortRunner{}}),
		"another time, name": imported(tiny(t, "", true), Options{Name: "x", Created: time.Unix(1, 0)}),
	} {
		if m.ModelHash != first.ModelHash || m.CodebookHash != first.CodebookHash || m.EmbeddingSpace != first.EmbeddingSpace {
			t.Errorf("%s: hashes differ from the first import", name)
		}
	}
	other := imported(tiny(t, "salt", true), Options{})
	if other.ModelHash == first.ModelHash || other.CodebookHash == first.CodebookHash || other.EmbeddingSpace == first.EmbeddingSpace {
		t.Error("other weights, but an equal hash")
	}
	heads := imported(tiny(t, "", true), Options{Config: graph.Config{Heads: 8}})
	if heads.ModelHash != first.ModelHash || heads.EmbeddingSpace == first.EmbeddingSpace {
		t.Error("other heads: the model hash must stay and the embedding space change")
	}
}

func TestImportRefuses(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "m")
	withRunner := func(r Runner) Options { return Options{Precisions: []string{FP32, Int8}, Runner: r} }
	for name, c := range map[string]struct {
		reader checkpoint.Reader
		opts   Options
		want   string
	}{
		"bad tensor": {checkpoint.Select(tiny(t, "", true), func(n string) bool { return n != "visual.trunk.norm.bias" }),
			Options{Config: graph.Config{Heads: 4}}, `tensor "visual.trunk.norm.bias" is missing: expected shape [96], found nothing`},
		"infinite weight": {brokenWeight{tiny(t, "", true)}, Options{Config: graph.Config{Heads: 4}},
			`tensor "visual.trunk.norm.weight": element 5 is +Inf; the checkpoint is damaged, or its training diverged`},
		"precision": {tiny(t, "", true), Options{Precisions: []string{"fp64"}}, `precision "fp64": this version makes fp32, fp16 and int8`},
		"no runner": {tiny(t, "", true), withRunner(nil), "precision int8: its quality has to be measured, and no backend is there to run it"},
		"floor":     {tiny(t, "", true), Options{Floor: 1.5}, "floor 1.5: a cosine lies between -1 and 1"},
		"resize":    {tiny(t, "", true), Options{Resize: "stretch"}, `image.resize = "stretch": must be "squash", "shortest" or "longest"`},
		"too far":   {tiny(t, "", true), Options{Precisions: []string{Int8}, Runner: ortRunner{}, Floor: 0.99999}, "the int8 encoder is too far from the fp32 reference: on 4 frames the worst cosine of a token's features is 0.99"},
		"broken runner": {tiny(t, "", true), withRunner(runnerFunc(func() ([]map[string]Tensor, error) { return nil, errors.New("no memory") })),
			"reference: no memory"},
		"short runner": {tiny(t, "", true), withRunner(runnerFunc(func() ([]map[string]Tensor, error) { return nil, nil })),
			"reference: 0 results came for 4 inputs of tokenizer.latents.onnx"},
		"NaN": {tiny(t, "", true), withRunner(spoilt{}), "reference: the input of blocks.0/attn/qkv holds NaN"},
		"no numbers in int8": {tiny(t, "", true), withRunner(spoilt{only: "int8"}),
			"the int8 encoder is too far from the fp32 reference: on 4 frames the worst cosine of a token's features is -1.00000, the floor is 0.995; "},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Import(t.Context(), c.reader, dir, c.opts)
			if err == nil || !strings.HasPrefix(err.Error(), fmt.Sprintf("import model %q: %s", dir, c.want)) {
				t.Errorf("error  %v\nwanted %s", err, c.want)
			}
			onlyEntry(t, parent)
		})
	}
}

// brokenWeight is a checkpoint one of whose weights overflowed.
type brokenWeight struct{ checkpoint.Reader }

func (b brokenWeight) ReadFloat32(name string, dst []float32, offset int64) error {
	err := b.Reader.ReadFloat32(name, dst, offset)
	if name == "visual.trunk.norm.weight" && offset == 0 && len(dst) > 5 {
		dst[5] = float32(math.Inf(1))
	}
	return err
}

// TestImportCancelled cancels at every stage; nothing may stay behind.
func TestImportCancelled(t *testing.T) {
	for _, stage := range []string{"hashes", "tokenizer.onnx", "encoder.onnx", "encoder.int8.onnx", "encoder.fp16.onnx", "decoder.onnx", "text.onnx", "hashes of the text tower", "reference", "measure int8",
		"encoder.qdq.onnx", "measure int8 for TensorRT", "measure fp16"} {
		parent := t.TempDir()
		ctx, cancel := context.WithCancel(t.Context())
		_, err := Import(ctx, tiny(t, "", true), filepath.Join(parent, "m"), Options{
			Precisions: []string{Int8, FP16}, Runner: ortRunner{},
			Progress: func(s string, done, total int64) {
				if s == stage {
					cancel()
				}
			},
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled in %s: %v", stage, err)
		}
		onlyEntry(t, parent)
	}
}

func TestImportOverwrite(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "m")
	if err := os.Mkdir(dir, 0o755); err != nil { // an empty folder is not in the way
		t.Fatal(err)
	}
	first, err := Import(t.Context(), tiny(t, "", true), dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Import(t.Context(), tiny(t, "new", true), dir, Options{}); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), "--overwrite") {
		t.Errorf("error %v", err)
	}
	// A failing replacement leaves the old one in place.
	if _, err := Import(t.Context(), tiny(t, "new", true), dir, Options{Overwrite: true, Precisions: []string{Int8}, Runner: ortRunner{}, Floor: 1}); err == nil {
		t.Error("int8 reached a cosine of 1")
	}
	if m, err := Load(dir); err != nil || m.ModelHash != first.ModelHash {
		t.Errorf("after a failed replacement: %v", err)
	}
	second, err := Import(t.Context(), tiny(t, "new", true), dir, Options{Overwrite: true})
	if err != nil {
		t.Fatal(err)
	}
	if m, err := Load(dir); err != nil || m.ModelHash != second.ModelHash || m.Verify(t.Context(), dir, nil) != nil {
		t.Errorf("after replacement: %v", err)
	}
	onlyEntry(t, parent, "m")

	precious := filepath.Join(parent, "photos")
	if err := os.MkdirAll(filepath.Join(precious, "2024"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Import(t.Context(), tiny(t, "", true), precious, Options{Overwrite: true}); err == nil || !strings.Contains(err.Error(), "is no model folder and is not replaced") {
		t.Errorf("error %v", err)
	}
	onlyEntry(t, precious, "2024")
}

// spoilt runs graphs and makes the first value of each result no number; or of the files only whose names have a word in them.
type spoilt struct{ only string }

func (s spoilt) Run(ctx context.Context, file string, inputs []map[string]Tensor, outputs []string) ([]map[string]Tensor, error) {
	out, err := ortRunner{}.Run(ctx, file, inputs, outputs)
	if strings.Contains(filepath.Base(file), s.only) {
		for _, tensors := range out {
			for _, t := range tensors {
				if len(t.Float32) > 0 {
					t.Float32[0] = float32(math.NaN())
				}
			}
		}
	}
	return out, err
}

// runnerFunc is a runner that answers every call the same.
type runnerFunc func() ([]map[string]Tensor, error)

func (f runnerFunc) Run(context.Context, string, []map[string]Tensor, []string) ([]map[string]Tensor, error) {
	return f()
}
