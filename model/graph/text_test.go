package graph

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/toklip/toklip/model/checkpoint"
	"github.com/toklip/toklip/model/onnx"
	"github.com/toklip/toklip/model/synth"
)

// textGolden is what PyTorch made of texts given as ids.
type textGolden struct {
	ids       []int32   // [texts, context]
	embedding []float32 // [texts, width]
	logits    []float32 // [images, texts]; nil where there are none
	probs     []float32
}

func (g golden) text(t *testing.T) textGolden {
	t.Helper()
	tokens, ok := g.arrays["tokens"]
	if !ok {
		t.Fatal("golden tokens are missing")
	}
	ids, err := tokens.Int32()
	if err != nil {
		t.Fatal(err)
	}
	out := textGolden{ids: ids, embedding: g.floats("text_embedding")}
	if _, ok := g.arrays["logits"]; ok {
		out.logits, out.probs = g.floats("logits"), g.floats("probs")
	}
	return out
}

// tinyLabels are the texts of tokenizer.json at context 16.
func tinyLabels(t *testing.T) textGolden {
	t.Helper()
	var labels struct {
		Texts         []string    `json:"texts"`
		TextEmbedding [][]float32 `json:"text_embedding"`
		Logits        [][]float32 `json:"logits"`
		Probs         [][]float32 `json:"probs"`
	}
	readJSON(t, "tiny_labels.json", &labels)
	var cases []struct {
		Text    string  `json:"text"`
		Context int     `json:"context_length"`
		IDs     []int32 `json:"ids"`
	}
	readJSON(t, "tokenizer.json", &cases)
	var out textGolden
	for i, text := range labels.Texts {
		found := false
		for _, c := range cases {
			if c.Text == text && c.Context == 16 && !found {
				out.ids = append(out.ids, c.IDs...)
				found = true
			}
		}
		if !found {
			t.Fatalf("tokenizer.json has no ids for %q", text)
		}
		out.embedding = append(out.embedding, labels.TextEmbedding[i]...)
	}
	for i := range labels.Logits {
		out.logits = append(out.logits, labels.Logits[i]...)
		out.probs = append(out.probs, labels.Probs[i]...)
	}
	return out
}

func readJSON(t *testing.T, name string, into any) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(goldenDir, name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

func buildText(t *testing.T, r checkpoint.Reader, cfg Config, precision string) (string, *Arch) {
	t.Helper()
	a, err := Inspect(r, cfg)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := BuildText(t.Context(), r, a, dir, TextOptions{Precision: precision}); err != nil {
		t.Fatal(err)
	}
	return dir, a
}

// TestTinyText compares the text tower with the original PyTorch code: embeddings, logits and probabilities against the
// three pictures.
func TestTinyText(t *testing.T) {
	r := safetensorsFile(t)
	for precision, allowed := range map[string]struct{ tolerance, cosine, logit float64 }{
		"fp32": {2e-4, 0.99999, 0.01}, "fp16": {2e-3, 0.99999, 0.1},
	} {
		t.Run(precision, func(t *testing.T) {
			dir, a := buildText(t, r, tinyConfig(t), precision)
			if a.Text.Context != 16 || a.Text.Vocabulary != 400 || a.Text.Width != 96 || a.Text.Depth != 2 || a.Text.Heads != 4 || a.Text.MLP != 358 {
				t.Errorf("architecture %+v", *a.Text)
			}
			pictures := openGolden(t, "tiny.npz").floats("embedding")
			for name, g := range map[string]textGolden{"tiny_text.npz": openGolden(t, "tiny_text.npz").text(t), "tiny_labels.json": tinyLabels(t)} {
				n := len(g.ids) / 16
				floats, _ := run(t, filepath.Join(dir, "text.onnx"), g.ids, []int64{int64(n), 16}, "ids", "embedding")
				closeTo(t, name, floats["embedding"], g.embedding, a.Dim, allowed.tolerance, allowed.cosine)
				if len(g.logits) != 3*n || len(g.probs) != 3*n {
					t.Fatalf("%s: %d logits and %d probabilities for %d texts", name, len(g.logits), len(g.probs), n)
				}
				scale, bias := scalar(t, r, "logit_scale"), scalar(t, r, "logit_bias")
				for i := range g.logits {
					image, text := pictures[i/n*a.Dim:][:a.Dim], floats["embedding"][i%n*a.Dim:][:a.Dim]
					logit := math.Exp(scale)*cosineOf(image, text) + bias
					if d := math.Abs(logit - float64(g.logits[i])); d > allowed.logit {
						t.Errorf("%s: picture %d, text %d: logit %v, want %v", name, i/n, i%n, logit, g.logits[i])
					}
					if p := 1 / (1 + math.Exp(-logit)); math.Abs(p-float64(g.probs[i])) > 2*allowed.logit*float64(g.probs[i]) {
						t.Errorf("%s: picture %d, text %d: probability %v, want %v", name, i/n, i%n, p, g.probs[i])
					}
				}
			}
		})
	}
}

func scalar(t *testing.T, r checkpoint.Reader, name string) float64 {
	t.Helper()
	v := make([]float32, 1)
	if err := r.ReadFloat32(name, v, 0); err != nil {
		t.Fatal(err)
	}
	return float64(v[0])
}

// TestTextWeights: fp16 is what is stored, and products are computed in fp32 all the same.
func TestTextWeights(t *testing.T) {
	for precision, bytes := range map[string]int64{"fp32": 4, "fp16": 2} {
		dir, a := buildText(t, synthetic(t, "tiny", true), Config{}, precision)
		m, err := onnx.ReadFile(filepath.Join(dir, "text.onnx"))
		if err != nil {
			t.Fatal(err)
		}
		if got := m.Inputs[0].String() + " -> " + m.Outputs[0].String(); got != "ids int32[batch,16] -> embedding float32[batch,96]" {
			t.Errorf("%s: %s", precision, got)
		}
		types, err := m.Types()
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range m.Nodes {
			if n.Op == "MatMul" && types[n.Inputs[0]] != onnx.Float32 {
				t.Errorf("%s: %s is computed in %s", precision, n.Name, types[n.Inputs[0]])
			}
		}
		var matrices int64
		for _, tensor := range m.Initializers {
			if len(tensor.Shape) >= 2 && tensor.Name != textPositions {
				matrices += tensor.Length
			}
		}
		w := int64(a.Text.Width)
		values := int64(a.Text.Vocabulary)*w + int64(a.Text.Depth)*(4*w*w+2*w*int64(a.Text.MLP)) + w*int64(a.Dim)
		if matrices != values*bytes {
			t.Errorf("%s: matrices take %d bytes, want %d", precision, matrices, values*bytes)
		}
	}
}

func TestBuildTextRefuses(t *testing.T) {
	whole := synthetic(t, "tiny", true)
	with, err := Inspect(whole, Config{})
	if err != nil {
		t.Fatal(err)
	}
	without, err := Inspect(whole, Config{NoText: true})
	if err != nil {
		t.Fatal(err)
	}
	if without.TextTensors != with.TextTensors || with.TextTensors != 30 {
		t.Errorf("%d tensors of the text tower, %d where it is left alone, want 30", with.TextTensors, without.TextTensors)
	}
	dir := t.TempDir()
	if _, err := BuildText(t.Context(), whole, without, dir, TextOptions{Precision: fp32}); err == nil || !strings.Contains(err.Error(), "the checkpoint has none") {
		t.Errorf("without a text tower: %v", err)
	}
	if _, err := BuildText(t.Context(), whole, with, dir, TextOptions{Precision: "int8"}); err == nil || !strings.Contains(err.Error(), `precision "int8"`) {
		t.Errorf("in int8: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	last := int64(0)
	if _, err := BuildText(ctx, whole, with, dir, TextOptions{Precision: fp32, Progress: func(stage string, done, total int64) {
		if stage != "text.onnx" || done <= last || done > total {
			t.Errorf("%s: %d of %d after %d", stage, done, total, last)
		}
		last = done
		cancel()
	}}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// large is a checkpoint one of whose text weights is beyond fp16.
type large struct{ checkpoint.Reader }

func (l large) ReadFloat32(name string, dst []float32, offset int64) error {
	err := l.Reader.ReadFloat32(name, dst, offset)
	if name == textTokens && offset == 0 {
		dst[7] = 70000
	}
	return err
}

func TestTextBeyondHalf(t *testing.T) {
	r := large{synthetic(t, "tiny", true)}
	a, err := Inspect(r, Config{Heads: 4})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := BuildText(t.Context(), r, a, t.TempDir(), TextOptions{Precision: fp16}); err == nil || !strings.Contains(err.Error(), textTokens) || !strings.Contains(err.Error(), "this model needs fp32") {
		t.Errorf("error %v", err)
	}
}

// broken is a checkpoint with some tensors left out and others of another shape.
type broken struct {
	checkpoint.Reader
	without  string // a prefix
	reshaped map[string][]int64
}

func (b broken) Lookup(name string) (checkpoint.Info, bool) {
	info, ok := b.Reader.Lookup(name)
	if ok && b.without != "" && strings.HasPrefix(name, b.without) {
		return checkpoint.Info{}, false
	}
	if shape, other := b.reshaped[name]; ok && other {
		info.Shape = shape
	}
	return info, ok
}

func (b broken) Tensors() []checkpoint.Info {
	var out []checkpoint.Info
	for _, info := range b.Reader.Tensors() {
		if info, ok := b.Lookup(info.Name); ok {
			out = append(out, info)
		}
	}
	return out
}

func TestTextInspect(t *testing.T) {
	whole := synthetic(t, "tiny", true)
	wide, err := synth.Preset("tiny")
	if err != nil {
		t.Fatal(err)
	}
	wide.Text.Width, wide.Text.Heads = 64, 2
	other, err := synth.New(wide, "", true)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		r    checkpoint.Reader
		cfg  Config
		want []string // of the error; nil: none
	}{
		"none":              {r: broken{Reader: whole, without: "text."}},
		"no positions":      {r: broken{Reader: whole, without: "text.positional"}, want: []string{`"text.positional_embedding" is missing`, "--text-precision none"}},
		"no tokens":         {r: broken{Reader: whole, without: "text.token"}, want: []string{`"text.token_embedding.weight" is missing`}},
		"no blocks":         {r: broken{Reader: whole, without: textBlocks}, want: []string{`"text.transformer.resblocks.0.*" is missing`}},
		"a block missing":   {r: broken{Reader: whole, without: textBlocks + "0."}, want: []string{`"text.transformer.resblocks.0.mlp.c_fc.weight" is missing`}},
		"part of a block":   {r: broken{Reader: whole, without: textBlocks + "1.attn"}, want: []string{`"text.transformer.resblocks.1.attn.in_proj_weight" is missing: expected shape [288 96]`}},
		"no projection":     {r: broken{Reader: whole, without: textProjection}, want: []string{`"text.text_projection.weight" is missing: expected shape [96 96]`, "--text-precision none"}},
		"wrong shape":       {r: broken{Reader: whole, reshaped: map[string][]int64{textBlocks + "1.ln_2.bias": {95}}}, want: []string{`"text.transformer.resblocks.1.ln_2.bias" has the wrong shape: expected [96], found [95]`}},
		"wrong rank":        {r: broken{Reader: whole, reshaped: map[string][]int64{textTokens: {400, 96, 1}}}, want: []string{`"text.token_embedding.weight" has the wrong shape: expected 2 dimensions`}},
		"other width":       {r: broken{Reader: whole, reshaped: map[string][]int64{textPositions: {16, 95}}}, want: []string{`"text.token_embedding.weight" has the wrong shape: expected [400 95]`}},
		"left out":          {r: broken{Reader: whole, without: "text.token"}, cfg: Config{NoText: true}},
		"heads":             {r: whole, cfg: Config{TextHeads: 5}, want: []string{"5 heads do not divide the width 96 of the text tower"}},
		"heads unknown":     {r: broken{Reader: other}, want: []string{"text tower", "width 64", "the encoder's (96)", "text_heads", "--text-precision none"}},
		"heads of metadata": {r: other},
		"heads given":       {r: other, cfg: Config{TextHeads: 4}},
	} {
		t.Run(name, func(t *testing.T) {
			if _, ok := test.r.(broken); ok { // which hides the metadata
				test.cfg.Heads = 4
			}
			a, err := Inspect(test.r, test.cfg)
			if test.want == nil && err != nil {
				t.Fatal(err)
			}
			if test.want != nil && err == nil {
				t.Fatalf("understood as %+v", a.Text)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error does not say %q: %v", want, err)
				}
			}
			switch name {
			case "none", "left out":
				if a.Text != nil {
					t.Errorf("text tower %+v", a.Text)
				}
			case "heads of metadata":
				if a.Text.Heads != 2 {
					t.Errorf("%d heads, want 2", a.Text.Heads)
				}
			case "heads given":
				if a.Text.Heads != 4 {
					t.Errorf("%d heads, want 4", a.Text.Heads)
				}
			}
		})
	}
	if _, err := Inspect(extra{whole}, Config{Heads: 4}); err == nil || !strings.Contains(err.Error(), `"text.extra" is surplus`) || !strings.Contains(err.Error(), "--text-precision none") {
		t.Errorf("surplus tensor: %v", err)
	}
}

// extra is a checkpoint with a tensor that no text tower has.
type extra struct{ checkpoint.Reader }

func (e extra) Tensors() []checkpoint.Info {
	return append(e.Reader.Tensors(), checkpoint.Info{Name: "text.extra", DType: checkpoint.Float32, Shape: []int64{1}})
}

// TestTextConfig: heads of the text tower are read from the configuration in either place.
func TestTextConfig(t *testing.T) {
	for text, want := range map[string]int{`{"text_heads": 3}`: 3, `{"text": {"heads": 3, "width": 96}}`: 3, `{"text_heads": 3, "text": {"heads": 3}}`: 3, `{}`: 0} {
		if c, err := ParseConfig([]byte(text)); err != nil || c.TextHeads != want {
			t.Errorf("%s: %+v, %v", text, c, err)
		}
	}
	for text, want := range map[string]string{
		`{"text_heads": -1}`:                      "text_heads = -1",
		`{"text_heads": 3, "text": {"heads": 4}}`: "text.heads = 4",
		`{"text": {"hads": 4}}`:                   "hads",
		`{"text_heads": "three"}`:                 "text_heads",
	} {
		if _, err := ParseConfig([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestFullText checks the published text tower, once in CI, as TestFullGoldens does.
func TestFullText(t *testing.T) {
	full := os.Getenv("TOKLIP_FULL")
	if full == "" || full == "0" || testing.Short() {
		t.Skip("the full-size text tower takes 4 GB of disk and a minute; set TOKLIP_FULL=1 (256 px) or 2 (384 px as well)")
	}
	presets := []string{"s256"}
	if full == "2" {
		presets = append(presets, "l384")
	}
	for _, preset := range presets {
		t.Run(preset, func(t *testing.T) {
			r := synthetic(t, preset, true)
			a, err := Inspect(r, Config{})
			if err != nil {
				t.Fatal(err)
			}
			g := openGolden(t, preset+"_text.npz").text(t)
			n := int64(len(g.ids) / a.Text.Context)
			embedding := map[string][]float32{}
			for precision, tolerance := range map[string]float64{fp32: 2e-4, fp16: 2e-3} {
				dir := t.TempDir()
				w, err := BuildText(t.Context(), r, a, dir, TextOptions{Precision: precision})
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("%s: %d MB", w.Data[0].Name, w.Data[0].Size>>20)
				floats, _ := run(t, filepath.Join(dir, "text.onnx"), g.ids, []int64{n, int64(a.Text.Context)}, "ids", "embedding")
				closeTo(t, precision, floats["embedding"], g.embedding, a.Dim, tolerance, 0.99999)
				embedding[precision] = floats["embedding"]
				if err := os.RemoveAll(dir); err != nil {
					t.Fatal(err)
				}
			}
			closeTo(t, "fp16 against fp32", embedding[fp16], embedding[fp32], a.Dim, 2e-3, 0.99999)
		})
	}
}
