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
	// Parts, if above 1, also writes the fp32 encoder in that many parts (fewer if it has fewer blocks),
	// encoder.part.0.onnx and so on, over the same weights: what one gives as "next_stream" the next takes as
	// "stream". Run one after another they need a fraction of the memory.
	Parts int
	// Progress is called as weights are written: bytes done and in all of a stage, which is named after the graph.
	Progress func(stage string, done, total int64)
}

// Written is a graph that [Build] wrote.
type Written struct {
	Role     string // "tokenizer", "encoder", "decoder" or "encoder.part"
	Int8     bool
	Backends []string        // what it is for: "onnxruntime", "tensorrt"
	Graph    onnx.FileInfo   // NAME.onnx
	Data     []onnx.FileInfo // the weights it refers to
}

// Backends that graphs are made for. TensorRT gets standard operators only, at opset 17.
const (
	onnxRuntime = "onnxruntime"
	tensorRT    = "tensorrt"
)

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

// buildRole writes the fp32 graph of a role and, for the encoder, what else there is of it.
func buildRole(ctx context.Context, r checkpoint.Reader, a *Arch, dir, role string, opts Options) ([]Written, error) {
	job := job{ctx: ctx, r: r, a: a, dir: dir, progress: opts.Progress}
	switch role {
	case "tokenizer":
		w, _, err := job.write("tokenizer", nil, func(b *builder) { b.tokenizer(opts.Latents) })
		return w, err
	case "decoder":
		w, _, err := job.write("decoder", nil, (*builder).decoder)
		return w, err
	}
	out, fp32, err := job.write("encoder", nil, func(b *builder) { b.encoder(0, a.Depth) })
	if err != nil {
		return nil, err
	}
	if a.bands() > 1 {
		// ONNX Runtime gains from banded attention and its own GELU. TensorRT wants standard operators, in a pattern
		// that it can fuse.
		w, err := job.writeOver("encoder.ort", fp32, func(b *builder) { b.ort, b.bands = true, a.bands(); b.encoder(0, a.Depth) })
		if err != nil {
			return nil, err
		}
		out[0].Backends, w.Backends = []string{tensorRT}, []string{onnxRuntime}
		w.Role = "encoder"
		out = append(out, w)
	}
	if opts.Int8 {
		w, _, err := job.write("encoder.int8", fp32, func(b *builder) { b.ort, b.int8, b.bands = true, true, a.bands(); b.encoder(0, a.Depth) })
		if err != nil {
			return nil, err
		}
		w[0].Role, w[0].Int8, w[0].Backends = "encoder", true, []string{onnxRuntime}
		out = append(out, w...)
	}
	if opts.Parts > 1 {
		parts := min(opts.Parts, a.Depth)
		for i := range parts {
			w, err := job.writeOver(fmt.Sprintf("encoder.part.%d", i), fp32, func(b *builder) { b.encoder(a.Depth*i/parts, a.Depth*(i+1)/parts) })
			if err != nil {
				return nil, err
			}
			w.Role = "encoder.part"
			out = append(out, w)
		}
	}
	return out, nil
}

// job is what building one role takes.
type job struct {
	ctx      context.Context
	r        checkpoint.Reader
	a        *Arch
	dir      string
	progress func(stage string, done, total int64)
}

// write writes NAME.onnx and NAME.onnx.data, where the weights go that base does not hold already.
func (j job) write(name string, base *weights, net func(*builder)) ([]Written, *weights, error) {
	file := name + ".onnx"
	// A dry run counts the bytes and finds mistakes before anything is computed.
	dry := newWeights(j.ctx, j.r, nil, base)
	dry.dry = true
	b := &builder{Graph: onnx.NewGraph(name), a: j.a, w: dry}
	net(b)
	if _, err := b.Encode(); b.err != nil || err != nil {
		return nil, nil, errors.Join(b.err, err)
	}

	data, err := onnx.CreateData(filepath.Join(j.dir, file+".data"))
	if err != nil {
		return nil, nil, err
	}
	w := newWeights(j.ctx, j.r, data, base)
	if j.progress != nil {
		w.wrote = func(done int64) { j.progress(file, done, dry.bytes) }
	}
	b = &builder{Graph: onnx.NewGraph(name), a: j.a, w: w}
	net(b)
	info, err := data.Close()
	if b.err != nil || err != nil {
		return nil, nil, errors.Join(b.err, err)
	}
	w.files = append(w.files, info)
	graph, err := b.WriteFile(filepath.Join(j.dir, file))
	if err != nil {
		return nil, nil, err
	}
	return []Written{{Role: name, Backends: []string{onnxRuntime, tensorRT}, Graph: graph, Data: w.files}}, w, nil
}

// writeOver writes NAME.onnx over the weights of another graph, adding a few small constants of its own.
func (j job) writeOver(name string, base *weights, net func(*builder)) (Written, error) {
	b := &builder{Graph: onnx.NewGraph(name), a: j.a, w: base}
	net(b)
	if b.err != nil {
		return Written{}, b.err
	}
	info, err := b.WriteFile(filepath.Join(j.dir, name+".onnx"))
	return Written{Backends: []string{onnxRuntime, tensorRT}, Graph: info, Data: base.files}, err
}
