package graph

import (
	"github.com/toklip/toklip/model/onnx"
)

// builder writes one graph. Weights that cannot be read or written are kept as the first error, so that
// the networks read as such.
type builder struct {
	*onnx.Graph
	a     *Arch
	w     *weights
	bands int  // bands that causal attention is worked off in; 0 is one
	ort   bool // use ONNX Runtime's own operators where they are faster
	int8  bool // quantise Linear layers, with ONNX Runtime's own operators
	err   error
}

func (b *builder) constant(t onnx.Tensor, err error) string {
	if err != nil {
		if b.err == nil {
			b.err = err
		}
		return b.Scalar("unavailable/"+t.Name, 0)
	}
	return b.Initializer(t)
}

// weight is a tensor of the checkpoint as it is.
func (b *builder) weight(key string) string { return b.constant(b.w.plain(key)) }

// layerNorm normalises the last dimension.
func (b *builder) layerNorm(name, key, x string) string {
	return b.Op("LayerNormalization", name, []string{x, b.weight(key + ".weight"), b.weight(key + ".bias")},
		onnx.Int("axis", -1), onnx.Float("epsilon", normEps))
}

// linear is x·Wᵀ + b. Its first scaledRows outputs are multiplied by scale, at no cost: in the weights.
func (b *builder) linear(name, key, x string, scaledRows int, scale float32) string {
	if b.int8 {
		return b.quantisedLinear(name, key, x, scaledRows, scale)
	}
	w := b.constant(b.w.transposed(key+".weight", scaledRows, scale))
	bias := b.constant(b.w.scaled(key+".bias", scaledRows, scale))
	y := b.Op("MatMul", name+"/matmul", []string{x, w})
	return b.Op("Add", name, []string{y, bias})
}

// gelu is GELU's tanh form, 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).
func (b *builder) gelu(name, x string) string {
	if b.ort {
		return b.Contrib("FastGelu", name, []string{x})
	}
	square := b.Op("Mul", name+"/square", []string{x, x})
	inner := b.Op("Mul", name+"/scaled_square", []string{square, b.Scalar("gelu/c3", 0.044715*0.7978845608028654)})
	inner = b.Op("Add", name+"/slope", []string{inner, b.Scalar("gelu/c1", 0.7978845608028654)})
	inner = b.Op("Mul", name+"/inner", []string{inner, x})
	t := b.Op("Tanh", name+"/tanh", []string{inner})
	t = b.Op("Add", name+"/tanh_plus_1", []string{t, b.Scalar("gelu/one", 1)})
	half := b.Op("Mul", name+"/half", []string{x, b.Scalar("gelu/half", 0.5)})
	return b.Op("Mul", name, []string{half, t})
}

// reshape gives x another shape; 0 keeps a dimension, -1 infers one.
func (b *builder) reshape(name, x string, shape ...int64) string {
	return b.Op("Reshape", name, []string{x, b.Int64s(name+"/shape", shape...)})
}
