package model

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/toklip/toklip/model/graph"
)

// bench runs a model folder's graphs on a Runner to see how good they are.
type bench struct {
	runner   Runner
	dir      string
	m        *Manifest
	search   *searcher
	chunk    int    // inputs of one run, between which progress is told; 0: all
	stage    string // of progress
	steps    int    // of the stage: inputs of all its graphs
	step     int
	progress func(stage string, done, total int64)
}

// begin starts a stage in which graphs get that many inputs together.
func (b *bench) begin(stage string, steps int) {
	b.stage, b.steps, b.step = stage, steps, 0
	b.tell()
}

func (b *bench) tell() {
	if b.progress != nil {
		b.progress(b.stage, int64(b.step), int64(b.steps))
	}
}

// run runs the graph in a file of the folder for each input.
func (b *bench) run(ctx context.Context, file string, inputs []map[string]Tensor, outputs ...string) ([]map[string]Tensor, error) {
	size := b.chunk
	if size == 0 {
		size = max(len(inputs), 1)
	}
	var out []map[string]Tensor
	for some := range slices.Chunk(inputs, size) {
		got, err := b.runner.Run(ctx, filepath.Join(b.dir, file), some, outputs)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", b.stage, err)
		}
		if len(got) != len(some) {
			return nil, fmt.Errorf("%s: %d results came for %d inputs of %s", b.stage, len(got), len(some), file)
		}
		out = append(out, got...)
		b.step += len(some)
		b.tell()
	}
	return out, nil
}

// tokenize runs a tokenizer that gives latents on the pictures of ref and searches them: ids and margins [F,N].
func (b *bench) tokenize(ctx context.Context, file string, ref *Reference) (ids []int32, margin []float32, err error) {
	inputs := make([]map[string]Tensor, ref.Frames)
	for i := range inputs {
		inputs[i] = map[string]Tensor{TensorImage: {Shape: []int64{1, 3, int64(ref.Size), int64(ref.Size)}, Float32: ref.Image(i, b.m.Image)}}
	}
	results, err := b.run(ctx, file, inputs, TensorLatents)
	if err != nil {
		return nil, nil, err
	}
	for i, r := range results {
		latents := r[TensorLatents].Float32
		if len(latents) != ref.Tokens*b.m.Tokens.CodebookDim {
			return nil, nil, fmt.Errorf("%s: %d latents came for picture %d", b.stage, len(latents), i)
		}
		found, by := b.search.find(latents)
		ids, margin = append(ids, found...), append(margin, by...)
	}
	return ids, margin, nil
}

// encode runs the token encoder, in one graph or several parts, on ids [F,N]: features [F,N,D] and embedding [F,E]. Ranges, if
// given, gathers the inputs of Linear layers.
func (b *bench) encode(ctx context.Context, files []string, ids []int32, ranges *graph.Ranges) (features, embedding []float32, err error) {
	n := b.m.Tokens.Count()
	state := make([]map[string]Tensor, len(ids)/n)
	for i := range state {
		state[i] = map[string]Tensor{TensorIDs: {Shape: []int64{1, int64(n)}, Int32: ids[i*n : (i+1)*n]}}
	}
	for i, file := range files {
		outputs := []string{"next_stream"}
		if i == len(files)-1 {
			outputs = []string{TensorFeatures, TensorEmbedding}
		}
		if i > 0 {
			for j := range state {
				state[j] = map[string]Tensor{"stream": state[j]["next_stream"]}
			}
		}
		if ranges == nil {
			state, err = b.run(ctx, file, state, outputs...)
		} else {
			state, err = b.observe(ctx, file, state, outputs, ranges)
		}
		if err != nil {
			return nil, nil, err
		}
	}
	for _, s := range state {
		features, embedding = append(features, s[TensorFeatures].Float32...), append(embedding, s[TensorEmbedding].Float32...)
	}
	return features, embedding, nil
}

// observe is run with a graph beside the file that shows its Linear layers' inputs too.
func (b *bench) observe(ctx context.Context, file string, inputs []map[string]Tensor, outputs []string, ranges *graph.Ranges) (_ []map[string]Tensor, err error) {
	text, err := os.ReadFile(filepath.Join(b.dir, file))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", b.stage, err)
	}
	o, err := ranges.Observe(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", b.stage, file, err)
	}
	temp, err := os.CreateTemp(b.dir, ".observed-*.onnx") // beside its weights
	if err != nil {
		return nil, fmt.Errorf("%s: %w", b.stage, err)
	}
	defer os.Remove(temp.Name())
	_, err = temp.Write(o.File)
	if closing := temp.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", b.stage, err)
	}
	results, err := b.run(ctx, filepath.Base(temp.Name()), inputs, append(outputs, o.Outputs...)...)
	if err != nil {
		return nil, err
	}
	for i := range results {
		seen := make([][]float32, len(o.Outputs))
		for j, name := range o.Outputs {
			seen[j] = results[i][name].Float32
			delete(results[i], name)
		}
		if err := ranges.Add(o, seen); err != nil {
			return nil, fmt.Errorf("%s: %w", b.stage, err)
		}
	}
	return results, nil
}

// reference makes the reference set of pictures [F,S,S,3] with the fp32 graphs given; encoder may be in parts.
func (b *bench) reference(ctx context.Context, pictures []byte, tokenizer string, encoder []string, ranges *graph.Ranges) (*Reference, error) {
	m := b.m
	r := &Reference{Size: m.Image.Size, Tokens: m.Tokens.Count(), FeatureDim: m.Encoder.FeatureDim, EmbeddingDim: m.Encoder.EmbeddingDim,
		Pictures: pictures, Frames: len(pictures) / (3 * m.Image.Size * m.Image.Size)}
	var err error
	if r.IDs, r.Margin, err = b.tokenize(ctx, tokenizer, r); err != nil {
		return nil, err
	}
	if r.Features, r.Embedding, err = b.encode(ctx, encoder, r.IDs, ranges); err != nil {
		return nil, err
	}
	if len(r.Features) != r.Frames*r.Tokens*r.FeatureDim || len(r.Embedding) != r.Frames*r.EmbeddingDim {
		return nil, fmt.Errorf("%s: %d features and %d values of embeddings came for %d pictures", b.stage, len(r.Features), len(r.Embedding), r.Frames)
	}
	return r, nil
}

// judge compares graphs with the reference; a role without files is not run.
func (b *bench) judge(ctx context.Context, ref *Reference, tokenizer string, encoder []string, floors Floors) (Report, error) {
	var got Outputs
	var err error
	if tokenizer != "" {
		if got.IDs, _, err = b.tokenize(ctx, tokenizer, ref); err != nil {
			return Report{}, err
		}
	}
	if len(encoder) > 0 {
		if got.Features, got.Embedding, err = b.encode(ctx, encoder, ref.IDs, nil); err != nil {
			return Report{}, err
		}
	}
	r, err := Judge(ref, got, floors)
	if err != nil {
		return Report{}, fmt.Errorf("%s: %w", b.stage, err)
	}
	return r, nil
}

// quality is a report as the manifest keeps it.
func quality(r Report) *Quality {
	q := &Quality{Grids: r.Frames, FeatureCosine: r.FeatureCosine, EmbeddingCosine: r.EmbeddingCosine, Floor: r.Floors.Features,
		TokenAgreement: r.TokenAgreement, ClearTokenAgreement: r.ClearTokenAgreement}
	if r.Floors.Embedding != r.Floors.Features {
		q.EmbeddingFloor = r.Floors.Embedding
	}
	if r.Tokens > 0 {
		q.TokenFloor = r.Floors.Tokens
	}
	return q
}
