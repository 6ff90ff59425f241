package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/toklip/toklip/cmd/toklip/config"
	"github.com/toklip/toklip/cmd/toklip/texttower"
	"github.com/toklip/toklip/engine/labels"
	"github.com/toklip/toklip/engine/preprocess"
)

// labelled is one line of `toklip label`.
type labelled struct {
	File    string         `json:"file"`
	Index   int            `json:"index"` // of the image in a .npy file; 0 for a picture
	Labels  []labelScore   `json:"labels"`
	Regions []regionScores `json:"regions,omitempty"`
	Heatmap *labelHeatmap  `json:"heatmap,omitempty"`
}

// labelScore is how well a label fits.
type labelScore struct {
	Label  string  `json:"label"`
	Cosine float32 `json:"cosine"`
	Logit  float32 `json:"logit"`
	Score  float32 `json:"score"` // a probability for this label alone
}

// regionScores is the labels of a part of the picture.
type regionScores struct {
	Region string       `json:"region"`
	Labels []labelScore `json:"labels"`
}

// labelHeatmap is how well a label fits the surroundings of each token.
type labelHeatmap struct {
	Label  string    `json:"label"`
	Radius int       `json:"radius"`
	Grid   [2]int    `json:"grid"`   // rows, columns
	Cosine []float32 `json:"cosine"` // row by row
	Score  []float32 `json:"score"`
}

// labelCommand is `toklip label` with its flags.
type labelCommand struct {
	backend   backendFlags
	texts     textFlags
	mode      preprocess.Mode
	names     []string
	file      string
	templates []string
	regions   []string
	heatmap   string
	radius    int
}

func newLabelCommand() *cobra.Command {
	l := &labelCommand{mode: preprocess.Squash}
	cmd := &cobra.Command{
		Use:   "label --model DIR --labels \"a,b\" FILE...",
		Short: "Scores of labels for pictures, a JSON object a line",
		Long: `Scores texts against PNG and JPEG files, pre-processed as camera frames are, and .npy files that hold float32 [n,3,S,S] in
[-1,1], which are taken as they are (n lines). Each line is

  {"file","index","labels":[{"label","cosine","logit","score"}]}

with the best label first. A score is a probability for its label alone: they do not add up to 1. Every label goes through every
template, "a photo of a {}" and "{}" by default, and counts by the mean of the texts' directions.

--region and --heatmap say where: the model's attention pool sees a part of the tokens only. That is what the model makes of a part
of what it saw as a whole, not what it would make of that part as a picture.`,
		Example: `  toklip label --model models/toklip-s-256 --labels "a cat,a dog" photo.jpg
  toklip label --model models/toklip-s-256 --labels-file labels.txt --template "{} in a warehouse" *.jpg
  toklip label --model models/toklip-s-256 --labels person --region door=0.1,0.2,0.3,0.5 --heatmap person photo.jpg`,
		Args: args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, files []string) error {
			return l.run(cmd, files)
		},
	}
	l.backend.add(cmd, true)
	modelResizeFlag(cmd, &l.mode)
	cmd.Flags().StringSliceVar(&l.names, "labels", nil, "`names` of labels with commas between them; one that has a comma stands in double quotes")
	cmd.Flags().StringVar(&l.file, "labels-file", "", "`file` of labels: one a line, or a JSON array as labels/set takes it")
	cmd.Flags().StringArrayVar(&l.templates, "template", nil, "`text` in which {} stands for the label; may be repeated")
	cmd.Flags().StringArrayVar(&l.regions, "region", nil, "`NAME=X,Y,WIDTH,HEIGHT` in fractions of the picture: scores for this part of it too; may be repeated")
	cmd.Flags().StringVar(&l.heatmap, "heatmap", "", "add scores around each token for this one of the `labels`")
	cmd.Flags().IntVar(&l.radius, "radius", 1, "`number` of rows and columns around a token that the heat map counts with it")
	l.texts.add(cmd)
	return cmd
}

func (l *labelCommand) run(cmd *cobra.Command, files []string) (err error) {
	set, err := l.set()
	if err != nil {
		return err
	}
	regions, err := l.parseRegions()
	if err != nil {
		return err
	}
	if l.heatmap != "" && !slices.ContainsFunc(set.Labels, func(label labels.Label) bool { return label.Name == l.heatmap }) {
		return usageError{fmt.Errorf("--heatmap %q is none of the labels", l.heatmap)}
	}
	if l.radius < 0 {
		return usageError{fmt.Errorf("--radius %d: 0 is the token alone, 1 its neighbours too", l.radius)}
	}
	opened, err := l.backend.open()
	if err != nil {
		return err
	}
	if !cmd.Flags().Changed("resize") {
		l.mode = opened.spec.Resize
	}
	compiled, err := l.compile(cmd.Context(), set, opened, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	graphs, err := l.backend.openEncoder(cmd.Context(), opened, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, graphs.Close()) }()
	f := &fileLabeller{graphs: graphs, set: compiled, lines: json.NewEncoder(cmd.OutOrStdout())}
	f.lines.SetEscapeHTML(false) // names stay readable
	if len(regions) > 0 || l.heatmap != "" {
		f.where, err = openWhere(opened, l.backend.library, l.backend.threads, compiled, regions)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.where.close()) }()
		f.where.heatmap(l.heatmap, l.radius)
	}
	images := imageFiles{size: opened.spec.ImageSize, mode: l.mode}
	for _, file := range files {
		if err := images.each(cmd.Context(), file, f.image); err != nil {
			return err
		}
	}
	return nil
}

// set is the labels of the flags.
func (l *labelCommand) set() (*labels.Set, error) {
	templates := l.templates
	if len(templates) == 0 {
		templates = labels.DefaultTemplates()
	}
	defaults := config.Default().Labels
	defaults.Templates = templates
	set := new(labels.Set)
	for _, name := range l.names {
		set.Labels = append(set.Labels, defaults.Resolve(defaults.Named(strings.TrimSpace(name))))
	}
	if l.file != "" {
		list, err := readLabels(l.file, templates)
		if err != nil {
			return nil, err
		}
		set.Labels = append(set.Labels, list...)
	}
	if len(set.Labels) == 0 {
		return nil, usageError{errors.New(`no labels: name some with --labels "a cat,a dog" or a file of them with --labels-file`)}
	}
	if err := set.Validate(); err != nil {
		return nil, usageError{err}
	}
	return set, nil
}

// parseRegions reads --region.
func (l *labelCommand) parseRegions() ([]labels.Region, error) {
	var regions []labels.Region
	for _, text := range l.regions {
		name, numbers, _ := strings.Cut(text, "=")
		var x, y, width, height float64
		var rest string
		if n, _ := fmt.Sscanf(numbers+";", "%g,%g,%g,%g%s", &x, &y, &width, &height, &rest); n != 5 || rest != ";" {
			return nil, usageError{fmt.Errorf("--region %q: give a name and four numbers, such as door=0.1,0.2,0.3,0.5", text)}
		}
		region := labels.Rect(name, x, y, width, height)
		if err := region.Validate(); err != nil {
			return nil, usageError{fmt.Errorf("--region %q: %w", text, err)}
		}
		if slices.ContainsFunc(regions, func(r labels.Region) bool { return r.Name == name }) {
			return nil, usageError{fmt.Errorf("--region %q: there is a region of that name already", text)}
		}
		regions = append(regions, region)
	}
	return regions, nil
}

// textsShown is how many texts may run before a bar shows how far they are.
const textsShown = 64

// compile embeds the texts of the set. The text tower's memory is free again afterwards, before the picture's networks take theirs.
func (l *labelCommand) compile(ctx context.Context, set *labels.Set, opened *openedModel, stderr io.Writer) (_ *labels.Compiled, err error) {
	if err := texttower.Check(opened.dir, opened.manifest); err != nil {
		return nil, err
	}
	scale, bias, err := opened.manifest.Text.Scoring()
	if err != nil {
		return nil, fmt.Errorf("model %s: %w", opened.dir, err)
	}
	tower, err := l.texts.open(opened.dir, opened.manifest, l.backend.library, l.backend.threads, stderr)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, tower.Close()) }()
	texts := set.Texts()
	embeddings := make(map[string][]float32, len(texts))
	bar := newProgress(stderr, false)
	defer bar.abandon()
	for some := range slices.Chunk(texts, textsShown) {
		if len(texts) > textsShown {
			bar.update("embed texts", int64(len(embeddings)), int64(len(texts)))
		}
		list, err := tower.Embed(ctx, some)
		if err != nil {
			return nil, err
		}
		for i, text := range some {
			embeddings[text] = list[i]
		}
	}
	bar.finish()
	return labels.Compile(set, embeddings, scale, bias)
}

// fileLabeller scores one image after the other.
type fileLabeller struct {
	graphs imageEncoder
	set    *labels.Compiled
	where  *where // nil: nobody asks
	lines  *json.Encoder
	scores []labels.Score
}

func (f *fileLabeller) image(in *fileImage) error {
	_, features, embedding, err := f.graphs.EncodeImage(in.values)
	if err != nil {
		return fmt.Errorf("%s: %w", in.path, err)
	}
	f.scores = f.set.Score(f.scores, embedding)
	line := labelled{File: in.path, Index: in.index, Labels: bestFirst(f.set, f.scores)}
	if f.scores[0].Broken {
		return fmt.Errorf("%s: image %d: its embedding is not a direction: the model's weights are damaged", in.path, in.index)
	}
	if f.where != nil {
		if err := f.where.fill(&line, in, features); err != nil {
			return fmt.Errorf("%s: %w", in.path, err)
		}
	}
	return f.lines.Encode(line)
}

// bestFirst names scores.
func bestFirst(set *labels.Compiled, scores []labels.Score) []labelScore {
	var list []labelScore
	for _, i := range labels.Order(nil, scores) {
		list = append(list, labelScore{set.Name(i), scores[i].Cosine, scores[i].Logit, scores[i].Score})
	}
	return list
}
