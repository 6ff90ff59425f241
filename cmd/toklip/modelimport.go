package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/toklip/toklip/engine/onnxruntime"
	"github.com/toklip/toklip/model"
	"github.com/toklip/toklip/model/checkpoint"
	"github.com/toklip/toklip/model/graph"
)

// importFlags are the flags shared by the commands that end in a model folder.
type importFlags struct {
	out        string
	name       string
	precisions []string
	floor      float64
	overwrite  bool
	config     string
	library    string
	text       string // precision of the text tower
	tokenizer  string // of the text tower
}

func (f *importFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.out, "out", "", "`folder` to write (required)")
	cmd.Flags().StringVar(&f.name, "name", "", "`name` in the manifest; the folder's name by default")
	cmd.Flags().StringSliceVar(&f.precisions, "precision", []string{model.FP32}, "`list` of fp32, fp16 (TensorRT) and int8, with commas; fp32 is always made")
	cmd.Flags().Float64Var(&f.floor, "int8-floor", model.DefaultFloor, "refuse int8 whose worst `cosine` to fp32 is below")
	cmd.Flags().BoolVar(&f.overwrite, "overwrite", false, "replace an existing model folder")
	cmd.Flags().StringVar(&f.text, "text-precision", model.FP32, "`precision` that the text tower's weights are stored in: fp32, fp16, or none for no text tower")
	cmd.Flags().StringVar(&f.tokenizer, "tokenizer", "", "tokenizer `file` of the text tower, tokenizer.model or tokenizer.json; one beside the checkpoint is found by itself")
	cmd.Flags().StringVar(&f.config, "config", "", "JSON `file` with what shapes do not tell: heads, text_heads, norm_groups")
	cmd.Flags().StringVar(&f.library, "onnxruntime-library", "", "`path` of libonnxruntime.so, if it is not found by itself")
	_ = cmd.RegisterFlagCompletionFunc("text-precision", cobra.FixedCompletions([]string{model.FP32, model.FP16, model.NoText}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("precision", cobra.FixedCompletions([]string{model.FP32, model.FP16, model.Int8}, cobra.ShellCompDirectiveNoFileComp))
}

func newImportCommand() *cobra.Command {
	var flags importFlags
	var source, licence string
	cmd := &cobra.Command{
		Use:   "import CKPT... --out DIR",
		Short: "Make a model folder of a checkpoint",
		Long: `Turns a TokLIP checkpoint into ONNX graphs and a manifest. Safetensors and torch zip files are read, in fp32, fp16 or bf16, with
or without the wrappers that training code leaves (state_dict, model, ema, module.). The VQ tokenizer may come in a file of its own.
Only tensors are read: a pickle that names anything else is refused. Weights are streamed; memory stays far below the file's size.

--precision fp16 adds graphs for TensorRT with fp16 products; int8 adds a token encoder with int8 products for either backend. What is reduced is
compared with fp32 and refused below a floor. ONNX Runtime does that, and makes the reference set that engines are judged by; an import in fp32 alone works
without it, but leaves the set out.

The text tower, where the checkpoint has one, is written too: it makes embeddings of texts, for labels. At full size it is 2.7 GB, or half of that
with --text-precision fp16. It needs the tokenizer that it was trained with: SigLIP 2's, whose tokenizer.model or tokenizer.json
is published with that model.

Shapes come from the checkpoint. The number of attention heads is not in any shape: it is known for the published widths, other
models need --config, a JSON file with at least {"heads": N}, and "text_heads" where the text tower's width is another.`,
		Example: `  toklip model import TokLIP_S_256.pt --out models/toklip-s-256
  toklip model import TokLIP_S_256.pt vq_ds16_t2i.pt --out models/toklip-s-256 --precision fp32,int8
  toklip model import TokLIP_S_256.pt --out models/toklip-s-256 --precision fp32,fp16,int8
  toklip model import TokLIP_S_256.pt --out models/toklip-s-256 --text-precision fp16 --tokenizer tokenizer.model
  toklip model import distilled.safetensors --config distilled.json --out models/distilled`,
		Args: args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, files []string) error {
			if flags.out == "" {
				return usageError{fmt.Errorf("--out is missing: name the folder to write")}
			}
			hints, err := flags.check()
			if err != nil {
				return err
			}
			opts := model.Options{Source: source, Licence: licence, Config: hints}
			if opts.Source == "" {
				opts.Source = strings.Join(baseNames(files), " + ")
			}
			reader, err := openCheckpoints(files)
			if err != nil {
				return err
			}
			defer reader.Close()
			return importModel(cmd.Context(), reader, files, flags, opts, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	flags.add(cmd)
	cmd.Flags().StringVar(&source, "source", "", "`origin` of the weights, for the manifest; the files' names by default")
	cmd.Flags().StringVar(&licence, "licence", "", "`terms` of the weights, for the manifest")
	return cmd
}

// check finds what is wrong with the flags before anything is read or downloaded, and reads --config.
func (f *importFlags) check() (graph.Config, error) {
	for _, p := range f.precisions {
		if p != model.FP32 && p != model.FP16 && p != model.Int8 {
			return graph.Config{}, usageError{fmt.Errorf("--precision %q is unknown: this version makes %s, %s and %s", p, model.FP32, model.FP16, model.Int8)}
		}
	}
	if !(f.floor > 0 && f.floor <= 1) {
		return graph.Config{}, usageError{fmt.Errorf("--int8-floor %g is not above 0 and at most 1", f.floor)}
	}
	if f.text != model.FP32 && f.text != model.FP16 && f.text != model.NoText {
		return graph.Config{}, usageError{fmt.Errorf("--text-precision %q is unknown: it is %s, %s or %s", f.text, model.FP32, model.FP16, model.NoText)}
	}
	if f.tokenizer != "" {
		if f.text == model.NoText {
			return graph.Config{}, usageError{fmt.Errorf("--tokenizer belongs to the text tower, which --text-precision %s leaves out", model.NoText)}
		}
		if _, err := os.Stat(f.tokenizer); err != nil {
			return graph.Config{}, fmt.Errorf("read --tokenizer: %w", err)
		}
	}
	if entries, err := os.ReadDir(f.out); err == nil && len(entries) > 0 && !f.overwrite {
		return graph.Config{}, fmt.Errorf("--out %q is there already and not empty: name another folder, or replace it with --overwrite", f.out)
	}
	if f.config == "" {
		return graph.Config{}, nil
	}
	text, err := os.ReadFile(f.config)
	if err != nil {
		return graph.Config{}, fmt.Errorf("read --config: %w", err)
	}
	c, err := graph.ParseConfig(text)
	if err != nil {
		return graph.Config{}, fmt.Errorf("--config %s: %w", f.config, err)
	}
	return c, nil
}

// openCheckpoints opens one checkpoint or merges several.
func openCheckpoints(files []string) (checkpoint.Reader, error) {
	var readers []checkpoint.Reader
	fail := func(err error) (checkpoint.Reader, error) {
		for _, r := range readers {
			_ = r.Close() // read-only
		}
		return nil, err
	}
	for _, file := range files {
		reader, err := checkpoint.Open(file)
		if err != nil {
			return fail(err)
		}
		readers = append(readers, reader)
	}
	if len(readers) == 1 {
		return readers[0], nil
	}
	merged, err := checkpoint.Merge(readers...)
	if err != nil {
		return fail(err)
	}
	return merged, nil
}

// importModel imports with a progress bar on stderr and says on out what came of it. A tokenizer that the flags do not name is looked
// for beside files, those that reader reads.
func importModel(ctx context.Context, reader checkpoint.Reader, files []string, flags importFlags, opts model.Options, out, stderr io.Writer) error {
	begun := time.Now()
	bar := newProgress(stderr, true)
	defer bar.abandon()
	opts.Name, opts.Precisions, opts.Floor, opts.Overwrite = flags.name, flags.precisions, flags.floor, flags.overwrite
	opts.TextPrecision, opts.Tokenizer = flags.text, flags.tokenizer
	if opts.Tokenizer == "" {
		opts.Tokenizer, opts.TokenizerFound = model.FindTokenizer(files...), true
	}
	opts.Progress = bar.update
	if _, err := onnxruntime.FindLibrary(flags.library); err == nil {
		opts.Runner = &graphRunner{library: flags.library}
	} else if flags.library != "" || slices.ContainsFunc(flags.precisions, func(p string) bool { return p != model.FP32 }) {
		return err
	} else {
		fmt.Fprintf(stderr, "note: no reference set is made, by which TensorRT engines are judged: %v\n", err)
	}
	opts.Logger = warnings(stderr)
	manifest, err := model.Import(ctx, reader, flags.out, opts)
	if err != nil {
		return err
	}
	bar.finish()
	printManifest(out, manifest)
	fmt.Fprintf(out, "%-16s %s in %s, peak memory %s\n", "imported", flags.out, round(time.Since(begun)), byteSize(peakMemory()))
	return nil
}

func baseNames(files []string) []string {
	names := make([]string, len(files))
	for i, file := range files {
		names[i] = filepath.Base(file)
	}
	return names
}
