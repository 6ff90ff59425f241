package trt_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/toklip/toklip/engine"
	"github.com/toklip/toklip/engine/enginetest"
	"github.com/toklip/toklip/model/graph"
	"github.com/toklip/toklip/model/npy"
	"github.com/toklip/toklip/trt"
	"github.com/toklip/toklip/trt/trttest"
)

// tiny is the reference's tiny model on the implementation for tests.
type tiny struct {
	lib      *trt.Library
	dir      string // of its graphs
	a        *graph.Arch
	codebook []float32
}

func newTiny(tb testing.TB) *tiny {
	tb.Helper()
	dir, reader, a := writeGraphs(tb, "tiny")
	codebook := make([]float32, a.Codebook*a.CodeDim)
	if err := reader.ReadFloat32("visual.trunk.vq.quantize.embedding.weight", codebook, 0); err != nil {
		tb.Fatal(err)
	}
	options := trttest.Options(tb)
	options.Forgotten = trt.ForgottenInTests
	lib, err := trt.Open(options)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { trt.CloseAll(tb, lib) })
	return &tiny{lib, dir, a, codebook}
}

// goldens are what the reference implementation computed.
func goldens(tb testing.TB) enginetest.Goldens {
	tb.Helper()
	arrays, err := npy.LoadNPZ(filepath.Join(trttest.Root(tb), "testdata", "reference", "golden", "tiny.npz"))
	if err != nil {
		tb.Fatal(err)
	}
	return enginetest.NewGoldens(tb, arrays)
}

// build makes a plan of one of the graphs.
func (m *tiny) build(tb testing.TB, file string) []byte {
	tb.Helper()
	o := trt.DefaultBuildOptions()
	o.ONNX, o.Plan, o.BatchMax = filepath.Join(m.dir, file), filepath.Join(tb.TempDir(), "plan"), 4
	if err := m.lib.Build(context.Background(), o, nil); err != nil {
		tb.Fatal(err)
	}
	plan, err := os.ReadFile(o.Plan)
	if err != nil {
		tb.Fatal(err)
	}
	return plan
}

func (m *tiny) load(tb testing.TB, file string) *trt.Engine {
	tb.Helper()
	e, err := m.lib.Load(m.build(tb, file), -1)
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

// options are those of a pipeline of these engines.
func (m *tiny) options(tokenizer, encoder *trt.Engine) trt.PipelineOptions {
	o := trt.DefaultPipelineOptions()
	o.Tokenizer, o.Encoder, o.BatchMax = tokenizer, encoder, 4
	o.ImageSize, o.Tokens, o.FeatureDim, o.EmbeddingDim = m.a.Size, m.a.Tokens(), m.a.Dim, m.a.Dim
	o.Codebook, o.CodebookSize, o.CodebookDim = m.codebook, m.a.Codebook, m.a.CodeDim
	return o
}

// pipeline makes one that is closed with its engines at the end of the test, or by close.
func (m *tiny) pipeline(tb testing.TB, tokenizer string, change func(*trt.PipelineOptions)) (p *trt.Pipeline, close func()) {
	tb.Helper()
	t, e := m.load(tb, tokenizer), m.load(tb, "encoder.onnx")
	o := m.options(t, e)
	if change != nil {
		change(&o)
	}
	p, err := m.lib.NewPipeline(o)
	if err != nil {
		trt.CloseAll(tb, t, e)
		tb.Fatal(err)
	}
	close = func() { trt.CloseAll(tb, p, t, e) }
	tb.Cleanup(close)
	return p, close
}

// image is a golden picture as a frame of its own stream.
func (m *tiny) image(g enginetest.Goldens, i int) trt.Frame {
	n := 3 * m.a.Size * m.a.Size
	return trt.Frame{Tensor: g.Images[i*n : (i+1)*n], Width: m.a.Size, Height: m.a.Size, Pixels: trt.Image, Resize: trt.Squash, Stream: i}
}

// process handles frames in the way that the pipeline's options are for.
func process(tb testing.TB, p *trt.Pipeline, inFlight int, frames []trt.Frame, results []trt.Result) error {
	tb.Helper()
	if inFlight == 1 {
		_, err := p.Process(tb.Context(), frames, results)
		return err
	}
	if err := p.Submit(tb.Context(), frames); err != nil {
		return err
	}
	_, err := p.Wait(tb.Context(), results)
	return err
}

// TestGoldens runs the reference's pictures through everything: plan files, engines, pipeline, kernels.
func TestGoldens(t *testing.T) {
	m, g := newTiny(t), goldens(t)
	decoder := m.load(t, "decoder.onnx")
	defer decoder.Close()
	model := &engine.Model{ImageSize: m.a.Size, Rows: m.a.Grid, Cols: m.a.Grid, FeatureDim: m.a.Dim, EmbeddingDim: m.a.Dim, Codebook: m.a.Codebook}
	for _, tokenizer := range []string{"tokenizer.onnx", "tokenizer.latents.onnx"} {
		for _, inFlight := range []int{1, 2} {
			t.Run(fmt.Sprintf("%s/%d in flight", tokenizer, inFlight), func(t *testing.T) {
				p, done := m.pipeline(t, tokenizer, func(o *trt.PipelineOptions) { o.InFlight = inFlight })
				defer done()
				results := make([]trt.Result, 1)
				frame := m.image(g, 0)
				frame.Fresh = true
				enginetest.RunGoldens(t, model, g,
					func(image []float32) (ids []int32, features, embedding []float32, err error) {
						frame.Tensor = image
						if err := process(t, p, inFlight, []trt.Frame{frame}, results); err != nil {
							return nil, nil, nil, err
						}
						r := results[0]
						if !r.Fresh || !r.Encoded || r.ChangedCount != len(r.IDs) {
							t.Errorf("a fresh frame: %v, %v, %d changed", r.Fresh, r.Encoded, r.ChangedCount)
						}
						return slices.Clone(r.IDs), slices.Clone(r.Features), slices.Clone(r.Embedding), nil
					},
					func(ids []int32) ([]float32, error) {
						s := int64(m.a.Size)
						image := make([]float32, 3*s*s)
						return image, decoder.Run(
							[]trt.Tensor{{Name: "ids", Shape: []int64{1, int64(len(ids))}, Data: ids}},
							[]trt.Tensor{{Name: "image", Shape: []int64{1, 3, s, s}, Data: image}})
					})
			})
		}
	}
}

// TestGoldensInBatches has all pictures in one batch, and those that did not change keep the encoder idle.
func TestGoldensInBatches(t *testing.T) {
	m, g := newTiny(t), goldens(t)
	n, d := m.a.Tokens(), m.a.Dim
	for _, inFlight := range []int{1, 2} {
		p, done := m.pipeline(t, "tokenizer.latents.onnx", func(o *trt.PipelineOptions) { o.InFlight = inFlight })
		frames := []trt.Frame{m.image(g, 2), m.image(g, 0), m.image(g, 1)}
		results := make([]trt.Result, 4)
		for round := range 4 {
			if round == 3 { // one changes
				frames[1].Tensor = m.image(g, 1).Tensor
			}
			if err := process(t, p, inFlight, frames, results); err != nil {
				t.Fatal(err)
			}
			for i, f := range frames {
				r, of := results[i], f.Stream
				if round == 3 && i == 1 {
					of = 1
				}
				if !slices.Equal(r.IDs, g.IDs[of*n:(of+1)*n]) {
					t.Errorf("round %d, frame %d: ids %v, not %v", round, i, r.IDs, g.IDs[of*n:(of+1)*n])
				}
				// While frames change the encoder is enqueued without a look at the ids: the first batch without a change
				// is encoded in vain, those after it are not.
				changed := round == 0 || round == 3 && i == 1
				if r.Encoded != (changed || round == 1) || r.Fresh != (round == 0) || (r.ChangedCount > 0) != changed {
					t.Errorf("round %d, frame %d: encoded %v, fresh %v, %d changed", round, i, r.Encoded, r.Fresh, r.ChangedCount)
				} else if r.Encoded {
					for k, v := range r.Embedding {
						if diff := v - g.Embedding[of*d+k]; diff > 1e-3 || diff < -1e-3 {
							t.Fatalf("round %d, frame %d: embedding %v is off by %v", round, i, k, diff)
						}
					}
				} else if r.Features != nil || r.Embedding != nil || r.Unit != nil {
					t.Errorf("round %d, frame %d: features of a frame that did not change", round, i)
				}
			}
		}
		done()
	}
}

// TestFaults orders what GPUs do, and looks at what comes through.
func TestFaults(t *testing.T) {
	m, g := newTiny(t), goldens(t)
	frames, results := []trt.Frame{m.image(g, 0)}, make([]trt.Result, 1)
	works := func(p *trt.Pipeline) {
		t.Helper()
		if err := process(t, p, 1, frames, results); err != nil || !slices.Equal(results[0].IDs, g.IDs[:m.a.Tokens()]) {
			t.Errorf("it does not work: %v", err)
		}
	}
	fails := func(p *trt.Pipeline, code trt.Code) {
		t.Helper()
		if err := process(t, p, 1, frames, results); !errors.Is(err, code) {
			t.Errorf("%v is not %v", err, code)
		}
	}
	// Without graphs: they fall back by themselves, and the fault would be gone.
	p, done := m.pipeline(t, "tokenizer.latents.onnx", func(o *trt.PipelineOptions) { o.CUDAGraph = false })
	works(p)
	trttest.Orders(t, "process out-of-memory 2")
	fails(p, trt.ErrOutOfMemory)
	fails(p, trt.ErrOutOfMemory)
	works(p)
	if r := results[0]; !r.Fresh {
		t.Error("a stream kept its frame across a batch that failed")
	}

	trttest.Orders(t, "process device-lost")
	fails(p, trt.ErrDeviceLost)
	fails(p, trt.ErrDeviceLost) // it sticks
	if err := m.lib.Reset(); !errors.Is(err, trt.ErrBusy) {
		t.Errorf("reset with handles open: %v", err)
	}
	done()
	if err := m.lib.Reset(); err != nil {
		t.Fatal(err)
	}
	p, done = m.pipeline(t, "tokenizer.latents.onnx", func(o *trt.PipelineOptions) { o.Timeout = 300 * time.Millisecond })
	works(p)

	trttest.Orders(t, "process hang")
	begun := time.Now()
	fails(p, trt.ErrTimeout)
	if took := time.Since(begun); took < 250*time.Millisecond || took > 5*time.Second {
		t.Errorf("the timeout of 300 ms took %v", took)
	}
	done()
	if err := m.lib.Reset(); err != nil {
		t.Fatal(err)
	}
	p, done = m.pipeline(t, "tokenizer.latents.onnx", nil)
	works(p)
	done()

	trttest.Orders(t, "load bad-plan", "load wrong-version", "device no-device")
	plan := []byte("some plan")
	for _, code := range []trt.Code{trt.ErrBadPlan, trt.ErrWrongVersion} {
		if _, err := m.lib.Load(plan, -1); !errors.Is(err, code) {
			t.Errorf("%v is not %v", err, code)
		}
	}
	if _, err := m.lib.Load(plan, -1); !errors.Is(err, trt.ErrBadPlan) { // by its content
		t.Error(err)
	}
	if _, err := m.lib.Device(); !errors.Is(err, trt.ErrNoDevice) {
		t.Error(err)
	}
	if d, err := m.lib.Device(); err != nil || d.Name == "" {
		t.Errorf("%+v, %v", d, err)
	}
}

// TestBuildOnTest cancels a build that would go on for ever.
func TestBuildOnTest(t *testing.T) {
	m := newTiny(t)
	if i := m.lib.Info(); i.Family != "test" || i.Version.Major == 0 || !strings.Contains(i.Path, "onnxruntime") {
		t.Errorf("%+v", i)
	}
	n, err := m.lib.Network(filepath.Join(m.dir, "encoder.onnx"))
	if err != nil || len(n.Inputs) != 1 || n.Inputs[0].Type != "int32" || len(n.Outputs) != 2 {
		t.Errorf("%+v, %v", n, err)
	}
	o := trt.DefaultBuildOptions()
	o.ONNX, o.Plan = filepath.Join(m.dir, "encoder.onnx"), filepath.Join(t.TempDir(), "plan")
	var last trt.Progress
	if err := m.lib.Build(t.Context(), o, func(p trt.Progress) { last = p }); err != nil || last.Fraction != 1 {
		t.Errorf("%+v, %v", last, err)
	}
	if err := os.Remove(o.Plan); err != nil {
		t.Fatal(err)
	}
	trttest.Orders(t, "build hang")
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := m.lib.Build(ctx, o, nil); !errors.Is(err, trt.ErrCancelled) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(o.Plan); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a cancelled build left its plan: %v", err)
	}
	o.ONNX = filepath.Join(t.TempDir(), "none.onnx")
	if err := m.lib.Build(t.Context(), o, nil); !errors.Is(err, trt.ErrFile) && !errors.Is(err, trt.ErrBadModel) || !strings.Contains(err.Error(), "none.onnx") {
		t.Errorf("%v", err)
	}
}
