package graph

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/toklip/toklip/engine/onnxruntime"
	"github.com/toklip/toklip/engine/onnxruntime/onnxruntimetest"
	"github.com/toklip/toklip/model/onnx"
)

// TestObserve holds the ranges that come out of an observed graph against the Linear layers' inputs themselves, which the graph is made
// to give as a whole.
func TestObserve(t *testing.T) {
	dir, a := build(t, synthetic(t, "tiny", false), Config{}, Options{})
	file, err := os.ReadFile(filepath.Join(dir, "encoder.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	for method, share := range map[string]float64{MethodMax: 0, MethodPercentile: tail} {
		t.Run(method, func(t *testing.T) { observeAgainstAll(t, dir, file, a, method, share) })
	}
	if _, err := NewRanges("entropy"); err == nil || err.Error() != `method "entropy" is unknown: choose percentile or max` {
		t.Errorf("error %v", err)
	}
}

func observeAgainstAll(t *testing.T, dir string, file []byte, a *Arch, method string, share float64) {
	r, err := NewRanges(method)
	if err != nil {
		t.Fatal(err)
	}
	o, err := r.Observe(file)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(o.linears, QuantisedLinears(a.Depth)) {
		t.Errorf("observed %v", o.linears)
	}
	// The inputs as outputs.
	m, err := onnx.Decode(file)
	if err != nil {
		t.Fatal(err)
	}
	var whole onnx.Patch
	inputs := map[string]string{}
	for _, n := range m.Nodes {
		if name, ok := strings.CutSuffix(n.Name, matmul); ok && slices.Contains(o.linears, name) {
			inputs[name] = "seen/" + name
			whole.Nodes = append(whole.Nodes, onnx.Node{Op: "Identity", Name: "seen/" + name, Inputs: n.Inputs[:1], Outputs: []string{"seen/" + name}})
			whole.Outputs = append(whole.Outputs, onnx.ValueInfo{Name: "seen/" + name, Type: onnx.Float32, Shape: []onnx.Dim{onnx.Symbol("batch"), onnx.Symbol("n"), onnx.Symbol("d")}})
		}
	}
	seen, err := whole.Apply(o.File)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "seen.onnx")
	if err := os.WriteFile(path, seen, 0o644); err != nil {
		t.Fatal(err)
	}
	if patched, err := onnx.ReadFile(path); err != nil {
		t.Fatal(err)
	} else if _, err := patched.Types(); err != nil {
		t.Error(err)
	}
	outputs := slices.Clone(o.Outputs)
	for _, name := range o.linears {
		outputs = append(outputs, inputs[name])
	}
	var frames []map[string]onnxruntime.Tensor
	g := openGolden(t, "tiny.npz")
	for i := range 3 {
		frames = append(frames, map[string]onnxruntime.Tensor{"ids": {Shape: []int64{1, 16}, Int32: g.ids()[16*i : 16*(i+1)]}})
	}
	results, err := onnxruntimetest.Run(t.Context(), path, frames, outputs)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]float32{}
	for _, result := range results {
		var tops [][]float32
		for _, name := range o.Outputs {
			tops = append(tops, result[name].Float32)
		}
		if err := r.Add(o, tops); err != nil {
			t.Fatal(err)
		}
		for _, name := range o.linears {
			for _, v := range result[inputs[name]].Float32 {
				all[name] = append(all[name], max(v, -v))
			}
		}
	}
	ranges := r.Found()
	if len(ranges) != len(o.linears) {
		t.Fatalf("%d ranges", len(ranges))
	}
	for name, values := range all {
		slices.Sort(values)
		clipped := int(float64(len(values)) * share)
		if want := values[len(values)-1-clipped]; ranges[name] != want {
			t.Errorf("%s: %v, want %v (%d of %d clipped)", name, ranges[name], want, clipped, len(values))
		}
	}
	if err := r.Add(o, nil); err == nil {
		t.Error("outputs are missing and nobody notices")
	}
	if err := r.Add(o, make([][]float32, len(o.Outputs))); err == nil || err.Error() != "nothing came of the input of blocks.0/attn/qkv" {
		t.Errorf("error %v", err)
	}
	bad := slices.Repeat([][]float32{{1}}, len(o.Outputs))
	bad[3] = []float32{float32(math.Inf(1))}
	if err := r.Add(o, bad); err == nil || err.Error() != "the input of blocks.0/mlp/fc2 holds +Inf" {
		t.Errorf("error %v", err)
	}
}

// TestPercentileOverFrames: the percentile is that of all frames together, though each hands over only its largest values.
func TestPercentileOverFrames(t *testing.T) {
	o := &Observed{linears: []string{"x"}, counts: []int64{20000}} // a frame's share of the tail is 2 values
	frames := [][]float32{{9, 8, 7, 1, 1}, {5, 4, 3, 2, 1}, {6, 2, 1, 1, 1}}
	// 60000 values: 6 are clipped, 9 8 7 6 5 4, and 3 is the range.
	for method, want := range map[string]float32{MethodPercentile: 3, MethodMax: 9} {
		r, err := NewRanges(method)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range frames {
			if err := r.Add(o, [][]float32{f}); err != nil {
				t.Fatal(err)
			}
		}
		if got := r.Found()["x"]; got != want {
			t.Errorf("%s: range %v, want %v", method, got, want)
		}
	}
}

func TestSetRanges(t *testing.T) {
	r := synthetic(t, "tiny", false)
	a, err := Inspect(r, Config{})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	ranges := someRanges(a.Depth)
	var files [2][]byte
	for i := range files {
		if i == 1 {
			ranges["blocks.1/mlp/fc2"] = 254
			ranges["blocks.2/mlp/fc1"] = 0
		}
		sub := filepath.Join(dir, string(rune('a'+i)))
		if err := os.Mkdir(sub, 0o755); err != nil {
			t.Fatal(err)
		}
		if _, err := BuildQDQ(t.Context(), r, a, sub, QDQOptions{Ranges: ranges}); err != nil {
			t.Fatal(err)
		}
		if files[i], err = os.ReadFile(filepath.Join(sub, "encoder.qdq.onnx")); err != nil {
			t.Fatal(err)
		}
	}
	changed, err := SetRanges(files[0], ranges)
	if err != nil {
		t.Fatal(err)
	}
	if string(changed) != string(files[1]) {
		t.Error("a graph given other ranges is not the one built with them")
	}
	m, err := onnx.Decode(changed)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range m.Initializers {
		want := map[string]float32{"blocks.1/mlp/fc2/input_scale": 2, "blocks.2/mlp/fc1/input_scale": 1, "blocks.0/attn/qkv/input_scale": 4. / 127}
		if w, ok := want[c.Name]; ok && string(c.Raw) != string(onnx.AppendFloats(nil, []float32{w})) {
			t.Errorf("%s is % x, want %v", c.Name, c.Raw, w)
		}
	}
	delete(ranges, "blocks.2/attn/proj")
	if _, err := SetRanges(files[0], ranges); err == nil || err.Error() != "set ranges: none was measured for blocks.2/attn/proj" {
		t.Errorf("error %v", err)
	}
	if _, err := BuildQDQ(t.Context(), r, a, t.TempDir(), QDQOptions{Ranges: ranges}); err == nil || !strings.Contains(err.Error(), "the range of blocks.2/attn/proj's input was not measured") {
		t.Errorf("error %v", err)
	}
	decoder, _ := build(t, r, Config{}, Options{})
	other, err := os.ReadFile(filepath.Join(decoder, "decoder.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := SetRanges(other, ranges); err == nil || err.Error() != `set ranges: graph "decoder" quantises nothing` {
		t.Errorf("error %v", err)
	}
	if _, err := mustRanges(t).Observe(other); err == nil || err.Error() != `observe graph "decoder": none of the encoder's Linear layers is in it` {
		t.Errorf("error %v", err)
	}
}

// TestPadding: the padded int8 encoder gives what the unpadded one gives, to the last bit but for the order of sums.
func TestPadding(t *testing.T) {
	r := synthetic(t, "tiny", false)
	a, err := Inspect(r, Config{})
	if err != nil {
		t.Fatal(err)
	}
	g := openGolden(t, "tiny.npz")
	got := map[int]map[string][]float32{}
	for _, multiple := range []int{1, 32} {
		dir := t.TempDir()
		written, err := BuildQDQ(t.Context(), r, a, dir, QDQOptions{Ranges: someRanges(a.Depth), Multiple: multiple})
		if err != nil {
			t.Fatal(err)
		}
		m, err := onnx.ReadFile(filepath.Join(dir, written[0].Graph.Name))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range m.Initializers {
			if c.Name == trunk+"blocks.0.mlp.fc1.weight.int8" && c.Shape[1] != int64(roundUp(358, multiple)) {
				t.Errorf("multiple %d: fc1 is %v", multiple, c.Shape)
			}
			if c.Name == trunk+"blocks.0.mlp.fc2.weight.int8" && c.Shape[0] != int64(roundUp(358, multiple)) {
				t.Errorf("multiple %d: fc2 is %v", multiple, c.Shape)
			}
		}
		got[multiple], _ = run(t, filepath.Join(dir, "encoder.qdq.onnx"), g.ids(), []int64{3, 16}, "ids", "features", "embedding")
		closeTo(t, "int8 features", got[multiple]["features"], g.floats("features"), a.Dim, 0.1, 0.995)
	}
	closeTo(t, "padded features", got[32]["features"], got[1]["features"], a.Dim, 1e-6, 0.999999)
	closeTo(t, "padded embedding", got[32]["embedding"], got[1]["embedding"], a.Dim, 1e-6, 0.999999)
}

// TestObserveRefusesSizes: shapes of a damaged graph multiply to nothing that a slice is cut by.
func TestObserveRefusesSizes(t *testing.T) {
	for _, c := range []struct {
		tokens, rows int64
		want         string
	}{
		{16, 4, ""},
		{16, -4, "are no constant matrix"},
		{16, 1 << 62, "are no constant matrix"},
		{1 << 62, 4, "has not one input"},
	} {
		g := onnx.NewGraph("encoder")
		x := g.Input("ids", onnx.Float32, onnx.Symbol("batch"), onnx.Fixed(c.tokens), onnx.Fixed(4))
		g.Output(g.Op("Abs", "y", []string{x}), onnx.Float32, onnx.Symbol("batch"), onnx.Fixed(c.tokens), onnx.Fixed(4))
		file, err := g.Encode()
		if err != nil {
			t.Fatal(err)
		}
		file, err = onnx.Patch{ // which does not look at shapes
			Initializers: []onnx.Tensor{{Name: "w", Type: onnx.Float32, Shape: []int64{c.rows, 1}, File: "w.data"}},
			Nodes:        []onnx.Node{{Op: "MatMul", Name: "blocks.0/attn/qkv" + matmul, Inputs: []string{"y", "w"}, Outputs: []string{"z"}}},
		}.Apply(file)
		if err != nil {
			t.Fatal(err)
		}
		_, err = mustRanges(t).Observe(file)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%d tokens, %d rows: %v", c.tokens, c.rows, err)
		}
	}
}

// TestRangesAfterAnError: what an error left behind is no range.
func TestRangesAfterAnError(t *testing.T) {
	r := mustRanges(t)
	o := &Observed{linears: []string{"a"}, counts: []int64{1}}
	for _, bad := range [][]float32{{}, {float32(math.NaN())}} {
		if err := r.Add(o, [][]float32{bad}); err == nil {
			t.Errorf("%v was taken", bad)
		}
		if found := r.Found(); len(found) != 0 {
			t.Errorf("found %v", found)
		}
	}
}

func TestScaleOfAlmostNothing(t *testing.T) {
	for most, want := range map[float32]float32{0: 1, -1: 1, math.SmallestNonzeroFloat32: 1, 127: 1, 254: 2} {
		if got := scaleOf(most); got != want {
			t.Errorf("of %g: %g, want %g", most, got, want)
		}
	}
}

func mustRanges(t *testing.T) *Ranges {
	t.Helper()
	r, err := NewRanges(MethodMax)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
