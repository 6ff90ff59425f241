package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/toklip/toklip/cmd/toklip/texttower"
)

// textCommand is `toklip text` with its flags.
type textCommand struct {
	model, library, hash string
	threads              int
	json                 bool
	texts                textFlags
}

func newTextCommand() *cobra.Command {
	t := &textCommand{}
	cmd := &cobra.Command{
		Use:   "text --model DIR TEXT...",
		Short: "Embeddings of texts, a JSON object a line",
		Long: `Runs the model's text tower. Each line is

  {"text","tokens":[...],"embedding":[...]}

Tokens are padded, as the text tower gets them: case, punctuation and spaces make no difference. The embedding is as the model
gives it, not normalised. A lone - reads texts from standard input, one a line, and answers each as it comes; with --json those
lines are JSON strings, and a failure is told as the last line {"failed"}. The first text that cannot be embedded ends the
command; the lines before it stand.

Embeddings are kept on disk, so that a second run does not load the text tower, which takes seconds and gigabytes at full size.`,
		Example: `  toklip text --model models/toklip-s-256 "a red box" "an open door"
  toklip text --model models/toklip-s-256 - < prompts.txt > prompts.jsonl`,
		Args: args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, texts []string) error {
			lines := json.NewEncoder(cmd.OutOrStdout())
			lines.SetEscapeHTML(false) // texts stay readable
			err := t.run(cmd.Context(), texts, cmd.InOrStdin(), lines, cmd.ErrOrStderr())
			if err != nil && t.json {
				return errors.Join(err, lines.Encode(texttower.Failed{Failed: err.Error()}))
			}
			return err
		},
	}
	modelFlag(cmd, &t.model)
	cmd.Flags().IntVar(&t.threads, "threads", 0, "`number` of CPU threads; 0: one for each physical core")
	cmd.Flags().StringVar(&t.library, "onnxruntime-library", "", "`path` of libonnxruntime.so, if it is not found by itself")
	cmd.Flags().BoolVar(&t.json, "json", false, "texts of standard input are JSON strings; failures are told as JSON too")
	cmd.Flags().StringVar(&t.hash, "text-hash", "", "fail unless the text tower has this `hash`, which model info tells")
	t.texts.add(cmd)
	return cmd
}

func (t *textCommand) run(ctx context.Context, texts []string, stdin io.Reader, lines *json.Encoder, stderr io.Writer) (err error) {
	if err := checkModel(t.model); err != nil {
		return err
	}
	if t.threads < 0 || t.threads > 1024 {
		return usageError{fmt.Errorf("--threads %d is not between 0 (one for each physical core) and 1024", t.threads)}
	}
	fromStdin := len(texts) == 1 && texts[0] == "-"
	if !fromStdin {
		for i, text := range texts {
			if err := texttower.CheckText(text); err != nil {
				return usageError{fmt.Errorf("text %d: %w", i+1, err)}
			}
		}
	}
	manifest, err := loadManifest(t.model)
	if err != nil {
		return err
	}
	if t.hash != "" && t.hash != manifest.Text.Hash {
		return fmt.Errorf("model %s: its text tower has the hash %.12q, not %.12q: the folder was replaced; what was started before that has to start again",
			t.model, manifest.Text.Hash, t.hash)
	}
	tower, err := t.texts.open(t.model, manifest, t.library, t.threads, stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tower.Close()) }()
	embed := func(texts []string) error { return t.embed(ctx, tower, texts, lines) }
	if fromStdin {
		return eachLine(ctx, stdin, t.parse, embed)
	}
	for some := range slices.Chunk(texts, textBatch) {
		if err := embed(some); err != nil {
			return err
		}
	}
	return nil
}

// embed writes a line for each text.
func (t *textCommand) embed(ctx context.Context, tower *texttower.Direct, texts []string, lines *json.Encoder) error {
	embeddings, err := tower.Embed(ctx, texts)
	if err != nil {
		return err
	}
	for i, text := range texts {
		tokens, err := tower.Tokens(text)
		if err != nil {
			return err
		}
		if err := lines.Encode(texttower.Line{Text: text, Tokens: tokens, Embedding: embeddings[i]}); err != nil {
			return err
		}
	}
	return nil
}

// parse makes a text of a line of standard input.
func (t *textCommand) parse(line []byte) (string, error) {
	if t.json {
		return texttower.ReadText(line)
	}
	return string(line), texttower.CheckText(string(line))
}

// maxTextLine bounds a line of standard input, bytes: a text in JSON's escapes, and more.
const maxTextLine = 64 << 10

// textBatch is how many texts a command embeds together.
const textBatch = 8

// textItem is a line of a stream of texts, or why there is no other.
type textItem struct {
	text string
	err  error
}

// eachLine calls do with the texts of a stream, a line each: with as many at a time as are there already, so that they can
// run together, but never waiting for more.
func eachLine(ctx context.Context, in io.Reader, parse func([]byte) (string, error), do func([]string) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	items := make(chan textItem, textBatch)
	// A read of standard input cannot be interrupted: where ctx ends first, this goroutine ends with the input or the process.
	go func() {
		defer close(items)
		readLines(in, parse, func(i textItem) bool {
			select {
			case items <- i:
				return true
			case <-ctx.Done():
				return false
			}
		})
	}()
	for {
		texts, more, err := takeTexts(ctx, items)
		if len(texts) > 0 {
			if err := do(texts); err != nil {
				return err
			}
		}
		if err != nil || !more {
			return err
		}
	}
}

// readLines sends the texts of a stream until there is an error, which it sends too, or nobody wants them.
func readLines(in io.Reader, parse func([]byte) (string, error), send func(textItem) bool) {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxTextLine)
	number := 1
	at := func(err error) error { return fmt.Errorf("standard input, line %d: %w", number, err) }
	for ; lines.Scan(); number++ {
		text, err := parse(lines.Bytes())
		if err != nil {
			send(textItem{err: at(err)})
			return
		}
		if !send(textItem{text: text}) {
			return
		}
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		send(textItem{err: at(fmt.Errorf("it has more than %d bytes", maxTextLine))})
	case err != nil:
		send(textItem{err: at(err)})
	}
}

// takeTexts waits for a text and takes those that are there too. more says that others may follow.
func takeTexts(ctx context.Context, items <-chan textItem) (texts []string, more bool, err error) {
	select {
	case <-ctx.Done():
		return nil, false, ctx.Err()
	case i, ok := <-items:
		if !ok || i.err != nil {
			return nil, false, i.err
		}
		texts = append(texts, i.text)
	}
	for len(texts) < textBatch {
		select {
		case i, ok := <-items:
			if !ok || i.err != nil {
				return texts, false, i.err
			}
			texts = append(texts, i.text)
		default:
			return texts, true, nil
		}
	}
	return texts, true, nil
}
