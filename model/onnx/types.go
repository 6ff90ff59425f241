package onnx

import (
	"fmt"
	"slices"
)

// Element types follow from the operators. They are checked while a graph is built, because a runtime that takes types as
// they stand (TensorRT with strong typing) refuses a graph in which two of them meet, and one that does not converts
// silently.

// sameType lists the operators whose inputs have all one floating-point type, and their outputs too.
var sameType = []string{
	"Abs", "Add", "Concat", "Conv", "Div", "Erf", "FastGelu", "Identity", "InstanceNormalization", "LayerNormalization", "LpNormalization",
	"MatMul", "Max", "Mul", "Pow", "ReduceMax", "ReduceMean", "Sigmoid", "Softmax", "Sqrt", "Sub", "Tanh", "Transpose",
}

// firstType lists those whose outputs have the type of the first input, while the others have the one that is given.
var firstType = map[string]DType{"Reshape": Int64, "Slice": Int64, "Split": Int64, "Squeeze": Int64, "Unsqueeze": Int64, "Resize": Float32}

// outputTypes says of which types the outputs of a node are, given those of its inputs (0: unknown). Operators it does not know
// give unknown ones. An error says which types meet that must not.
func outputTypes(n Node, in []DType) ([]DType, error) {
	out := make([]DType, len(n.Outputs))
	all := func(t DType) []DType {
		for i := range out {
			out[i] = t
		}
		return out
	}
	want := func(i int, types ...DType) error {
		if i >= len(in) || n.Inputs[i] == "" || in[i] == 0 || slices.Contains(types, in[i]) {
			return nil
		}
		return fmt.Errorf("node %q (%s): input %q is %s, want %s", n.Name, n.Op, n.Inputs[i], in[i], types[0])
	}
	each := func(first int, t DType) error {
		for i := first; i < len(in); i++ {
			if err := want(i, t); err != nil {
				return err
			}
		}
		return nil
	}
	if len(in) == 0 || len(out) == 0 {
		return out, nil
	}
	if slices.Contains(sameType, n.Op) {
		t := in[0]
		for _, x := range in {
			if t == 0 {
				t = x
			}
		}
		return all(t), each(0, t)
	}
	if t, ok := firstType[n.Op]; ok {
		return all(in[0]), each(1, t)
	}
	switch n.Op {
	case "Cast":
		for _, a := range n.Attrs {
			if to, ok := a.Value.(int64); ok && a.Name == "to" {
				return all(DType(to)), nil
			}
		}
		return nil, fmt.Errorf("node %q (Cast): it does not say to which type", n.Name)
	case "Gather":
		return all(in[0]), want(1, Int32, Int64)
	case "ArgMax", "Shape":
		return all(Int64), nil
	case "TopK":
		all(Int64)[0] = in[0]
		return out, each(1, Int64)
	case "QuantizeLinear":
		t := Uint8
		if len(in) > 2 {
			t = in[2]
		}
		if err := want(0, Float32); err != nil {
			return nil, err
		}
		return all(t), want(1, Float32)
	case "DequantizeLinear":
		if err := want(0, Int8, Uint8); err != nil {
			return nil, err
		}
		if in[0] != 0 {
			if err := want(2, in[0]); err != nil {
				return nil, err
			}
		}
		return all(Float32), want(1, Float32)
	case "DynamicQuantizeMatMul":
		if err := want(0, Float32); err != nil {
			return nil, err
		}
		return all(Float32), want(1, Int8, Uint8)
	}
	return out, nil
}

// Type is the element type of a value of the graph, 0 if it is not known.
func (g *Graph) Type(value string) DType { return g.types[value] }

// Types finds the element type of every value of the model; those behind operators that are not known are missing. An error
// names the first node where types meet that must not, or an output that is not of the type it is declared with.
func (m *Model) Types() (map[string]DType, error) {
	types := map[string]DType{}
	for _, v := range m.Inputs {
		types[v.Name] = v.Type
	}
	for _, t := range m.Initializers {
		types[t.Name] = t.Type
	}
	for _, n := range m.Nodes {
		in := make([]DType, len(n.Inputs))
		for i, name := range n.Inputs {
			in[i] = types[name]
		}
		out, err := outputTypes(n, in)
		if err != nil {
			return nil, err
		}
		for i, name := range n.Outputs {
			if out[i] != 0 {
				types[name] = out[i]
			}
		}
	}
	for _, v := range m.Outputs {
		if t, ok := types[v.Name]; ok && t != v.Type {
			return nil, fmt.Errorf("output %q is %s, declared as %s", v.Name, t, v.Type)
		}
	}
	return types, nil
}
