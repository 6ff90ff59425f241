package model

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/toklip/toklip/model/checkpoint"
	"github.com/toklip/toklip/model/graph"
)

// DefaultFloor is the worst cosine to fp32 that ONNX Runtime's int8 encoder may have, unless Options say otherwise. The floors of what
// TensorRT runs are [DefaultFloors].
const DefaultFloor = 0.995

// DefaultMethod is how ranges of activations are chosen: clipping nothing. On synthetic weights of full size the worst cosine of a
// feature was 0.9994 with it and 0.9956 with percentiles, and vision transformers are known to carry much in few large values.
const DefaultMethod = graph.MethodMax

// Options control [Import].
type Options struct {
	Name       string       // of the model; the folder's base name if empty
	Precisions []string     // FP32, FP16 and Int8; FP32 is always made. Nil: FP32
	Config     graph.Config // what shapes do not tell
	Source     string       // recorded in the manifest
	Licence    string       // recorded in the manifest
	Resize     string       // default resize mode recorded in the manifest; "squash" if empty
	Overwrite  bool         // replace an existing model folder
	Floor      float64      // worst cosine allowed for int8; DefaultFloor if 0. One below TensorRT's own floors takes their place
	Runner     Runner       // needed for FP16, Int8 and the reference set, which is left out without it
	Created    time.Time    // recorded; now if zero

	// TextPrecision is what the weights of the text tower are stored in: FP32, FP16, or NoText to leave it out. FP32 if empty.
	// A checkpoint without a text tower gives a folder without.
	TextPrecision string
	// Tokenizer is the file that cuts texts into the text tower's ids, tokenizer.model or tokenizer.json, which is copied
	// into the folder. If empty, texts can only be given as ids.
	Tokenizer string
	// TokenizerFound says that nobody asked for this tokenizer: if it does not fit it is left out, with a warning.
	TokenizerFound bool

	// Progress, if set, is called from Import's goroutine as work goes on: done of total units of the stage.
	Progress func(stage string, done, total int64)
	Logger   *slog.Logger // nil: silent
}

// Tensor is an input or output of a [Runner]: a shape and exactly one kind of values.
type Tensor struct {
	Shape   []int64
	Float32 []float32
	Int32   []int32
}

// Runner runs ONNX graphs. The importer measures reduced precisions with it; cmd passes ONNX Runtime.
type Runner interface {
	// Run loads the graph in file (its weights lie beside it), runs it once for each element of inputs in
	// order, and unloads it. Each result holds the named outputs; the caller owns it. Cancelling ctx
	// ends the work between two runs.
	Run(ctx context.Context, file string, inputs []map[string]Tensor, outputs []string) ([]map[string]Tensor, error)
}

// Import writes the model folder dir from a checkpoint and returns its manifest. The folder appears
// complete or not at all: it is written under a temporary name beside dir and renamed at the end; an
// error or a cancelled context leaves nothing behind. An existing dir is refused unless
// Options.Overwrite is set, and then replaced only if it is a model folder.
//
// Weights are streamed: memory stays far below the size of the checkpoint.
func Import(ctx context.Context, reader checkpoint.Reader, dir string, opts Options) (*Manifest, error) {
	m, err := (&importer{reader: reader, dir: filepath.Clean(dir), opts: opts}).run(ctx)
	if err != nil {
		return nil, fmt.Errorf("import model %q: %w", dir, err)
	}
	return m, nil
}

// importer is one call of Import.
type importer struct {
	reader checkpoint.Reader
	dir    string
	opts   Options
	log    *slog.Logger
}

func (im *importer) run(ctx context.Context) (*Manifest, error) {
	if err := im.defaults(); err != nil {
		return nil, err
	}
	if err := im.mayReplace(); err != nil {
		return nil, err
	}
	arch, err := graph.Inspect(im.reader, im.opts.Config)
	if err != nil {
		return nil, err
	}
	tokenizer, err := im.tokenizer(arch)
	if err != nil {
		return nil, err
	}
	im.log.Info("checkpoint understood", "size", arch.Size, "tokens", arch.Tokens(), "width", arch.Dim, "depth", arch.Depth,
		"heads", arch.Heads, "codebook", arch.Codebook, "parameters", arch.Parameters, "text_tensors", arch.TextTensors)

	parent := filepath.Dir(im.dir)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return nil, err
	}
	temp, err := os.MkdirTemp(parent, "."+filepath.Base(im.dir)+".importing-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(temp) // gone by then if all went well
	m, err := im.fill(ctx, arch, tokenizer, temp)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return m, im.publish(temp)
}

func (im *importer) defaults() error {
	o := &im.opts
	im.log = o.Logger
	if im.log == nil {
		im.log = slog.New(slog.DiscardHandler)
	}
	if o.Name == "" {
		abs, err := filepath.Abs(im.dir)
		if err != nil {
			return err
		}
		o.Name = filepath.Base(abs)
	}
	if o.Floor == 0 {
		o.Floor = DefaultFloor
	}
	if o.Floor < -1 || o.Floor > 1 {
		return fmt.Errorf("floor %v: a cosine lies between -1 and 1", o.Floor)
	}
	if o.Resize == "" {
		o.Resize = "squash"
	}
	if o.Created.IsZero() {
		o.Created = time.Now()
	}
	switch o.TextPrecision {
	case "":
		o.TextPrecision = FP32
	case FP32, FP16:
	case NoText:
		o.Config.NoText = true
	default:
		return fmt.Errorf("text precision %q: this version makes %s and %s, or %s", o.TextPrecision, FP32, FP16, NoText)
	}
	for _, p := range o.Precisions {
		switch {
		case p != FP32 && p != FP16 && p != Int8:
			return fmt.Errorf("precision %q: this version makes %s, %s and %s", p, FP32, FP16, Int8)
		case p != FP32 && o.Runner == nil:
			return fmt.Errorf("precision %s: its quality has to be measured, and no backend is there to run it", p)
		}
	}
	return nil
}

// mayReplace refuses a target that is in the way.
func (im *importer) mayReplace() error {
	entries, err := os.ReadDir(im.dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case len(entries) == 0:
		return nil
	case !im.opts.Overwrite:
		return fmt.Errorf("the folder is there already and not empty; choose another or pass --overwrite: %w", fs.ErrExist)
	}
	if _, err := os.Stat(filepath.Join(im.dir, ManifestFile)); err != nil {
		return fmt.Errorf("the folder has no %s, so it is no model folder and is not replaced", ManifestFile)
	}
	return nil
}

// publish moves the finished folder to its place.
func (im *importer) publish(temp string) error {
	if err := os.Chmod(temp, 0o755); err != nil {
		return err
	}
	release, err := lockFolder(im.dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	default:
		defer release()
	}
	old := temp + ".old"
	err = os.Rename(im.dir, old)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	replaced := err == nil
	if err := os.Rename(temp, im.dir); err != nil {
		if replaced {
			err = errors.Join(err, os.Rename(old, im.dir))
		}
		return err
	}
	if replaced {
		return os.RemoveAll(old)
	}
	return nil
}

// fill writes everything into temp.
func (im *importer) fill(ctx context.Context, arch *graph.Arch, tokenizer *tokenizerFile, temp string) (*Manifest, error) {
	sums, err := hashTensors(ctx, im.reader, arch, func(done, total int64) { im.progress("hashes", done, total) })
	if err != nil {
		return nil, err
	}
	build := graph.Options{Int8: slices.Contains(im.opts.Precisions, Int8), FP16: slices.Contains(im.opts.Precisions, FP16), Progress: im.progress}
	if im.opts.Runner != nil {
		build.Parts = measureParts
	}
	written, err := graph.Build(ctx, im.reader, arch, temp, build)
	if err != nil {
		return nil, err
	}
	if arch.Text != nil {
		text, err := graph.BuildText(ctx, im.reader, arch, temp, graph.TextOptions{Precision: im.opts.TextPrecision, Progress: im.progress})
		if err != nil {
			return nil, err
		}
		written = append(written, text)
	}
	m := &Manifest{
		FormatVersion: FormatVersion,
		Name:          im.opts.Name, Created: im.opts.Created.UTC().Truncate(time.Second),
		Source: im.opts.Source, Licence: im.opts.Licence,
		ModelHash: sums.model, CodebookHash: sums.codebook, EmbeddingSpace: sums.space, Parameters: arch.Parameters,
		Image: ImageSpec{Size: arch.Size, Mean: [3]float64{0.5, 0.5, 0.5}, Std: [3]float64{0.5, 0.5, 0.5},
			Resize: im.opts.Resize, Interpolation: "bicubic"},
		Tokens: TokenSpec{Rows: arch.Grid, Cols: arch.Grid, Codebook: arch.Codebook, CodebookDim: arch.CodeDim,
			Bits: bitsFor(arch.Codebook)},
		Encoder: Encoder{FeatureDim: arch.Dim, EmbeddingDim: arch.Dim, Depth: arch.Depth, Heads: arch.Heads},
	}
	if m.Text, err = im.describeText(ctx, arch, tokenizer, temp); err != nil {
		return nil, err
	}
	for _, w := range written {
		if !strings.HasSuffix(w.Role, ".part") {
			m.Graphs = append(m.Graphs, describeGraph(w))
		}
	}
	if m.Codebook, err = im.saveCodebook(ctx, arch, temp); err != nil {
		return nil, err
	}
	if im.opts.Runner == nil {
		im.log.Warn("no reference set is made: no backend is there to run the model", "needed_for", "TensorRT engines are judged by it before use")
	} else if err := im.measure(ctx, arch, m, temp, written); err != nil {
		return nil, err
	}
	if err := removeParts(temp, written); err != nil {
		return nil, err
	}
	if err := m.validate(); err != nil {
		return nil, err
	}
	return m, m.write(temp)
}

func describeGraph(w graph.Written) Graph {
	g := Graph{Role: w.Role, Precision: w.Precision, Backends: w.Backends, File: File(w.Graph)}
	for _, d := range w.Data {
		g.Data = append(g.Data, File(d))
	}
	return g
}

func (im *importer) scalar(name string, present bool) (*float64, error) {
	if !present {
		return nil, nil
	}
	v := make([]float32, 1)
	if err := im.reader.ReadFloat32(name, v, 0); err != nil {
		return nil, err
	}
	x := float64(v[0])
	return &x, nil
}

func (im *importer) progress(stage string, done, total int64) {
	if im.opts.Progress != nil {
		im.opts.Progress(stage, done, total)
	}
}

// bitsFor is how many bits tell n things apart, at least one.
func bitsFor(n int) int { return max(bits.Len(uint(n-1)), 1) }
