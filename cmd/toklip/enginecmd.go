package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/toklip/toklip/cmd/toklip/tensorrt"
	"github.com/toklip/toklip/model"
	"github.com/toklip/toklip/trt/enginecache"
)

func newEngineCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "engine",
		Short: "Build and look after TensorRT engines",
		Long: `An engine is a network of a model compiled by TensorRT for one GPU. The daemon builds those it needs by itself and keeps them in a cache; these
commands build them beforehand, and show and clean the cache.`,
		Example: `  toklip engine build --model models/toklip-s-256
  toklip engine list
  toklip engine gc --older-than 30d`,
	}
	cmd.AddCommand(newEngineBuildCommand(), newEngineListCommand(), newEngineInfoCommand(), newEngineGCCommand())
	return cmd
}

// engineBuild is one command line of `toklip engine build`.
type engineBuild struct {
	tensorrtFlags
	model, precision, out string
	roles                 []string
	batch, nice           int
	capabilities          []int
	again, asJSON         bool
}

func newEngineBuildCommand() *cobra.Command {
	b := engineBuild{tensorrtFlags: newTensorRTFlags(), precision: tensorrt.Auto, roles: []string{model.RoleTokenizer, model.RoleEncoder}, batch: 1}
	cmd := &cobra.Command{
		Use:   "build --model DIR",
		Short: "Build a model's engines into the cache",
		Long: `Builds the engines of a model for this machine's GPU into the cache, where the daemon and the other commands find them. Engines that are there are left
as they are. It takes minutes on a Jetson, and Ctrl-C ends it; nothing half-built stays.

The daemon looks for engines of its precision and of the batch that it needs: the smaller of engine.max_batch and the number of cameras.

With TensorRT for RTX, --compute-capability makes engines that run on other machines' GPUs, and needs no GPU here; they are written to --out. There the
folder is engine.tensorrt.plans in the configuration, or --plans: with the same model, the same version of TensorRT and a GPU of the list nothing is built.`,
		Example: `  toklip engine build --model models/toklip-s-256
  toklip engine build --model models/toklip-s-256 --precision int8 --batch 3
  toklip engine build --model models/toklip-s-256 --role tokenizer,encoder,decoder
  toklip engine build --model models/toklip-s-256 --compute-capability 86,89 --out plans`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if b.asJSON {
				return b.speak(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
			}
			return b.show(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	modelFlag(cmd, &b.model)
	cmd.Flags().StringVar(&b.precision, "precision", b.precision, "`precision` of the token encoder: fp32, fp16, int8, or auto: fp16 where the model has it, else fp32")
	cmd.Flags().StringSliceVar(&b.roles, "role", b.roles, "`list` of tokenizer, encoder and decoder, with commas")
	cmd.Flags().IntVar(&b.batch, "batch", b.batch, "most `frames` in one run")
	cmd.Flags().IntSliceVar(&b.capabilities, "compute-capability", nil, "`list` of GPUs to build for, such as 86,89 (TensorRT for RTX)")
	cmd.Flags().StringVar(&b.out, "out", "", "write plans, with what they are for beside them, to this `folder` instead of the cache")
	cmd.Flags().BoolVar(&b.again, "again", false, "build even what is in the cache")
	cmd.Flags().BoolVar(&b.asJSON, "json", false, "print progress and result as JSON, an object a line")
	cmd.Flags().IntVar(&b.nice, "nice", 0, "lower the priority of this process by a `number` of 0 to 19")
	b.addLibraries(cmd)
	b.addBuild(cmd)
	_ = cmd.MarkFlagDirname("out")
	_ = cmd.RegisterFlagCompletionFunc("precision", cobra.FixedCompletions([]string{tensorrt.Auto, model.FP32, model.FP16, model.Int8}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("role", cobra.FixedCompletions([]string{model.RoleTokenizer, model.RoleEncoder, model.RoleDecoder}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (b *engineBuild) check() error {
	switch b.precision {
	case tensorrt.Auto, model.FP32, model.FP16, model.Int8:
	default:
		return usageError{fmt.Errorf("--precision %q is unknown: choose auto, fp32, fp16 or int8", b.precision)}
	}
	for _, role := range b.roles {
		switch role {
		case model.RoleTokenizer, model.RoleEncoder, model.RoleDecoder:
		default:
			return usageError{fmt.Errorf("--role %q is unknown: choose of tokenizer, encoder and decoder", role)}
		}
	}
	switch {
	case len(b.roles) == 0:
		return usageError{errors.New("--role names nothing: choose of tokenizer, encoder and decoder")}
	case b.model == "":
		return checkModel(b.model)
	case b.batch < 1 || b.batch > 64:
		return usageError{fmt.Errorf("--batch %d is not between 1 and 64", b.batch)}
	case b.nice < 0 || b.nice > 19:
		return usageError{fmt.Errorf("--nice %d is not between 0 and 19", b.nice)}
	case len(b.capabilities) > 0 && b.out == "":
		return usageError{errors.New("--compute-capability makes plans for other machines: say with --out where to write them")}
	}
	for _, c := range b.capabilities {
		if c < 50 || c > 999 {
			return usageError{fmt.Errorf("--compute-capability %d is none: 8.6 is written 86", c)}
		}
	}
	return b.tensorrtFlags.check()
}

// enginesBuilt is what came of a build.
type enginesBuilt struct {
	built []tensorrt.Built
	files []string // with --out, instead
}

func (b *engineBuild) run(ctx context.Context, stderr io.Writer, progress func(tensorrt.Progress)) (out enginesBuilt, err error) {
	if err := b.check(); err != nil {
		return out, err
	}
	if b.nice > 0 {
		if err := lowerPriority(b.nice); err != nil {
			return out, fmt.Errorf("--nice %d: %w", b.nice, err)
		}
	}
	opened, err := openModel(b.model, model.FP32)
	if err != nil {
		return out, err
	}
	open := tensorrt.Open
	if len(b.capabilities) > 0 {
		open = tensorrt.OpenLibrary
	}
	machine, err := open(tensorrtOptions(b.TensorRT, warnings(stderr)))
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, machine.Close()) }()
	source := tensorrtSource(b.TensorRT, opened, b.precision, b.batch)
	source.ComputeCapabilities = b.capabilities
	networks, err := machine.Networks(source, b.roles...)
	if err != nil {
		return out, err
	}
	if b.out != "" {
		out.files, err = machine.Export(ctx, networks, b.out, progress)
		return out, err
	}
	out.built, err = machine.Build(ctx, networks, b.again, progress)
	return out, err
}

// speak builds for a program that reads JSON.
func (b *engineBuild) speak(ctx context.Context, stdout, stderr io.Writer) error {
	lines := json.NewEncoder(stdout)
	lines.SetEscapeHTML(false)
	last, step := time.Time{}, ""
	out, err := b.run(ctx, stderr, func(p tensorrt.Progress) {
		if p.Step == step && time.Since(last) < progressInterval/4 {
			return
		}
		last, step = time.Now(), p.Step
		_ = lines.Encode(tensorrt.Message{Progress: &p}) // a reader that went away is noticed at the end
	})
	if err != nil {
		return errors.Join(err, lines.Encode(tensorrt.Message{Failed: tensorrt.FailureOf(err)}))
	}
	return lines.Encode(tensorrt.Message{Built: out.built, Files: out.files})
}

// show builds with a progress bar.
func (b *engineBuild) show(ctx context.Context, stdout, stderr io.Writer) error {
	bar := newProgress(stderr, false)
	defer bar.abandon()
	out, err := b.run(ctx, stderr, barOf(bar))
	if err != nil {
		return err
	}
	bar.finish()
	for _, file := range out.files {
		info, err := os.Stat(file)
		if err != nil {
			return err
		}
		fmt.Fprintf(stdout, "%-10s %10s  %s\n", "written", byteSize(info.Size()), file)
	}
	for _, e := range out.built {
		took := "was there"
		if e.Seconds > 0 {
			took = "built in " + round(time.Duration(e.Seconds*float64(time.Second))).String()
		}
		fmt.Fprintf(stdout, "%-10s %-5s %10s  %s  %s\n", e.Role, e.Precision, byteSize(e.Size), e.ID, took)
	}
	return nil
}

// barOf shows the progress of builds on a bar.
func barOf(bar *progress) func(tensorrt.Progress) {
	const units = 1000
	return func(p tensorrt.Progress) { bar.update(p.Step, int64(p.Done*units), units) }
}

// shownEngine is an entry of the cache as `engine list` and `engine info` print it.
type shownEngine struct {
	ID        string              `json:"id"`
	Role      string              `json:"role"`
	Precision string              `json:"precision"`
	Batch     int                 `json:"batch"`
	GPU       string              `json:"gpu"`
	TensorRT  string              `json:"tensorrt"`
	Size      int64               `json:"size"` // bytes
	Created   time.Time           `json:"created"`
	Used      time.Time           `json:"used"`
	Path      string              `json:"path"`
	Report    *model.Report       `json:"report,omitempty"`
	Building  *enginecache.Holder `json:"building,omitempty"`
	Problem   string              `json:"problem,omitempty"`
}

func shown(e enginecache.Entry) shownEngine {
	s := shownEngine{ID: e.ID, Size: e.Size, Used: e.Used, Path: e.Path, Building: e.Building, Problem: e.Problem}
	if m := e.Meta; m != nil {
		s.describe(m)
		var r model.Report
		if len(m.Report) > 0 && json.Unmarshal(m.Report, &r) == nil {
			s.Report = &r
		}
	}
	return s
}

// describe fills in what the engine is.
func (s *shownEngine) describe(m *enginecache.Metadata) {
	s.Role, s.Precision, s.Batch, s.Created = m.Key.Role, m.Key.Precision, m.Key.BatchMax, m.Created
	s.GPU = madeFor(m.Key)
	s.TensorRT = m.Key.Family + " " + m.Key.Version
}

// madeFor says which GPUs an engine is for.
func madeFor(k enginecache.Key) string {
	if len(k.ComputeCapabilities) == 0 {
		return fmt.Sprintf("%s, sm_%d", k.GPU, k.SM)
	}
	return "compute capability " + strings.Trim(strings.ReplaceAll(fmt.Sprint(k.ComputeCapabilities), " ", ", "), "[]")
}

func newEngineListCommand() *cobra.Command {
	flags := newTensorRTFlags()
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the engines in the cache, the last used first",
		Example: "  toklip engine list\n  toklip engine list --json | jq -r '.[] | select(.problem) | .id'",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cache, err := flags.cache()
			if err != nil {
				return err
			}
			entries, err := cache.List()
			if err != nil {
				return err
			}
			all, total := make([]shownEngine, 0, len(entries)), int64(0)
			for _, e := range entries {
				all = append(all, shown(e))
				total += e.Size
			}
			out := cmd.OutOrStdout()
			if asJSON {
				return json.NewEncoder(out).Encode(all)
			}
			if len(all) == 0 {
				fmt.Fprintf(out, "no engines in %s; `toklip engine build` makes them\n", cache.Dir())
				return nil
			}
			fmt.Fprintf(out, "%-12s  %-9s  %-5s  %5s  %9s  %-16s  %s\n", "KEY", "ROLE", "TYPE", "BATCH", "SIZE", "USED", "FOR")
			for _, e := range all {
				about := e.GPU + ", " + e.TensorRT
				switch {
				case e.Building != nil:
					about = fmt.Sprintf("being built by process %d since %s", e.Building.PID, e.Building.Since.Format("15:04:05"))
				case e.Problem != "":
					about = "cannot be used: " + e.Problem
				}
				fmt.Fprintf(out, "%-12s  %-9s  %-5s  %5d  %9s  %-16s  %s\n", short(e.ID), e.Role, e.Precision, e.Batch, byteSize(e.Size), e.Used.Format("2006-01-02 15:04"), about)
			}
			fmt.Fprintf(out, "%s in %s, %s\n", plural(len(all), "engine"), cache.Dir(), byteSize(total))
			return nil
		},
	}
	flags.addCache(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func newEngineGCCommand() *cobra.Command {
	flags := newTensorRTFlags()
	older := days(30 * 24 * time.Hour)
	var dry, asJSON bool
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "Remove engines that were not used for long, and what is damaged",
		Long: `Removes engines that nobody loaded for a time, damaged ones, and what builders left that were killed. What is being built now is never touched. An engine
that is needed again is built again.`,
		Example: "  toklip engine gc --dry-run\n  toklip engine gc --older-than 7d",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cache, err := flags.cache()
			if err != nil {
				return err
			}
			removed, err := cache.GC(enginecache.GCOptions{MaxAge: time.Duration(older), DryRun: dry})
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if asJSON {
				if removed == nil {
					removed = []enginecache.Removed{}
				}
				return json.NewEncoder(out).Encode(removed)
			}
			verb, total := "removed", int64(0)
			if dry {
				verb = "would remove"
			}
			for _, r := range removed {
				fmt.Fprintf(out, "%s %s (%s): %s\n", verb, filepath.Base(r.Path), byteSize(r.Size), r.Why)
				total += r.Size
			}
			fmt.Fprintf(out, "%s %s, %s\n", verb, plural(len(removed), "file"), byteSize(total))
			return nil
		},
	}
	flags.addCache(cmd)
	cmd.Flags().Var(&older, "older-than", "remove what was not used for this `time`, such as 7d or 12h; 0: everything")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say what would go")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// days is a duration that may be written in days.
type days time.Duration

// String implements pflag.Value.
func (d *days) String() string {
	if whole := time.Duration(*d); whole%(24*time.Hour) == 0 {
		return fmt.Sprintf("%dd", whole/(24*time.Hour))
	}
	return time.Duration(*d).String()
}

// Set implements pflag.Value.
func (d *days) Set(text string) error {
	number, isDays := strings.CutSuffix(text, "d")
	if isDays {
		number += "h"
	}
	v, err := time.ParseDuration(number)
	if err != nil || v < 0 || isDays && v > 100*365*time.Hour {
		return fmt.Errorf("%q is not a time: write for example 30d, 12h or 0", text)
	}
	if isDays {
		v *= 24
	}
	*d = days(v)
	return nil
}

// Type implements pflag.Value.
func (d *days) Type() string { return "time" }
