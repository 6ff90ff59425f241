package tensorrt

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/toklip/toklip/engine"
	"github.com/toklip/toklip/engine/preprocess"
	"github.com/toklip/toklip/model"
	"github.com/toklip/toklip/trt"
	"github.com/toklip/toklip/trt/enginecache"
)

// scripted is a pipeline whose results are ordered by a test.
type scripted struct {
	result func(f trt.Frame) trt.Result
	err    error
	calls  [][]trt.Frame
	queued [][]trt.Frame
}

func (s *scripted) Process(_ context.Context, frames []trt.Frame, results []trt.Result) (trt.Times, error) {
	s.calls = append(s.calls, slices.Clone(frames))
	if s.err != nil {
		return trt.Times{}, s.err
	}
	for i, f := range frames {
		results[i] = s.result(f)
	}
	return trt.Times{Total: time.Millisecond}, nil
}

func (s *scripted) Submit(_ context.Context, frames []trt.Frame) error {
	s.queued = append(s.queued, slices.Clone(frames))
	return nil
}

func (s *scripted) Wait(ctx context.Context, results []trt.Result) (trt.Times, error) {
	frames := s.queued[0]
	s.queued = s.queued[1:]
	return s.Process(ctx, frames, results)
}

func (s *scripted) Close() error { return nil }

var shape = &engine.Model{
	Name: "none", Tokenizer: "t", Encoder: "e", ImageSize: 8, Rows: 1, Cols: 2, FeatureDim: 1, EmbeddingDim: 1, Codebook: 16,
}

func newScripted(t *testing.T, inFlight int) (*scripted, *Backend) {
	s := &scripted{}
	b := newBackend(s, engine.Description{Name: Name, MaxBatch: 2, InFlight: inFlight, Model: shape}, 4, nil)
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, b
}

func add(b *engine.Batch, stream int) {
	f := &engine.Frame{Pixels: make([]byte, 64), Width: 8, Height: 8, Stride: 8, Format: preprocess.Gray8}
	f.Reset(nil)
	b.Add(stream, f, preprocess.Squash)
}

func fresh(ids ...int32) trt.Result {
	return trt.Result{IDs: ids, Changed: []uint64{3}, ChangedCount: 2, Fresh: true, Encoded: true, Features: []float32{1, 2}, Embedding: []float32{3}}
}

// A frame that repeats one whose result was lost is an error of its own, and the next one is compared with nothing.
func TestRepeatOfALostResult(t *testing.T) {
	s, b := newScripted(t, 2)
	first, second, third := engine.NewBatch(shape), engine.NewBatch(shape), engine.NewBatch(shape)
	for _, batch := range []*engine.Batch{first, second} {
		add(batch, 1)
		if err := b.Submit(batch); err != nil {
			t.Fatal(err)
		}
	}
	s.err = &trt.Error{Op: "wait", Code: trt.ErrOutOfMemory}
	if err := b.Wait(first); err == nil || engine.IsPermanent(err) {
		t.Fatalf("the first batch: %v", err)
	}
	s.err, s.result = nil, func(trt.Frame) trt.Result { return trt.Result{IDs: []int32{1, 2}, Changed: []uint64{0}} }
	if err := b.Wait(second); err != nil {
		t.Fatal(err)
	}
	if err := second.Items[0].Err; !errors.Is(err, engine.ErrFrame) {
		t.Errorf("a repeat of what was lost: %v", err)
	}
	add(third, 1)
	s.result = func(trt.Frame) trt.Result { return fresh(1, 2) }
	if err := engine.Process(b, third); err != nil || third.Items[0].Err != nil {
		t.Fatal(err, third.Items[0].Err)
	}
	if last := s.calls[len(s.calls)-1]; !last[0].Fresh {
		t.Error("the frame after was compared with what nobody has seen")
	}
	for _, batch := range []*engine.Batch{first, second, third} {
		batch.Clear()
	}
}

func TestPatienceEnds(t *testing.T) {
	s, b := newScripted(t, 1)
	batch := engine.NewBatch(shape)
	process := func() error {
		batch.Clear()
		add(batch, 0)
		return engine.Process(b, batch)
	}
	defer batch.Clear()
	s.result = func(trt.Frame) trt.Result { return fresh(1, 2) }
	for range 2 {
		for n := 1; n < patience; n++ {
			s.err = &trt.Error{Op: "process", Code: trt.ErrOutOfMemory}
			if err := process(); err == nil || engine.IsPermanent(err) {
				t.Fatalf("failure %d in a row: %v", n, err)
			}
		}
		s.err = nil
		if err := process(); err != nil {
			t.Fatal(err)
		}
	}
	s.err = &trt.Error{Op: "process", Code: trt.ErrOutOfMemory, Message: "12 MB wanted"}
	var err error
	for range patience {
		err = process()
	}
	if !engine.IsPermanent(err) || !errors.Is(err, trt.ErrOutOfMemory) {
		t.Errorf("after %d in a row: %v", patience, err)
	}
}

func TestErrorsAreMapped(t *testing.T) {
	for code, permanent := range map[trt.Code]bool{
		trt.ErrOutOfMemory: false, trt.ErrInvalid: false, trt.ErrBusy: false, trt.ErrInternal: false, trt.ErrDeviceLost: true, trt.ErrTimeout: true,
	} {
		_, b := newScripted(t, 1)
		err := b.asError("run", fmt.Errorf("process: %w", &trt.Error{Code: code}))
		if engine.IsPermanent(err) != permanent || !errors.Is(err, code) {
			t.Errorf("%v: permanent %v, want %v", err, engine.IsPermanent(err), permanent)
		}
	}
	_, b := newScripted(t, 1)
	if err := b.asError("run", trt.ErrClosed); !errors.Is(err, engine.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

// A batch of bad frames alone is never handed over; streams beyond the pipeline's are bad frames.
func TestNothingToDo(t *testing.T) {
	for _, inFlight := range []int{1, 2} {
		s, b := newScripted(t, inFlight)
		batch := engine.NewBatch(shape)
		add(batch, 4)
		if err := engine.Process(b, batch); err != nil || !errors.Is(batch.Items[0].Err, engine.ErrFrame) {
			t.Errorf("%d in flight: %v, %v", inFlight, err, batch.Items[0].Err)
		}
		if len(s.calls)+len(s.queued) != 0 {
			t.Errorf("%d in flight: the pipeline was called", inFlight)
		}
		batch.Clear()
	}
}

func TestStages(t *testing.T) {
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	for _, tt := range []struct {
		in   trt.Times
		want engine.Stages
	}{
		{trt.Times{Upload: ms(1), Preprocess: ms(2), Tokenizer: ms(3), Search: ms(4), Encoder: ms(5), Download: ms(6), Total: ms(21)},
			engine.Stages{Preprocess: ms(3), Tokenize: ms(7), Encode: ms(11)}},
		{trt.Times{Preprocess: ms(2), Tokenizer: ms(3), Download: ms(6), Total: ms(11)}, engine.Stages{Preprocess: ms(2), Tokenize: ms(9)}},
		{trt.Times{Total: ms(9), Graph: true}, engine.Stages{Tokenize: ms(9)}},
	} {
		var got engine.Stages
		stages(&got, &tt.in)
		if got != tt.want {
			t.Errorf("%+v: %+v, want %+v", tt.in, got, tt.want)
		}
	}
}

// A plan from elsewhere is taken for the same graph, library and GPU, whatever its builder chose else.
func TestUnfit(t *testing.T) {
	const sm = 89
	wanted := enginecache.Key{
		ONNX: "a", Weights: []string{"b"}, Role: "encoder", Precision: "fp16", Family: "rtx", Version: "1.7.1.116", ABI: 2,
		GPU: "RTX 4090", SM: sm, Driver: 13000, DLACore: -1, BatchMin: 1, BatchOpt: 2, BatchMax: 2, OptimizationLevel: -1,
	}
	for _, tt := range []struct {
		name   string
		change func(k *enginecache.Key)
		want   string // empty: it fits
	}{
		{"the same", func(*enginecache.Key) {}, ""},
		{"for this capability among others", func(k *enginecache.Key) {
			k.GPU, k.SM, k.Driver, k.ComputeCapabilities = "", 0, 0, []int{86, 89}
		}, ""},
		{"options, driver and shim", func(k *enginecache.Key) { k.OptimizationLevel, k.Workspace, k.Driver, k.ABI = 5, 1, 12000, 1 }, ""},
		{"larger batches", func(k *enginecache.Key) { k.BatchOpt, k.BatchMax = 4, 4 }, ""},
		{"for other capabilities", func(k *enginecache.Key) { k.ComputeCapabilities = []int{86, 120} }, "compute capabilities [86 120], this GPU has 89"},
		{"smaller batches", func(k *enginecache.Key) { k.BatchMax = 1 }, "batches of 1 to 1, wanted are 1 to 2"},
		{"another graph", func(k *enginecache.Key) { k.ONNX = "x" }, "another graph"},
		{"other weights", func(k *enginecache.Key) { k.Weights = nil }, "another graph"},
		{"another role", func(k *enginecache.Key) { k.Role = "tokenizer" }, "another graph"},
		{"another precision", func(k *enginecache.Key) { k.Precision = "fp32" }, "another graph"},
		{"another version", func(k *enginecache.Key) { k.Version = "1.6.0.1" }, "built by rtx 1.6.0.1, this is rtx 1.7.1.116"},
		{"another family", func(k *enginecache.Key) { k.Family = "trt10" }, "built by trt10"},
		{"another GPU", func(k *enginecache.Key) { k.GPU = "RTX 4060" }, "built for RTX 4060, sm_89"},
		{"DLA", func(k *enginecache.Key) { k.DLACore = 0 }, "DLA core 0, wanted is -1"},
	} {
		k := wanted
		tt.change(&k)
		if got := unfit(k, wanted, sm); (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// A model folder of an earlier version has nothing for TensorRT, and the error says what to do.
func TestGraphsOfAnOldModel(t *testing.T) {
	s := Source{Precision: model.FP32, Manifest: &model.Manifest{Name: "old", Graphs: []model.Graph{
		{Role: model.RoleTokenizer, Precision: model.FP32, Backends: []string{model.BackendONNXRuntime}},
		{Role: model.RoleEncoder, Precision: model.FP32, Backends: []string{model.BackendONNXRuntime, model.BackendTensorRT}},
	}}}
	if _, err := s.graph(model.RoleTokenizer); !errors.Is(err, model.ErrNoGraph) || !strings.HasSuffix(err.Error(), "import the checkpoint again, with --precision fp32,fp16") {
		t.Errorf("tokenizer: %v", err)
	}
	if _, err := s.graph(model.RoleEncoder); err != nil {
		t.Errorf("encoder: %v", err)
	}
}

func TestInFlight(t *testing.T) {
	for _, test := range []struct {
		family     string
		integrated bool
		want       int
	}{{"trt10", false, 2}, {"rtx", false, 2}, {"trt10", true, 1}, {"trt8", false, 1}} {
		if got := inFlight(test.family, trt.Device{Integrated: test.integrated}); got != test.want {
			t.Errorf("%s, integrated %v: %d in flight, want %d", test.family, test.integrated, got, test.want)
		}
	}
}
