package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

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

// chooseBackend turns the configured backend into the one that will run.
func chooseBackend(name string) (string, error) {
	switch name {
	case "auto", model.BackendONNXRuntime:
		return model.BackendONNXRuntime, nil
	case model.BackendTensorRT:
		return "", fmt.Errorf("backend %q is not in this version: choose auto or %s", name, model.BackendONNXRuntime)
	}
	return "", usageError{fmt.Errorf("unknown backend %q: choose auto or %s", name, model.BackendONNXRuntime)}
}

// backendFlags are the flags of every command that runs a model.
type backendFlags struct {
	model     string
	backend   string
	precision string
	threads   int
	library   string
}

// add adds the flags to a command. Without precision, what runs exists in one only.
func (f *backendFlags) add(cmd *cobra.Command, precision bool) {
	f.precision = model.FP32
	cmd.Flags().StringVar(&f.model, "model", "", "model `folder`, made by model import, pull or synth (required)")
	cmd.Flags().StringVar(&f.backend, "backend", "auto", "`name` of what runs the model: auto or onnxruntime")
	if precision {
		cmd.Flags().StringVar(&f.precision, "precision", model.FP32, "`precision` of the token encoder: fp32, or int8 where the model has it")
		_ = cmd.RegisterFlagCompletionFunc("precision", cobra.FixedCompletions([]string{model.FP32, model.Int8}, cobra.ShellCompDirectiveNoFileComp))
	}
	cmd.Flags().IntVar(&f.threads, "threads", 0, "`number` of CPU threads; 0: one for each physical core")
	cmd.Flags().StringVar(&f.library, "onnxruntime-library", "", "`path` of libonnxruntime.so, if it is not found by itself")
	_ = cmd.RegisterFlagCompletionFunc("backend", cobra.FixedCompletions([]string{"auto", "onnxruntime"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.MarkFlagDirname("model")
}

// open opens the model and the library that will run it.
func (f *backendFlags) open() (*openedModel, *onnxruntime.Runtime, error) {
	if f.model == "" {
		return nil, nil, usageError{fmt.Errorf("--model is missing: name a folder made by `toklip model import`, `model pull` or `model synth`")}
	}
	if f.precision != model.FP32 && f.precision != model.Int8 {
		return nil, nil, usageError{fmt.Errorf("--precision %q is unknown: choose %s or %s", f.precision, model.FP32, model.Int8)}
	}
	if f.threads < 0 || f.threads > 1024 {
		return nil, nil, usageError{fmt.Errorf("--threads %d is not between 0 (one for each physical core) and 1024", f.threads)}
	}
	backend, err := chooseBackend(f.backend)
	if err != nil {
		return nil, nil, err
	}
	opened, err := openModel(f.model, f.precision, backend)
	if err != nil {
		return nil, nil, err
	}
	library, err := openRuntime(f.library)
	if err != nil {
		return nil, nil, err
	}
	return opened, library, nil
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
	in := make([]map[string]onnxruntime.Tensor, len(inputs))
	for i, tensors := range inputs {
		in[i] = map[string]onnxruntime.Tensor{}
		for name, t := range tensors {
			in[i][name] = onnxruntime.Tensor(t)
		}
	}
	out, err := library.Run(ctx, file, in, outputs, onnxruntime.Options{})
	if err != nil {
		return nil, err
	}
	results := make([]map[string]model.Tensor, len(out))
	for i, tensors := range out {
		results[i] = map[string]model.Tensor{}
		for name, t := range tensors {
			results[i][name] = model.Tensor(t)
		}
	}
	return results, nil
}
