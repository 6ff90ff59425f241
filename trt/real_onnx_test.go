package trt_test

import "google.golang.org/protobuf/encoding/protowire"

// Graphs with types and operators that package model/onnx does not write, for TensorRT to refuse. Field numbers are those
// of onnx.proto3.

// Element types of ONNX.
const (
	onnxFloat      = 1
	onnxInt8       = 3
	onnxFloat8E4M3 = 17
)

func number(field protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, field, protowire.VarintType), v)
}

func message(field protowire.Number, parts ...[]byte) []byte {
	var body []byte
	for _, p := range parts {
		body = append(body, p...)
	}
	return protowire.AppendBytes(protowire.AppendTag(nil, field, protowire.BytesType), body)
}

func text(field protowire.Number, s string) []byte { return message(field, []byte(s)) }

func model(opset uint64, graph ...[]byte) []byte {
	graph = append(graph, text(2, "test"))
	return append(append(number(1, 9), message(8, number(2, opset))...), message(7, graph...)...)
}

func node(op, name string, inputs []string, output string) []byte {
	var parts [][]byte
	for _, in := range inputs {
		parts = append(parts, text(1, in))
	}
	return message(1, append(parts, text(2, output), text(3, name), text(4, op))...)
}

func value(field protowire.Number, name string, elem uint64, shape ...uint64) []byte {
	var dims [][]byte
	for _, d := range shape {
		dims = append(dims, message(1, number(1, d)))
	}
	return message(field, text(1, name), message(2, message(1, number(1, elem), message(2, dims...))))
}

func constant(name string, elem uint64, raw []byte, shape ...uint64) []byte {
	var parts [][]byte
	for _, d := range shape {
		parts = append(parts, number(1, d))
	}
	return message(5, append(parts, number(2, elem), text(8, name), message(9, raw))...)
}

// oneNode is a graph x -> y of one operator.
func oneNode(opset uint64, op, name string, elem uint64) []byte {
	return model(opset, node(op, name, []string{"x"}, "y"), value(11, "x", elem, 1, 32), value(12, "y", elem, 1, 32))
}

// quantisedProduct is x[16,32] * W[32,32] with both quantised to a type of one byte.
func quantisedProduct(elem uint64) []byte {
	one := []byte{0, 0, 0x80, 0x3f}
	weights := make([]byte, 32*32)
	for i := range weights {
		weights[i] = byte(i % 64)
	}
	return model(19,
		node("QuantizeLinear", "q", []string{"x", "scale", "zero"}, "xq"),
		node("DequantizeLinear", "dq", []string{"xq", "scale", "zero"}, "xd"),
		node("DequantizeLinear", "w", []string{"weights", "scale", "zero"}, "wd"),
		node("MatMul", "product", []string{"xd", "wd"}, "y"),
		constant("scale", onnxFloat, one), constant("zero", elem, []byte{0}), constant("weights", elem, weights, 32, 32),
		value(11, "x", onnxFloat, 16, 32), value(12, "y", onnxFloat, 16, 32))
}
