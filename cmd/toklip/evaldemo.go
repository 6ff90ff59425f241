package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/toklip/toklip/cmd/toklip/eval"
	"github.com/toklip/toklip/cmd/toklip/texttower"
)

// truthFile is the truth of a held-out set, beside its frames.
const truthFile = "truth.json"

// What the demo's model is meant to reach.
const (
	goalClasses = 0.95 // AUROC of every class
	goalPairs   = 0.90 // AUROC of every class in a colour
	goalRecall  = 0.7  // recall@10
	goalPSNR    = 24.0 // dB
	goalChroma  = 1.0 / 3
	goalTokens  = 200
)

// demoReport is what `toklip eval demo` finds.
type demoReport struct {
	judged
	eval.HeldOutFigures
	PSNR        float64 `json:"psnr"`         // dB
	ChromaError float64 `json:"chroma_error"` // by that of grey pictures
	Tokens      int     `json:"tokens"`       // different ids in all frames
	Codebook    int     `json:"codebook"`
}

func newEvalDemoCommand() *cobra.Command {
	var flags evalFlags
	cmd := &cobra.Command{
		Use:   "demo DIR",
		Short: "The demo model's figures, from its held-out frames",
		Long: `Judges the demo's model, or another of --model, by rendered frames that it was not trained on, with the truth of what is in them (DIR/truth.json; demo/README.md tells how both were made):
how well labels tell frames that show a thing from frames that do not (AUROC), how often a caption's frame is among the ten best (recall@10), and how
much of a frame is left once it was turned into tokens and back. An object counts as there if it covers the min_pixels of the truth, one pixel in a hundred; frames with
less of it are not judged for it.`,
		Example: `  toklip eval demo demo/heldout
  toklip eval demo demo/heldout --model my-demo-model --json`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, dirs []string) error {
			flags.strict = true // figures of a part are those of another set
			if flags.model == "" {
				folder, err := demoFolder()
				if err != nil {
					return err
				}
				if flags.model, err = demoModel(cmd.Context(), folder, cmd.ErrOrStderr()); err != nil {
					return err
				}
			}
			return flags.run(cmd, func(j *judge) (verdict, error) {
				truth, err := readList("truth", filepath.Join(dirs[0], truthFile), eval.ReadHeldOut)
				if err != nil {
					return nil, err
				}
				return j.demo(cmd, dirs[0], truth)
			})
		},
	}
	flags.add(cmd)
	cmd.Flags().Lookup("model").Usage = "model `folder`; without: the demo's own, which is made at the first use"
	return cmd
}

// demo runs every frame through the network and back and judges the embeddings.
func (j *judge) demo(cmd *cobra.Command, dir string, truth *eval.HeldOut) (_ *demoReport, err error) {
	if size := j.opened.spec.ImageSize; size != truth.Size {
		return nil, fmt.Errorf("frames of %s have %d pixels an edge, model %s sees %d: it is the demo's model that they are for", dir, truth.Size, j.opened.manifest.Name, size)
	}
	if _, _, err := j.opened.manifest.Text.Scoring(); err != nil {
		return nil, fmt.Errorf("model %s: %w", j.opened.dir, err)
	}
	names := truth.Labels()
	prompts := make([][]string, len(names))
	for i, name := range names {
		prompts[i] = eval.Fill(truth.Templates, []string{name.String()})
	}
	captions := make([]string, len(truth.Captions))
	for i, caption := range truth.Captions {
		captions[i] = caption.Text
	}
	var labelRows, captionRows *eval.Vectors
	err = j.texts(len(truth.Templates)*len(names)+len(captions), func(tower texttower.Embedder) (err error) {
		if labelRows, err = j.ensembles(cmd.Context(), tower, prompts); err != nil {
			return err
		}
		captionRows, err = j.eachText(cmd.Context(), tower, captions)
		return err
	})
	if err != nil {
		return nil, err
	}

	decoder, err := j.flags.openDecoder(cmd.Context(), j.opened, j.stderr)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, decoder.Close()) }()
	files := make([]string, len(truth.Frames))
	for i, frame := range truth.Frames {
		files[i] = filepath.Join(dir, frame.File)
	}
	frames := eval.NewVectors(len(files), j.opened.spec.EmbeddingDim)
	var rebuilt eval.Reconstruction
	used := map[int32]bool{}
	err = j.pictures(cmd.Context(), files, func(i int, seen *seenPicture) error {
		if seen.picture.width != truth.Size || seen.picture.height != truth.Size {
			return fmt.Errorf("it has %dx%d pixels, the truth says %dx%d", seen.picture.width, seen.picture.height, truth.Size, truth.Size)
		}
		for _, id := range seen.ids {
			used[id] = true
		}
		if err := frames.Set(i, seen.embedding); err != nil {
			return err
		}
		back, err := decoder.DecodeRGB(seen.ids)
		if err != nil {
			return err
		}
		return rebuilt.Add(seen.picture.rgb, back)
	})
	if err != nil {
		return nil, err
	}
	figures, err := truth.Judge(frames, labelRows, captionRows, func(cosine float64) float64 {
		_, score, _ := j.opened.manifest.Text.Logit(cosine) // it was tried above
		return score
	})
	if err != nil {
		return nil, err
	}
	return &demoReport{
		judged: j.finish(), HeldOutFigures: *figures,
		PSNR: rebuilt.PSNR(), ChromaError: rebuilt.ChromaError(), Tokens: len(used), Codebook: j.opened.spec.Codebook,
	}, nil
}

func (r *demoReport) print(out io.Writer) {
	r.judged.print(out, fmt.Sprintf("%s, %s", plural(r.Pictures, "held-out frame"), plural(r.Captions, "caption")))
	line := func(name, value, goal string, reached bool) {
		if goal != "" {
			goal += choose(reached, "", "   not reached")
		}
		fmt.Fprintln(out, strings.TrimRight(fmt.Sprintf("%-36s %-34s %s", name, value, goal), " "))
	}
	line("", "", "goal", true)
	for _, group := range []struct {
		name string
		goal float64
		eval.LabelFigures
	}{{"class", goalClasses, r.Classes}, {"colour and class", goalPairs, r.Pairs}} {
		if group.Lowest == nil {
			continue
		}
		line(fmt.Sprintf("AUROC, %s, mean of %d", group.name, len(group.Labels)), fmt.Sprintf("%.4f", group.Mean), "", true)
		goal, below := fmt.Sprintf("%.2f", group.goal), 0
		for _, l := range group.Labels {
			if l.AUROC < group.goal {
				below++
			}
		}
		if below > 0 {
			goal += fmt.Sprintf("   not reached by %d of %d", below, len(group.Labels))
		}
		line(fmt.Sprintf("AUROC, %s, lowest", group.name), fmt.Sprintf("%.4f  %s, in %s", group.Lowest.AUROC, group.Lowest.Label, plural(group.Lowest.Positives, "frame")), goal, true)
	}
	line("recall@10 of captions", fmt.Sprintf("%.4f", r.RecallAt10), fmt.Sprintf("%.2f", goalRecall), r.RecallAt10 >= goalRecall)
	line("class labels at score 0.5", fmt.Sprintf("precision %.3f, recall %.3f", r.PrecisionAtHalf, r.RecallAtHalf), "", true)
	line("reconstruction, PSNR", fmt.Sprintf("%.2f dB", r.PSNR), fmt.Sprintf("%.0f dB", goalPSNR), r.PSNR >= goalPSNR)
	line("chroma error by a grey picture's", fmt.Sprintf("%.3f", r.ChromaError), fmt.Sprintf("%.3f at most", goalChroma), r.ChromaError <= goalChroma)
	line("different tokens", fmt.Sprintf("%d of %d", r.Tokens, r.Codebook), fmt.Sprint(goalTokens), r.Tokens >= goalTokens)
	fmt.Fprintf(out, "\n%-10s %8s %10s %10s\n", "class", "AUROC", "with", "without")
	for _, l := range r.Classes.Labels {
		fmt.Fprintf(out, "%-10s %8.4f %10d %10d\n", l.Label, l.AUROC, l.Positives, l.Negatives)
	}
}
