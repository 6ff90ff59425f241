package graph

import (
	"github.com/toklip/toklip/model/half"
	"github.com/toklip/toklip/model/onnx"
)

// Half precision, for TensorRT. Every change of type is a Cast in the graph: networks are strongly typed there, and what
// is not written down does not happen (or, before version 10, happens where the builder likes).
//
// What is fp16: weights and inputs of convolutions and matrix products, attention (scores, softmax, mixing), GELU, and
// what is stored between layers. What stays fp32: statistics of norms with their scale, shift and swish (a pointwise tail
// that is fused behind them), the encoder's stream of residuals, its final norm, and the tokenizer's end from norm_out on,
// whose latents decide tokens by small margins. Softmax needs no cast: scores are scaled in the query's weights, and
// TensorRT's fused attention wants one type throughout; it sums in fp32 by itself.

// precision is the type of weights and products in this part of the graph.
func (b *builder) precision() onnx.DType {
	if b.half {
		return onnx.Float16
	}
	return onnx.Float32
}

// narrow gives a value in the graph's own precision.
func (b *builder) narrow(x string) string { return b.as(x, b.precision()) }

// wide gives a value in fp32.
func (b *builder) wide(x string) string { return b.as(x, onnx.Float32) }

// as casts a value, once however often it is asked for, unless it has the type already.
func (b *builder) as(x string, t onnx.DType) string {
	if b.Type(x) == t {
		return x
	}
	name := x + "/" + t.String()
	if _, ok := b.casts[name]; !ok {
		if b.casts == nil {
			b.casts = map[string]string{}
		}
		b.casts[name] = b.Op("Cast", name, []string{x}, onnx.Int("to", int64(t)))
	}
	return b.casts[name]
}

// scalar is a constant without dimensions, of the type that x has.
func (b *builder) scalar(name string, v float32, x string) string {
	if b.Type(x) != onnx.Float16 {
		return b.Scalar(name, v)
	}
	raw, err := half.Append(nil, []float32{v})
	return b.constant(onnx.Tensor{Name: name + "/float16", Type: onnx.Float16, Raw: raw}, err)
}
