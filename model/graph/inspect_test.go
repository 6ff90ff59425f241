package graph

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/toklip/toklip/model/checkpoint"
)

// edited is a reader with tensors taken away, added or given another shape.
type edited struct {
	checkpoint.Reader
	drop   []string
	change map[string][]int64
}

func (e edited) Tensors() []checkpoint.Info {
	var out []checkpoint.Info
	for _, info := range e.Reader.Tensors() {
		if slices.Contains(e.drop, info.Name) {
			continue
		}
		if s, ok := e.change[info.Name]; ok {
			info.Shape = s
		}
		out = append(out, info)
	}
	for name, shape := range e.change {
		if _, ok := e.Reader.Lookup(name); !ok {
			out = append(out, checkpoint.Info{Name: name, Shape: shape, DType: checkpoint.Float32})
		}
	}
	return out
}

func (e edited) Lookup(name string) (checkpoint.Info, bool) {
	for _, info := range e.Tensors() {
		if info.Name == name {
			return info, true
		}
	}
	return checkpoint.Info{}, false
}

func TestInspectDerivesShapes(t *testing.T) {
	for preset, want := range map[string]Arch{
		"tiny": {Size: 64, Grid: 4, Codebook: 512, CodeDim: 8, Groups: 32, Dim: 96, Depth: 3, Heads: 4, MLP: 358},
		"demo": {Size: 128, Grid: 8, Codebook: 1024, CodeDim: 8, Groups: 32, Dim: 192, Depth: 6, Heads: 3, MLP: 768},
		"s256": {Size: 256, Grid: 16, Codebook: 16384, CodeDim: 8, Groups: 32, Dim: 1152, Depth: 27, Heads: 16, MLP: 4304},
		"l384": {Size: 384, Grid: 24, Codebook: 16384, CodeDim: 8, Groups: 32, Dim: 1152, Depth: 27, Heads: 16, MLP: 4304},
	} {
		a, err := Inspect(synthetic(t, preset, true), Config{})
		if err != nil {
			t.Errorf("%s: %v", preset, err)
			continue
		}
		if !slices.Equal(a.summary(), want.summary()) {
			t.Errorf("%s: got  %v\nwant %v", preset, a.summary(), want.summary())
		}
		if a.TextTensors == 0 || !a.LogitScale || !a.LogitBias {
			t.Errorf("%s: text tower not seen: %d tensors", preset, a.TextTensors)
		}
	}
}

func (a *Arch) summary() []int { // for comparison
	return []int{a.Size, a.Grid, a.Codebook, a.CodeDim, a.Groups, a.Dim, a.Depth, a.Heads, a.MLP}
}

func TestInspectErrors(t *testing.T) {
	const b1 = "visual.trunk.blocks.1.attn.qkv.weight"
	for name, c := range map[string]struct {
		drop   []string
		change map[string][]int64
		cfg    Config
		want   string
	}{
		"missing": {drop: []string{b1},
			want: `tensor "visual.trunk.blocks.1.attn.qkv.weight" is missing: expected shape [288 96], found nothing`},
		"misshapen": {change: map[string][]int64{b1: {288, 95}},
			want: `tensor "visual.trunk.blocks.1.attn.qkv.weight" has the wrong shape: expected [288 96], found [288 95]`},
		"surplus": {change: map[string][]int64{"visual.trunk.extra": {3}},
			want: `tensor "visual.trunk.extra" is surplus: expected nothing of that name, found shape [3]`},
		"surplus block": {change: map[string][]int64{"visual.trunk.blocks.3.norm1.weight": {96}},
			want: `tensor "visual.trunk.blocks.3.norm1.bias" is missing: expected shape [96], found nothing`},
		"first block missing": {drop: []string{"visual.trunk.blocks.0.norm1.weight"},
			want: `tensor "visual.trunk.blocks.0.norm1.weight" is missing: expected shape [96], found nothing`},
		"no grid": {change: map[string][]int64{"visual.trunk.pos_embed": {1, 15, 96}},
			want: `tensor "visual.trunk.pos_embed": 15 positions are no square grid`},
		"flat pos_embed": {change: map[string][]int64{"visual.trunk.pos_embed": {16, 96}},
			want: `tensor "visual.trunk.pos_embed" has the wrong shape: expected 3 dimensions, found [16 96]`},
		"logit_scale": {change: map[string][]int64{"logit_scale": {2}},
			want: `tensor "logit_scale" has the wrong shape: expected [], found [2]`},
		"no downsample": {drop: []string{"visual.trunk.vq.encoder.conv_blocks.1.downsample.conv.weight"},
			want: `tensor "visual.trunk.vq.encoder.conv_blocks.1.downsample.conv.weight": every level but the last must end in it (level 1 of 5)`},
		"wrong channels": {change: map[string][]int64{"visual.trunk.vq.decoder.conv_blocks.0.res.1.conv2.weight": {64, 32, 3, 3}},
			want: `tensor "visual.trunk.vq.decoder.conv_blocks.0.res.1.conv2.weight" has the wrong shape: expected [64 64 3 3], found [64 32 3 3]`},
		"heads": {cfg: Config{Heads: 7}, want: "7 heads do not divide the width 96 of the token encoder"},
		"groups": {cfg: Config{NormGroups: 5},
			want: `tensor "visual.trunk.vq.encoder.*": 32 channels cannot be normalised in 5 groups (norm_groups)`},
		"negative": {cfg: Config{Heads: -1}, want: "model config: heads = -1: must not be negative"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := c.cfg
			if cfg.Heads == 0 {
				cfg.Heads = 4
			}
			_, err := Inspect(edited{synthetic(t, "tiny", true), c.drop, c.change}, cfg)
			if first, _, _ := strings.Cut(fmt.Sprint(err), "\n"); first != c.want {
				t.Errorf("error  %v\nwanted %s", err, c.want)
			}
		})
	}
}

func TestInspectManyErrors(t *testing.T) {
	r := checkpoint.Select(synthetic(t, "tiny", true), func(n string) bool {
		return !strings.Contains(n, "attn_pool.mlp") && !strings.Contains(n, ".norm2.bias")
	})
	_, err := Inspect(edited{Reader: r, change: map[string][]int64{"visual.trunk.attn_pool.mlp.fc1.weight": {358, 96}}}, Config{Heads: 4})
	if err == nil || strings.Count(err.Error(), "is missing") != 8 || !strings.HasSuffix(err.Error(), "more") {
		t.Errorf("error %v", err)
	}
}

func TestInspectWhatItIs(t *testing.T) {
	vq := checkpoint.Select(synthetic(t, "tiny", true), func(n string) bool { return strings.HasPrefix(n, trunkVQ) })
	rest := checkpoint.Select(synthetic(t, "tiny", true), func(n string) bool { return !strings.HasPrefix(n, trunkVQ) })
	none := checkpoint.Select(synthetic(t, "tiny", true), func(n string) bool { return strings.HasPrefix(n, "text.") })
	unknown := edited{Reader: synthetic(t, "tiny", false)} // hides the metadata
	for want, r := range map[string]checkpoint.Reader{
		"this is a VQ tokenizer alone: it can only make tokens and images; give the TokLIP checkpoint as well, " +
			"for example: toklip model import vq_ds16_t2i.pt TokLIP_S_256.pt --out DIR": vq,
		`this TokLIP checkpoint has no VQ tokenizer: tensor "visual.trunk.vq.encoder.conv_in.weight" is missing; give the VQ checkpoint as well`: rest,
		`this is no TokLIP checkpoint: tensor "visual.trunk.pos_embed" is missing (30 tensors found)`:                                            none,
		"the number of attention heads cannot be read off a checkpoint, and width 96 is none of SigLIP's (768, 1024, 1152, 1536): " +
			`give it with --config F.json, {"heads": H}, or as "heads" in the metadata of a safetensors file`: unknown,
	} {
		if _, err := Inspect(r, Config{}); err == nil || err.Error() != want {
			t.Errorf("error  %v\nwanted %s", err, want)
		}
	}
}

func TestParseConfig(t *testing.T) {
	if c := tinyConfig(t); c != (Config{Heads: 4, TextHeads: 4}) {
		t.Errorf("tiny_cfg.json reads as %+v", c)
	}
	for text, want := range map[string]string{
		`{"heads": 4, "haeds": 3}`: `model config: json: unknown field "haeds"`,
		`{"heads": 4} {}`:          "model config: there is something behind the JSON object",
		`{"norm_groups": -2}`:      "model config: norm_groups = -2: must not be negative",
		`{"heads": "4"}`:           "model config: json: cannot unmarshal string into Go struct field .Config.heads of type int",
	} {
		if _, err := ParseConfig([]byte(text)); err == nil || err.Error() != want {
			t.Errorf("%s: error %v, wanted %s", text, err, want)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(`{"heads": 4, "norm_groups": 32}`))
	f.Add([]byte(`{"text_heads": 4, "text": {"heads": 4, "width": 96}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if c, err := ParseConfig(text); err == nil && (c.Heads < 0 || c.NormGroups < 0 || c.TextHeads < 0) {
			t.Errorf("%q gives %+v", text, c)
		}
	})
}
