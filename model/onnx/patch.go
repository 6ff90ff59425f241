package onnx

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// Patch is a change to an ONNX file that leaves everything else of it as it is, byte by byte: what this package does not know
// included.
type Patch struct {
	// Replace gives initializers other values. Each must be there, with the same type and shape, and be kept in the file itself.
	Replace []Tensor
	// Initializers, Nodes and Outputs are added behind those that are there. Nodes must only use what comes before them.
	Initializers []Tensor
	Nodes        []Node
	Outputs      []ValueInfo
}

// Apply changes the ONNX file in b, which it does not keep, and returns the new one.
func (p Patch) Apply(b []byte) ([]byte, error) {
	m, err := Decode(b)
	if err != nil {
		return nil, err
	}
	if err := p.check(m); err != nil {
		return nil, fmt.Errorf("change graph %q: %w", m.Graph, err)
	}
	return rewrite(b, modelGraph, p.graph)
}

// check finds what would make the result no graph.
func (p Patch) check(m *Model) error {
	known := map[string]bool{}
	for _, v := range m.Inputs {
		known[v.Name] = true
	}
	have := map[string]Tensor{}
	for _, t := range m.Initializers {
		known[t.Name] = true
		have[t.Name] = t
	}
	for _, n := range m.Nodes {
		for _, o := range n.Outputs {
			known[o] = true
		}
	}
	for _, t := range p.Replace {
		old, ok := have[t.Name]
		if !ok {
			return fmt.Errorf("there is no constant %q", t.Name)
		}
		if old.File != "" || t.File != "" || old.Type != t.Type || fmt.Sprint(old.Shape) != fmt.Sprint(t.Shape) || int64(len(t.Raw)) != old.Length {
			return fmt.Errorf("constant %q is %s%v, of %d bytes in the graph (file %q); the new one is %s%v of %d", t.Name, old.Type, old.Shape, old.Length,
				old.File, t.Type, t.Shape, len(t.Raw))
		}
	}
	for _, t := range p.Initializers {
		if known[t.Name] {
			return fmt.Errorf("constant %q is there already", t.Name)
		}
		known[t.Name] = true
	}
	for _, n := range p.Nodes {
		for _, in := range n.Inputs {
			if in != "" && !known[in] {
				return fmt.Errorf("node %q wants %q, which does not exist", n.Name, in)
			}
		}
		for _, o := range n.Outputs {
			if known[o] {
				return fmt.Errorf("value %q is made twice", o)
			}
			known[o] = true
		}
	}
	for _, v := range p.Outputs {
		if !known[v.Name] {
			return fmt.Errorf("output %q does not exist", v.Name)
		}
	}
	return nil
}

func (p Patch) graph(b []byte) ([]byte, error) {
	replaced := map[string]Tensor{}
	for _, t := range p.Replace {
		replaced[t.Name] = t
	}
	b, err := rewrite(b, graphInitializer, func(old []byte) ([]byte, error) {
		t, err := decodeTensor(old)
		if err != nil {
			return nil, err
		}
		if with, ok := replaced[t.Name]; ok {
			return encodeTensor(with), nil
		}
		return old, nil
	})
	if err != nil {
		return nil, err
	}
	for _, t := range p.Initializers {
		b = appendMessage(b, graphInitializer, encodeTensor(t))
	}
	for _, n := range p.Nodes {
		e, err := encodeNode(n)
		if err != nil {
			return nil, err
		}
		b = appendMessage(b, graphNode, e)
	}
	for _, v := range p.Outputs {
		b = appendMessage(b, graphOutput, encodeValue(v))
	}
	return b, nil
}

// rewrite copies a message; fields of one number, which are messages themselves, are changed on the way.
func rewrite(b []byte, number protowire.Number, change func([]byte) ([]byte, error)) ([]byte, error) {
	out := make([]byte, 0, len(b)+1024)
	for len(b) > 0 {
		num, kind, tag := protowire.ConsumeTag(b)
		if tag < 0 {
			return nil, protowire.ParseError(tag)
		}
		n := protowire.ConsumeFieldValue(num, kind, b[tag:])
		if n < 0 {
			return nil, protowire.ParseError(n)
		}
		if num != number || kind != protowire.BytesType {
			out = append(out, b[:tag+n]...)
			b = b[tag+n:]
			continue
		}
		old, _ := protowire.ConsumeBytes(b[tag:])
		changed, err := change(old)
		if err != nil {
			return nil, err
		}
		out = appendMessage(out, number, changed)
		b = b[tag+n:]
	}
	return out, nil
}
