package graph

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/toklip/toklip/model/checkpoint"
)

// Config holds what a checkpoint's shapes do not tell. Zero values mean "find out": from the metadata of
// a safetensors file ("heads", "norm_groups", "text_heads") if there is some, else from what is known of SigLIP and VQ-16.
type Config struct {
	Heads      int `json:"heads"`       // attention heads of the token encoder; known for the SigLIP widths 768, 1024, 1152 and 1536
	NormGroups int `json:"norm_groups"` // groups of the tokenizer's GroupNorm; 32
	TextHeads  int `json:"text_heads"`  // attention heads of the text tower; those of the encoder where both are equally wide, else as Heads

	NoText bool `json:"-"` // leave the text tower alone: its tensors may be there, and be wrong
}

// ParseConfig reads the JSON of --config. It may hold all hyper-parameters of a model; those that the
// checkpoint's shapes tell anyway are not used. Unknown keys are errors.
func ParseConfig(text []byte) (Config, error) {
	var all struct {
		Config
		Size     json.RawMessage `json:"img"`
		Channels json.RawMessage `json:"ch"`
		Mult     json.RawMessage `json:"mult"`
		Latent   json.RawMessage `json:"z"`
		Codebook json.RawMessage `json:"vocab"`
		CodeDim  json.RawMessage `json:"cdim"`
		Dim      json.RawMessage `json:"dim"`
		Depth    json.RawMessage `json:"depth"`
		MLP      json.RawMessage `json:"mlp_ratio"`
		Text     struct {
			Context    json.RawMessage `json:"context_length"`
			Vocabulary json.RawMessage `json:"vocab_size"`
			Width      json.RawMessage `json:"width"`
			Heads      int             `json:"heads"`
			Layers     json.RawMessage `json:"layers"`
		} `json:"text"`
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&all); err != nil {
		return Config{}, fmt.Errorf("model config: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Config{}, errors.New("model config: there is something behind the JSON object")
	}
	switch {
	case all.TextHeads == 0:
		all.TextHeads = all.Text.Heads
	case all.Text.Heads != 0 && all.Text.Heads != all.TextHeads:
		return Config{}, fmt.Errorf("model config: text_heads = %d, but text.heads = %d: leave one out", all.TextHeads, all.Text.Heads)
	}
	return all.Config, all.check()
}

func (c Config) check() error {
	for _, v := range []struct {
		key   string
		value int
	}{{"heads", c.Heads}, {"norm_groups", c.NormGroups}, {"text_heads", c.TextHeads}} {
		if v.value < 0 {
			return fmt.Errorf("model config: %s = %d: must not be negative", v.key, v.value)
		}
	}
	return nil
}

// complete fills in from the reader's metadata what the configuration leaves open.
func (c Config) complete(r checkpoint.Reader) (Config, error) {
	if err := c.check(); err != nil {
		return c, err
	}
	m, ok := r.(interface{ Metadata() map[string]string })
	if !ok {
		return c, nil
	}
	for key, field := range map[string]*int{"heads": &c.Heads, "norm_groups": &c.NormGroups, "text_heads": &c.TextHeads} {
		text, ok := m.Metadata()[key]
		if !ok || *field != 0 {
			continue
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return c, fmt.Errorf("metadata of the checkpoint: %s = %q is no positive number", key, text)
		}
		*field = n
	}
	return c, nil
}
