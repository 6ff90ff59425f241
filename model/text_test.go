package model

import (
	"bytes"
	"errors"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/toklip/toklip/model/checkpoint"
	"github.com/toklip/toklip/model/graph"
	"github.com/toklip/toklip/model/synth"
)

const tinyTokenizer = "../testdata/reference/golden/tiny_tokenizer.model"

func TestImportText(t *testing.T) {
	imported := func(r checkpoint.Reader, o Options) *Manifest {
		t.Helper()
		dir := filepath.Join(t.TempDir(), "m")
		if _, err := Import(t.Context(), r, dir, o); err != nil {
			t.Fatal(err)
		}
		m, err := Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Verify(t.Context(), dir, nil); err != nil {
			t.Error(err)
		}
		return m
	}
	plain := imported(tiny(t, "", true), Options{})
	want := plain.Text
	want.LogitScale, want.LogitBias, want.Hash = nil, nil, ""
	if want != (Text{Present: true, Tensors: 30, Precision: FP32, Context: 16, Vocabulary: 400, Width: 96, Depth: 2, Heads: 4}) {
		t.Errorf("text tower %+v", plain.Text)
	}
	half := imported(tiny(t, "", true), Options{TextPrecision: FP16, Tokenizer: tinyTokenizer})
	found := imported(tiny(t, "", true), Options{Tokenizer: tinyTokenizer, TokenizerFound: true})
	other := imported(tiny(t, "x", true), Options{})
	for _, m := range []*Manifest{half, found} {
		f := m.Text.Tokenizer
		if f == nil || f.Name != "tokenizer.model" || f.Size != 6308 {
			t.Errorf("tokenizer %+v", f)
		}
	}
	if half.Text.Precision != FP16 || half.Text.Hash != found.Text.Hash || len(half.Text.Hash) != 64 {
		t.Errorf("fp16: %+v\nfp32: %+v", half.Text, found.Text)
	}
	// Embeddings on disk are found by it: it must stay what it is.
	if plain.Text.Hash != "ef80bbd117e1251ba97d62a616a279bf1ccf22eeeb3563a6dfacfd5cb371f6ea" ||
		half.Text.Hash != "bf1740fd67bcecd951bb3a3a0dc3c36b63e5cf21ed2c06426901c1cf969098c3" {
		t.Errorf("hashes of the text tower are %s and, with a tokenizer, %s", plain.Text.Hash, half.Text.Hash)
	}
	if plain.Text.Hash == half.Text.Hash || plain.Text.Hash == other.Text.Hash {
		t.Error("another tokenizer or other weights have the same hash")
	}
	if plain.ModelHash != half.ModelHash || plain.EmbeddingSpace != half.EmbeddingSpace {
		t.Error("what becomes of the text tower changes the image tower's hashes")
	}
	for m, file := range map[*Manifest]string{plain: "text.onnx", half: "text.onnx"} {
		if g, err := m.TextGraph(); err != nil || g.File.Name != file || g.Precision != m.Text.Precision || len(g.Data) != 1 {
			t.Errorf("text graph %+v, %v", g, err)
		}
		if g, err := m.PoolGraph(); err != nil || g.File.Name != "pool.onnx" || g.Data[0].Name != "encoder.onnx.data" {
			t.Errorf("pool graph %+v, %v", g, err)
		}
	}

	// A text tower that is left out may be wrong.
	r := checkpoint.Select(tiny(t, "", true), func(name string) bool { return name != "text.ln_final.bias" })
	left := imported(r, Options{TextPrecision: NoText, Config: graph.Config{Heads: 4}})
	none := imported(tiny(t, "", false), Options{Tokenizer: tinyTokenizer, TokenizerFound: true})
	for m, want := range map[*Manifest]string{left: "it was left out; import the checkpoint again with --text-precision fp32 or fp16", none: "its checkpoint has none"} {
		if m.Text.Precision != "" || m.Text.Hash != "" || m.Text.Tokenizer != nil || m.Text.Present != (m == left) {
			t.Errorf("text tower %+v", m.Text)
		}
		if _, err := m.TextGraph(); !errors.Is(err, ErrNoGraph) || !strings.Contains(err.Error(), want) {
			t.Errorf("text graph: %v", err)
		}
		if _, err := m.PoolGraph(); err != nil {
			t.Error(err)
		}
	}
	if left.ModelHash != plain.ModelHash {
		t.Error("without its text tower it is another model")
	}
}

func TestImportTextRefuses(t *testing.T) {
	dir := t.TempDir()
	damaged := filepath.Join(dir, "tokenizer.model")
	if err := os.WriteFile(damaged, []byte("no tokenizer"), 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := synth.Preset("tiny")
	if err != nil {
		t.Fatal(err)
	}
	c.Text.VocabSize = 100
	few, err := synth.New(c, "", true)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		r      checkpoint.Reader
		opts   Options
		want   string
		warned bool // if the tokenizer was only found
	}{
		"precision":         {tiny(t, "", true), Options{TextPrecision: "int8"}, `text precision "int8": this version makes fp32 and fp16, or none`, false},
		"another tokenizer": {few, Options{Tokenizer: tinyTokenizer}, `pieces, the text tower's embeddings are 100: it is another model's`, true},
		"damaged tokenizer": {tiny(t, "", true), Options{Tokenizer: damaged}, damaged, true},
		"no such tokenizer": {tiny(t, "", true), Options{Tokenizer: filepath.Join(dir, "gone")}, "no such file", true},
		"no text tower":     {tiny(t, "", false), Options{Tokenizer: tinyTokenizer}, "the checkpoint has no text tower that it could serve", false},
		"left out":          {tiny(t, "", true), Options{Tokenizer: tinyTokenizer, TextPrecision: NoText}, `which text precision "none" leaves out`, false},
	} {
		t.Run(name, func(t *testing.T) {
			parent := t.TempDir()
			to := filepath.Join(parent, "m")
			if _, err := Import(t.Context(), test.r, to, test.opts); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error  %v\nwanted %s", err, test.want)
			}
			onlyEntry(t, parent)
			if !test.warned {
				return
			}
			var log bytes.Buffer
			test.opts.TokenizerFound, test.opts.Logger = true, slog.New(slog.NewTextHandler(&log, nil))
			m, err := Import(t.Context(), test.r, to, test.opts)
			if err != nil || m.Text.Tokenizer != nil {
				t.Errorf("imported with %+v, %v", m.Text.Tokenizer, err)
			}
			if !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), filepath.Base(test.opts.Tokenizer)) {
				t.Errorf("logged %s", &log)
			}
		})
	}
}

func TestFindTokenizer(t *testing.T) {
	one, two := t.TempDir(), t.TempDir()
	write := func(path string) string {
		t.Helper()
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	files := []string{filepath.Join(one, "a.pt"), filepath.Join(two, "b.pt")}
	if err := os.Mkdir(filepath.Join(one, "tokenizer.model"), 0o755); err != nil {
		t.Fatal(err)
	}
	if got := FindTokenizer(files...); got != "" {
		t.Errorf("found %q", got)
	}
	second := write(filepath.Join(one, "tokenizer.json"))
	if got := FindTokenizer(files...); got != second {
		t.Errorf("found %q, want %q", got, second)
	}
	first := write(filepath.Join(two, "tokenizer.model"))
	if got := FindTokenizer(files...); got != first {
		t.Errorf("found %q, want %q", got, first)
	}
}

// TestOlderManifests: folders of versions 1 and 2 are read; what they lack has an error that says what to do.
func TestOlderManifests(t *testing.T) {
	text, err := os.ReadFile("testdata/model.toml")
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"1", "2"} {
		m, err := parseManifest(strings.Replace(string(text), "format_version = 1", "format_version = "+version, 1))
		if err != nil {
			t.Fatal(err)
		}
		if !m.Text.Present || m.Text.Tensors != 30 || m.Text.Precision != "" || m.Text.Context != 0 {
			t.Errorf("version %s: %+v", version, m.Text)
		}
		if logit, _, err := m.Text.Logit(0.2); err != nil || math.Abs(logit-(math.Exp(4.699999809265137)*0.2-16.5)) > 1e-12 {
			t.Errorf("version %s: logit %v, %v", version, logit, err)
		}
		for what, find := range map[string]func() (Graph, error){"text tower": m.TextGraph, "attention pool": m.PoolGraph} {
			if _, err := find(); !errors.Is(err, ErrNoGraph) || !strings.Contains(err.Error(), what) || !strings.Contains(err.Error(), "made by an older toklip; import the checkpoint again") {
				t.Errorf("version %s: %s: %v", version, what, err)
			}
		}
	}
}

func TestLogit(t *testing.T) {
	scale, bias := math.Log(10), -2.0
	logit, score, err := Text{LogitScale: &scale, LogitBias: &bias}.Logit(0.5)
	if err != nil || math.Abs(logit-3) > 1e-12 || math.Abs(score-1/(1+math.Exp(-3))) > 1e-12 {
		t.Errorf("logit %v, score %v, %v", logit, score, err)
	}
	for want, text := range map[string]Text{"logit_scale": {LogitBias: &bias}, "logit_bias": {LogitScale: &scale}} {
		if _, _, err := text.Logit(1); !errors.Is(err, ErrNoLogit) || !strings.Contains(err.Error(), want) {
			t.Errorf("without %s: %v", want, err)
		}
	}
}
