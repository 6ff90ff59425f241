package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/toklip/toklip/cmd/toklip/eval"
	"github.com/toklip/toklip/cmd/toklip/texttower"
	"github.com/toklip/toklip/engine"
	"github.com/toklip/toklip/engine/preprocess"
	"github.com/toklip/toklip/model/textcache"
)

// evalFlags are those of every command that judges a model.
type evalFlags struct {
	backendFlags
	texts  textFlags
	mode   preprocess.Mode
	strict bool
	json   bool
}

func (f *evalFlags) add(cmd *cobra.Command) {
	f.backendFlags.add(cmd, true)
	f.texts.add(cmd)
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
}

// addPictures adds what concerns pictures of any kind.
func (f *evalFlags) addPictures(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.strict, "strict", false, "end at the first thing that is amiss, such as a broken picture, instead of naming and counting it")
	modelResizeFlag(cmd, &f.mode)
}

// judged is what every report of a judged model begins with.
type judged struct {
	Model     string  `json:"model"`
	ModelHash string  `json:"model_hash"`
	Backend   string  `json:"backend"`
	Precision string  `json:"precision"`
	Resize    string  `json:"resize"`
	Seconds   float64 `json:"seconds"` // the whole took
	Peak      int64   `json:"peak_bytes"`

	Pictures   int          `json:"pictures"`   // that the figures are of
	Unreadable []unreadable `json:"unreadable"` // pictures that they are not of
}

// unreadable is a picture that could not be read.
type unreadable struct {
	File  string `json:"file"`
	Error string `json:"error"`
}

// judge runs a model on pictures and texts and gathers what is amiss. One goroutine at a time.
type judge struct {
	flags  *evalFlags
	opened *openedModel
	stderr io.Writer
	bar    *progress
	begun  time.Time
	report judged
}

// verdict is the report of a command.
type verdict interface{ print(out io.Writer) }

// run opens the model, has it judged and prints the report.
func (f *evalFlags) run(cmd *cobra.Command, do func(*judge) (verdict, error)) error {
	j, err := f.begin(cmd)
	if err != nil {
		return err
	}
	defer j.bar.abandon()
	report, err := do(j)
	if err != nil {
		return err
	}
	if f.json {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(report)
	}
	report.print(cmd.OutOrStdout())
	return nil
}

// begin opens the model; nothing is loaded yet.
func (f *evalFlags) begin(cmd *cobra.Command) (*judge, error) {
	opened, err := f.open()
	if err != nil {
		return nil, err
	}
	if !cmd.Flags().Changed("resize") {
		f.mode = opened.spec.Resize
	}
	if err := texttower.Check(opened.dir, opened.manifest); err != nil {
		return nil, err
	}
	return &judge{flags: f, opened: opened, stderr: cmd.ErrOrStderr(), bar: newProgress(cmd.ErrOrStderr(), false), begun: time.Now(), report: judged{
		Model: opened.manifest.Name, ModelHash: opened.manifest.ModelHash, Resize: f.mode.String(), Unreadable: []unreadable{},
	}}, nil
}

// amiss tells of something that the figures suffer from. With --strict it ends the command.
func (j *judge) amiss(format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	if j.flags.strict {
		return err
	}
	j.bar.abandon()
	fmt.Fprintln(j.stderr, "note:", err)
	return nil
}

// pictures encodes files one after the other. Those that cannot be read are told of and left out.
func (j *judge) pictures(ctx context.Context, files []string, each func(index int, seen *seenPicture) error) (err error) {
	graphs, err := j.flags.openEncoder(ctx, j.opened, j.stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, graphs.Close()) }()
	if about, ok := graphs.(interface{ Describe() engine.Description }); ok {
		d := about.Describe()
		j.report.Backend, j.report.Precision = d.Name+" "+d.Version, d.Precision
	}
	const stage = "encode pictures"
	j.bar.update(stage, 0, int64(len(files)))
	feed := pictureFeed{size: j.opened.spec.ImageSize, mode: j.flags.mode}
	err = feed.run(ctx, files, func(p *fedPicture) error {
		if p.err != nil {
			if err := j.unreadable(files[p.index], p.err); err != nil {
				return err
			}
		} else {
			ids, _, embedding, err := graphs.EncodeImage(p.image)
			if err == nil {
				err = each(p.index, &seenPicture{picture: p.picture, ids: ids, embedding: embedding})
			}
			if err != nil {
				return fmt.Errorf("%s: %w", files[p.index], err)
			}
			j.report.Pictures++
		}
		j.bar.update(stage, int64(p.index+1), int64(len(files)))
		return nil
	})
	if err != nil {
		return err
	}
	j.bar.finish()
	if j.report.Pictures == 0 {
		return fmt.Errorf("none of %s could be read", plural(len(files), "picture"))
	}
	return nil
}

// seenPicture is a picture and what the model says of it.
type seenPicture struct {
	picture   *picture
	ids       []int32
	embedding []float32 // not normalised
}

// toldUnreadable is how many broken pictures are named on the way; the report has all of them.
const toldUnreadable = 10

func (j *judge) unreadable(file string, err error) error {
	j.report.Unreadable = append(j.report.Unreadable, unreadable{file, err.Error()})
	switch n := len(j.report.Unreadable); {
	case n <= toldUnreadable || j.flags.strict:
		return j.amiss("%w", err)
	case n == toldUnreadable+1:
		return j.amiss("more pictures cannot be read; --json names them all")
	}
	return nil
}

// keptTexts is how many texts may be kept with those of daemons: more would push them out, and each other.
const keptTexts = 10_000

// openTexts makes ready to embed so many texts. Of more than keptTexts the embeddings are kept only in a folder of their own.
func (j *judge) openTexts(count int) (*texttower.Direct, error) {
	f, o := j.flags, j.opened
	switch {
	case count <= keptTexts || f.texts.cache == texttower.NoCache:
		return f.texts.open(o.dir, o.manifest, f.library, f.threads, j.stderr)
	case f.texts.cache == "":
		fmt.Fprintf(j.stderr, "note: the embeddings of %d texts are not kept; --text-cache with a folder of their own keeps them for another run\n", count)
		return openTexts(o.dir, o.manifest, nil, f.library, f.threads, j.stderr)
	}
	// An embedding is a file, which takes whole blocks of 4 kB.
	room := int64(count) * int64(4*o.spec.EmbeddingDim+3*4096)
	cache, err := textcache.Open(f.texts.cache, textcache.Options{MaxBytes: max(textcache.DefaultMaxBytes, room)})
	if err != nil {
		return nil, fmt.Errorf("--text-cache: %w", err)
	}
	return openTexts(o.dir, o.manifest, cache, f.library, f.threads, j.stderr)
}

// texts opens the text tower for so many texts and for as long as do runs, so that its memory is free again before pictures are encoded.
func (j *judge) texts(count int, do func(texttower.Embedder) error) (err error) {
	tower, err := j.openTexts(count)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tower.Close()) }()
	return do(tower)
}

// textsAtOnce is how many texts are embedded between two steps of the bar.
const textsAtOnce = 64

// embed has texts embedded, in their order, and gives each embedding to do.
func (j *judge) embed(ctx context.Context, tower texttower.Embedder, stage string, texts []string, do func(i int, embedding []float32) error) error {
	j.bar.update(stage, 0, int64(len(texts)))
	for done := 0; done < len(texts); {
		embeddings, err := tower.Embed(ctx, texts[done:min(done+textsAtOnce, len(texts))])
		if err != nil {
			return err
		}
		for _, embedding := range embeddings {
			if err := do(done, embedding); err != nil {
				return fmt.Errorf("text %q: %w", texts[done], err)
			}
			done++
		}
		j.bar.update(stage, int64(done), int64(len(texts)))
	}
	j.bar.finish()
	return nil
}

// eachText embeds texts, each a row.
func (j *judge) eachText(ctx context.Context, tower texttower.Embedder, texts []string) (*eval.Vectors, error) {
	rows := eval.NewVectors(len(texts), j.opened.spec.EmbeddingDim)
	return rows, j.embed(ctx, tower, "embed captions", texts, func(i int, embedding []float32) error { return rows.Set(i, embedding) })
}

// ensembles embeds lists of prompts, each list a row: the mean of its directions.
func (j *judge) ensembles(ctx context.Context, tower texttower.Embedder, prompts [][]string) (*eval.Vectors, error) {
	rows := eval.NewVectors(len(prompts), j.opened.spec.EmbeddingDim)
	row, list := 0, [][]float32{}
	return rows, j.embed(ctx, tower, "embed prompts", slices.Concat(prompts...), func(_ int, embedding []float32) error {
		if list = append(list, embedding); len(list) < len(prompts[row]) {
			return nil
		}
		err := rows.Set(row, list...)
		row, list = row+1, list[:0]
		return err
	})
}

// finish fills in what is known at the end.
func (j *judge) finish() judged {
	j.report.Seconds, j.report.Peak = time.Since(j.begun).Seconds(), peakMemory()
	return j.report
}

// print writes what every report begins with.
func (r *judged) print(out io.Writer, what string) {
	fmt.Fprintf(out, "%s (%s), %s on %s, resize %s\n%s", r.Model, short(r.ModelHash), r.Precision, r.Backend, r.Resize, what)
	if n := len(r.Unreadable); n > 0 {
		fmt.Fprintf(out, "; %s could not be read and %s left out", plural(n, "more picture"), choose(n == 1, "is", "are"))
	}
	fmt.Fprintf(out, "\ntook %s, peak memory %s\n\n", round(time.Duration(r.Seconds*float64(time.Second))), byteSize(r.Peak))
}

// readList reads a file, what it is being a flag's name, for example.
func readList[T any](what, path string, read func(io.Reader) (T, error)) (T, error) {
	var none T
	file, err := os.Open(path)
	if err != nil {
		return none, fmt.Errorf("read %s: %w", what, err)
	}
	defer file.Close()
	list, err := read(file)
	if err != nil {
		return none, fmt.Errorf("read %s: %s: %w", what, path, err)
	}
	return list, nil
}
