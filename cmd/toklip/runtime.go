package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/toklip/toklip/cmd/toklip/tensorrt"
	"github.com/toklip/toklip/engine/onnxruntime"
	"github.com/toklip/toklip/model"
)

// openRuntime finds and loads ONNX Runtime.
func openRuntime(library string) (*onnxruntime.Runtime, error) {
	path, err := onnxruntime.FindLibrary(library)
	if err != nil {
		return nil, err
	}
	return onnxruntime.Open(path)
}

// backendFlags are the flags of every command that runs a model.
type backendFlags struct {
	model     string
	backend   string
	precision string
	threads   int
	library   string
	tensorrt  tensorrtFlags
}

// add adds the flags to a command. Without precision, what runs exists in one only.
func (f *backendFlags) add(cmd *cobra.Command, precision bool) {
	f.precision = tensorrt.Auto
	f.tensorrt = newTensorRTFlags()
	modelFlag(cmd, &f.model)
	cmd.Flags().StringVar(&f.backend, "backend", "auto", "`name` of what runs the model: onnxruntime, which auto is, or tensorrt, which builds engines first if there are none")
	if precision {
		cmd.Flags().StringVar(&f.precision, "precision", f.precision, "`precision` of the token encoder: fp32, int8 or, with tensorrt, fp16, where the model has it; auto: fp32, with tensorrt fp16 if it can be")
		_ = cmd.RegisterFlagCompletionFunc("precision", cobra.FixedCompletions([]string{tensorrt.Auto, model.FP32, model.FP16, model.Int8}, cobra.ShellCompDirectiveNoFileComp))
	}
	cmd.Flags().IntVar(&f.threads, "threads", 0, "`number` of CPU threads; 0: one for each physical core")
	cmd.Flags().StringVar(&f.library, "onnxruntime-library", "", "`path` of libonnxruntime.so, if it is not found by itself")
	f.tensorrt.addLibraries(cmd)
	f.tensorrt.addPlans(cmd)
	f.tensorrt.addBuild(cmd)
	_ = cmd.RegisterFlagCompletionFunc("backend", cobra.FixedCompletions([]string{"auto", model.BackendONNXRuntime, model.BackendTensorRT}, cobra.ShellCompDirectiveNoFileComp))
}

// modelFlag adds --model, which checkModel wants.
func modelFlag(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "model", "", "model `folder`, made by model import, pull or synth (required)")
	_ = cmd.MarkFlagDirname("model")
}

func checkModel(dir string) error {
	if dir == "" {
		return usageError{errors.New("--model is missing: name a folder made by `toklip model import`, `model pull` or `model synth`")}
	}
	return nil
}

// open opens the model.
func (f *backendFlags) open() (*openedModel, error) {
	if err := checkModel(f.model); err != nil {
		return nil, err
	}
	switch f.backend {
	case "auto":
		f.backend = model.BackendONNXRuntime
	case model.BackendONNXRuntime, model.BackendTensorRT:
	default:
		return nil, usageError{fmt.Errorf("unknown backend %q: choose auto, %s or %s", f.backend, model.BackendONNXRuntime, model.BackendTensorRT)}
	}
	precision := f.precision
	switch {
	case precision == tensorrt.Auto || f.onTensorRT() && (precision == model.FP16 || precision == model.Int8):
		precision = model.FP32 // of ONNX Runtime's graphs, whose shapes are those of all
	case precision == model.FP16:
		return nil, usageError{fmt.Errorf("--precision %s needs --backend %s: ONNX Runtime runs %s and %s", model.FP16, model.BackendTensorRT, model.FP32, model.Int8)}
	case precision != model.FP32 && precision != model.Int8:
		return nil, usageError{fmt.Errorf("--precision %q is unknown: choose auto, %s, %s or %s", precision, model.FP32, model.FP16, model.Int8)}
	}
	if f.threads < 0 || f.threads > 1024 {
		return nil, usageError{fmt.Errorf("--threads %d is not between 0 (one for each physical core) and 1024", f.threads)}
	}
	if err := f.tensorrt.check(); err != nil {
		return nil, err
	}
	return openModel(f.model, precision)
}

// onTensorRT reports whether TensorRT runs the model.
func (f *backendFlags) onTensorRT() bool { return f.backend == model.BackendTensorRT }

// imageEncoder runs pictures that are pre-processed already.
type imageEncoder interface {
	EncodeImage(image []float32) (ids []int32, features, embedding []float32, err error)
	Close() error
}

// openEncoder loads tokenizer and encoder.
func (f *backendFlags) openEncoder(ctx context.Context, opened *openedModel, stderr io.Writer) (imageEncoder, error) {
	if f.onTensorRT() {
		return f.openGPU(ctx, opened, 1, f.run(), stderr)
	}
	library, err := openRuntime(f.library)
	if err != nil {
		return nil, err
	}
	return library.Load(opened.spec, onnxruntime.Options{Threads: f.threads, MaxBatch: 1})
}

// pictureDecoder makes pictures of ids.
type pictureDecoder interface {
	DecodeRGB(ids []int32) ([]byte, error)
	Close() error
}

// openDecoder loads the decoder.
func (f *backendFlags) openDecoder(ctx context.Context, opened *openedModel, stderr io.Writer) (pictureDecoder, error) {
	if !f.onTensorRT() {
		library, err := openRuntime(f.library)
		if err != nil {
			return nil, err
		}
		return library.LoadDecoder(opened.spec, onnxruntime.Options{Threads: f.threads})
	}
	var decoder *tensorrt.Decoder
	machine, err := f.onMachine(ctx, opened, 1, stderr, func(m *tensorrt.Machine, s tensorrt.Source) (err error) {
		decoder, err = m.LoadDecoder(s)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &gpuDecoder{Decoder: decoder, machine: machine}, nil
}

// gpu is a model on TensorRT, for a command.
type gpu struct {
	*tensorrt.Loaded
	machine *tensorrt.Machine
}

// Close frees the engines, then TensorRT.
func (g *gpu) Close() error { return errors.Join(g.Loaded.Close(), g.machine.Close()) }

// gpuDecoder is a model's decoder on TensorRT.
type gpuDecoder struct {
	*tensorrt.Decoder
	machine *tensorrt.Machine
}

// Close frees the engine, then TensorRT.
func (d *gpuDecoder) Close() error { return errors.Join(d.Decoder.Close(), d.machine.Close()) }

func (f *backendFlags) run() tensorrt.RunOptions {
	run := tensorrtRun(f.tensorrt.TensorRT)
	run.InFlight = 1
	return run
}

// openGPU loads tokenizer and encoder for batches of so many frames.
func (f *backendFlags) openGPU(ctx context.Context, opened *openedModel, batch int, run tensorrt.RunOptions, stderr io.Writer) (*gpu, error) {
	var loaded *tensorrt.Loaded
	machine, err := f.onMachine(ctx, opened, batch, stderr, func(m *tensorrt.Machine, s tensorrt.Source) (err error) {
		loaded, err = m.Load(ctx, s, run)
		return err
	})
	if err != nil {
		return nil, err
	}
	loaded.Keep(ctx)
	return &gpu{Loaded: loaded, machine: machine}, nil
}

// onMachine opens TensorRT and loads engines of the model, for batches of so many frames. The caller closes what was loaded, then
// the machine.
func (f *backendFlags) onMachine(ctx context.Context, opened *openedModel, batch int, stderr io.Writer, load func(*tensorrt.Machine, tensorrt.Source) error) (*tensorrt.Machine, error) {
	machine, err := tensorrt.Open(tensorrtOptions(f.tensorrt.TensorRT, warnings(stderr)))
	if err != nil {
		return nil, fmt.Errorf("--backend tensorrt: %w; `toklip doctor` says what there is, --backend onnxruntime needs none of it", err)
	}
	source := tensorrtSource(f.tensorrt.TensorRT, opened, f.precision, batch)
	if err := f.withEngines(ctx, source, stderr, func() error { return load(machine, source) }); err != nil {
		return nil, errors.Join(err, machine.Close())
	}
	return machine, nil
}

// withEngines loads engines, and builds them first if they are not there.
func (f *backendFlags) withEngines(ctx context.Context, source tensorrt.Source, stderr io.Writer, load func() error) error {
	err := load()
	var missing *tensorrt.Missing
	if !errors.As(err, &missing) {
		return err
	}
	for _, why := range missing.Why {
		fmt.Fprintf(stderr, "note: an engine has to be built, which may take minutes: %v\n", why)
	}
	bar := newProgress(stderr, false)
	defer bar.abandon()
	if _, err := tensorrt.ThisProgram(buildArgs(f.tensorrt.TensorRT, source, missing, 0)...).Run(ctx, barOf(bar)); err != nil {
		return err
	}
	bar.finish()
	return load()
}

// graphRunner runs single graphs for the importer, which measures int8 against fp32 with it. The library is opened when it
// is first needed: an import in fp32 alone works without it.
type graphRunner struct{ library string }

// Run implements [model.Runner].
func (g *graphRunner) Run(ctx context.Context, file string, inputs []map[string]model.Tensor, outputs []string) ([]map[string]model.Tensor, error) {
	library, err := openRuntime(g.library)
	if err != nil {
		return nil, err
	}
	return onnxruntime.RunAs(ctx, library, file, inputs, outputs, onnxruntime.Options{})
}
