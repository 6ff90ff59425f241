package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/toklip/toklip/model"
)

func newModelCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "model",
		Short: "Import, download and inspect models",
		Example: `  toklip model pull TokLIP_S_256 --accept-license
  toklip model info models/toklip-s-256`,
	}
	cmd.AddCommand(newImportCommand(), newPullCommand(), newInfoCommand(), newCalibrateCommand(), newSynthCommand())
	return cmd
}

func newInfoCommand() *cobra.Command {
	var asJSON, verify bool
	cmd := &cobra.Command{
		Use:   "info DIR",
		Short: "Show what a model folder holds",
		Long:  "Shows shapes, hashes, licence and files of a model folder. --verify reads every file and compares it with its SHA-256.",
		Example: `  toklip model info models/toklip-s-256
  toklip model info --verify models/toklip-s-256
  toklip model info --json models/toklip-s-256 | jq .embedding_space`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, dirs []string) error {
			manifest, err := model.Load(dirs[0])
			if err != nil {
				return err
			}
			if verify {
				bar := newProgress(cmd.ErrOrStderr(), true)
				defer bar.abandon()
				if err := manifest.Verify(cmd.Context(), dirs[0], func(done, total int64) { bar.update("verify", done, total) }); err != nil {
					return err
				}
				bar.finish()
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(manifest)
			}
			printManifest(cmd.OutOrStdout(), manifest)
			if verify {
				fmt.Fprintf(cmd.OutOrStdout(), "%-16s every file has its SHA-256\n", "verified")
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&verify, "verify", false, "compare every file with its SHA-256")
	return cmd
}

func printManifest(out io.Writer, m *model.Manifest) {
	line := func(key, format string, args ...any) {
		fmt.Fprintf(out, "%-16s %s\n", key, fmt.Sprintf(format, args...))
	}
	line("name", "%s", m.Name)
	line("source", "%s", orNone(m.Source))
	line("licence", "%s", orNone(m.Licence))
	line("created", "%s", m.Created.Format(time.RFC3339))
	line("input", "%d x %d px, %s, %s", m.Image.Size, m.Image.Size, m.Image.Resize, m.Image.Interpolation)
	line("tokens", "%d x %d of %d entries: %s a frame", m.Tokens.Rows, m.Tokens.Cols, m.Tokens.Codebook,
		byteSize(int64((m.Tokens.Count()*m.Tokens.Bits+7)/8)))
	line("encoder", "%d blocks, %d heads, features %d, embedding %d", m.Encoder.Depth, m.Encoder.Heads, m.Encoder.FeatureDim, m.Encoder.EmbeddingDim)
	line("parameters", "%.1f M", float64(m.Parameters)/1e6)
	line("model hash", "%s", m.ModelHash)
	line("codebook hash", "%s", m.CodebookHash)
	line("embedding space", "%s", m.EmbeddingSpace)
	for _, q := range []struct {
		name string
		of   *model.Quality
	}{{"int8", m.Int8}, {"fp16 TensorRT", m.FP16}, {"int8 TensorRT", m.QDQ}} {
		if q.of != nil {
			line(q.name, "%s", qualityLine(q.of))
		}
	}
	if c := m.Calibration; c != nil {
		line("calibrated", "by %s on %s, %s, of %s, %s", c.By, plural(c.Frames, "frame"), c.Source, c.Created.Format(time.RFC3339), c.Method)
	}
	if m.Codebook != nil {
		line("codebook", "%s: %s", m.Codebook.Name, byteSize(m.Codebook.Size))
	}
	if r := m.Reference; r != nil {
		line("reference", "%s: %s, %s by %s: %s", r.File.Name, byteSize(r.File.Size), plural(r.Frames, "frame"), r.By, r.Source)
	} else {
		line("reference", "none: TensorRT engines cannot be judged; import again on a machine with ONNX Runtime")
	}
	printText(line, m)
	for _, g := range m.Graphs {
		if g.Role == model.RolePool {
			line(g.Role, "%s, %s: the encoder's end alone, for regions, over its weights (%s)", g.Precision, g.File.Name, strings.Join(g.Backends, ", "))
			continue
		}
		line(g.Role, "%s, %s: %s (%s)", g.Precision, g.File.Name, byteSize(graphSize(m, g)), strings.Join(g.Backends, ", "))
	}
}

// printText says what there is for scoring texts.
func printText(line func(key, format string, args ...any), m *model.Manifest) {
	t := m.Text
	if !t.Present {
		return
	}
	if t.Precision == "" {
		_, err := m.TextGraph()
		line("text tower", "%s in the checkpoint, not here: %v", plural(t.Tensors, "tensor"), err)
		return
	}
	line("text tower", "%d blocks, %d heads, width %d, texts of %d tokens out of %d, weights in %s", t.Depth, t.Heads, t.Width, t.Context, t.Vocabulary, t.Precision)
	line("text hash", "%s", t.Hash)
	if t.Tokenizer != nil {
		line("text tokenizer", "%s: %s", t.Tokenizer.Name, byteSize(t.Tokenizer.Size))
	} else {
		line("text tokenizer", "none: texts cannot be read; import again with --tokenizer FILE")
	}
	if t.LogitScale == nil || t.LogitBias == nil {
		line("text scores", "none: the checkpoint lacks logit_scale or logit_bias, without which labels cannot be scored")
	}
}

// qualityLine says how far a precision is from fp32.
func qualityLine(q *model.Quality) string {
	embedding := q.EmbeddingFloor
	if embedding == 0 {
		embedding = q.Floor
	}
	text := fmt.Sprintf("worst cosine to fp32: embedding %.5f (floor %g), token features %.5f (floor %g)", q.EmbeddingCosine, embedding, q.FeatureCosine, q.Floor)
	if q.TokenFloor > 0 {
		text += fmt.Sprintf("; equal tokens %.2f %% (floor %.2f %%), of those with a clear margin %.2f %%", 100*q.TokenAgreement, 100*q.TokenFloor, 100*q.ClearTokenAgreement)
	}
	return text + "; " + plural(q.Grids, "picture")
}

func orNone(s string) string {
	if s == "" {
		return "not stated"
	}
	return s
}
