package graph

import "fmt"

// list names every tensor of the image tower with the shape that follows from the architecture.
func (a *Arch) list() []spec {
	var s specs
	d, v := int64(a.Dim), a.vqPrefix
	z, c := int64(a.latent), int64(a.CodeDim)

	s.vq(a.encoder, 3, a.encoder.edge, a.encoder.inner, a.latent, "downsample")
	s.conv(v+"quant_conv", c, z, 1)
	s.add(v+"quantize.embedding.weight", int64(a.Codebook), c)
	s.conv(v+"post_quant_conv", z, c, 1)
	s.vq(a.decoder, a.latent, a.decoder.inner, a.decoder.edge, 3, "upsample")

	s.linear(trunk+"vq_table", int64(a.table), c)
	s.linear(trunk+"vq_mapping", d, int64(a.table))
	s.add(trunk+"pos_embed", 1, int64(a.Tokens()), d)
	for i := range a.Depth {
		b := fmt.Sprintf("%sblocks.%d.", trunk, i)
		s.norm(b+"norm1", d)
		s.linear(b+"attn.qkv", 3*d, d)
		s.linear(b+"attn.proj", d, d)
		s.norm(b+"norm2", d)
		s.linear(b+"mlp.fc1", int64(a.MLP), d)
		s.linear(b+"mlp.fc2", d, int64(a.MLP))
	}
	s.norm(trunk+"norm", d)
	p := trunk + "attn_pool."
	s.add(p+"latent", 1, 1, d)
	s.linear(p+"q", d, d)
	s.linear(p+"kv", 2*d, d)
	s.linear(p+"proj", d, d)
	s.norm(p+"norm", d)
	s.linear(p+"mlp.fc1", int64(a.poolMLP), d)
	s.linear(p+"mlp.fc2", d, int64(a.poolMLP))
	return s
}

type specs []spec

func (s *specs) add(key string, shape ...int64) { *s = append(*s, spec{key, shape}) }

func (s *specs) norm(key string, ch int64) {
	s.add(key+".weight", ch)
	s.add(key+".bias", ch)
}

func (s *specs) linear(key string, out, in int64) {
	s.add(key+".weight", out, in)
	s.add(key+".bias", out)
}

func (s *specs) conv(key string, out, in, k int64) {
	s.add(key+".weight", out, in, k, k)
	s.add(key+".bias", out)
}

func (s *specs) res(key string, in, out int64) {
	s.norm(key+".norm1", in)
	s.conv(key+".conv1", out, in, 3)
	s.norm(key+".norm2", out)
	s.conv(key+".conv2", out, out, 3)
	if in != out {
		s.conv(key+".nin_shortcut", out, in, 1)
	}
}

func (s *specs) attn(key string, ch int64) {
	s.norm(key+".norm", ch)
	for _, part := range []string{".q", ".k", ".v", ".proj_out"} {
		s.conv(key+part, ch, ch, 1)
	}
}

func (s *specs) mid(prefix string, ch int64) {
	s.res(prefix+"mid.0", ch, ch)
	s.attn(prefix+"mid.1", ch)
	s.res(prefix+"mid.2", ch, ch)
}

// vq lists one half of the tokenizer: from in channels to first behind conv_in, and from last before
// conv_out to out. The encoder has mid behind its levels, the decoder before them.
func (s *specs) vq(n vqNet, in, first, last, out int, sample string) {
	s.conv(n.prefix+"conv_in", int64(first), int64(in), 3)
	if sample == "upsample" {
		s.mid(n.prefix, int64(first))
	}
	ch := int64(first)
	for l, level := range n.levels {
		at := fmt.Sprintf("%sconv_blocks.%d.", n.prefix, l)
		for b := range level.blocks {
			s.res(fmt.Sprintf("%sres.%d", at, b), ch, int64(level.out))
			ch = int64(level.out)
			if level.attn {
				s.attn(fmt.Sprintf("%sattn.%d", at, b), ch)
			}
		}
		if level.sample {
			s.conv(at+sample+".conv", ch, ch, 3)
		}
	}
	if sample == "downsample" {
		s.mid(n.prefix, ch)
	}
	s.norm(n.prefix+"norm_out", int64(last))
	s.conv(n.prefix+"conv_out", int64(out), int64(last), 3)
}
