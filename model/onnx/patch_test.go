package onnx

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

func TestPatch(t *testing.T) {
	file, err := example(t, t.TempDir()).Encode()
	if err != nil {
		t.Fatal(err)
	}
	// A field that this package does not know stays.
	file = protowire.AppendBytes(protowire.AppendTag(file, 6, protowire.BytesType), []byte("about it"))
	bias := AppendFloats(nil, []float32{4, 5, 6})
	got, err := Patch{
		Replace:      []Tensor{{Name: "fc.bias", Type: Float32, Shape: []int64{3}, Raw: bias}},
		Initializers: []Tensor{{Name: "k", Type: Int64, Shape: []int64{1}, Raw: make([]byte, 8)}},
		Nodes:        []Node{{Op: "Abs", Name: "abs", Inputs: []string{"act"}, Outputs: []string{"abs"}}, {Op: "TopK", Name: "top", Inputs: []string{"abs", "k"}, Outputs: []string{"top", "at"}}},
		Outputs:      []ValueInfo{{"top", Float32, []Dim{Fixed(1)}}},
	}.Apply(file)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(string(got), "about it") {
		t.Error("what is not known was lost")
	}
	m, err := Decode(got)
	if err != nil {
		t.Fatal(err)
	}
	before, err := Decode(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Nodes) != len(before.Nodes)+2 || m.Nodes[len(m.Nodes)-1].Name != "top" || len(m.Outputs) != 2 || m.Outputs[1].String() != "top float32[1]" {
		t.Errorf("nodes %v, outputs %v", m.Nodes, m.Outputs)
	}
	i := slices.IndexFunc(m.Initializers, func(t Tensor) bool { return t.Name == "fc.bias" })
	if string(m.Initializers[i].Raw) != string(bias) || len(m.Initializers) != len(before.Initializers)+1 {
		t.Errorf("initializers %+v", m.Initializers)
	}
	if same, err := (Patch{}).Apply(file); err != nil || string(same) != string(file) {
		t.Errorf("an empty change changed something (%v)", err)
	}
}

func TestPatchRefuses(t *testing.T) {
	file, err := example(t, t.TempDir()).Encode()
	if err != nil {
		t.Fatal(err)
	}
	scalar := func(name string) Tensor { return Tensor{Name: name, Type: Float32, Raw: make([]byte, 4)} }
	for name, c := range map[string]struct {
		patch Patch
		want  string
	}{
		"no such constant": {Patch{Replace: []Tensor{scalar("nothing")}}, `there is no constant "nothing"`},
		"another shape":    {Patch{Replace: []Tensor{scalar("fc.bias")}}, `constant "fc.bias" is float32[3], of 12 bytes`},
		"in a data file":   {Patch{Replace: []Tensor{{Name: "fc.weight", Type: Float32, Shape: []int64{2, 3}, Raw: make([]byte, 24)}}}, `constant "fc.weight" is float32[2 3], of 24 bytes in the graph (file "net.onnx.data")`},
		"twice":            {Patch{Initializers: []Tensor{scalar("x")}}, `constant "x" is there already`},
		"unknown input":    {Patch{Nodes: []Node{{Op: "Abs", Name: "a", Inputs: []string{"nowhere"}, Outputs: []string{"a"}}}}, `node "a" wants "nowhere", which does not exist`},
		"value twice":      {Patch{Nodes: []Node{{Op: "Abs", Name: "a", Inputs: []string{"x"}, Outputs: []string{"act"}}}}, `value "act" is made twice`},
		"unknown output":   {Patch{Outputs: []ValueInfo{{Name: "nowhere"}}}, `output "nowhere" does not exist`},
	} {
		if b, err := c.patch.Apply(file); err == nil || b != nil || !strings.HasPrefix(err.Error(), `change graph "net": `+c.want) {
			t.Errorf("%s: error %v, want %s", name, err, c.want)
		}
	}
	if _, err := (Patch{}).Apply([]byte("PK")); err == nil {
		t.Error("something that is no graph was changed")
	}
}

// Types that must not meet are reported while a graph is built, and by the reader.
func TestTypes(t *testing.T) {
	build := func(op string, b DType) (*Graph, []string) {
		g := NewGraph("net")
		x := g.Input("x", Float16, Fixed(1))
		y := g.Input("y", b, Fixed(1))
		return g, []string{x, y}
	}
	for name, c := range map[string]struct {
		op    string
		other DType
		want  string
	}{
		"equal":  {"Add", Float16, ""},
		"mixed":  {"Add", Float32, `node "n" (Add): input "y" is float32, want float16`},
		"MatMul": {"MatMul", Float32, `node "n" (MatMul): input "y" is float32, want float16`},
		"index":  {"Gather", Float32, `node "n" (Gather): input "y" is float32, want int32`},
		"good":   {"Gather", Int32, ""},
		"Q":      {"QuantizeLinear", Float32, `node "n" (QuantizeLinear): input "x" is float16, want float32`},
		"DQ":     {"DequantizeLinear", Float32, `node "n" (DequantizeLinear): input "x" is float16, want int8`},
	} {
		g, in := build(c.op, c.other)
		n := Node{Op: c.op, Name: "n", Inputs: in, Outputs: []string{"n"}}
		g.Add(n)
		g.Output("n", Float16, Fixed(1))
		_, err := g.Encode()
		m := &Model{Inputs: []ValueInfo{{"x", Float16, nil}, {"y", c.other, nil}}, Nodes: []Node{n}, Outputs: []ValueInfo{{"n", Float16, nil}}}
		types, read := m.Types()
		if c.want == "" {
			if err != nil || read != nil || g.Type("n") != Float16 || types["n"] != Float16 {
				t.Errorf("%s: %v, %v, %v", name, err, read, types)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || read == nil || read.Error() != c.want {
			t.Errorf("%s: errors %v and %v, want %s", name, err, read, c.want)
		}
	}
	g, in := build("Add", Float16)
	g.Output(g.Op("Add", "n", in), Float32, Fixed(1))
	if _, err := g.Encode(); err == nil || !strings.Contains(err.Error(), `output "n" is float16, declared as float32`) {
		t.Errorf("error %v", err)
	}
}

// TestTypesOfDamagedNodes: a node without what its operator gives or takes makes nothing panic, and what is not known is no mistake.
func TestTypesOfDamagedNodes(t *testing.T) {
	ops := append([]string{"Cast", "Gather", "ArgMax", "TopK", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeMatMul", "Unknown"}, sameType...)
	for op := range firstType {
		ops = append(ops, op)
	}
	for _, op := range ops {
		for _, n := range []Node{{Op: op}, {Op: op, Inputs: []string{"x"}}, {Op: op, Outputs: []string{"y"}}, {Op: op, Inputs: []string{""}, Outputs: []string{"y", "z"}}} {
			m := &Model{Inputs: []ValueInfo{{"x", Float32, nil}}, Nodes: []Node{n}}
			if types, err := m.Types(); err == nil && types["x"] != Float32 {
				t.Errorf("%+v: %v", n, types)
			}
		}
	}
	m := &Model{Initializers: []Tensor{{Name: "zero", Type: Int8}}, Nodes: []Node{
		{Op: "Unknown", Outputs: []string{"x"}}, {Op: "DequantizeLinear", Inputs: []string{"x", "s", "zero"}, Outputs: []string{"y"}}}}
	if types, err := m.Types(); err != nil || types["y"] != Float32 {
		t.Errorf("%v, %v", types, err)
	}
}

// FuzzPatch: nothing makes a change panic, and what comes of it can be read.
func FuzzPatch(f *testing.F) {
	good, err := example(&testing.T{}, f.TempDir()).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte("\x08\x08\x3a\x00"))
	p := Patch{
		Initializers: []Tensor{{Name: "added", Type: Float32, Raw: make([]byte, 4)}},
		Nodes:        []Node{{Op: "Abs", Name: "added/abs", Inputs: []string{"added"}, Outputs: []string{"added/abs"}}},
		Outputs:      []ValueInfo{{Name: "added/abs", Type: Float32}},
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		out, err := p.Apply(b)
		if err != nil {
			return
		}
		before, err := Decode(b)
		if err != nil {
			t.Fatal(err)
		}
		after, err := Decode(out)
		if err != nil {
			t.Fatal(err)
		}
		if len(after.Nodes) != len(before.Nodes)+1 || len(after.Initializers) != len(before.Initializers)+1 || len(after.Outputs) != len(before.Outputs)+1 {
			t.Errorf("%d nodes became %d", len(before.Nodes), len(after.Nodes))
		}
		_, _ = after.Types()
	})
}
