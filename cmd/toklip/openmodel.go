package main

import (
	"errors"
	"fmt"
	"slices"

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

// openModel reads a model folder's manifest and translates it for the engine, with the graphs of ONNX Runtime.
func openModel(dir, precision string) (*openedModel, error) {
	manifest, err := loadManifest(dir)
	if err != nil {
		return nil, err
	}
	return translate(dir, manifest, precision)
}

// loadManifest reads the manifest of a model folder, which must be named.
func loadManifest(dir string) (*model.Manifest, error) {
	if dir == "" {
		return nil, errors.New("no model: name a folder made by `toklip model import`, `model pull` or `model synth`")
	}
	return model.Load(dir)
}

func translate(dir string, manifest *model.Manifest, precision string) (*openedModel, error) {
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
		graph, err := manifest.Graph(part.role, part.precision, model.BackendONNXRuntime)
		if err != nil {
			return nil, fmt.Errorf("model %s: %w", dir, err)
		}
		*part.file = graph.File.Path(dir)
	}
	return &openedModel{dir: dir, manifest: manifest, spec: spec}, nil
}

// weights is the size in bytes of the files that belong to the running tokenizer and encoder.
func (m *openedModel) weights() int64 {
	total := int64(0)
	for _, g := range m.manifest.Graphs {
		if !slices.Contains(g.Backends, model.BackendONNXRuntime) {
			continue
		}
		if g.Role == model.RoleTokenizer || g.Role == model.RoleEncoder && g.Precision == m.spec.Precision {
			total += graphSize(m.manifest, g)
		}
	}
	return total
}

// graphSize is the size in bytes of a graph and its weights. Of a file that belongs to the fp32 graphs another precision reads a small part
// only (the token table): it does not count for that one.
func graphSize(m *model.Manifest, g model.Graph) int64 {
	total := g.File.Size
	for _, file := range g.Data {
		if g.Precision == model.FP32 || !ofFP32(m, file.Name) {
			total += file.Size
		}
	}
	return total
}

// ofFP32 reports whether an fp32 graph of the model reads the file.
func ofFP32(m *model.Manifest, name string) bool {
	return slices.ContainsFunc(m.Graphs, func(g model.Graph) bool {
		return g.Precision == model.FP32 && slices.ContainsFunc(g.Data, func(f model.File) bool { return f.Name == name })
	})
}
