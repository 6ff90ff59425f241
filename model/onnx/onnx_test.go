package onnx

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// example is y = Gelu(x·W + b) + x·W, whose W lies in a data file.
func example(t *testing.T, dir string) *Graph {
	t.Helper()
	data, err := CreateData(filepath.Join(dir, "net.onnx.data"))
	if err != nil {
		t.Fatal(err)
	}
	write := func(v ...float32) func(io.Writer) error {
		return func(w io.Writer) error {
			_, err := w.Write(AppendFloats(nil, v))
			return err
		}
	}
	if _, err := data.Append("other", Float32, []int64{1}, write(7)); err != nil {
		t.Fatal(err)
	}
	w, err := data.Append("fc.weight", Float32, []int64{2, 3}, write(1, 2, 3, 4, 5, 6))
	if err != nil {
		t.Fatal(err)
	}
	info, err := data.Close()
	if err != nil {
		t.Fatal(err)
	}
	if w.Offset != Alignment || info.Size != Alignment+24 {
		t.Errorf("the second tensor lies at %d of %d bytes; want %d of %d", w.Offset, info.Size, Alignment, Alignment+24)
	}
	g := NewGraph("net")
	g.Metadata("made_for", "a test")
	x := g.Input("x", Float32, Symbol("batch"), Fixed(2))
	y := g.Op("MatMul", "fc", []string{x, g.Initializer(w)})
	z := g.Contrib("FastGelu", "act", []string{y, g.Floats("fc.bias", []int64{3}, 1, 2, 3)})
	z = g.Op("ReduceSum", "out", []string{z, g.Int64s("axes", 1)}, Int("keepdims", 1))
	g.Output(z, Float32, Symbol("batch"), Fixed(1))
	return g
}

func TestRoundTrip(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "net.onnx")
	info, err := example(t, dir).WriteFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Size() != info.Size || info.Name != "net.onnx" || len(info.SHA256) != 64 {
		t.Errorf("file info %+v, stat %v %v", info, st, err)
	}
	m, err := ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := &Model{
		IRVersion: IRVersion, Producer: "toklip", Graph: "net",
		Opsets:   map[string]int64{"": Opset, Microsoft: 1},
		Metadata: map[string]string{"made_for": "a test"},
		Inputs:   []ValueInfo{{"x", Float32, []Dim{Symbol("batch"), Fixed(2)}}},
		Outputs:  []ValueInfo{{"out", Float32, []Dim{Symbol("batch"), Fixed(1)}}},
		Nodes: []Node{
			{Op: "MatMul", Name: "fc", Inputs: []string{"x", "fc.weight"}, Outputs: []string{"fc"}},
			{Op: "FastGelu", Domain: Microsoft, Name: "act", Inputs: []string{"fc", "fc.bias"}, Outputs: []string{"act"}},
			{Op: "ReduceSum", Name: "out", Inputs: []string{"act", "axes"}, Outputs: []string{"out"}, Attrs: []Attr{Int("keepdims", 1)}},
		},
		Initializers: []Tensor{
			{Name: "fc.weight", Type: Float32, Shape: []int64{2, 3}, File: "net.onnx.data", Offset: Alignment, Length: 24},
			{Name: "fc.bias", Type: Float32, Shape: []int64{3}, Raw: AppendFloats(nil, []float32{1, 2, 3}), Length: 12},
			{Name: "axes", Type: Int64, Shape: []int64{1}, Raw: []byte{1, 0, 0, 0, 0, 0, 0, 0}, Length: 8},
		},
	}
	if !reflect.DeepEqual(m, want) {
		t.Errorf("got  %+v\nwant %+v", m, want)
	}
	if got := m.Ops(); !reflect.DeepEqual(got, map[string]int{"MatMul": 1, "com.microsoft.FastGelu": 1, "ReduceSum": 1}) {
		t.Errorf("ops %v", got)
	}
	if got := m.Inputs[0].String(); got != "x float32[batch,2]" {
		t.Errorf("input reads %q", got)
	}
}

func TestSameGraphSameBytes(t *testing.T) {
	a, errA := example(t, t.TempDir()).Encode()
	b, errB := example(t, t.TempDir()).Encode()
	if errA != nil || errB != nil || string(a) != string(b) {
		t.Errorf("two encodings differ (%v, %v)", errA, errB)
	}
}

// Every mistake in building must be reported, and name what is wrong.
func TestMistakes(t *testing.T) {
	dim := Fixed(1)
	for name, c := range map[string]struct {
		build func(*Graph)
		want  string
	}{
		"unknown input":   {func(g *Graph) { g.Op("Relu", "r", []string{"nowhere"}) }, `node "r" wants "nowhere", which does not exist`},
		"unknown output":  {func(g *Graph) { g.Output("nowhere", Float32, dim) }, `output "nowhere" does not exist`},
		"made twice":      {func(g *Graph) { g.Op("Relu", "x", []string{"x"}) }, `value "x" is made twice`},
		"same node name":  {func(g *Graph) { g.Op("Relu", "r", []string{"x"}); g.Op("Relu", "r", []string{"x"}) }, `two nodes are called "r"`},
		"unused constant": {func(g *Graph) { g.Scalar("c", 1) }, `constant "c" is never used`},
		"unused node":     {func(g *Graph) { g.Op("Relu", "dead", []string{"x"}) }, `nothing uses the result of node "dead"`},
		"short constant":  {func(g *Graph) { g.Floats("c", []int64{3}, 1, 2) }, `constant "c" float32[3] has 8 bytes instead of 12`},
		"other constant":  {func(g *Graph) { g.Scalar("c", 1); g.Int64s("c", 1) }, `two different constants are called "c"`},
		"bad shape":       {func(g *Graph) { g.Floats("c", []int64{-1}) }, `tensor "c": impossible shape [-1]`},
		"bad attribute":   {func(g *Graph) { g.Output(g.Op("Relu", "r", []string{"x"}, Attr{"a", 1}), Float32, dim) }, `attribute "a" is a int`},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewGraph("net")
			g.Input("x", Float32, dim)
			g.Output(g.Op("Identity", "y", []string{"x"}), Float32, dim)
			c.build(g)
			path := filepath.Join(t.TempDir(), "x.onnx")
			if _, err := g.WriteFile(path); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
			if _, err := os.Stat(path); err == nil {
				t.Error("a faulty graph was written")
			}
		})
	}
}

func TestDataFileChecksLength(t *testing.T) {
	data, err := CreateData(filepath.Join(t.TempDir(), "d"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = data.Append("w", Float32, []int64{2}, func(w io.Writer) error { _, err := w.Write([]byte{1}); return err })
	if err == nil || !strings.Contains(err.Error(), `"w": 1 bytes came for float32[2], which takes 8`) {
		t.Errorf("error %v", err)
	}
	broken := errors.New("broken")
	if _, err := data.Append("w", Float32, []int64{2}, func(io.Writer) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	good, err := example(t, t.TempDir()).Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range [][]byte{nil, []byte("PK\x03\x04"), good[:len(good)-3], []byte("\x08\x08")} {
		if m, err := Decode(b); err == nil || m != nil {
			t.Errorf("%d bytes were read as %+v", len(b), m)
		}
	}
}

// FuzzDecode: nothing makes the reader panic, and what it refuses gives nothing.
func FuzzDecode(f *testing.F) {
	good, err := example(&testing.T{}, f.TempDir()).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Decode(b)
		if (m == nil) == (err == nil) {
			t.Errorf("model %v with error %v", m, err)
		}
		if m != nil {
			m.Ops()
			for _, v := range m.Inputs {
				_ = v.String()
			}
		}
	})
}
