package model

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/toklip/toklip/model/graph"
	"github.com/toklip/toklip/model/sentencepiece"
)

// NoText as text precision leaves the text tower out of a model folder.
const NoText = "none"

// FindTokenizer looks for a text tokenizer beside checkpoint files, "tokenizer.model" before "tokenizer.json"; "" if there is none.
func FindTokenizer(checkpoints ...string) string {
	for _, f := range []sentencepiece.Format{sentencepiece.Proto, sentencepiece.JSON} {
		for _, c := range checkpoints {
			path := filepath.Join(filepath.Dir(c), f.FileName())
			if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
				return path
			}
		}
	}
	return ""
}

// tokenizerFile is a tokenizer that belongs to the text tower.
type tokenizerFile struct {
	path string
	name string // in the model folder
}

// tokenizer reads the tokenizer that Options name, if they do, and makes sure that the text tower knows every id it gives. One that
// was only found is left out with a warning if it is at fault.
func (im *importer) tokenizer(arch *graph.Arch) (*tokenizerFile, error) {
	o := im.opts
	if o.Tokenizer == "" || arch.Text == nil && o.TokenizerFound {
		return nil, nil
	}
	if arch.Text == nil {
		if o.TextPrecision == NoText {
			return nil, fmt.Errorf("tokenizer %q belongs to the text tower, which text precision %q leaves out", o.Tokenizer, NoText)
		}
		return nil, fmt.Errorf("tokenizer %q: the checkpoint has no text tower that it could serve", o.Tokenizer)
	}
	f, err := checkTokenizer(o.Tokenizer, arch.Text.Vocabulary)
	if err != nil && o.TokenizerFound {
		im.log.Warn("the tokenizer beside the checkpoint is not used", "file", o.Tokenizer, "reason", err)
		return nil, nil
	}
	return f, err
}

func checkTokenizer(path string, vocabulary int) (*tokenizerFile, error) {
	t, err := sentencepiece.Open(path)
	if err != nil {
		return nil, err
	}
	if n := t.Vocabulary(); n > vocabulary {
		return nil, fmt.Errorf("tokenizer %q has %d pieces, the text tower's embeddings are %d: it is another model's", path, n, vocabulary)
	}
	return &tokenizerFile{path: path, name: t.Format().FileName()}, nil
}

// save copies the tokenizer into the folder.
func (f *tokenizerFile) save(ctx context.Context, dir string) (*File, error) {
	if f == nil {
		return nil, nil
	}
	in, err := os.Open(f.path)
	if err != nil {
		return nil, fmt.Errorf("copy tokenizer: %w", err)
	}
	defer in.Close()
	out, err := os.OpenFile(filepath.Join(dir, f.name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, fmt.Errorf("copy tokenizer: %w", err)
	}
	_, err = io.Copy(out, io.LimitReader(in, sentencepiece.MaxFileBytes))
	if err = errors.Join(err, out.Close()); err != nil {
		return nil, fmt.Errorf("copy tokenizer %q: %w", f.path, err)
	}
	return describeFile(ctx, dir, f.name)
}

// describeText says what there is of the text tower; its graph is written already.
func (im *importer) describeText(ctx context.Context, arch *graph.Arch, tokenizer *tokenizerFile, dir string) (Text, error) {
	t := Text{Present: arch.TextTensors > 0, Tensors: arch.TextTensors}
	var err error
	if t.LogitScale, err = im.scalar("logit_scale", arch.LogitScale); err != nil {
		return Text{}, err
	}
	if t.LogitBias, err = im.scalar("logit_bias", arch.LogitBias); err != nil {
		return Text{}, err
	}
	a := arch.Text
	if a == nil {
		return t, nil
	}
	if t.LogitScale == nil || t.LogitBias == nil {
		im.log.Warn("the checkpoint has a text tower but does not tell how a cosine becomes a score: texts can be embedded, labels cannot be scored",
			"logit_scale", arch.LogitScale, "logit_bias", arch.LogitBias)
	}
	t.Precision, t.Context, t.Vocabulary, t.Width, t.Depth, t.Heads = im.opts.TextPrecision, a.Context, a.Vocabulary, a.Width, a.Depth, a.Heads
	if t.Tokenizer, err = tokenizer.save(ctx, dir); err != nil {
		return Text{}, err
	}
	t.Hash, err = hashText(ctx, im.reader, a, t.Tokenizer, func(done, total int64) { im.progress("hashes of the text tower", done, total) })
	return t, err
}
