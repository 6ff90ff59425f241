package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/toklip/toklip/cmd/toklip/eval"
	"github.com/toklip/toklip/cmd/toklip/texttower"
)

// retrievalReport is what `toklip eval retrieval` finds.
type retrievalReport struct {
	judged
	Captions int     `json:"captions"`
	Missing  int     `json:"missing"`        // pictures that the captions name and that are not there
	Texts    recalls `json:"text_retrieval"` // for each picture: one of its captions among the best
	Images   recalls `json:"image_retrieval"`
}

// recalls are shares of what was looked for that stood among the best 1, 5 and 10.
type recalls struct {
	At1  float64 `json:"recall_at_1"`
	At5  float64 `json:"recall_at_5"`
	At10 float64 `json:"recall_at_10"`
}

func recallsOf(ranks []int) recalls {
	return recalls{eval.Recall(ranks, 1), eval.Recall(ranks, 5), eval.Recall(ranks, 10)}
}

func newRetrievalCommand() *cobra.Command {
	var flags evalFlags
	var captions, images string
	var options eval.CaptionOptions
	cmd := &cobra.Command{
		Use:   "retrieval --model M --captions FILE",
		Short: "How often a picture's text, and a text's picture, is found",
		Long: `Embeds pictures and captions and ranks all of one for each of the other by cosine. Recall@k of text retrieval is the share of pictures for which one of their
own captions is among the k best of all captions; of image retrieval, the share of captions whose picture is among the k best of all pictures.

The captions file is one of these, told apart by content:

  picture<TAB>caption, a line each
  {"image":"a.jpg","caption":"a cat"}, a line each, or an array of them;
    "filename" will do for "image", and ["a cat","a tabby"] for a caption
  {"images":[{"id","file_name"}],"annotations":[{"image_id","caption"}]},
    COCO's annotations
  {"images":[{"filepath","filename","split","sentences":[{"raw"}]}]},
    Karpathy's splits, with --split

Files are looked for in --images, or else beside the captions file. Held in memory are one embedding a picture and one a caption: of COCO's 5000 pictures
and 25010 captions 138 MB, beside the model. Of equal scores the first in the file counts as better.
Published COCO figures of TokLIP (text and image retrieval @1: 64.06 and 48.46 at 256 px, 68.00 and 52.87 at 384) were computed with coco_test.json of its repository, which
this command reads, and the pictures of COCO's val2014.`,
		Example: `  toklip eval retrieval --model models/toklip-s-256 --captions coco_test.json --images coco/val2014
  toklip eval retrieval --model models/toklip-s-256 --captions dataset_coco.json --split test --per-picture 5 --images coco
  toklip eval retrieval --model models/toklip-s-256 --captions mine.tsv --json`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case captions == "":
				return usageError{errors.New("--captions is missing: name a file of pictures and their captions")}
			case options.PerPicture < 0:
				return usageError{fmt.Errorf("--per-picture %d is negative: 0 takes every caption", options.PerPicture)}
			}
			if images == "" {
				images = filepath.Dir(captions)
			}
			return flags.run(cmd, func(j *judge) (verdict, error) {
				list, err := readList("--captions", captions, func(r io.Reader) (*eval.Captions, error) { return eval.ReadCaptions(r, options) })
				if err != nil {
					return nil, err
				}
				return j.retrieval(cmd, list, images)
			})
		},
	}
	flags.add(cmd)
	flags.addPictures(cmd)
	cmd.Flags().StringVar(&captions, "captions", "", "`file` of pictures and captions (required)")
	cmd.Flags().StringVar(&images, "images", "", "`folder` of the pictures; without: that of the captions file")
	cmd.Flags().StringVar(&options.Split, "split", "", "`name` of the split to take, of a file that has splits")
	cmd.Flags().IntVar(&options.PerPicture, "per-picture", 0, "take the first `number` of captions of each picture; 0: all")
	_ = cmd.MarkFlagDirname("images")
	return cmd
}

// retrieval embeds pictures, then the captions of those that could be read, and ranks them.
func (j *judge) retrieval(cmd *cobra.Command, list *eval.Captions, images string) (*retrievalReport, error) {
	for _, caption := range list.Texts { // now, and not when hours were spent on the pictures
		if err := texttower.CheckText(caption.Text); err != nil {
			return nil, fmt.Errorf("a caption of %s cannot be embedded: %w", list.Pictures[caption.Picture], err)
		}
	}
	files, picture, err := j.findPictures(list, images)
	if err != nil {
		return nil, err
	}
	missing := len(list.Pictures) - len(files)
	pictures := eval.NewVectors(len(files), j.opened.spec.EmbeddingDim)
	row := make(map[int]int, len(files)) // of each picture that could be read
	err = j.pictures(cmd.Context(), files, func(i int, seen *seenPicture) error {
		row[picture[i]] = len(row)
		return pictures.Set(row[picture[i]], seen.embedding)
	})
	if err != nil {
		return nil, err
	}
	var texts []string
	var of []int
	for _, caption := range list.Texts {
		if r, ok := row[caption.Picture]; ok {
			texts, of = append(texts, caption.Text), append(of, r)
		}
	}
	if len(texts) == 0 {
		return nil, errors.New("no caption is left: none belongs to a picture that could be read")
	}
	var captions *eval.Vectors
	err = j.texts(len(texts), func(tower texttower.Embedder) (err error) {
		captions, err = j.eachText(cmd.Context(), tower, texts)
		return err
	})
	if err != nil {
		return nil, err
	}
	ranks, err := eval.Retrieve(cmd.Context(), pictures.Head(len(row)), captions, of, func(done, total int) {
		j.bar.update("rank", int64(done), int64(total))
	})
	if err != nil {
		return nil, err
	}
	j.bar.finish()
	return &retrievalReport{judged: j.finish(), Captions: len(texts), Missing: missing, Texts: recallsOf(ranks.Texts), Images: recallsOf(ranks.Pictures)}, nil
}

// findPictures gives the files that are there, and which picture of the list each is.
func (j *judge) findPictures(list *eval.Captions, images string) (files []string, picture []int, err error) {
	if info, err := os.Stat(images); err != nil {
		return nil, nil, fmt.Errorf("read pictures: %w", err)
	} else if !info.IsDir() {
		return nil, nil, fmt.Errorf("read pictures: %s is no folder", images)
	}
	var absent []string
	for i, name := range list.Pictures {
		file := name
		if !filepath.IsAbs(file) {
			file = filepath.Join(images, file)
		}
		if info, err := os.Stat(file); err != nil || info.IsDir() {
			absent = append(absent, name)
			continue
		}
		files, picture = append(files, file), append(picture, i)
	}
	if len(files) == 0 {
		return nil, nil, fmt.Errorf("none of the %s of the captions is in %s, such as %s: name their folder with --images", plural(len(absent), "picture"), images, absent[0])
	}
	if len(absent) > 0 {
		err = j.amiss("%d of %d pictures of the captions are not in %s; they and their captions are left out: %s", len(absent), len(list.Pictures), images, some(absent))
	}
	return files, picture, err
}

func (r *retrievalReport) print(out io.Writer) {
	what := fmt.Sprintf("%s, %s", plural(r.Pictures, "picture"), plural(r.Captions, "caption"))
	if r.Missing > 0 {
		what += fmt.Sprintf("; %d not there", r.Missing)
	}
	r.judged.print(out, what)
	fmt.Fprintf(out, "%-34s %10s %10s %10s\n", "recall", "@1", "@5", "@10")
	for _, line := range []struct {
		name string
		recalls
	}{{"text of a picture (text retrieval)", r.Texts}, {"picture of a text (image retrieval)", r.Images}} {
		fmt.Fprintf(out, "%-34s %8.2f %% %8.2f %% %8.2f %%\n", line.name, 100*line.At1, 100*line.At5, 100*line.At10)
	}
}
