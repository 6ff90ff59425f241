// Package onnx writes and inspects ONNX files with nothing but the protobuf wire format.
//
// A [Graph] is built node by node. Weights do not pass through it: they are streamed into a
// [DataFile] (ONNX "external data"), and the graph only keeps where each of them lies, so a
// network of any size needs a few megabytes of memory to write. Several graphs may point into
// one data file.
//
//	data, err := onnx.CreateData("net.onnx.data")
//	w, err := data.Append("fc.weight", onnx.Float32, []int64{2, 3}, func(w io.Writer) error { ... })
//	g := onnx.NewGraph("net")
//	x := g.Input("x", onnx.Float32, onnx.Symbol("batch"), onnx.Fixed(2))
//	y := g.Op("MatMul", "fc", []string{x, g.Initializer(w)})
//	g.Output(y, onnx.Float32, onnx.Symbol("batch"), onnx.Fixed(3))
//	info, err := g.WriteFile("net.onnx")
//
// [ReadFile] reads such a file back far enough to say what it takes, gives and is made of.
// Field numbers are those of onnx.proto3 (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3).
package onnx

import (
	"fmt"
	"strconv"
)

// DType is an element type, numbered as TensorProto.DataType.
type DType int32

// Element types in use.
const (
	Float32 DType = 1
	Uint8   DType = 2
	Int8    DType = 3
	Int32   DType = 6
	Int64   DType = 7
	Bool    DType = 9
	Float16 DType = 10
)

// Size is the number of bytes of one element, 0 for a type this package does not know.
func (t DType) Size() int64 {
	switch t {
	case Float32, Int32:
		return 4
	case Uint8, Int8, Bool:
		return 1
	case Int64:
		return 8
	case Float16:
		return 2
	}
	return 0
}

// String names the type as NumPy does.
func (t DType) String() string {
	switch t {
	case Float32:
		return "float32"
	case Uint8:
		return "uint8"
	case Int8:
		return "int8"
	case Int32:
		return "int32"
	case Int64:
		return "int64"
	case Bool:
		return "bool"
	case Float16:
		return "float16"
	}
	return "type " + strconv.Itoa(int(t))
}

// Dim is one dimension of an input or output: a fixed size, or a name for a size that the
// caller chooses at run time.
type Dim struct {
	Size int64  // when Name is empty
	Name string // for example "batch"
}

// Fixed is a dimension of known size.
func Fixed(n int64) Dim { return Dim{Size: n} }

// Symbol is a dimension chosen at run time.
func Symbol(name string) Dim { return Dim{Name: name} }

// String is the size, or the name.
func (d Dim) String() string {
	if d.Name != "" {
		return d.Name
	}
	return strconv.FormatInt(d.Size, 10)
}

// ValueInfo describes an input or output of a graph.
type ValueInfo struct {
	Name  string
	Type  DType
	Shape []Dim
}

// String reads like "image float32[batch,3,256,256]".
func (v ValueInfo) String() string {
	s := v.Name + " " + v.Type.String() + "["
	for i, d := range v.Shape {
		if i > 0 {
			s += ","
		}
		s += d.String()
	}
	return s + "]"
}

// Tensor is a constant of a graph: small ones carry their bytes, large ones say where they lie.
type Tensor struct {
	Name  string
	Type  DType
	Shape []int64 // empty for a scalar

	Raw []byte // little-endian elements; nil when external

	File   string // name of the data file, beside the graph's; empty when Raw is used
	Offset int64  // bytes from the beginning of File
	Length int64  // bytes
}

// Elements is the product of the shape, or an error for a negative or overflowing one.
func (t Tensor) Elements() (int64, error) {
	n := int64(1)
	for _, d := range t.Shape {
		if d < 0 || (d > 0 && n > (1<<62)/d) {
			return 0, fmt.Errorf("tensor %q: impossible shape %v", t.Name, t.Shape)
		}
		n *= d
	}
	return n, nil
}

// Attr is an attribute of a node.
type Attr struct {
	Name  string
	Value any // float32, int64, string, []int64, []float32
}

// Int is an integer attribute.
func Int(name string, v int64) Attr { return Attr{name, v} }

// Ints is an attribute of several integers.
func Ints(name string, v ...int64) Attr { return Attr{name, v} }

// Float is a floating-point attribute.
func Float(name string, v float32) Attr { return Attr{name, v} }

// Str is a string attribute.
func Str(name, v string) Attr { return Attr{name, v} }

// Node is one operation.
type Node struct {
	Op      string
	Domain  string // empty for the standard operators
	Name    string
	Inputs  []string // an empty name leaves an optional input out
	Outputs []string
	Attrs   []Attr
}

// Microsoft is the domain of ONNX Runtime's own operators.
const Microsoft = "com.microsoft"
