package graph

import (
	"fmt"
	"math"

	"github.com/toklip/toklip/model/onnx"
)

// feature is an image-like value [batch, ch, edge, edge].
type feature struct {
	value    string
	ch, edge int
}

// tokenizer is the VQ encoder and the search in the codebook.
func (b *builder) tokenizer(latents bool) {
	a := b.a
	n := int64(a.Tokens())
	batch := onnx.Symbol("batch")
	x := b.vqEncoder()

	// Nearest entry by cosine: both sides on the unit sphere, the largest product wins, the lowest index on a tie.
	rows := b.reshape("quantize/flat", x.value, 0, int64(a.CodeDim), n)
	rows = b.Op("Transpose", "quantize/rows", []string{rows}, onnx.Ints("perm", 0, 2, 1))
	rows = b.Op("LpNormalization", "quantize/unit", []string{rows}, onnx.Int("axis", -1), onnx.Int("p", 2))
	book := b.store(recipe{"quantize.codebook.unit.transposed", []int64{int64(a.CodeDim), int64(a.Codebook)}, func() ([]float32, error) {
		unit, err := unitCodebook(b.w.reader, a)
		return transpose(unit, a.Codebook, a.CodeDim), err
	}})
	cosine := b.Op("MatMul", "quantize/cosine", []string{rows, book})
	best := b.Op("ArgMax", "quantize/argmax", []string{cosine}, onnx.Int("axis", -1), onnx.Int("keepdims", 0))
	b.Op("Cast", "ids", []string{best}, onnx.Int("to", int64(onnx.Int32)))
	b.Output("ids", onnx.Int32, batch, onnx.Fixed(n))
	if latents {
		b.latents(x)
	}
}

// tokenizerLatents is the tokenizer without the search, which TensorRT leaves to a kernel of ours.
func (b *builder) tokenizerLatents() { b.latents(b.vqEncoder()) }

func (b *builder) latents(x feature) {
	g := onnx.Fixed(int64(b.a.Grid))
	b.Output(b.Rename(x.value, "latents"), onnx.Float32, onnx.Symbol("batch"), onnx.Fixed(int64(b.a.CodeDim)), g, g)
}

// vqEncoder turns an image into latents, before normalisation.
func (b *builder) vqEncoder() feature {
	a := b.a
	v := a.vqPrefix
	s := onnx.Fixed(int64(a.Size))
	x := feature{b.Input("image", onnx.Float32, onnx.Symbol("batch"), onnx.Fixed(3), s, s), 3, a.Size}

	e := a.encoder
	x = b.conv("encoder/conv_in", e.prefix+"conv_in", x, e.edge, 3)
	for l, level := range e.levels {
		for i := range level.blocks {
			at := fmt.Sprintf("conv_blocks.%d.res.%d", l, i)
			x = b.res("encoder/"+at, e.prefix+at, x, level.out)
			if level.attn {
				at = fmt.Sprintf("conv_blocks.%d.attn.%d", l, i)
				x = b.spatialAttention("encoder/"+at, e.prefix+at, x)
			}
		}
		if level.sample {
			at := fmt.Sprintf("conv_blocks.%d.downsample.conv", l)
			x = b.downsample("encoder/"+at, e.prefix+at, x)
		}
	}
	x = b.mid("encoder/", e.prefix, x)
	x.value = b.wide(x.value)
	b.half = false // the end decides tokens
	x.value = b.groupNorm("encoder/norm_out", e.prefix+"norm_out", x, true)
	x = b.conv("encoder/conv_out", e.prefix+"conv_out", x, a.latent, 3)
	return b.conv("quant_conv", v+"quant_conv", x, a.CodeDim, 1)
}

// decoder turns ids back into an image.
func (b *builder) decoder() {
	a := b.a
	s, n, g := int64(a.Size), int64(a.Tokens()), int64(a.Grid)
	batch := onnx.Symbol("batch")
	ids := b.Input("ids", onnx.Int32, batch, onnx.Fixed(n))

	// post_quant_conv is 1x1 and its input always one of the codebook's entries: a table.
	table := b.store(recipe{"post_quant.table", []int64{int64(a.Codebook), int64(a.latent)}, func() ([]float32, error) {
		return postQuantTable(b.w, a)
	}})
	rows := b.Op("Gather", "post_quant/rows", []string{table, ids}, onnx.Int("axis", 0))
	rows = b.Op("Transpose", "post_quant/channels", []string{rows}, onnx.Ints("perm", 0, 2, 1))
	x := feature{b.reshape("post_quant", rows, 0, int64(a.latent), g, g), a.latent, a.Grid}

	d := a.decoder
	x = b.conv("decoder/conv_in", d.prefix+"conv_in", x, d.inner, 3)
	x = b.mid("decoder/", d.prefix, x)
	for l, level := range d.levels {
		for i := range level.blocks {
			at := fmt.Sprintf("conv_blocks.%d.res.%d", l, i)
			x = b.res("decoder/"+at, d.prefix+at, x, level.out)
			if level.attn {
				at = fmt.Sprintf("conv_blocks.%d.attn.%d", l, i)
				x = b.spatialAttention("decoder/"+at, d.prefix+at, x)
			}
		}
		if level.sample {
			at := fmt.Sprintf("conv_blocks.%d.upsample", l)
			x.value = b.Op("Resize", "decoder/"+at+".nearest", []string{x.value, "", b.Floats("decoder/upsample/scales", []int64{4}, 1, 1, 2, 2)},
				onnx.Str("mode", "nearest"), onnx.Str("coordinate_transformation_mode", "asymmetric"), onnx.Str("nearest_mode", "floor"))
			x.edge *= 2
			x = b.conv("decoder/"+at+".conv", d.prefix+at+".conv", x, x.ch, 3)
		}
	}
	x.value = b.groupNorm("decoder/norm_out", d.prefix+"norm_out", x, true)
	x = b.conv("decoder/conv_out", d.prefix+"conv_out", x, 3, 3)
	b.Output(b.Rename(x.value, "image"), onnx.Float32, batch, onnx.Fixed(3), onnx.Fixed(s), onnx.Fixed(s))
}

// conv is a convolution that keeps the size.
func (b *builder) conv(name, key string, x feature, ch, kernel int) feature {
	pad := int64(kernel / 2)
	k := int64(kernel)
	y := b.Op("Conv", name, []string{b.narrow(x.value), b.weight(key + ".weight"), b.weight(key + ".bias")},
		onnx.Ints("kernel_shape", k, k), onnx.Ints("pads", pad, pad, pad, pad))
	return feature{y, ch, x.edge}
}

// downsample halves the size; zeros are padded right and below only.
func (b *builder) downsample(name, key string, x feature) feature {
	y := b.Op("Conv", name, []string{b.narrow(x.value), b.weight(key + ".weight"), b.weight(key + ".bias")},
		onnx.Ints("kernel_shape", 3, 3), onnx.Ints("pads", 0, 0, 1, 1), onnx.Ints("strides", 2, 2))
	return feature{y, x.ch, x.edge / 2}
}

// res is a residual block: norm, swish, convolution, twice.
func (b *builder) res(name, key string, x feature, out int) feature {
	h := x
	h.value = b.groupNorm(name+"/norm1", key+".norm1", h, true)
	h = b.conv(name+"/conv1", key+".conv1", h, out, 3)
	h.value = b.groupNorm(name+"/norm2", key+".norm2", h, true)
	h = b.conv(name+"/conv2", key+".conv2", h, out, 3)
	if x.ch != out {
		x = b.conv(name+"/nin_shortcut", key+".nin_shortcut", x, out, 1)
	}
	h.value = b.Op("Add", name, []string{x.value, h.value})
	return h
}

func (b *builder) mid(name, prefix string, x feature) feature {
	x = b.res(name+"mid.0", prefix+"mid.0", x, x.ch)
	x = b.spatialAttention(name+"mid.1", prefix+"mid.1", x)
	return b.res(name+"mid.2", prefix+"mid.2", x, x.ch)
}

// groupNorm normalises groups of channels, then scales and shifts each channel, then swishes if asked.
// Written as InstanceNormalization over [batch, groups, everything else], which every runtime has.
func (b *builder) groupNorm(name, key string, x feature, swish bool) string {
	groups := int64(b.a.Groups)
	ones, zeros := make([]float32, groups), make([]float32, groups)
	for i := range ones {
		ones[i] = 1
	}
	y := b.reshape(name+"/groups", b.wide(x.value), 0, groups, -1)
	y = b.Op("InstanceNormalization", name+"/normalised", []string{y, b.Floats("group_norm/ones", []int64{groups}, ones...),
		b.Floats("group_norm/zeros", []int64{groups}, zeros...)}, onnx.Float("epsilon", normEps))
	e := int64(x.edge)
	y = b.reshape(name+"/channels", y, 0, int64(x.ch), e, e)
	y = b.Op("Mul", name+"/scale", []string{y, b.perChannel(key+".weight", x.ch)})
	y = b.Op("Add", name, []string{y, b.perChannel(key+".bias", x.ch)})
	if !swish {
		return y
	}
	return b.Op("Mul", name+"/swish", []string{y, b.Op("Sigmoid", name+"/sigmoid", []string{y})})
}

// perChannel is a vector shaped [ch, 1, 1], to meet an image.
func (b *builder) perChannel(key string, ch int) string {
	return b.constant(b.w.put(recipe{key + ".per_channel", []int64{int64(ch), 1, 1}, func() ([]float32, error) {
		v, _, err := b.w.load(key)
		return v, err
	}}, onnx.Float32))
}

// spatialAttention is the single-headed attention between the cells of an image, around which x is added.
func (b *builder) spatialAttention(name, key string, x feature) feature {
	c, n, e := int64(x.ch), int64(x.edge*x.edge), int64(x.edge)
	scale := float32(1 / math.Sqrt(float64(x.ch)))
	h := b.groupNorm(name+"/norm", key+".norm", x, false)
	w := b.store(b.w.concat(key+".qkv.weight", scale, key+".q.weight", key+".k.weight", key+".v.weight"))
	bias := b.store(b.w.concat(key+".qkv.bias", scale, key+".q.bias", key+".k.bias", key+".v.bias"))
	h = b.Op("Conv", name+"/qkv", []string{b.narrow(h), w, bias}, onnx.Ints("kernel_shape", 1, 1))
	h = b.reshape(name+"/qkv/flat", h, 0, 3*c, n)
	q, k, v := name+"/q", name+"/k", name+"/v"
	b.Add(onnx.Node{Op: "Split", Name: name + "/split", Inputs: []string{h, b.Int64s(fmt.Sprintf("split/%d", c), c, c, c)},
		Outputs: []string{q, k, v}, Attrs: []onnx.Attr{onnx.Int("axis", 1)}})
	q = b.Op("Transpose", name+"/q/rows", []string{q}, onnx.Ints("perm", 0, 2, 1))
	s := b.Op("MatMul", name+"/scores", []string{q, k})
	s = b.Op("Softmax", name+"/softmax", []string{s}, onnx.Int("axis", -1))
	s = b.Op("Transpose", name+"/softmax/columns", []string{s}, onnx.Ints("perm", 0, 2, 1))
	h = b.Op("MatMul", name+"/mixed", []string{v, s})
	h = b.reshape(name+"/image", h, 0, c, e, e)
	y := b.conv(name+"/proj_out", key+".proj_out", feature{h, x.ch, x.edge}, x.ch, 1)
	y.value = b.Op("Add", name, []string{x.value, y.value})
	return y
}
