package graph

import (
	"fmt"
	"strings"

	"github.com/toklip/toklip/model/onnx"
)

// Int8 for TensorRT: the Linear layers qkv, proj, fc1 and fc2 of every block get their input through a pair of
// QuantizeLinear and DequantizeLinear, and int8 weights through a DequantizeLinear; the builder makes one int8 product of
// that. Weights have one scale for each output, inputs one for the whole tensor; zero points are 0, as TensorRT asks.
//
// Opset 17 knows these operators in fp32 only, so a product stands in fp32 between them and what follows is cast to fp16:
// no Cast may come between DequantizeLinear and MatMul, or the pattern is not one. Attention's own products stay fp16:
// fused int8 attention wants heads of 16, 32 or 64 and SigLIP's are 72 wide. So do the attention pooling, of which all but
// one product concern a single row, and everything that is no product.
//
// The hidden width of the published models, 4304, is no multiple of 32, which int8 tiles like: MLPs are padded with weights
// and biases of zero. GELU of 0 is 0, and so the result is exactly the same.

// QuantisedLinears names the Linear layers that are quantised for TensorRT, as nodes of the graphs call them, in the order of
// the network.
func QuantisedLinears(depth int) []string {
	var names []string
	for i := range depth {
		for _, part := range []string{"attn/qkv", "attn/proj", "mlp/fc1", "mlp/fc2"} {
			names = append(names, fmt.Sprintf("blocks.%d/%s", i, part))
		}
	}
	return names
}

// inputScale is what the scale of a quantised Linear's input is called, behind the Linear's name.
const inputScale = "/input_scale"

// qdqLinear is linear with an int8 product.
func (b *builder) qdqLinear(name, key, x string, scaledRows int, scale float32) string {
	most, ok := b.ranges[name]
	if !ok && b.err == nil {
		b.err = fmt.Errorf("the range of %s's input was not measured", name)
	}
	x = b.Op("QuantizeLinear", name+"/quantised", []string{b.wide(x), b.Scalar(name+inputScale, scaleOf(most)), b.zeroPoint()})
	x = b.Op("DequantizeLinear", name+"/dequantised", []string{x, name + inputScale, b.zeroPoint()})

	info, _ := b.w.reader.Lookup(key + ".weight")
	out, in := int(info.Shape[0]), int(info.Shape[1])
	padIn, padOut := in, out
	switch {
	case strings.HasSuffix(name, "/fc1"):
		padOut = roundUp(out, b.multiple)
	case strings.HasSuffix(name, "/fc2"):
		padIn = roundUp(in, b.multiple)
	}
	w, s := b.w.quantised(key+".weight", scaledRows, scale, padOut, padIn)
	zeros := b.Initializer(onnx.Tensor{Name: fmt.Sprintf("zero_points/%d", padOut), Type: onnx.Int8, Shape: []int64{int64(padOut)}, Raw: make([]byte, padOut)})
	weight := b.Op("DequantizeLinear", name+"/weight", []string{b.constant(w.t, w.err), b.constant(s.t, s.err), zeros}, onnx.Int("axis", 1))
	y := b.Op("MatMul", name+matmul, []string{x, weight})
	bias := b.w.scaled(key+".bias", scaledRows, scale)
	return b.Op("Add", name, []string{y, b.constant(b.w.put(bias.padded(padOut), onnx.Float32))})
}

// scaleOf is the step of an int8 value of which 127 stands for most.
func scaleOf(most float32) float32 {
	if step := most / 127; step > 0 {
		return step
	}
	return 1 // always zero, or so small that the step would be
}

func (b *builder) zeroPoint() string {
	return b.Initializer(onnx.Tensor{Name: "zero_point", Type: onnx.Int8, Raw: []byte{0}})
}

func roundUp(n, multiple int) int {
	if multiple < 2 {
		return n
	}
	return (n + multiple - 1) / multiple * multiple
}

// padded is a vector with zeros behind it, n values in all.
func (r recipe) padded(n int) recipe {
	if r.shape[0] == int64(n) {
		return r
	}
	return recipe{fmt.Sprintf("%s.padded", r.name), []int64{int64(n)}, func() ([]float32, error) {
		v, err := r.values()
		return append(v, make([]float32, n-len(v))...), err
	}}
}
