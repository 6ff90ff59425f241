package onnx

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"path/filepath"
)

// Versions written into every file. Opset 17 and IR 8 are what TensorRT 8.6, 10, 11, TensorRT-RTX
// and every ONNX Runtime since 1.12 accept.
const (
	Opset     = 17
	IRVersion = 8
)

// Graph is a network under construction. Methods keep the first mistake and report it when the
// graph is encoded, so that building reads like the network. One goroutine at a time.
type Graph struct {
	name         string
	inputs       []ValueInfo
	outputs      []ValueInfo
	nodes        []Node
	initializers []Tensor
	known        map[string]bool // every value that exists
	types        map[string]DType
	used         map[string]bool // every value that something consumes
	nodeNames    map[string]bool
	domains      map[string]bool
	metadata     [][2]string
	err          error
}

// NewGraph begins an empty graph.
func NewGraph(name string) *Graph {
	return &Graph{
		name:      name,
		known:     map[string]bool{},
		types:     map[string]DType{},
		used:      map[string]bool{},
		nodeNames: map[string]bool{},
		domains:   map[string]bool{},
	}
}

func (g *Graph) fail(format string, args ...any) {
	if g.err == nil {
		g.err = fmt.Errorf("graph %q: "+format, append([]any{g.name}, args...)...)
	}
}

func (g *Graph) define(value string) {
	switch {
	case value == "":
		g.fail("a value without a name")
	case g.known[value]:
		g.fail("value %q is made twice", value)
	}
	g.known[value] = true
}

// Metadata adds a key and value to the file's metadata, where tools show it.
func (g *Graph) Metadata(key, value string) { g.metadata = append(g.metadata, [2]string{key, value}) }

// Input declares an input and returns its name.
func (g *Graph) Input(name string, t DType, shape ...Dim) string {
	g.define(name)
	g.types[name] = t
	g.inputs = append(g.inputs, ValueInfo{name, t, shape})
	return name
}

// Output declares a value as output. The value must exist and keeps its name: see [Graph.Rename].
func (g *Graph) Output(value string, t DType, shape ...Dim) {
	if !g.known[value] {
		g.fail("output %q does not exist", value)
	}
	if have := g.types[value]; have != 0 && have != t {
		g.fail("output %q is %s, declared as %s", value, have, t)
	}
	g.used[value] = true
	g.outputs = append(g.outputs, ValueInfo{value, t, shape})
}

// Initializer adds a constant, once however often it is called with the same one, and returns its name.
func (g *Graph) Initializer(t Tensor) string {
	for _, have := range g.initializers {
		if have.Name == t.Name {
			if have.File != t.File || have.Offset != t.Offset || len(have.Raw) != len(t.Raw) {
				g.fail("two different constants are called %q", t.Name)
			}
			return t.Name
		}
	}
	n, err := t.Elements()
	if err != nil {
		g.fail("%w", err)
	}
	bytes := int64(len(t.Raw))
	if t.File != "" {
		bytes = t.Length
	}
	if want := n * t.Type.Size(); bytes != want {
		g.fail("constant %q %s%v has %d bytes instead of %d", t.Name, t.Type, t.Shape, bytes, want)
	}
	g.define(t.Name)
	g.types[t.Name] = t.Type
	g.initializers = append(g.initializers, t)
	return t.Name
}

// Int64s adds a small one-dimensional constant, such as the shape for a Reshape.
func (g *Graph) Int64s(name string, v ...int64) string {
	return g.Initializer(Tensor{Name: name, Type: Int64, Shape: []int64{int64(len(v))}, Raw: AppendInts(make([]byte, 0, 8*len(v)), v)})
}

// Floats adds a small constant that is kept in the graph itself.
func (g *Graph) Floats(name string, shape []int64, v ...float32) string {
	return g.Initializer(Tensor{Name: name, Type: Float32, Shape: shape, Raw: AppendFloats(nil, v)})
}

// Scalar adds a constant without dimensions.
func (g *Graph) Scalar(name string, v float32) string { return g.Floats(name, nil, v) }

// Op adds a standard operator with one output, which gets the node's name.
func (g *Graph) Op(op, name string, inputs []string, attrs ...Attr) string {
	g.Add(Node{Op: op, Name: name, Inputs: inputs, Outputs: []string{name}, Attrs: attrs})
	return name
}

// Contrib adds one of ONNX Runtime's own operators with one output.
func (g *Graph) Contrib(op, name string, inputs []string, attrs ...Attr) string {
	g.Add(Node{Op: op, Domain: Microsoft, Name: name, Inputs: inputs, Outputs: []string{name}, Attrs: attrs})
	return name
}

// Add adds a node. Its inputs must exist already, which keeps nodes in an order of execution.
func (g *Graph) Add(n Node) {
	if n.Op == "" || n.Name == "" {
		g.fail("node %q (%q) lacks a name or an operator", n.Name, n.Op)
	}
	if g.nodeNames[n.Name] {
		g.fail("two nodes are called %q", n.Name)
	}
	g.nodeNames[n.Name] = true
	g.domains[n.Domain] = true
	for _, in := range n.Inputs {
		if in != "" && !g.known[in] {
			g.fail("node %q wants %q, which does not exist", n.Name, in)
		}
		g.used[in] = true
	}
	in := make([]DType, len(n.Inputs))
	for i, name := range n.Inputs {
		in[i] = g.types[name]
	}
	types, err := outputTypes(n, in)
	if err != nil {
		g.fail("%w", err)
		types = make([]DType, len(n.Outputs))
	}
	for i, out := range n.Outputs {
		if out != "" {
			g.define(out)
			g.types[out] = types[i]
		}
	}
	g.nodes = append(g.nodes, n)
}

// Rename adds an Identity node, so that an output can have a name of its own.
func (g *Graph) Rename(value, name string) string { return g.Op("Identity", name, []string{value}) }

// check finds what building could not: values and constants that lead nowhere.
func (g *Graph) check() error {
	if g.err != nil {
		return g.err
	}
	if len(g.inputs) == 0 || len(g.outputs) == 0 {
		return fmt.Errorf("graph %q: %d inputs and %d outputs", g.name, len(g.inputs), len(g.outputs))
	}
	for _, t := range g.initializers {
		if !g.used[t.Name] {
			return fmt.Errorf("graph %q: constant %q is never used", g.name, t.Name)
		}
	}
	for _, n := range g.nodes {
		used := false
		for _, out := range n.Outputs {
			used = used || g.used[out]
		}
		if !used {
			return fmt.Errorf("graph %q: nothing uses the result of node %q", g.name, n.Name)
		}
	}
	return nil
}

// WriteFile checks the graph and writes it. Nothing is written when the check fails.
func (g *Graph) WriteFile(path string) (FileInfo, error) {
	b, err := g.Encode()
	if err != nil {
		return FileInfo{}, err
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		return FileInfo{}, fmt.Errorf("write graph %q: %w", g.name, err)
	}
	sum := sha256.Sum256(b)
	return FileInfo{Name: filepath.Base(path), Size: int64(len(b)), SHA256: hex.EncodeToString(sum[:])}, nil
}

// AppendInts appends the values as little-endian bytes.
func AppendInts(b []byte, v []int64) []byte {
	for _, x := range v {
		b = binary.LittleEndian.AppendUint64(b, uint64(x))
	}
	return b
}

// AppendFloats appends the values as little-endian bytes.
func AppendFloats(b []byte, v []float32) []byte {
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return b
}
