package graph

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/toklip/toklip/model/onnx"
)

// portableOps are the operators that every TensorRT from 8.5 on takes at opset 17, TensorRT-RTX too: tried one by one, or
// listed by the parser's documentation of 8.5 (onnx-tensorrt, docs/operators.md). Not among them: LayerNormalization, which is
// new in 8.6. InstanceNormalization, Resize, QuantizeLinear and DequantizeLinear want constant parameters, and the last
// two a zero point of 0, which they have here.
var portableOps = map[string]bool{
	"Add": true, "ArgMax": true, "Cast": true, "Concat": true, "Conv": true, "DequantizeLinear": true, "Div": true, "Gather": true,
	"Identity": true, "InstanceNormalization": true, "LpNormalization": true, "MatMul": true, "Mul": true, "Pow": true,
	"QuantizeLinear": true, "ReduceMean": true, "Reshape": true, "Resize": true, "Sigmoid": true, "Slice": true, "Softmax": true,
	"Split": true, "Sqrt": true, "Sub": true, "Tanh": true, "Transpose": true,
}

// someRanges are ranges of inputs as a calibration might find them.
func someRanges(depth int) map[string]float32 {
	ranges := map[string]float32{}
	for _, name := range QuantisedLinears(depth) {
		ranges[name] = 4
	}
	return ranges
}

func TestPortableGraphs(t *testing.T) {
	a, err := Inspect(synthetic(t, "tiny", true), Config{})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	written, err := Build(t.Context(), synthetic(t, "tiny", true), a, dir, Options{Int8: true, FP16: true, Parts: 2})
	if err != nil {
		t.Fatal(err)
	}
	qdq, err := BuildQDQ(t.Context(), synthetic(t, "tiny", true), a, dir, QDQOptions{Ranges: someRanges(a.Depth), Parts: 2})
	if err != nil {
		t.Fatal(err)
	}
	written = append(written, qdq...)
	signature := map[string]string{
		"tokenizer.onnx":           "image float32[batch,3,64,64] -> ids int32[batch,16]",
		"tokenizer.latents.onnx":   "image float32[batch,3,64,64] -> latents float32[batch,8,4,4]",
		"tokenizer.fp16.part.onnx": "image float32[batch,3,64,64] -> latents float32[batch,8,4,4]",
		"tokenizer.fp16.onnx":      "image float32[batch,3,64,64] -> latents float32[batch,8,4,4]",
		"encoder.fp16.onnx":        "ids int32[batch,16] -> features float32[batch,16,96] embedding float32[batch,96]",
		"encoder.qdq.onnx":         "ids int32[batch,16] -> features float32[batch,16,96] embedding float32[batch,96]",
		"encoder.qdq.part.0.onnx":  "ids int32[batch,16] -> next_stream float32[batch,16,96]",
		"encoder.qdq.part.1.onnx":  "stream float32[batch,16,96] -> features float32[batch,16,96] embedding float32[batch,96]",
		"encoder.fp16.part.0.onnx": "ids int32[batch,16] -> next_stream float32[batch,16,96]",
		"encoder.fp16.part.1.onnx": "stream float32[batch,16,96] -> features float32[batch,16,96] embedding float32[batch,96]",
		"encoder.onnx":             "ids int32[batch,16] -> features float32[batch,16,96] embedding float32[batch,96]",
		"encoder.int8.onnx":        "ids int32[batch,16] -> features float32[batch,16,96] embedding float32[batch,96]",
		"encoder.part.0.onnx":      "ids int32[batch,16] -> next_stream float32[batch,16,96]",
		"encoder.part.1.onnx":      "stream float32[batch,16,96] -> features float32[batch,16,96] embedding float32[batch,96]",
		"decoder.onnx":             "ids int32[batch,16] -> image float32[batch,3,64,64]",
		"pool.onnx":                "features float32[16,96] mask float32[regions,16] -> embedding float32[regions,96]",
	}
	for _, w := range written {
		m, err := onnx.ReadFile(filepath.Join(dir, w.Graph.Name))
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, in := range m.Inputs {
			got += in.String() + " "
		}
		got += "->"
		for _, o := range m.Outputs {
			got += " " + o.String()
		}
		if got != signature[w.Graph.Name] {
			t.Errorf("%s: %s, want %s", w.Graph.Name, got, signature[w.Graph.Name])
		}
		delete(signature, w.Graph.Name)
		forORT := w.Graph.Name == "encoder.int8.onnx"
		if types, err := m.Types(); err != nil {
			t.Errorf("%s: %v", w.Graph.Name, err)
		} else if n := len(untyped(m, types)); n > 0 {
			t.Errorf("%s: %d values are of unknown type, %q among them", w.Graph.Name, n, untyped(m, types)[0])
		}
		for _, tensor := range m.Initializers {
			if tensor.File != "" && tensor.Offset%onnx.Alignment != 0 {
				t.Errorf("%s: %q lies at %d, not on a page", w.Graph.Name, tensor.Name, tensor.Offset)
			}
		}
		if forORT {
			if len(w.Data) != 2 || w.Data[0].Name != "encoder.onnx.data" || w.Data[1].Name != "encoder.int8.onnx.data" {
				t.Errorf("%s: data files %+v", w.Graph.Name, w.Data)
			}
			continue
		}
		if w.Precision != "fp32" && (len(w.Data) != 1 || !strings.HasSuffix(w.Role, ".part") && !slices.Equal(w.Backends, []string{"tensorrt"})) {
			t.Errorf("%s: for %v, data %+v", w.Graph.Name, w.Backends, w.Data)
		}
		if len(m.Opsets) != 1 || m.Opsets[""] != 17 || m.IRVersion > 8 {
			t.Errorf("%s: opsets %v, IR version %d", w.Graph.Name, m.Opsets, m.IRVersion)
		}
		for op := range m.Ops() {
			if !portableOps[op] && !strings.HasSuffix(w.Role, ".part") {
				t.Errorf("%s uses %s", w.Graph.Name, op)
			}
		}
	}
	if len(signature) > 0 {
		t.Errorf("not written: %v", signature)
	}
}

// untyped lists the results of nodes whose type is not known.
func untyped(m *onnx.Model, types map[string]onnx.DType) []string {
	var out []string
	for _, n := range m.Nodes {
		for _, o := range n.Outputs {
			if types[o] == 0 {
				out = append(out, o)
			}
		}
	}
	return out
}

// TestPrecisionOfProducts: what a graph's name promises is what its convolutions and matrix products take.
func TestPrecisionOfProducts(t *testing.T) {
	r := synthetic(t, "tiny", true)
	dir, a := build(t, r, Config{}, Options{FP16: true})
	if _, err := BuildQDQ(t.Context(), r, a, dir, QDQOptions{Ranges: someRanges(a.Depth)}); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string][]string{
		"tokenizer.fp16.onnx": {"encoder/conv_out float32", "quant_conv float32"},
		"encoder.fp16.onnx":   nil,
		"encoder.qdq.onnx":    {"*/attn/qkv/matmul int8", "*/attn/proj/matmul int8", "*/mlp/fc1/matmul int8", "*/mlp/fc2/matmul int8"},
	} {
		m, err := onnx.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		types, err := m.Types()
		if err != nil {
			t.Fatal(err)
		}
		made := map[string]string{} // by which operator
		for _, n := range m.Nodes {
			made[n.Outputs[0]] = n.Op
		}
		products := 0
		for _, n := range m.Nodes {
			if n.Op != "MatMul" && n.Op != "Conv" {
				continue
			}
			products++
			kind := types[n.Inputs[0]].String()
			if made[n.Inputs[0]] == "DequantizeLinear" && made[n.Inputs[1]] == "DequantizeLinear" {
				kind = "int8"
			}
			name := n.Name
			if block, rest, ok := strings.Cut(n.Name, "/"); ok && strings.HasPrefix(block, "blocks.") {
				name = "*/" + rest
			}
			if slices.Contains(want, name+" "+kind) || kind == "float16" && !slices.ContainsFunc(want, func(w string) bool { return strings.HasPrefix(w, name+" ") }) {
				continue
			}
			t.Errorf("%s: %s is computed in %s", file, n.Name, kind)
		}
		if products < 10 {
			t.Errorf("%s: only %d products found", file, products)
		}
	}
}

func TestBuildIsReproducible(t *testing.T) {
	var first []Written
	for range 2 {
		r := synthetic(t, "tiny", false)
		a, err := Inspect(r, Config{})
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		w, err := Build(t.Context(), r, a, dir, Options{Int8: true, FP16: true})
		if err != nil {
			t.Fatal(err)
		}
		qdq, err := BuildQDQ(t.Context(), r, a, dir, QDQOptions{Ranges: someRanges(a.Depth)})
		if err != nil {
			t.Fatal(err)
		}
		w = append(w, qdq...)
		if first == nil {
			first = w
		}
		for i := range w {
			if w[i].Graph != first[i].Graph || w[i].Data[0] != first[i].Data[0] {
				t.Errorf("%s: %+v, then %+v", w[i].Role, first[i], w[i])
			}
		}
	}
}

func TestBuildProgressAndCancel(t *testing.T) {
	r := synthetic(t, "tiny", false)
	a, err := Inspect(r, Config{})
	if err != nil {
		t.Fatal(err)
	}
	last := map[string][2]int64{}
	if _, err := Build(t.Context(), r, a, t.TempDir(), Options{Int8: true, FP16: true, Progress: func(stage string, done, total int64) {
		if done <= last[stage][0] || done > total {
			t.Errorf("%s: %d of %d after %d", stage, done, total, last[stage][0])
		}
		last[stage] = [2]int64{done, total}
	}}); err != nil {
		t.Fatal(err)
	}
	if len(last) != 6 {
		t.Errorf("stages %v", last)
	}
	for stage, p := range last {
		if p[0] != p[1] {
			t.Errorf("%s ended at %d of %d", stage, p[0], p[1])
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := Build(ctx, r, a, t.TempDir(), Options{Progress: func(string, int64, int64) { cancel() }}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestQuantise(t *testing.T) {
	const out, in = 3, 5
	v := []float32{
		1, -2, 0.5, 0, 2,
		0, 0, 0, 0, 0,
		-0.001, 0.0004, 0.00025, 0.0001, 0.001,
	}
	scales := make([]float32, out)
	q := quantise(v, out, in, scales, make([]byte, out*in), out)
	if scales[1] != 1 {
		t.Errorf("an output of zeros has scale %v", scales[1])
	}
	for r := range out {
		for c := range in {
			back := float32(int8(q[c*out+r])) * scales[r]
			if d := math.Abs(float64(back - v[r*in+c])); d > float64(scales[r])*0.5000001 {
				t.Errorf("weight [%d,%d] = %v comes back as %v (step %v)", r, c, v[r*in+c], back, scales[r])
			}
		}
	}
	if q[0*out+2] != byte(0x81) || q[4*out+2] != 127 { // -127, 127
		t.Errorf("the largest weights became %d and %d", int8(q[2]), int8(q[4*out+2]))
	}
}

// TestProduct compares with sums in float64, on sizes that do and do not fill the kernel's tiles.
func TestProduct(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	random := func(n int) []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = 2*r.Float32() - 1
		}
		return v
	}
	for _, size := range [][3]int{{1, 1, 1}, {1, 300, 7}, {9, 257, 13}, {16, 1024, 32}, {7, 2051, 9}, {5, 3, 2}} {
		rows, in, out := size[0], size[1], size[2]
		x, w, b := random(rows*in), random(out*in), random(out)
		y := make([]float32, rows*out)
		if err := product(t.Context(), y, x, w, b, rows, in, out); err != nil {
			t.Fatal(err)
		}
		for i := range rows {
			for j := range out {
				want := float64(b[j])
				for k := range in {
					want += float64(x[i*in+k]) * float64(w[j*in+k])
				}
				if d := math.Abs(float64(y[i*out+j]) - want); d > 2e-5 {
					t.Errorf("%v: [%d,%d] off by %g", size, i, j, d)
				}
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := product(ctx, make([]float32, 1), []float32{1}, []float32{1}, []float32{0}, 1, 1, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// BenchmarkProduct is one chunk of the folded token table at full size, on a tenth of its outputs.
func BenchmarkProduct(b *testing.B) {
	const rows, in, out = 128, 4608, 1152
	x, w, bias, y := make([]float32, rows*in), make([]float32, out*in), make([]float32, out), make([]float32, rows*out)
	for i := range x {
		x[i] = 1
	}
	for i := range w {
		w[i] = 0.5
	}
	for b.Loop() {
		if err := product(b.Context(), y, x, w, bias, rows, in, out); err != nil {
			b.Fatal(err)
		}
	}
	if y[len(y)-1] != in/2 {
		b.Fatalf("result %v", y[len(y)-1])
	}
	b.ReportMetric(float64(rows)*in*out*float64(b.N)/b.Elapsed().Seconds()/1e9, "GMAC/s")
}

// TestTile holds the processor's own kernel against the one in Go.
func TestTile(t *testing.T) {
	for _, n := range []int{1, 7, 8, 9, 64, 1000} {
		stride := n + 3
		x, w := make([]float32, stride+n), make([]float32, 3*stride+n)
		for i := range x {
			x[i] = float32(math.Sin(float64(i)))
		}
		for i := range w {
			w[i] = float32(math.Cos(float64(3 * i)))
		}
		var got, want [tileRows * tileCols]float32
		tile(&got, x, w, stride, n)
		tileGo(&want, x, w, stride, n)
		for i := range want {
			if d := math.Abs(float64(got[i] - want[i])); d > 1e-4 || math.IsNaN(d) {
				t.Errorf("%d values: sum %d is %v, in Go %v", n, i, got[i], want[i])
			}
		}
	}
}
