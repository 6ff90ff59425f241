package graph

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/toklip/toklip/model/checkpoint"
	"github.com/toklip/toklip/model/onnx"
)

// Options control [Build].
type Options struct {
	// Int8 adds encoder.int8.onnx: the encoder with its Linear layers quantised (see quant.go). It uses
	// ONNX Runtime's own operators and is of no use to others. TensorRT's is made by [BuildQDQ].
	Int8 bool
	// FP16 adds tokenizer.fp16.onnx and encoder.fp16.onnx, for TensorRT.
	FP16 bool
	// Latents gives the tokenizer a second output "latents" float32[batch,CodeDim,Grid,Grid]: what is
	// looked up in the codebook, before normalisation.
	Latents bool
	// Parts, if above 0, writes what is needed to measure: the encoder in that many parts (fewer if it has fewer blocks) over the
	// same weights, encoder.part.0.onnx and so on, each giving as "next_stream" what the next takes as "stream", so
	// that run one after another they need a fraction of the memory; and with FP16 encoder.fp16.part.0.onnx and so on and
	// tokenizer.fp16.part.onnx, which ONNX Runtime rounds where a GPU would (see emulate.go).
	Parts int
	// Progress is called as weights are written: bytes done and in all of a stage, which is named after the graph.
	Progress func(stage string, done, total int64)
}

// Precisions of a graph.
const (
	fp32          = "fp32"
	fp16          = "fp16"
	int8precision = "int8"
)

// Written is a graph that [Build] or [BuildQDQ] wrote.
type Written struct {
	Role      string          // "tokenizer", "encoder", "decoder", "pool", "text", or "encoder.part", "tokenizer.part": for measuring
	Precision string          // "fp32", "fp16" or "int8"
	Backends  []string        // what it is for: "onnxruntime", "tensorrt"
	Graph     onnx.FileInfo   // NAME.onnx
	Data      []onnx.FileInfo // the weights it refers to
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

// buildRole writes the fp32 graph of a role and what else there is of it.
func buildRole(ctx context.Context, r checkpoint.Reader, a *Arch, dir, role string, opts Options) ([]Written, error) {
	job := job{ctx: ctx, r: r, a: a, dir: dir, progress: opts.Progress}
	switch role {
	case "tokenizer":
		return job.tokenizer(opts)
	case "decoder":
		w, _, err := job.write("decoder", nil, (*builder).decoder)
		return []Written{w}, err
	}
	return job.encoder(opts)
}

// tokenizer writes the tokenizer for ONNX Runtime, and without its search for TensorRT.
func (j job) tokenizer(opts Options) ([]Written, error) {
	whole, weights, err := j.write("tokenizer", nil, func(b *builder) { b.tokenizer(opts.Latents) })
	if err != nil {
		return nil, err
	}
	latents, err := j.writeOver("tokenizer.latents", weights, (*builder).tokenizerLatents)
	if err != nil {
		return nil, err
	}
	whole.Backends, latents.Backends = []string{onnxRuntime}, []string{tensorRT}
	out := []Written{whole, latents}
	var parts []Written
	if opts.FP16 {
		narrow, weights, err := j.write("tokenizer.fp16", nil, func(b *builder) { b.half = true; b.tokenizerLatents() })
		if err != nil {
			return nil, err
		}
		narrow.Precision, narrow.Backends = fp16, []string{tensorRT}
		out = append(out, narrow)
		if opts.Parts > 0 {
			w, err := j.writeOver("tokenizer.fp16.part", weights, func(b *builder) { b.half, b.emulate = true, true; b.tokenizerLatents() })
			if err != nil {
				return nil, err
			}
			w.Role, w.Precision, w.Backends = "tokenizer.part", fp16, []string{onnxRuntime}
			parts = append(parts, w)
		}
	}
	for i := range out {
		out[i].Role = "tokenizer"
	}
	return append(out, parts...), nil
}

// encoder writes the token encoder in every form that is asked for.
func (j job) encoder(opts Options) ([]Written, error) {
	a := j.a
	whole, weights, err := j.write("encoder", nil, func(b *builder) { b.encoder(0, a.Depth) })
	if err != nil {
		return nil, err
	}
	out := []Written{whole}
	pool, err := j.writeOver("pool", weights, (*builder).regionPool)
	if err != nil {
		return nil, err
	}
	if a.bands() > 1 {
		// ONNX Runtime gains from banded attention and its own GELU. TensorRT wants standard operators, in a pattern
		// that it can fuse.
		w, err := j.writeOver("encoder.ort", weights, func(b *builder) { b.ort, b.bands = true, a.bands(); b.encoder(0, a.Depth) })
		if err != nil {
			return nil, err
		}
		out[0].Backends, w.Backends = []string{tensorRT}, []string{onnxRuntime}
		out = append(out, w)
	}
	if opts.Int8 {
		w, _, err := j.write("encoder.int8", weights, func(b *builder) { b.ort, b.int8, b.bands = true, true, a.bands(); b.encoder(0, a.Depth) })
		if err != nil {
			return nil, err
		}
		w.Precision, w.Backends = int8precision, []string{onnxRuntime}
		out = append(out, w)
	}
	parts, err := j.parts("encoder", fp32, weights, opts.Parts, func(*builder) {})
	if err != nil {
		return nil, err
	}
	if opts.FP16 {
		set := func(b *builder) { b.half = true }
		w, weights, err := j.write("encoder.fp16", nil, func(b *builder) { set(b); b.encoder(0, a.Depth) })
		if err != nil {
			return nil, err
		}
		w.Precision, w.Backends = fp16, []string{tensorRT}
		out = append(out, w)
		more, err := j.parts("encoder.fp16", fp16, weights, opts.Parts, set)
		if err != nil {
			return nil, err
		}
		parts = append(parts, more...)
	}
	for i := range out {
		out[i].Role = "encoder"
	}
	pool.Backends = []string{onnxRuntime}
	return slices.Concat(out, []Written{pool}, parts), nil
}

// parts writes the encoder in n parts over weights that are there. set prepares the builder.
func (j job) parts(name, precision string, weights *weights, n int, set func(*builder)) ([]Written, error) {
	if n < 1 {
		return nil, nil
	}
	depth := j.a.Depth
	n = min(n, depth)
	var out []Written
	for i := range n {
		w, err := j.writeOver(fmt.Sprintf("%s.part.%d", name, i), weights, func(b *builder) {
			set(b)
			b.emulate = b.half
			b.encoder(depth*i/n, depth*(i+1)/n)
		})
		if err != nil {
			return nil, err
		}
		w.Role, w.Precision, w.Backends = "encoder.part", precision, []string{onnxRuntime}
		out = append(out, w)
	}
	return out, nil
}

// QDQOptions control [BuildQDQ].
type QDQOptions struct {
	// Ranges are the largest magnitudes of the inputs of [QuantisedLinears], by name: what is beyond is clipped.
	Ranges map[string]float32
	// Multiple is what the hidden width of MLPs is padded to; 0: 32, 1: not at all.
	Multiple int
	Parts    int // as in Options: encoder.qdq.part.0.onnx and so on
	Progress func(stage string, done, total int64)
}

// BuildQDQ writes encoder.qdq.onnx, the int8 encoder for TensorRT (see qdq.go), as [Build] does.
func BuildQDQ(ctx context.Context, r checkpoint.Reader, a *Arch, dir string, opts QDQOptions) ([]Written, error) {
	if opts.Multiple == 0 {
		opts.Multiple = 32
	}
	j := job{ctx: ctx, r: r, a: a, dir: dir, progress: opts.Progress}
	set := func(b *builder) { b.half, b.ranges, b.multiple = true, opts.Ranges, opts.Multiple }
	w, weights, err := j.write("encoder.qdq", nil, func(b *builder) { set(b); b.encoder(0, a.Depth) })
	if err != nil {
		return nil, fmt.Errorf("build int8 encoder for TensorRT: %w", err)
	}
	w.Role, w.Precision, w.Backends = "encoder", int8precision, []string{tensorRT}
	parts, err := j.parts("encoder.qdq", int8precision, weights, opts.Parts, set)
	if err != nil {
		return nil, fmt.Errorf("build int8 encoder for TensorRT: %w", err)
	}
	return append([]Written{w}, parts...), nil
}

// TextOptions control [BuildText].
type TextOptions struct {
	Precision string // of the weights: "fp32" or "fp16". Products are computed in fp32 in any case
	Progress  func(stage string, done, total int64)
}

// BuildText writes text.onnx, the text tower, as [Build] does. It is for ONNX Runtime.
func BuildText(ctx context.Context, r checkpoint.Reader, a *Arch, dir string, opts TextOptions) (Written, error) {
	switch {
	case a.Text == nil:
		return Written{}, errors.New("build text tower: the checkpoint has none")
	case opts.Precision != fp32 && opts.Precision != fp16:
		return Written{}, fmt.Errorf("build text tower: precision %q is none of %s and %s", opts.Precision, fp32, fp16)
	}
	j := job{ctx: ctx, r: r, a: a, dir: dir, progress: opts.Progress}
	w, _, err := j.write("text", nil, func(b *builder) { b.ort, b.packed = true, opts.Precision == fp16; b.text() })
	if err != nil {
		return Written{}, fmt.Errorf("build text tower: %w", err)
	}
	w.Precision, w.Backends = opts.Precision, []string{onnxRuntime}
	return w, nil
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
func (j job) write(name string, base *weights, net func(*builder)) (Written, *weights, error) {
	file := name + ".onnx"
	// A dry run counts the bytes and finds mistakes before anything is computed.
	dry := newWeights(j.ctx, j.r, nil, base)
	dry.dry = true
	b := &builder{Graph: onnx.NewGraph(name), a: j.a, w: dry}
	net(b)
	if _, err := b.Encode(); b.err != nil || err != nil {
		return Written{}, nil, errors.Join(b.err, err)
	}

	data, err := onnx.CreateData(filepath.Join(j.dir, file+".data"))
	if err != nil {
		return Written{}, nil, err
	}
	w := newWeights(j.ctx, j.r, data, base)
	if j.progress != nil {
		w.wrote = func(done int64) { j.progress(file, done, dry.bytes) }
	}
	b = &builder{Graph: onnx.NewGraph(name), a: j.a, w: w}
	net(b)
	info, err := data.Close()
	if b.err != nil || err != nil {
		return Written{}, nil, errors.Join(b.err, err)
	}
	w.files = append(w.files, info)
	graph, err := b.WriteFile(filepath.Join(j.dir, file))
	if err != nil {
		return Written{}, nil, err
	}
	return Written{Role: name, Precision: fp32, Backends: []string{onnxRuntime, tensorRT}, Graph: graph, Data: w.files}, w, nil
}

// writeOver writes NAME.onnx over the weights of another graph, adding a few small constants of its own.
func (j job) writeOver(name string, base *weights, net func(*builder)) (Written, error) {
	b := &builder{Graph: onnx.NewGraph(name), a: j.a, w: base}
	net(b)
	if b.err != nil {
		return Written{}, b.err
	}
	info, err := b.WriteFile(filepath.Join(j.dir, name+".onnx"))
	return Written{Role: name, Precision: fp32, Backends: []string{onnxRuntime, tensorRT}, Graph: info, Data: base.files}, err
}
