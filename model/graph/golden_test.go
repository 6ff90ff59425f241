package graph

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/toklip/toklip/model/checkpoint"
	"github.com/toklip/toklip/model/npy"
	"github.com/toklip/toklip/model/synth"
)

const goldenDir = "../../testdata/reference/golden"

// golden is one of the reference archives.
type golden struct {
	t      testing.TB
	arrays map[string]*npy.Array
}

func openGolden(t testing.TB, name string) golden {
	t.Helper()
	a, err := npy.LoadNPZ(filepath.Join(goldenDir, name))
	if err != nil {
		t.Fatal(err)
	}
	return golden{t, a}
}

func (g golden) floats(name string) []float32 {
	g.t.Helper()
	a, ok := g.arrays[name]
	if !ok {
		g.t.Fatalf("golden %q is missing", name)
	}
	v, err := a.Float32()
	if err != nil {
		g.t.Fatal(err)
	}
	return v
}

func (g golden) ids() []int32 {
	g.t.Helper()
	v, err := g.arrays["ids"].Int32()
	if err != nil {
		g.t.Fatal(err)
	}
	return v
}

// closeTo checks the reference's tolerances: the largest error against the largest magnitude, and the worst
// cosine of rows.
func closeTo(t *testing.T, what string, got, want []float32, width int, tolerance, cosine float64) {
	t.Helper()
	if len(got) != len(want) || len(want) == 0 {
		t.Errorf("%s: %d values, want %d", what, len(got), len(want))
		return
	}
	var worst, largest float64
	for i, w := range want {
		d := math.Abs(float64(got[i]) - float64(w))
		if math.IsNaN(d) {
			t.Errorf("%s: value %d is %v", what, i, got[i])
			return
		}
		worst, largest = max(worst, d), max(largest, math.Abs(float64(w)))
	}
	c := 1.0
	for at := 0; at+width <= len(want); at += width {
		c = min(c, cosineOf(got[at:at+width], want[at:at+width]))
	}
	t.Logf("%s: error %.2g of the largest value, worst cosine %.7f", what, worst/largest, c)
	if worst > tolerance*largest || c < cosine {
		t.Errorf("%s: error %.3g of the largest value (allowed %g), worst cosine %.7f (at least %g)", what, worst/largest, tolerance, c, cosine)
	}
}

func cosineOf(a, b []float32) float64 {
	var ab, aa, bb float64
	for i := range a {
		ab += float64(a[i]) * float64(b[i])
		aa += float64(a[i]) * float64(a[i])
		bb += float64(b[i]) * float64(b[i])
	}
	return ab / math.Sqrt(aa*bb)
}

// sameTokens checks that ids are equal wherever the margin leaves no doubt.
func sameTokens(t *testing.T, got, want []int32, margin []float32) {
	t.Helper()
	if len(got) != len(want) || len(margin) != len(want) {
		t.Fatalf("%d ids, want %d (%d margins)", len(got), len(want), len(margin))
	}
	different := 0
	for i, w := range want {
		if got[i] == w {
			continue
		}
		different++
		if margin[i] > 1e-5 {
			t.Errorf("token %d is %d, want %d (margin %g)", i, got[i], w, margin[i])
		}
	}
	t.Logf("tokens: %d of %d equal", len(want)-different, len(want))
}

func tinyConfig(t testing.TB) Config {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(goldenDir, "tiny_cfg.json"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseConfig(text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func synthetic(t testing.TB, preset string, text bool) *synth.Checkpoint {
	t.Helper()
	c, err := synth.Preset(preset)
	if err != nil {
		t.Fatal(err)
	}
	r, err := synth.New(c, "", text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func open(t testing.TB, name string) checkpoint.Reader {
	t.Helper()
	r, err := checkpoint.Open(filepath.Join(goldenDir, name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// safetensorsFile writes the tiny synthetic checkpoint to a file, which is the reference's tiny.safetensors.
func safetensorsFile(t testing.TB) checkpoint.Reader {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tiny.safetensors")
	if err := checkpoint.WriteSafetensorsFile(t.Context(), path, synthetic(t, "tiny", true), nil); err != nil {
		t.Fatal(err)
	}
	r, err := checkpoint.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func build(t testing.TB, r checkpoint.Reader, cfg Config, opts Options) (string, *Arch) {
	t.Helper()
	a, err := Inspect(r, cfg)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := Build(t.Context(), r, a, dir, opts); err != nil {
		t.Fatal(err)
	}
	return dir, a
}

// TestTinyGoldens checks every stage of the small model against the original PyTorch code, from every kind of
// checkpoint that holds its exact weights.
func TestTinyGoldens(t *testing.T) {
	for name, reader := range map[string]func(t *testing.T) checkpoint.Reader{
		"safetensors": func(t *testing.T) checkpoint.Reader { return safetensorsFile(t) },
		"VQ from torch file, rest from safetensors": func(t *testing.T) checkpoint.Reader {
			rest := checkpoint.Select(safetensorsFile(t), func(name string) bool { return len(name) < len(trunkVQ) || name[:len(trunkVQ)] != trunkVQ })
			m, err := checkpoint.Merge(open(t, "tiny_vq_only.pt"), rest)
			if err != nil {
				t.Fatal(err)
			}
			return m
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, a := build(t, reader(t), tinyConfig(t), Options{Latents: true, Int8: true, FP16: true, Parts: 2})
			g := openGolden(t, "tiny.npz")
			n, s := int64(3), int64(64)
			floats, ids := run(t, filepath.Join(dir, "tokenizer.onnx"), g.floats("images"), []int64{n, 3, s, s}, "image", "ids", "latents")
			closeTo(t, "latents", floats["latents"], g.floats("latents"), 8*16, 2e-4, 0.99999)
			sameTokens(t, ids, g.ids(), g.floats("margin"))

			floats, _ = run(t, filepath.Join(dir, "encoder.onnx"), g.ids(), []int64{n, 16}, "ids", "features", "embedding")
			closeTo(t, "features", floats["features"], g.floats("features"), a.Dim, 2e-4, 0.99999)
			closeTo(t, "embedding", floats["embedding"], g.floats("embedding"), a.Dim, 2e-4, 0.99999)

			stream, _ := run(t, filepath.Join(dir, "encoder.part.0.onnx"), g.ids(), []int64{n, 16}, "ids", "next_stream")
			parts, _ := run(t, filepath.Join(dir, "encoder.part.1.onnx"), stream["next_stream"], []int64{n, 16, int64(a.Dim)}, "stream", "features", "embedding")
			closeTo(t, "features in parts", parts["features"], floats["features"], a.Dim, 1e-6, 0.999999)
			closeTo(t, "embedding in parts", parts["embedding"], floats["embedding"], a.Dim, 1e-6, 0.999999)

			floats, _ = run(t, filepath.Join(dir, "encoder.int8.onnx"), g.ids(), []int64{n, 16}, "ids", "features", "embedding")
			closeTo(t, "int8 features", floats["features"], g.floats("features"), a.Dim, 0.05, 0.999)
			closeTo(t, "int8 embedding", floats["embedding"], g.floats("embedding"), a.Dim, 0.05, 0.999)

			floats, _ = run(t, filepath.Join(dir, "tokenizer.latents.onnx"), g.floats("images"), []int64{n, 3, s, s}, "image", "latents")
			closeTo(t, "latents alone", floats["latents"], g.floats("latents"), 8*16, 2e-4, 0.99999)
			floats, _ = run(t, filepath.Join(dir, "tokenizer.fp16.onnx"), g.floats("images"), []int64{n, 3, s, s}, "image", "latents")
			closeTo(t, "fp16 latents", floats["latents"], g.floats("latents"), 8*16, 0.01, 0.9999)
			floats, _ = run(t, filepath.Join(dir, "encoder.fp16.onnx"), g.ids(), []int64{n, 16}, "ids", "features", "embedding")
			closeTo(t, "fp16 features", floats["features"], g.floats("features"), a.Dim, 0.005, 0.99999)
			closeTo(t, "fp16 embedding", floats["embedding"], g.floats("embedding"), a.Dim, 0.005, 0.99999)

			floats, _ = run(t, filepath.Join(dir, "decoder.onnx"), g.ids(), []int64{n, 16}, "ids", "image")
			closeTo(t, "decoded", floats["image"], g.floats("decoded"), 3*64*64, 2e-4, 0.99999)
		})
	}
}

// TestTinyHalfPrecision reads the wrapped bf16 torch file. The goldens come from fp32 weights, so tokens may
// differ and features are only close.
func TestTinyHalfPrecision(t *testing.T) {
	dir, a := build(t, open(t, "tiny_wrapped_bf16.pt"), tinyConfig(t), Options{Latents: true})
	g := openGolden(t, "tiny.npz")
	floats, _ := run(t, filepath.Join(dir, "tokenizer.onnx"), g.floats("images"), []int64{3, 3, 64, 64}, "image", "ids", "latents")
	closeTo(t, "latents", floats["latents"], g.floats("latents"), 8*16, 0.05, 0.999)
	floats, _ = run(t, filepath.Join(dir, "encoder.onnx"), g.ids(), []int64{3, 16}, "ids", "features", "embedding")
	closeTo(t, "features", floats["features"], g.floats("features"), a.Dim, 0.05, 0.999)
	closeTo(t, "embedding", floats["embedding"], g.floats("embedding"), a.Dim, 0.05, 0.999)
}

// TestFullGoldens checks the published sizes, once in CI: TOKLIP_FULL=1 (s256), TOKLIP_FULL=2 (l384 too).
func TestFullGoldens(t *testing.T) {
	full := os.Getenv("TOKLIP_FULL")
	if full == "" || full == "0" || testing.Short() {
		t.Skip("full-size models take 2 GB of disk and a minute; set TOKLIP_FULL=1 (256 px) or 2 (384 px as well)")
	}
	presets := map[string]int{"s256": 256}
	if full == "2" {
		presets["l384"] = 384
	}
	for preset, size := range presets {
		t.Run(preset, func(t *testing.T) {
			dir, a := build(t, synthetic(t, preset, true), Config{}, Options{Int8: true, FP16: true})
			if a.Size != size || a.Heads != 16 || a.Dim != 1152 || a.Depth != 27 || a.TextTensors == 0 || !a.LogitScale {
				t.Errorf("architecture %+v", a)
			}
			g := openGolden(t, preset+".npz")
			n, d := a.Tokens(), a.Dim
			s := int64(size)
			images := append(synth.Image(0, size), synth.Smooth(0, size)...)
			first := g.floats("images_first16")
			for i := range 2 {
				closeTo(t, "images", images[i*3*size*size:][:16], first[i*16:][:16], 16, 1e-6, 0.999999)
			}
			_, ids := run(t, filepath.Join(dir, "tokenizer.onnx"), images, []int64{2, 3, s, s}, "image", "ids")
			sameTokens(t, ids, g.ids(), g.floats("margin"))

			check := func(name string, tolerance, cosine float64) {
				floats, _ := run(t, filepath.Join(dir, name), g.ids(), []int64{2, int64(n)}, "ids", "features", "embedding")
				closeTo(t, name+" embedding", floats["embedding"], g.floats("embedding"), d, tolerance, cosine)
				var rows, last, mean []float32
				for i := range 2 {
					f := floats["features"][i*n*d : (i+1)*n*d]
					rows = append(rows, f[:4*d]...)
					last = append(last, f[(n-1)*d:]...)
					for r := range n {
						var sum float64
						for _, x := range f[r*d : (r+1)*d] {
							sum += float64(x)
						}
						mean = append(mean, float32(sum/float64(d)))
					}
				}
				closeTo(t, name+" first features", rows, g.floats("features_first_rows"), d, tolerance, cosine)
				closeTo(t, name+" last features", last, g.floats("features_last_row"), d, tolerance, cosine)
				closeTo(t, name+" means of features", mean, g.floats("features_mean"), n, tolerance, cosine)
			}
			check("encoder.onnx", 2e-4, 0.99999)
			check("encoder.ort.onnx", 2e-4, 0.99999)
			check("encoder.int8.onnx", 0.06, 0.998)
			check("encoder.fp16.onnx", 0.005, 0.9999)

			floats, _ := run(t, filepath.Join(dir, "decoder.onnx"), g.ids(), []int64{2, int64(n)}, "ids", "image")
			var mean, head []float32
			for i := range 2 {
				image := floats["image"][i*3*size*size : (i+1)*3*size*size]
				var sum float64
				for _, x := range image {
					sum += float64(x)
				}
				mean = append(mean, float32(sum/float64(len(image))))
				head = append(head, image[:16]...)
			}
			closeTo(t, "decoded mean", mean, g.floats("decoded_mean"), 2, 2e-4, 0.99999)
			closeTo(t, "decoded", head, g.floats("decoded_first16"), 16, 2e-4, 0.99999)
		})
	}
}

// TestBands: working causal attention off in bands changes nothing, also where they are uneven.
func TestBands(t *testing.T) {
	r := synthetic(t, "tiny", false)
	a, err := Inspect(r, Config{})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	j := job{ctx: t.Context(), r: r, a: a, dir: dir}
	_, base, err := j.write("encoder", nil, func(b *builder) { b.encoder(0, a.Depth) })
	if err != nil {
		t.Fatal(err)
	}
	g := openGolden(t, "tiny.npz")
	for _, bands := range []int{2, 3, 16} {
		name := fmt.Sprintf("encoder.%d", bands)
		if _, err := j.writeOver(name, base, func(b *builder) { b.ort, b.bands = true, bands; b.encoder(0, a.Depth) }); err != nil {
			t.Fatal(err)
		}
		floats, _ := run(t, filepath.Join(dir, name+".onnx"), g.ids(), []int64{3, 16}, "ids", "features", "embedding")
		closeTo(t, name+" features", floats["features"], g.floats("features"), a.Dim, 2e-4, 0.99999)
		closeTo(t, name+" embedding", floats["embedding"], g.floats("embedding"), a.Dim, 2e-4, 0.99999)
	}
}

// TestBandedGraphs: where bands are used, each backend gets its own encoder over the same weights.
func TestBandedGraphs(t *testing.T) {
	c := synthetic(t, "tiny", false).Config()
	c.Img = 256
	r, err := synth.New(c, "", false)
	if err != nil {
		t.Fatal(err)
	}
	a, err := Inspect(r, Config{})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	written, err := Build(t.Context(), r, a, dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, w := range written {
		for _, b := range w.Backends {
			files[w.Role+" "+b] = w.Graph.Name + " " + w.Data[0].Name
		}
	}
	if files["encoder onnxruntime"] != "encoder.ort.onnx encoder.onnx.data" || files["encoder tensorrt"] != "encoder.onnx encoder.onnx.data" {
		t.Errorf("files %v", files)
	}
	ids := make([]int32, a.Tokens())
	for i := range ids {
		ids[i] = int32(i * 7 % a.Codebook)
	}
	shape := []int64{1, int64(a.Tokens())}
	want, _ := run(t, filepath.Join(dir, "encoder.onnx"), ids, shape, "ids", "features", "embedding")
	got, _ := run(t, filepath.Join(dir, "encoder.ort.onnx"), ids, shape, "ids", "features", "embedding")
	closeTo(t, "features", got["features"], want["features"], a.Dim, 1e-5, 0.999999)
	closeTo(t, "embedding", got["embedding"], want["embedding"], a.Dim, 1e-5, 0.999999)
}
