package graph

import (
	"fmt"

	"github.com/toklip/toklip/model/onnx"
)

const poolKey = trunk + "attn_pool"

// pool is SigLIP's attention pooling of features [batch, n, d]: one learned query over all of them, then an MLP. The query does
// not depend on the picture and is computed at import.
func (b *builder) pool(x string) string {
	a := b.a
	n, d, heads := int64(a.Tokens()), int64(a.Dim), int64(a.Heads)
	hd := d / heads
	k, v := b.poolKeys(x)
	k = b.heads(k, n, heads, hd, 0, 2, 3, 1)
	v = b.heads(v, n, heads, hd, 0, 2, 1, 3)
	s := b.Op("MatMul", "pool/scores", []string{b.poolQuery(), k})
	s = b.Op("Softmax", "pool/softmax", []string{s}, onnx.Int("axis", -1))
	y := b.Op("MatMul", "pool/mixed", []string{s, v})
	return b.poolEnd(b.reshape("pool/flat", y, 0, d))
}

// regionPool is the same on one frame's features for several regions, each of which sees the tokens that its row of the mask
// marks. Keys, values and scores are the frame's and are computed once; only softmax and what follows differ. A region that sees
// all tokens gets the frame's own embedding.
func (b *builder) regionPool() {
	a := b.a
	n, d, heads := int64(a.Tokens()), int64(a.Dim), int64(a.Heads)
	hd := d / heads
	x := b.Input("features", onnx.Float32, onnx.Fixed(n), onnx.Fixed(d))
	mask := b.Input("mask", onnx.Float32, onnx.Symbol("regions"), onnx.Fixed(n))
	k, v := b.poolKeys(x)
	k = b.Op("Transpose", k+"/transposed", []string{b.reshape(k+"/heads", k, n, heads, hd)}, onnx.Ints("perm", 1, 2, 0))
	v = b.Op("Transpose", v+"/transposed", []string{b.reshape(v+"/heads", v, n, heads, hd)}, onnx.Ints("perm", 1, 0, 2))
	s := b.Op("MatMul", "pool/scores", []string{b.poolQuery(), k})
	hidden := b.Op("Sub", "pool/hidden", []string{b.Scalar("mask/one", 1), mask})
	hidden = b.Op("Mul", "pool/hidden_scores", []string{hidden, b.Scalar("mask/masked", masked)})
	s = b.Op("Add", "pool/masked", []string{s, hidden}) // [heads, 1, n] + [regions, n]
	s = b.Op("Softmax", "pool/softmax", []string{s}, onnx.Int("axis", -1))
	y := b.Op("MatMul", "pool/mixed", []string{s, v})
	y = b.Op("Transpose", "pool/rows", []string{y}, onnx.Ints("perm", 1, 0, 2))
	y = b.poolEnd(b.reshape("pool/flat", y, 0, d))
	b.Output(b.Rename(y, "embedding"), onnx.Float32, onnx.Symbol("regions"), onnx.Fixed(d))
}

func (b *builder) poolQuery() string {
	a := b.a
	shape := []int64{int64(a.Heads), 1, int64(a.Dim / a.Heads)}
	return b.store(recipe{"pool.query", shape, func() ([]float32, error) { return poolQuery(b.w, a) }})
}

// poolKeys makes keys and values of the features, each as wide as they are.
func (b *builder) poolKeys(x string) (k, v string) {
	d := int64(b.a.Dim)
	kv := b.linear("pool/kv", poolKey+".kv", x, 0, 1)
	k, v = "pool/k", "pool/v"
	b.Add(onnx.Node{Op: "Split", Name: "pool/split", Inputs: []string{kv, b.Int64s(fmt.Sprintf("halves/%d", d), d, d)},
		Outputs: []string{k, v}, Attrs: []onnx.Attr{onnx.Int("axis", -1)}})
	return k, v
}

// poolEnd makes the embedding of the mixed values: y + mlp(norm(y)) of y projected.
func (b *builder) poolEnd(y string) string {
	y = b.linear("pool/proj", poolKey+".proj", y, 0, 1)
	h := b.layerNorm("pool/norm", poolKey+".norm", y)
	h = b.mlp("pool/mlp", poolKey+".mlp.fc1", poolKey+".mlp.fc2", h)
	return b.Op("Add", "pool/residual", []string{b.wide(y), b.wide(h)})
}
