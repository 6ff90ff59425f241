package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/toklip/toklip/engine"
	"github.com/toklip/toklip/engine/preprocess"
	"github.com/toklip/toklip/model"
)

// openedModel is a model folder as the engine wants it.
type openedModel struct {
	dir      string
	manifest *model.Manifest
	spec     *engine.Model
}

// openModel reads a model folder's manifest and translates it for the engine.
func openModel(dir, precision, backend string) (*openedModel, error) {
	if dir == "" {
		return nil, errors.New("no model: name a folder made by `toklip model import`, `model pull` or `model synth`")
	}
	manifest, err := model.Load(dir)
	if err != nil {
		return nil, err
	}
	resize, err := preprocess.ParseMode(manifest.Image.Resize)
	if err != nil {
		return nil, fmt.Errorf("model %s: %w", dir, err)
	}
	spec := &engine.Model{
		Name: manifest.Name, Precision: precision,
		ImageSize: manifest.Image.Size, Rows: manifest.Tokens.Rows, Cols: manifest.Tokens.Cols,
		FeatureDim: manifest.Encoder.FeatureDim, EmbeddingDim: manifest.Encoder.EmbeddingDim,
		Codebook: manifest.Tokens.Codebook, Resize: resize,
	}
	for c := range 3 {
		spec.Mean[c], spec.Std[c] = float32(manifest.Image.Mean[c]), float32(manifest.Image.Std[c])
	}
	for _, part := range []struct {
		role, precision string
		file            *string
	}{
		{model.RoleTokenizer, model.FP32, &spec.Tokenizer},
		{model.RoleEncoder, precision, &spec.Encoder},
		{model.RoleDecoder, model.FP32, &spec.Decoder},
	} {
		graph, err := manifest.Graph(part.role, part.precision, backend)
		if err != nil {
			return nil, fmt.Errorf("model %s: %w", dir, err)
		}
		*part.file = graph.File.Path(dir)
	}
	return &openedModel{dir: dir, manifest: manifest, spec: spec}, nil
}

// weights is the size in bytes of the files that belong to the running tokenizer and encoder. Of files that a graph shares with another it
// reads a part only (int8 takes its token table from fp32's file): they count for the graph they are named after.
func (m *openedModel) weights() int64 {
	total := int64(0)
	for _, g := range m.manifest.Graphs {
		if g.Role == model.RoleDecoder || g.Role == model.RoleEncoder && g.Precision != m.spec.Precision {
			continue
		}
		total += g.File.Size
		for _, file := range g.Data {
			if strings.HasPrefix(file.Name, g.File.Name) {
				total += file.Size
			}
		}
	}
	return total
}
