package graph

import (
	"fmt"
	"math"
	"strings"

	"github.com/toklip/toklip/model/checkpoint"
	"github.com/toklip/toklip/model/onnx"
)

// The text tower is SigLIP 2's (arXiv 2502.14786), as open_clip names its tensors. It runs for seconds when labels change and is
// 2.7 GB in fp32, so its graph is made to run out of the file it is stored in: the table of token embeddings is only looked up,
// and a runtime that does not rearrange weights reads them where they are mapped.
//
// With weights in fp16 the file is half as large. Products are computed in fp32 all the same: each weight is widened when it is its
// turn, see widened.

// Keys of the text tower's tensors.
const (
	textTokens     = textTree + "token_embedding.weight"
	textPositions  = textTree + "positional_embedding"
	textBlocks     = textTree + "transformer.resblocks."
	textProjection = textTree + "text_projection"
)

// withoutText is what to do where a text tower is at fault.
const withoutText = "--text-precision none leaves the text tower out"

// TextArch is the architecture of the text tower.
type TextArch struct {
	Context    int // L: ids of a text
	Vocabulary int // rows of the token embedding
	Width      int
	Depth      int
	Heads      int
	MLP        int   // hidden width of a block's MLP
	Parameters int64 // of the tower

	specs []spec
}

// Tensors lists the names of the text tower's tensors, in the order of the network.
func (t *TextArch) Tensors() []string { return names(t.specs) }

func hasText(r checkpoint.Reader) bool {
	for _, info := range r.Tensors() {
		if strings.HasPrefix(info.Name, textTree) {
			return true
		}
	}
	return false
}

// probeText reads the text tower's architecture off its shapes. Its embeddings are as long as the image's.
func probeText(p *prober, embedding int) *TextArch {
	t := &TextArch{}
	positions := p.shape(textPositions, 2)
	t.Context, t.Width = positions[0], positions[1]
	t.Vocabulary = p.shape(textTokens, 2)[0]
	t.Depth = p.count(textBlocks)
	t.MLP = p.shape(textBlocks+"0.mlp.c_fc.weight", 2)[0]

	var s specs
	w, m := int64(t.Width), int64(t.MLP)
	s.add(textTokens, int64(t.Vocabulary), w)
	s.add(textPositions, int64(t.Context), w)
	for i := range t.Depth {
		b := fmt.Sprintf("%s%d.", textBlocks, i)
		s.norm(b+"ln_1", w)
		s.add(b+"attn.in_proj_weight", 3*w, w)
		s.add(b+"attn.in_proj_bias", 3*w)
		s.linear(b+"attn.out_proj", w, w)
		s.norm(b+"ln_2", w)
		s.linear(b+"mlp.c_fc", m, w)
		s.linear(b+"mlp.c_proj", w, m)
	}
	s.norm(textTree+"ln_final", w)
	s.linear(textProjection, int64(embedding), w)
	t.specs = s
	return t
}

// chooseHeads takes the configured number of heads, else the encoder's where both are equally wide, else the one known for the
// width.
func (t *TextArch) chooseHeads(configured int, a *Arch) error {
	t.Heads = configured
	if t.Heads == 0 && t.Width == a.Dim {
		t.Heads = a.Heads
	}
	if t.Heads == 0 {
		t.Heads = sigLIPHeads[t.Width]
	}
	if t.Heads == 0 {
		return fmt.Errorf("the number of attention heads of the text tower cannot be read off a checkpoint, and width %d is neither the encoder's (%d) "+
			`nor one of SigLIP's (768, 1024, 1152, 1536): give it with --config F.json, {"text_heads": H}, or as "text_heads" in the metadata of a `+
			"safetensors file; %s", t.Width, a.Dim, withoutText)
	}
	if t.Width%t.Heads != 0 {
		return fmt.Errorf("%d heads do not divide the width %d of the text tower (text_heads)", t.Heads, t.Width)
	}
	return nil
}

// text is the text tower: token and position embeddings, a transformer without mask that attends to padding as to the rest, and a
// Linear on the last position.
func (b *builder) text() {
	t := b.a.Text
	n, w := int64(t.Context), int64(t.Width)
	ids := b.Input("ids", onnx.Int32, onnx.Symbol("batch"), onnx.Fixed(n))
	table := onnx.Float32
	if b.packed {
		table = onnx.Float16
	}
	x := b.Op("Gather", "token", []string{b.constant(b.w.streamed(textTokens, table)), ids}, onnx.Int("axis", 0))
	x = b.Op("Add", "positions", []string{b.wide(x), b.weight(textPositions)})
	for i := range t.Depth {
		x = b.textBlock(fmt.Sprintf("blocks.%d", i), fmt.Sprintf("%s%d.", textBlocks, i), x)
	}
	x = b.reshape("last", b.slice("last/position", x, 1, n-1, n), -1, w)
	x = b.layerNorm("norm", textTree+"ln_final", x)
	x = b.linear("projection", textProjection, x, 0, 1)
	b.Output(b.Rename(x, "embedding"), onnx.Float32, onnx.Symbol("batch"), onnx.Fixed(int64(b.a.Dim)))
}

// textBlock is one transformer block: x + attention(norm(x)), then x + mlp(norm(x)). The query is scaled in its weights.
func (b *builder) textBlock(name, key, x string) string {
	t := b.a.Text
	n, heads := int64(t.Context), int64(t.Heads)
	hd := int64(t.Width) / heads
	at := name + "/attn"
	h := b.layerNorm(name+"/norm1", key+"ln_1", x)
	h = b.affine(at+"/qkv", key+"attn.in_proj_weight", key+"attn.in_proj_bias", h, t.Width, float32(1/math.Sqrt(float64(hd))))
	q, k, v := b.split(at, h, n, heads, hd)
	s := b.Op("MatMul", at+"/scores", []string{q, k})
	s = b.Op("Softmax", at+"/softmax", []string{s}, onnx.Int("axis", -1))
	h = b.join(at, b.Op("MatMul", at+"/mixed", []string{s, v}), n, int64(t.Width))
	h = b.linear(at+"/proj", key+"attn.out_proj", h, 0, 1)
	x = b.Op("Add", at+"/residual", []string{x, h})
	h = b.layerNorm(name+"/norm2", key+"ln_2", x)
	h = b.mlp(name+"/mlp", key+"mlp.c_fc", key+"mlp.c_proj", h)
	return b.Op("Add", name, []string{x, h})
}

// widened stores weights in fp16 and gives them in fp32 once x is there. A Cast alone would not do: of a constant it is a constant,
// which runtimes compute at load and keep, in fp32; told not to, ONNX Runtime 1.30 still runs half of the Casts before
// all else and has 0.7 GB of wide weights at once. So the Cast is made to depend on x: its input is cut to as many matrices as the
// batch has texts, of one that there is.
func (b *builder) widened(r recipe, x string) string {
	rows, cols := r.shape[0], r.shape[1]
	r.shape = []int64{1, rows, cols}
	w := b.constant(b.w.put(r, onnx.Float16))
	at := r.name
	batch := x + "/batch"
	if b.Type(batch) == 0 {
		b.Op("Shape", batch, []string{x}, onnx.Int("start", 0), onnx.Int("end", 1))
	}
	y := b.Op("Slice", at+"/when_needed", []string{w, b.Int64s("at/0", 0), batch, "at/0"})
	y = b.Op("Cast", at+"/widened", []string{y}, onnx.Int("to", int64(onnx.Float32)))
	return b.reshape(at+"/matrix", y, rows, cols)
}
