package onnxruntime_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/toklip/toklip/engine"
	"github.com/toklip/toklip/engine/enginetest"
	"github.com/toklip/toklip/engine/onnxruntime"
	"github.com/toklip/toklip/model/graph"
	"github.com/toklip/toklip/model/npy"
	"github.com/toklip/toklip/model/synth"
)

// buildText writes the text tower of a synthetic model, with weights in that precision.
func buildText(tb testing.TB, preset, precision string) onnxruntime.TextSpec {
	tb.Helper()
	models.Lock()
	defer models.Unlock()
	config, err := synth.Preset(preset)
	if err != nil {
		tb.Fatal(err)
	}
	checkpoint, err := synth.New(config, "", true)
	if err != nil {
		tb.Fatal(err)
	}
	arch, err := graph.Inspect(checkpoint, graph.Config{})
	if err != nil {
		tb.Fatal(err)
	}
	dir := filepath.Join(models.dir, "text-"+preset+"-"+precision)
	spec := onnxruntime.TextSpec{File: filepath.Join(dir, "text.onnx"), Context: arch.Text.Context, Vocabulary: arch.Text.Vocabulary, EmbeddingDim: arch.Dim}
	if _, err := os.Stat(spec.File); err == nil {
		return spec
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		tb.Fatal(err)
	}
	if _, err := graph.BuildText(tb.Context(), checkpoint, arch, dir, graph.TextOptions{Precision: precision}); err != nil {
		tb.Fatal(err)
	}
	return spec
}

// textGoldens are texts, as ids, and what PyTorch made of them.
func textGoldens(tb testing.TB, preset string) (ids []int32, embeddings []float32) {
	tb.Helper()
	arrays, err := npy.LoadNPZ(filepath.Join(repository(tb), "testdata", "reference", "golden", preset+"_text.npz"))
	if err != nil {
		tb.Fatal(err)
	}
	if ids, err = arrays["tokens"].Int32(); err != nil {
		tb.Fatal(err)
	}
	if embeddings, err = arrays["text_embedding"].Float32(); err != nil {
		tb.Fatal(err)
	}
	return ids, embeddings
}

// sameEmbeddings compares rows of dim values: the largest error against the largest magnitude, and the worst cosine.
func sameEmbeddings(t *testing.T, what string, got, want []float32, dim int, relative, cosine float64) {
	t.Helper()
	if err := (enginetest.Tolerance{MaxError: relative, Cosine: cosine}).Compare(got, want, dim); err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

func loadText(tb testing.TB, spec onnxruntime.TextSpec) *onnxruntime.Text {
	tb.Helper()
	text, err := openRuntime(tb).LoadText(spec, onnxruntime.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := text.Close(); err != nil {
			tb.Error(err)
		}
	})
	return text
}

// TestText: many texts, more than run at once, come out in their order and as PyTorch has them.
func TestText(t *testing.T) {
	ids, want := textGoldens(t, "tiny")
	const times = 7
	for precision, tolerance := range map[string]float64{"fp32": 2e-4, "fp16": 2e-3} {
		text := loadText(t, buildText(t, "tiny", precision))
		got, err := text.Embed(t.Context(), slices.Repeat(ids, times))
		if err != nil {
			t.Fatal(err)
		}
		sameEmbeddings(t, precision, got, slices.Repeat(want, times), 96, tolerance, 0.99999)
	}
}

func TestLoadTextRefuses(t *testing.T) {
	r := openRuntime(t)
	good := buildText(t, "tiny", "fp32")
	other := buildModel(t, "tiny", "fp32")
	for name, test := range map[string]struct {
		edit func(*onnxruntime.TextSpec)
		want string
	}{
		"no file":     {func(s *onnxruntime.TextSpec) { s.File = "" }, "the text tower has no file"},
		"gone":        {func(s *onnxruntime.TextSpec) { s.File += "x" }, "is the model folder complete?"},
		"folder":      {func(s *onnxruntime.TextSpec) { s.File = filepath.Dir(s.File) }, "is a folder"},
		"other graph": {func(s *onnxruntime.TextSpec) { s.File = other.Decoder }, `no output "embedding"`},
		"context":     {func(s *onnxruntime.TextSpec) { s.Context = 64 }, `input "ids" is int32 [?,16], the model wants ids int32 [batch,64]`},
		"embedding":   {func(s *onnxruntime.TextSpec) { s.EmbeddingDim = 97 }, "[batch,97]"},
		"vocabulary":  {func(s *onnxruntime.TextSpec) { s.Vocabulary = 0 }, "vocabulary is 0"},
	} {
		spec := good
		test.edit(&spec)
		if _, err := r.LoadText(spec, onnxruntime.Options{}); err == nil || !strings.HasPrefix(err.Error(), "load text tower") || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := r.LoadText(good, onnxruntime.Options{Threads: -1}); err == nil {
		t.Error("negative threads were taken")
	}
}

func TestTextErrors(t *testing.T) {
	ids, want := textGoldens(t, "tiny")
	text := loadText(t, buildText(t, "tiny", "fp32"))
	for say, ids := range map[string][]int32{
		"0 ids":  nil,
		"17 ids": make([]int32, 17),
		"text 1, id 3 of 16 is 400, outside the vocabulary of 400": append(make([]int32, 19), 400, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
		"text 0, id 0 of 16 is -1":                                 append([]int32{-1}, make([]int32, 15)...),
	} {
		if _, err := text.Embed(t.Context(), ids); err == nil || !strings.Contains(err.Error(), say) {
			t.Errorf("error %v, want %s", err, say)
		}
	}
	got, err := text.Embed(t.Context(), ids)
	if err != nil {
		t.Fatalf("good texts after bad ones: %v", err)
	}
	sameEmbeddings(t, "after errors", got, want, 96, 2e-4, 0.99999)
	for range 2 {
		if err := text.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := text.Embed(t.Context(), ids); !errors.Is(err, engine.ErrClosed) {
		t.Errorf("after closing: %v", err)
	}
}

// TestTextCancel: cancelling ends the work, and the tower works on afterwards.
func TestTextCancel(t *testing.T) {
	ids, _ := textGoldens(t, "tiny")
	text := loadText(t, buildText(t, "tiny", "fp32"))
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := text.Embed(gone, ids); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before: %v", err)
	}
	soon, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if _, err := text.Embed(soon, slices.Repeat(ids, 20000)); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "of 60000 done") {
		t.Errorf("cancelled meanwhile: %v", err)
	}
	if _, err := text.Embed(t.Context(), ids); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// TestTextShared: several goroutines embed while one closes; each gets its embeddings or hears that it is closed.
func TestTextShared(t *testing.T) {
	ids, want := textGoldens(t, "tiny")
	text := loadText(t, buildText(t, "tiny", "fp32"))
	first := make(chan struct{})
	var once sync.Once
	var all sync.WaitGroup
	for range 4 {
		all.Add(1)
		go func() {
			defer all.Done()
			for {
				got, err := text.Embed(t.Context(), ids)
				if errors.Is(err, engine.ErrClosed) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				sameEmbeddings(t, "shared", got, want, 96, 2e-4, 0.99999)
				once.Do(func() { close(first) })
			}
		}()
	}
	<-first
	if err := text.Close(); err != nil {
		t.Error(err)
	}
	all.Wait()
}

// textChild is set for the process that measures itself.
const textChild = "TOKLIP_TEST_TEXT"

// TestFullTextMemory: the full-size text tower runs out of its file. What a process needs beside the mapped pages, which the
// system can take back, is small, and gone after closing.
func TestFullTextMemory(t *testing.T) {
	requireFull(t)
	if text := os.Getenv(textChild); text != "" {
		precision, file, _ := strings.Cut(text, " ")
		measureText(t, precision, onnxruntime.TextSpec{File: file, Context: 64, Vocabulary: 256000, EmbeddingDim: 1152})
		return
	}
	for _, precision := range []string{"fp32", "fp16"} {
		t.Run(precision, func(t *testing.T) {
			spec := buildText(t, "s256", precision)
			defer os.RemoveAll(filepath.Dir(spec.File)) // gigabytes
			cmd := exec.Command(os.Args[0], "-test.run=^TestFullTextMemory$", "-test.v")
			cmd.Env = append(os.Environ(), textChild+"="+precision+" "+spec.File)
			out, err := cmd.CombinedOutput()
			t.Logf("%s", out)
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}

func measureText(t *testing.T, precision string, spec onnxruntime.TextSpec) {
	ids, want := textGoldens(t, "s256")
	text := loadText(t, spec)
	const texts = 10
	begin := time.Now()
	got, err := text.Embed(t.Context(), slices.Repeat(ids, texts)[:texts*spec.Context])
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(begin)
	tolerance := map[string]float64{"fp32": 2e-4, "fp16": 2e-3}[precision]
	sameEmbeddings(t, precision, got[:len(want)], want, spec.EmbeddingDim, tolerance, 0.99999)
	anonymous, peak := memory(t, "RssAnon"), memory(t, "VmHWM")
	if err := text.Close(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: %d texts in %.1f s; peak %d MB, of which anonymous %d MB; RSS %d MB after closing",
		precision, texts, took.Seconds(), peak>>20, anonymous>>20, memory(t, "VmRSS")>>20)
	if limit := int64(250 << 20); anonymous > limit {
		t.Errorf("%d MB are anonymous, more than %d MB: the weights do not stay mapped", anonymous>>20, limit>>20)
	}
	if limit, left := int64(150<<20), memory(t, "VmRSS"); left > limit {
		t.Errorf("RSS is %d MB after closing, more than %d MB", left>>20, limit>>20)
	}
}

func BenchmarkText(b *testing.B) {
	spec := buildText(b, "tiny", "fp32")
	text := loadText(b, spec)
	for _, n := range []int{1, 8} {
		b.Run(fmt.Sprintf("%d", n), func(b *testing.B) {
			ids := make([]int32, n*spec.Context)
			for b.Loop() {
				if _, err := text.Embed(b.Context(), ids); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
