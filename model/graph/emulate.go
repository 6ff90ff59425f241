package graph

import "github.com/toklip/toklip/model/onnx"

// Emulating fp16 in ONNX Runtime. On CPUs it has no fp16 kernels: it casts to fp32 before a node and back behind it, and then
// takes out pairs of casts that meet, so that a chain of nodes is computed in fp32 throughout and looks better than it is on a
// GPU. Graphs that are only measured put something between that it does not see through.

// moving lists the operators that only move values, which were rounded before.
var moving = map[string]bool{"Gather": true, "Reshape": true, "Slice": true, "Split": true, "Transpose": true}

// Op is [onnx.Graph.Op]; in a graph for measuring it makes sure that an fp16 result is rounded to fp16.
func (b *builder) Op(op, name string, inputs []string, attrs ...onnx.Attr) string {
	y := b.Graph.Op(op, name, inputs, attrs...)
	if !b.emulate || moving[op] || b.Type(y) != onnx.Float16 {
		return y
	}
	y = b.Graph.Op("Unsqueeze", name+"/rounded/up", []string{y, b.Int64s("rounded/axis", 0)})
	return b.Graph.Op("Squeeze", name+"/rounded", []string{y, "rounded/axis"})
}
