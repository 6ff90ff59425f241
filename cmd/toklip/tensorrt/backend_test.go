package tensorrt_test

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/toklip/toklip/cmd/toklip/tensorrt"
	"github.com/toklip/toklip/engine"
	"github.com/toklip/toklip/engine/enginetest"
	"github.com/toklip/toklip/engine/onnxruntime"
	"github.com/toklip/toklip/engine/onnxruntime/onnxruntimetest"
	"github.com/toklip/toklip/model"
	"github.com/toklip/toklip/model/npy"
	"github.com/toklip/toklip/trt/trttest"
)

// described is a backend whose model is the suite's own value.
type described struct {
	*tensorrt.Loaded
	model *engine.Model
}

func (d described) Describe() engine.Description {
	about := d.Loaded.Describe()
	about.Model = d.model
	return about
}

// reference opens the model on ONNX Runtime, in fp32.
func reference(t *testing.T, m tiny) *onnxruntime.Graphs {
	t.Helper()
	s := m.source(model.FP32, 1)
	library, err := onnxruntimetest.Open()
	if err != nil {
		t.Fatal(err)
	}
	spec := *s.Spec
	for role, file := range map[string]*string{model.RoleTokenizer: &spec.Tokenizer, model.RoleEncoder: &spec.Encoder} {
		g, err := s.Manifest.Graph(role, model.FP32, model.BackendONNXRuntime)
		if err != nil {
			t.Fatal(err)
		}
		*file = g.File.Path(s.Dir)
	}
	graphs, err := library.Load(&spec, onnxruntime.Options{MaxBatch: 1, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { graphs.Close() })
	return graphs
}

func TestBackend(t *testing.T) {
	tiny := importTiny(t)
	graphs := reference(t, tiny)
	cache := t.TempDir()
	for _, test := range []struct {
		name, precision string
		inFlight        int
		tolerance       enginetest.Tolerance
	}{
		{"fp32", model.FP32, 1, enginetest.FP32},
		{"fp32, two in flight", model.FP32, 2, enginetest.FP32},
		{"fp16", model.FP16, 2, enginetest.Tolerance{Tokens: 1, MaxError: 0.1, Cosine: 0.995}},
	} {
		t.Run(test.name, func(t *testing.T) {
			machine := open(t, cache)
			spec := tiny.source(test.precision, 1).Spec
			enginetest.Run(t, enginetest.Suite{
				Model: spec, Reference: graphs.EncodeImage, Tolerance: test.tolerance,
				New: func(tb testing.TB, maxBatch int) engine.Backend {
					s := tiny.source(test.precision, maxBatch)
					build(tb, machine, s)
					options := run
					options.InFlight = test.inFlight
					loaded, err := machine.Load(tb.Context(), s, options)
					if err != nil {
						tb.Fatal(err)
					}
					return described{loaded, spec}
				},
			})
		})
	}
}

// goldens are what PyTorch computed for the tiny model.
func goldens(t *testing.T) enginetest.Goldens {
	t.Helper()
	arrays, err := npy.LoadNPZ(filepath.Join(trttest.Root(t), "testdata", "reference", "golden", "tiny.npz"))
	if err != nil {
		t.Fatal(err)
	}
	return enginetest.NewGoldens(t, arrays)
}

func TestGoldens(t *testing.T) {
	machine := open(t, t.TempDir())
	s := importTiny(t).source(model.FP32, 1)
	build(t, machine, s, model.RoleTokenizer, model.RoleEncoder, model.RoleDecoder)
	loaded, err := machine.Load(t.Context(), s, run)
	if err != nil {
		t.Fatal(err)
	}
	defer loaded.Close()
	decoder, err := machine.LoadDecoder(s)
	if err != nil {
		t.Fatal(err)
	}
	defer decoder.Close()
	enginetest.RunGoldens(t, loaded.Describe().Model, goldens(t), loaded.EncodeImage, decoder.Decode)
	if r := loaded.Report; !r.Passed || r.TokenAgreement < 0.999 || r.FeatureCosine < 0.99999 || r.EmbeddingCosine < 0.99999 {
		t.Errorf("agreement with the reference: %+v", r)
	}
}

// Errors of the device are told as the engine wants them.
func TestFaults(t *testing.T) {
	machine := open(t, t.TempDir())
	s := importTiny(t).source(model.FP32, 1)
	build(t, machine, s)
	for _, test := range []struct {
		inFlight        int
		name, order     string
		permanent, dead bool
	}{
		{1, "out of memory", "process out-of-memory 1", false, false},
		{2, "out of memory at submit", "submit out-of-memory 1", false, false},
		{2, "out of memory at wait", "wait out-of-memory 1", false, false},
		{1, "lost", "process device-lost 1", true, true},
		{2, "lost at wait", "wait device-lost 1", true, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			options := run
			options.InFlight = test.inFlight
			loaded, err := machine.Load(t.Context(), s, options)
			if err != nil {
				t.Fatal(err)
			}
			batch := engine.NewBatch(loaded.Describe().Model)
			process := func() error {
				batch.Clear()
				batch.Add(0, enginetest.NewFrame(64, 48, 0, 1), 0)
				return engine.Process(loaded, batch)
			}
			if err := process(); err != nil {
				t.Fatal(err)
			}
			trttest.Orders(t, test.order)
			err = process()
			var e *engine.Error
			if !errors.As(err, &e) || engine.IsPermanent(err) != test.permanent {
				t.Errorf("error %v, permanent %v", err, engine.IsPermanent(err))
			}
			if !test.dead {
				if err := process(); err != nil {
					t.Fatalf("after the fault: %v", err)
				}
				if r := batch.Items[0].Result; !r.Keyframe || r.Reused {
					t.Errorf("after the fault: keyframe %v, reused %v", r.Keyframe, r.Reused)
				}
			}
			batch.Clear()
			if err := loaded.Close(); err != nil {
				t.Error(err)
			}
			if test.dead {
				if err := machine.Reset(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
