package synth

import (
	"fmt"
	"slices"
	"strings"
)

// Config is the architecture of a TokLIP-like model in the words of TokLIP's own code.
type Config struct {
	Img      int        `json:"img"`       // S: edge of the image in pixels
	Ch       int        `json:"ch"`        // width of the VQ tokenizer's first level
	Mult     []int      `json:"mult"`      // width of each level, in units of Ch; every level but the last halves the grid
	Z        int        `json:"z"`         // channels between the VQ encoder and quant_conv
	Vocab    int        `json:"vocab"`     // entries of the codebook
	CDim     int        `json:"cdim"`      // length of an entry
	Dim      int        `json:"dim"`       // width of the token encoder
	Depth    int        `json:"depth"`     // its blocks
	Heads    int        `json:"heads"`     // its attention heads
	MLPRatio float64    `json:"mlp_ratio"` // hidden width of an MLP by the width of its block, rounded down
	Text     TextConfig `json:"text"`
}

// TextConfig is the architecture of the text tower.
type TextConfig struct {
	ContextLength int `json:"context_length"` // tokens of a text
	VocabSize     int `json:"vocab_size"`
	Width         int `json:"width"`
	Heads         int `json:"heads"`
	Layers        int `json:"layers"`
}

// Presets names the architectures that [Preset] knows.
func Presets() []string { return []string{"tiny", "demo", "s256", "l384"} }

// Preset is a known architecture:
//
//	tiny   64 px,  4x4 grid,   codebook 512 x 8: for tests
//	demo   128 px, 8x8 grid,   codebook 1024 x 8: small enough for live video on a laptop
//	s256   256 px, 16x16 grid, as TokLIP_S_256 is published
//	l384   384 px, 24x24 grid, as TokLIP_L_384 is published
func Preset(name string) (Config, error) {
	full := Config{
		Img: 256, Ch: 128, Mult: []int{1, 1, 2, 2, 4}, Z: 256, Vocab: 16384, CDim: 8,
		Dim: 1152, Depth: 27, Heads: 16, MLPRatio: 3.7362,
		Text: TextConfig{ContextLength: 64, VocabSize: 256000, Width: 1152, Heads: 16, Layers: 27},
	}
	switch name {
	case "tiny":
		return Config{
			Img: 64, Ch: 32, Mult: []int{1, 1, 1, 1, 2}, Z: 32, Vocab: 512, CDim: 8,
			Dim: 96, Depth: 3, Heads: 4, MLPRatio: 3.7362,
			Text: TextConfig{ContextLength: 16, VocabSize: 400, Width: 96, Heads: 4, Layers: 2},
		}, nil
	case "demo":
		return Config{
			Img: 128, Ch: 32, Mult: []int{1, 1, 2, 2, 4}, Z: 256, Vocab: 1024, CDim: 8,
			Dim: 192, Depth: 6, Heads: 3, MLPRatio: 4,
			Text: TextConfig{ContextLength: 16, VocabSize: 400, Width: 192, Heads: 3, Layers: 4},
		}, nil
	case "s256":
		return full, nil
	case "l384":
		full.Img = 384
		return full, nil
	}
	return Config{}, fmt.Errorf("unknown preset %q; known are %s", name, strings.Join(Presets(), ", "))
}

// Grid is the number of tokens along an edge.
func (c Config) Grid() int { return c.Img >> max(len(c.Mult)-1, 0) }

// hidden is the width inside of an MLP.
func (c Config) hidden(width int) int64 { return int64(float64(width) * c.MLPRatio) }

// Validate reports the first value no model can have. A text tower without layers is left out.
func (c Config) Validate() error {
	const most = 1 << 24
	for _, v := range []struct {
		name  string
		value int
	}{
		{"img", c.Img}, {"ch", c.Ch}, {"z", c.Z}, {"vocab", c.Vocab}, {"cdim", c.CDim},
		{"dim", c.Dim}, {"depth", c.Depth}, {"heads", c.Heads},
	} {
		if v.value < 1 || v.value > most {
			return fmt.Errorf("model config: %s = %d must be from 1 to %d", v.name, v.value, most)
		}
	}
	switch {
	case len(c.Mult) == 0 || len(c.Mult) > 16:
		return fmt.Errorf("model config: mult = %v must have 1 to 16 levels", c.Mult)
	case slices.Min(c.Mult) < 1 || slices.Max(c.Mult) > 1024:
		return fmt.Errorf("model config: mult = %v must be from 1 to 1024 each", c.Mult)
	case c.Img%(1<<(len(c.Mult)-1)) != 0:
		return fmt.Errorf("model config: img = %d cannot be halved %d times (mult has %d levels)", c.Img, len(c.Mult)-1, len(c.Mult))
	case c.Ch%32 != 0:
		return fmt.Errorf("model config: ch = %d must be a multiple of 32, the groups of GroupNorm", c.Ch)
	case c.Dim%c.Heads != 0:
		return fmt.Errorf("model config: heads = %d do not divide dim = %d", c.Heads, c.Dim)
	case !(c.MLPRatio > 0 && c.MLPRatio <= 1024) || c.hidden(c.Dim) < 1:
		return fmt.Errorf("model config: mlp_ratio = %v must be above 0 and at most 1024", c.MLPRatio)
	case c.Depth > 1024 || c.Text.Layers > 1024:
		return fmt.Errorf("model config: depth = %d and text.layers = %d must be at most 1024", c.Depth, c.Text.Layers)
	}
	if err := c.Text.validate(most); err != nil {
		return err
	}
	const elements = 1 << 40 // of one tensor: 4 TB
	for _, info := range c.tensors(true) {
		n := 1.0
		for _, d := range info.Shape {
			n *= float64(d)
		}
		if n > elements {
			return fmt.Errorf("model config: tensor %q would have shape %v, more than %d elements", info.Name, info.Shape, int64(elements))
		}
	}
	return nil
}

func (t TextConfig) validate(most int) error {
	if t.Layers == 0 {
		return nil
	}
	if t.Layers < 0 || min(t.ContextLength, t.VocabSize, t.Width, t.Heads) < 1 || max(t.ContextLength, t.VocabSize, t.Width) > most {
		return fmt.Errorf("model config: text = %+v must be from 1 to %d each", t, most)
	}
	if t.Width%t.Heads != 0 {
		return fmt.Errorf("model config: text.heads = %d do not divide text.width = %d", t.Heads, t.Width)
	}
	return nil
}
