package graph

import (
	"fmt"
	"math"

	"github.com/toklip/toklip/model/onnx"
)

// masked is added to the score of a key that a query must not see. It is far below any score and still
// a half-precision number, so that the graph may be lowered to fp16.
const masked = -30000

// bands is how many bands of rows causal attention is worked off in where that is faster: in ONNX Runtime on
// CPUs. Two at 256 tokens took 2 % off the encoder's processor time and 5 to 10 % off the int8 encoder's, four at 576
// tokens 4 % off either.
func (a *Arch) bands() int { return max(a.Tokens()/128, 1) }

// encoder is the token encoder: table, causal transformer, final norm, attention pooling. It consists of the blocks
// from..to; a part that does not begin with the first block takes the residual stream "stream" instead of
// ids, and one that does not end with the last gives it.
func (b *builder) encoder(from, to int) {
	a := b.a
	n, d := int64(a.Tokens()), int64(a.Dim)
	shape := []onnx.Dim{onnx.Symbol("batch"), onnx.Fixed(n), onnx.Fixed(d)}
	var x string
	if from == 0 {
		ids := b.Input("ids", onnx.Int32, shape[:2]...)
		table := b.store(recipe{"token.table", []int64{int64(a.Codebook), d}, func() ([]float32, error) {
			return tokenTable(b.w, a)
		}})
		x = b.Op("Gather", "token", []string{table, ids}, onnx.Int("axis", 0))
		x = b.Op("Add", "positions", []string{b.wide(x), b.constant(b.w.put(b.w.plain(trunk+"pos_embed"), onnx.Float32))})
	} else {
		x = b.Input("stream", onnx.Float32, shape...)
	}
	for i := from; i < to; i++ {
		at := fmt.Sprintf("blocks.%d", i)
		x = b.block(at, trunk+at, x)
	}
	if to < a.Depth {
		b.Output(b.Rename(x, "next_stream"), onnx.Float32, shape...)
		return
	}
	x = b.layerNorm("norm", trunk+"norm", x)
	b.Output(b.Rename(x, "features"), onnx.Float32, shape...)
	b.Output(b.Rename(b.pool(x), "embedding"), onnx.Float32, onnx.Symbol("batch"), onnx.Fixed(d))
}

// block is one transformer block: x + attention(norm(x)), then x + mlp(norm(x)).
func (b *builder) block(name, key, x string) string {
	h := b.layerNorm(name+"/norm1", key+".norm1", x)
	h = b.causalAttention(name+"/attn", key+".attn", h)
	x = b.Op("Add", name+"/attn/residual", []string{x, b.wide(h)})
	h = b.layerNorm(name+"/norm2", key+".norm2", x)
	h = b.mlp(name+"/mlp", key+".mlp.fc1", key+".mlp.fc2", h)
	return b.Op("Add", name, []string{x, b.wide(h)})
}

// mlp is two Linear layers, whose keys are up and down, with GELU between them.
func (b *builder) mlp(name, up, down, x string) string {
	h := b.linear(name+"/fc1", up, x, 0, 1)
	h = b.gelu(name+"/gelu", h)
	return b.linear(name+"/fc2", down, h, 0, 1)
}

// causalAttention lets every token see itself and those before it. The query is scaled in its weights.
//
// Rows are worked off in bands: a band of queries meets only the keys up to its own end, which leaves out
// most of what the mask would throw away and changes nothing.
func (b *builder) causalAttention(name, key, x string) string {
	a := b.a
	n, d, heads := int64(a.Tokens()), int64(a.Dim), int64(a.Heads)
	hd := d / heads
	qkv := b.narrow(b.linear(name+"/qkv", key+".qkv", x, a.Dim, float32(1/math.Sqrt(float64(hd)))))
	q, k, v := b.split(name, qkv, n, heads, hd)

	bands := int64(max(b.bands, 1))
	var out []string
	for i := range bands {
		begin, end := n*i/bands, n*(i+1)/bands
		if begin == end {
			continue
		}
		at := name
		bq, bk, bv := q, k, v
		if bands > 1 {
			at = fmt.Sprintf("%s/band.%d", name, i)
			bq = b.slice(at+"/q", q, 2, begin, end)
			if end < n {
				bk = b.slice(at+"/k", k, 3, 0, end)
				bv = b.slice(at+"/v", v, 2, 0, end)
			}
		}
		s := b.Op("MatMul", at+"/scores", []string{bq, bk})
		s = b.Op("Add", at+"/masked", []string{s, b.causalMask(begin, end)})
		s = b.Op("Softmax", at+"/softmax", []string{s}, onnx.Int("axis", -1))
		out = append(out, b.Op("MatMul", at+"/mixed", []string{s, bv}))
	}
	y := out[0]
	if len(out) > 1 {
		y = b.Op("Concat", name+"/bands", out, onnx.Int("axis", 2))
	}
	return b.linear(name+"/proj", key+".proj", b.join(name, y, n, d), 0, 1)
}

// split takes queries [batch, heads, n, hd], keys [batch, heads, hd, n] and values [batch, heads, n, hd] out of what a Linear made of
// all three.
func (b *builder) split(name, qkv string, n, heads, hd int64) (q, k, v string) {
	q, k, v = name+"/q", name+"/k", name+"/v"
	d := heads * hd
	b.Add(onnx.Node{Op: "Split", Name: name + "/split", Inputs: []string{qkv, b.Int64s(fmt.Sprintf("split/%d", d), d, d, d)},
		Outputs: []string{q, k, v}, Attrs: []onnx.Attr{onnx.Int("axis", -1)}})
	q = b.heads(q, n, heads, hd, 0, 2, 1, 3)
	k = b.heads(k, n, heads, hd, 0, 2, 3, 1)
	v = b.heads(v, n, heads, hd, 0, 2, 1, 3)
	return q, k, v
}

// join puts the heads of [batch, heads, n, hd] beside each other again: [batch, n, d].
func (b *builder) join(name, y string, n, d int64) string {
	y = b.Op("Transpose", name+"/rows", []string{y}, onnx.Ints("perm", 0, 2, 1, 3))
	return b.reshape(name+"/flat", y, 0, n, d)
}

// heads splits [batch, n, heads*hd] into heads and permutes [batch, n, heads, hd].
func (b *builder) heads(x string, n, heads, hd int64, perm ...int64) string {
	y := b.Op("Reshape", x+"/heads", []string{x, b.Int64s(fmt.Sprintf("heads/%dx%d", n, heads), 0, n, heads, hd)})
	return b.Op("Transpose", x+"/transposed", []string{y}, onnx.Ints("perm", perm...))
}

func (b *builder) slice(name, x string, axis, begin, end int64) string {
	return b.Op("Slice", name, []string{x, b.Int64s(fmt.Sprintf("at/%d", begin), begin), b.Int64s(fmt.Sprintf("at/%d", end), end),
		b.Int64s(fmt.Sprintf("at/%d", axis), axis)})
}

// causalMask is what queries begin..end add to their scores with keys 0..end.
func (b *builder) causalMask(begin, end int64) string {
	name := fmt.Sprintf("causal_mask/%d-%d", begin, end)
	rows := end - begin
	mask := func() []float32 {
		m := make([]float32, rows*end)
		for r := range rows {
			for c := begin + r + 1; c < end; c++ {
				m[r*end+c] = masked
			}
		}
		return m
	}
	if b.bands > 1 {
		// A band's mask is small, and the graph may share a data file that is complete.
		return b.Floats(name, []int64{rows, end}, mask()...)
	}
	return b.store(recipe{name, []int64{rows, end}, func() ([]float32, error) { return mask(), nil }})
}
