package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/toklip/toklip/model"
	"github.com/toklip/toklip/model/checkpoint"
	"github.com/toklip/toklip/model/synth"
)

// syntheticSource is what a synthetic model's manifest says of its weights.
const syntheticSource = "synthetic weights, tokens carry no meaning"

func newSynthCommand() *cobra.Command {
	var flags importFlags
	var preset, salt, file string
	var noText bool
	cmd := &cobra.Command{
		Use:   "synth --preset NAME --out DIR",
		Short: "Make a model of synthetic weights, for tests and benchmarks",
		Long: `Makes a model folder whose weights are a fixed function of tensor name and index: the exact architecture, no meaning.
Presets: tiny (64 px), demo (128 px), s256 and l384 (full size, as published). --checkpoint writes the checkpoint itself as safetensors
instead of, or beside, a model folder.`,
		Example: `  toklip model synth --preset tiny --out models/tiny
  toklip model synth --preset s256 --no-text --out models/s256 --precision fp32,int8
  toklip model synth --preset s256 --text-precision fp16 --out models/s256
  toklip model synth --preset s256 --checkpoint s256.safetensors`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if flags.out == "" && file == "" {
				return usageError{fmt.Errorf("--out is missing: name the folder to write (or --checkpoint FILE)")}
			}
			hints, err := flags.check()
			if err != nil {
				return err
			}
			arch, err := synth.Preset(preset)
			if err != nil {
				return usageError{err}
			}
			weights, err := synth.New(arch, salt, !noText)
			if err != nil {
				return err
			}
			defer weights.Close()
			if file != "" {
				bar := newProgress(cmd.ErrOrStderr(), true)
				err := checkpoint.WriteSafetensorsFile(cmd.Context(), file, weights, func(done, total int64) {
					bar.update("write "+filepath.Base(file), done, total)
				})
				if err != nil {
					bar.abandon()
					return err
				}
				bar.finish()
			}
			if flags.out == "" {
				return nil
			}
			if flags.name == "" {
				flags.name = "synthetic-" + preset
			}
			return importModel(cmd.Context(), weights, nil, flags, model.Options{Source: syntheticSource, Licence: "Apache-2.0", Config: hints}, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	flags.add(cmd)
	cmd.Flags().Lookup("out").Usage = "`folder` to write (required without --checkpoint)"
	_ = cmd.Flags().MarkHidden("config") // the presets say it all
	cmd.Flags().StringVar(&preset, "preset", "tiny", "`name` of the architecture: "+strings.Join(synth.Presets(), ", "))
	cmd.Flags().StringVar(&salt, "salt", "", "`text` that makes other weights of the same architecture")
	cmd.Flags().StringVar(&file, "checkpoint", "", "write the checkpoint to this safetensors `file`")
	cmd.Flags().BoolVar(&noText, "no-text", false, "leave the text tower out")
	_ = cmd.RegisterFlagCompletionFunc("preset", cobra.FixedCompletions(synth.Presets(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}
