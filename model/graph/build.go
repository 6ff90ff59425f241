package graph

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/toklip/toklip/model/checkpoint"
	"github.com/toklip/toklip/model/onnx"
)

// Options control [Build].
type Options struct {
	// Int8 adds encoder.int8.onnx: the encoder with its Linear layers quantised (see quant.go). It uses
	// ONNX Runtime's own operators and is of no use to others.
	Int8 bool
	// Latents gives the tokenizer a second output "latents" float32[batch,CodeDim,Grid,Grid]: what is
	// looked up in the codebook, before normalisation.
	Latents bool
	// Progress is called as weights are written: bytes done and in all of a stage, which is named after the graph.
	Progress func(stage string, done, total int64)
}

// Written is a graph that [Build] wrote.
type Written struct {
	Role     string // "tokenizer", "encoder" or "decoder"
	Int8     bool
	Portable bool            // standard operators only, opset 17
	Graph    onnx.FileInfo   // NAME.onnx
	Data     []onnx.FileInfo // the weights it refers to
}

// Build writes the networks of a checkpoint into the folder dir: NAME.onnx and NAME.onnx.data each. The
// architecture comes from [Inspect] of the same reader. Weights are streamed: the largest thing in memory
// is one tensor, or the token table (Codebook x Dim). On an error, or when ctx is cancelled, files may be
// left half-written; the caller removes them.
func Build(ctx context.Context, r checkpoint.Reader, a *Arch, dir string, opts Options) ([]Written, error) {
	var out []Written
	for _, role := range []string{"tokenizer", "encoder", "decoder"} {
		w, err := buildRole(ctx, r, a, dir, role, opts)
		if err != nil {
			return nil, fmt.Errorf("build %s: %w", role, err)
		}
		out = append(out, w...)
	}
	return out, nil
}

// net adds the network of a role to a graph.
func (b *builder) net(role string, opts Options) {
	switch role {
	case "tokenizer":
		b.tokenizer(opts.Latents)
	case "encoder":
		b.encoder()
	case "decoder":
		b.decoder()
	}
}

// buildRole writes the fp32 graph of a role and, for the encoder, the int8 one beside it.
func buildRole(ctx context.Context, r checkpoint.Reader, a *Arch, dir, role string, opts Options) ([]Written, error) {
	fp32, err := buildGraph(ctx, r, a, dir, role, false, nil, opts)
	if err != nil || role != "encoder" || !opts.Int8 {
		return fp32.list(), err
	}
	int8, err := buildGraph(ctx, r, a, dir, role, true, fp32.weights, opts)
	return append(fp32.list(), int8.list()...), err
}

type built struct {
	Written
	weights *weights
}

func (b *built) list() []Written {
	if b == nil {
		return nil
	}
	return []Written{b.Written}
}

// buildGraph writes one graph and its weights, less those that base holds already.
func buildGraph(ctx context.Context, r checkpoint.Reader, a *Arch, dir, role string, quantised bool, base *weights, opts Options) (*built, error) {
	name := role + ".onnx"
	if quantised {
		name = role + ".int8.onnx"
	}
	// A dry run counts the bytes and finds mistakes before anything is computed.
	dry := newWeights(ctx, r, &onnx.DataFile{}, base)
	dry.dry = true
	b := &builder{Graph: onnx.NewGraph(role), a: a, w: dry, int8: quantised}
	b.net(role, opts)
	if _, err := b.Encode(); b.err != nil || err != nil {
		return nil, errors.Join(b.err, err)
	}
	total := dry.bytes

	data, err := onnx.CreateData(filepath.Join(dir, name+".data"))
	if err != nil {
		return nil, err
	}
	w := newWeights(ctx, r, data, base)
	if opts.Progress != nil {
		w.wrote = func(done int64) { opts.Progress(name, done, total) }
	}
	b = &builder{Graph: onnx.NewGraph(role), a: a, w: w, int8: quantised}
	b.net(role, opts)
	info, err := data.Close()
	if b.err != nil || err != nil {
		return nil, errors.Join(b.err, err)
	}
	w.files = append(w.files, info)
	graph, err := b.WriteFile(filepath.Join(dir, name))
	if err != nil {
		return nil, err
	}
	return &built{Written{Role: role, Int8: quantised, Portable: !quantised, Graph: graph, Data: w.files}, w}, nil
}
