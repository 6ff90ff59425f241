package graph

import (
	"strings"

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
	half  bool // fp16, see precision.go
	// packed stores the weights of matrix products in fp16 and widens them when they are used: see text.go.
	packed bool
	// ranges, if set, quantises the Linear layers of blocks with standard operators: see qdq.go.
	ranges   map[string]float32
	multiple int               // that the hidden width of a quantised MLP is padded to
	emulate  bool              // only measured: see emulate.go
	casts    map[string]string // those made, by the name of what they give
	err      error
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

// store adds a constant of the graph's own precision.
func (b *builder) store(r recipe) string { return b.constant(b.w.put(r, b.precision())) }

// weight is a tensor of the checkpoint as it is.
func (b *builder) weight(key string) string { return b.store(b.w.plain(key)) }

// layerNorm normalises the last dimension, in fp32. It is written out, because TensorRT 8.5 has no LayerNormalization;
// runtimes know the pattern and make one operator of it.
func (b *builder) layerNorm(name, key, x string) string {
	x = b.wide(x)
	mean := b.Op("ReduceMean", name+"/mean", []string{x}, onnx.Ints("axes", -1), onnx.Int("keepdims", 1))
	d := b.Op("Sub", name+"/centred", []string{x, mean})
	square := b.Op("Pow", name+"/square", []string{d, b.Scalar("norm/two", 2)})
	variance := b.Op("ReduceMean", name+"/variance", []string{square}, onnx.Ints("axes", -1), onnx.Int("keepdims", 1))
	variance = b.Op("Add", name+"/variance_eps", []string{variance, b.Scalar("norm/epsilon", normEps)})
	y := b.Op("Div", name+"/normalised", []string{d, b.Op("Sqrt", name+"/deviation", []string{variance})})
	y = b.Op("Mul", name+"/scale", []string{y, b.constant(b.w.put(b.w.plain(key+".weight"), onnx.Float32))})
	return b.Op("Add", name, []string{y, b.constant(b.w.put(b.w.plain(key+".bias"), onnx.Float32))})
}

// linear is x·Wᵀ + b. Its first scaledRows outputs are multiplied by scale, at no cost: in the weights.
func (b *builder) linear(name, key, x string, scaledRows int, scale float32) string {
	switch {
	case b.int8:
		return b.quantisedLinear(name, key, x, scaledRows, scale)
	case b.ranges != nil && strings.HasPrefix(name, "blocks."):
		return b.qdqLinear(name, key, x, scaledRows, scale)
	}
	return b.affine(name, key+".weight", key+".bias", x, scaledRows, scale)
}

// affine is linear with weight and bias by their own names, in the graph's own precision.
func (b *builder) affine(name, weight, bias, x string, scaledRows int, scale float32) string {
	w := b.matrix(b.w.transposed(weight, scaledRows, scale), x)
	y := b.Op("MatMul", name+matmul, []string{b.narrow(x), w})
	return b.Op("Add", name, []string{y, b.store(b.w.scaled(bias, scaledRows, scale))})
}

// matrix adds the weights of a matrix product with x.
func (b *builder) matrix(r recipe, x string) string {
	if b.packed {
		return b.widened(r, x)
	}
	return b.store(r)
}

// matmul is what a Linear's matrix product is called, behind the Linear's name.
const matmul = "/matmul"

// gelu is GELU's tanh form, 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).
func (b *builder) gelu(name, x string) string {
	if b.ort {
		return b.Contrib("FastGelu", name, []string{x})
	}
	x = b.narrow(x)
	square := b.Op("Mul", name+"/square", []string{x, x})
	inner := b.Op("Mul", name+"/scaled_square", []string{square, b.scalar("gelu/c3", 0.044715*0.7978845608028654, x)})
	inner = b.Op("Add", name+"/slope", []string{inner, b.scalar("gelu/c1", 0.7978845608028654, x)})
	inner = b.Op("Mul", name+"/inner", []string{inner, x})
	t := b.Op("Tanh", name+"/tanh", []string{inner})
	t = b.Op("Add", name+"/tanh_plus_1", []string{t, b.scalar("gelu/one", 1, x)})
	half := b.Op("Mul", name+"/half", []string{x, b.scalar("gelu/half", 0.5, x)})
	return b.Op("Mul", name, []string{half, t})
}

// reshape gives x another shape; 0 keeps a dimension, -1 infers one.
func (b *builder) reshape(name, x string, shape ...int64) string {
	return b.Op("Reshape", name, []string{x, b.Int64s(name+"/shape", shape...)})
}
