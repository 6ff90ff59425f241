package synth

import (
	"fmt"

	"github.com/toklip/toklip/model/checkpoint"
)

const (
	encoderBlocks = 2     // residual blocks of a level of the VQ encoder
	decoderBlocks = 3     // and of the VQ decoder
	tableRatio    = 4     // hidden width of the codebook's own MLP by the width of the token encoder
	usedEntries   = 65536 // length of the VQ tokenizer's usage counter, whatever the codebook
)

// tensors lists a model's tensors in the order of TokLIP's own state_dict.
func (c Config) tensors(withText bool) []checkpoint.Info {
	var l list
	d := int64(c.Dim)
	grid := int64(c.Grid())
	const trunk = "visual.trunk."
	l.add(trunk+"pos_embed", 1, grid*grid, d)
	for i := range c.Depth {
		b := fmt.Sprintf("%sblocks.%d.", trunk, i)
		l.one(b+"norm1", d)
		l.linear(b+"attn.qkv", 3*d, d)
		l.linear(b+"attn.proj", d, d)
		l.one(b+"norm2", d)
		l.mlp(b+"mlp.fc1", b+"mlp.fc2", d, c.hidden(c.Dim))
	}
	l.one(trunk+"norm", d)
	l.add(trunk+"attn_pool.latent", 1, 1, d)
	l.linear(trunk+"attn_pool.q", d, d)
	l.linear(trunk+"attn_pool.kv", 2*d, d)
	l.linear(trunk+"attn_pool.proj", d, d)
	l.one(trunk+"attn_pool.norm", d)
	l.mlp(trunk+"attn_pool.mlp.fc1", trunk+"attn_pool.mlp.fc2", d, c.hidden(c.Dim))
	l.vq(trunk+"vq.", c)
	l.linear(trunk+"vq_table", tableRatio*d, int64(c.CDim))
	l.linear(trunk+"vq_mapping", d, tableRatio*d)
	if withText && c.Text.Layers > 0 {
		l.text("text.", c)
	}
	return l
}

type list []checkpoint.Info

func (l *list) add(name string, shape ...int64) {
	*l = append(*l, checkpoint.Info{Name: name, DType: checkpoint.Float32, Shape: shape})
}

// one is a weight and a bias for each channel, as norms have them.
func (l *list) one(name string, ch int64) {
	l.add(name+".weight", ch)
	l.add(name+".bias", ch)
}

func (l *list) linear(name string, out, in int64) {
	l.add(name+".weight", out, in)
	l.add(name+".bias", out)
}

func (l *list) mlp(up, down string, width, hidden int64) {
	l.linear(up, hidden, width)
	l.linear(down, width, hidden)
}

func (l *list) conv(name string, out, in, kernel int64) {
	l.add(name+".weight", out, in, kernel, kernel)
	l.add(name+".bias", out)
}

func (l *list) residual(name string, in, out int64) {
	l.one(name+".norm1", in)
	l.conv(name+".conv1", out, in, 3)
	l.one(name+".norm2", out)
	l.conv(name+".conv2", out, out, 3)
	if in != out {
		l.conv(name+".nin_shortcut", out, in, 1)
	}
}

func (l *list) attention(name string, ch int64) {
	l.one(name+".norm", ch)
	for _, part := range []string{"q", "k", "v", "proj_out"} {
		l.conv(name+"."+part, ch, ch, 1)
	}
}

func (l *list) mid(name string, ch int64) {
	l.residual(name+"0", ch, ch)
	l.attention(name+"1", ch)
	l.residual(name+"2", ch, ch)
}

// vq is the VQ tokenizer: encoder, decoder, codebook.
func (l *list) vq(name string, c Config) {
	levels := len(c.Mult)
	ch, z, code := int64(c.Ch), int64(c.Z), int64(c.CDim)
	enc := name + "encoder."
	l.conv(enc+"conv_in", ch, 3, 3)
	at := ch
	for i, m := range c.Mult {
		out := ch * int64(m)
		l.level(fmt.Sprintf("%sconv_blocks.%d.", enc, i), at, out, encoderBlocks, i == levels-1)
		at = out
		if i < levels-1 {
			l.conv(fmt.Sprintf("%sconv_blocks.%d.downsample.conv", enc, i), at, at, 3)
		}
	}
	l.mid(enc+"mid.", at)
	l.one(enc+"norm_out", at)
	l.conv(enc+"conv_out", z, at, 3)

	dec := name + "decoder."
	l.conv(dec+"conv_in", at, z, 3)
	l.mid(dec+"mid.", at)
	for i := range c.Mult {
		out := ch * int64(c.Mult[levels-1-i])
		l.level(fmt.Sprintf("%sconv_blocks.%d.", dec, i), at, out, decoderBlocks, i == 0)
		at = out
		if i < levels-1 {
			l.conv(fmt.Sprintf("%sconv_blocks.%d.upsample.conv", dec, i), at, at, 3)
		}
	}
	l.one(dec+"norm_out", at)
	l.conv(dec+"conv_out", 3, at, 3)

	l.add(name+"quantize.codebook_used", usedEntries)
	l.add(name+"quantize.embedding.weight", int64(c.Vocab), code)
	l.conv(name+"quant_conv", code, z, 1)
	l.conv(name+"post_quant_conv", z, code, 1)
}

// level is the residual blocks of one resolution, and an attention for each where there is attention.
func (l *list) level(name string, in, out int64, blocks int, attention bool) {
	for b := range blocks {
		l.residual(fmt.Sprintf("%sres.%d", name, b), in, out)
		in = out
	}
	if !attention {
		return
	}
	for b := range blocks {
		l.attention(fmt.Sprintf("%sattn.%d", name, b), out)
	}
}

func (l *list) text(name string, c Config) {
	w := int64(c.Text.Width)
	l.add(name+"positional_embedding", int64(c.Text.ContextLength), w)
	l.add(name+"token_embedding.weight", int64(c.Text.VocabSize), w)
	for i := range c.Text.Layers {
		b := fmt.Sprintf("%stransformer.resblocks.%d.", name, i)
		l.one(b+"ln_1", w)
		l.add(b+"attn.in_proj_weight", 3*w, w)
		l.add(b+"attn.in_proj_bias", 3*w)
		l.linear(b+"attn.out_proj", w, w)
		l.one(b+"ln_2", w)
		l.mlp(b+"mlp.c_fc", b+"mlp.c_proj", w, c.hidden(c.Text.Width))
	}
	l.one(name+"ln_final", w)
	l.linear(name+"text_projection", int64(c.Dim), w)
	l.add("logit_scale")
	l.add("logit_bias")
}
