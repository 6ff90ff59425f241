package tensorrt_test

import (
	"fmt"
	"log/slog"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/toklip/toklip/cmd/toklip/tensorrt"
	"github.com/toklip/toklip/engine"
	"github.com/toklip/toklip/engine/enginetest"
	"github.com/toklip/toklip/engine/preprocess"
	"github.com/toklip/toklip/model"
	"github.com/toklip/toklip/trt/trttest"
)

// What only a GPU with TensorRT can show. `make test-gpu` sets gpuVariable, and then a machine without is a failure;
// the shim is the one that trt.ShimVariable names, or the system's.
const (
	gpuVariable  = "TOKLIP_GPU"
	soakVariable = "TOKLIP_GPU_SOAK" // how long TestGPUSoak takes; a minute by default
)

// openGPU opens TensorRT on this machine's GPU, with a cache of its own.
func openGPU(t *testing.T, cache string) *tensorrt.Machine {
	t.Helper()
	if os.Getenv(gpuVariable) != "1" {
		t.Skip("it takes a GPU and TensorRT: make test-gpu")
	}
	m, err := tensorrt.Open(tensorrt.Options{CacheDir: cache, Logger: trttest.Logger(t, slog.LevelInfo)})
	if err != nil {
		t.Fatal(err)
	}
	if family := m.Info().Family; family == "test" {
		t.Fatalf("%s is the implementation for tests", m.Info().Shim)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Errorf("close TensorRT: %v", err)
		}
	})
	t.Logf("%s, TensorRT %s, kernels %q", m.DeviceName(), m.Info().Version, m.Info().Kernels)
	return m
}

// load builds what is missing and loads the model.
func load(tb testing.TB, m *tensorrt.Machine, s tensorrt.Source, options tensorrt.RunOptions) *tensorrt.Loaded {
	tb.Helper()
	for _, b := range build(tb, m, s) {
		if b.Seconds > 0 {
			tb.Logf("%s in %s for %d frames: built in %.1f s, %d bytes", b.Role, b.Precision, s.Batch, b.Seconds, b.Size)
		}
	}
	loaded, err := m.Load(tb.Context(), s, options)
	if err != nil {
		tb.Fatal(err)
	}
	return loaded
}

// gpuPrecisions are what an engine in a precision must reach on the tiny model.
var gpuPrecisions = []struct {
	precision string
	tolerance enginetest.Tolerance
}{
	{model.FP32, enginetest.FP32},
	{model.FP16, enginetest.Tolerance{Tokens: 0.98, MaxError: 0.1, Cosine: 0.995}},
	{model.Int8, enginetest.Tolerance{Tokens: 0.98, MaxError: 0.25, Cosine: 0.97}},
}

func TestGPUConformance(t *testing.T) {
	machine := openGPU(t, t.TempDir())
	tiny := importTiny(t)
	graphs := reference(t, tiny)
	for _, p := range gpuPrecisions {
		for _, inFlight := range []int{1, 2} {
			for _, kernels := range []bool{true, false} {
				name := fmt.Sprintf("%s, %d in flight, kernels %t", p.precision, inFlight, kernels)
				t.Run(name, func(t *testing.T) {
					spec := tiny.source(p.precision, 1).Spec
					enginetest.Run(t, enginetest.Suite{
						Model: spec, Reference: graphs.EncodeImage, Tolerance: p.tolerance,
						New: func(tb testing.TB, maxBatch int) engine.Backend {
							options := tensorrt.RunOptions{CUDAGraph: true, Kernels: kernels, InFlight: inFlight}
							return described{load(tb, machine, tiny.source(p.precision, maxBatch), options), spec}
						},
					})
				})
			}
		}
	}
}

func TestGPUGoldens(t *testing.T) {
	machine := openGPU(t, t.TempDir())
	s := importTiny(t).source(model.FP32, 1)
	build(t, machine, s, model.RoleTokenizer, model.RoleEncoder, model.RoleDecoder)
	loaded := load(t, machine, s, run)
	defer loaded.Close()
	decoder, err := machine.LoadDecoder(s)
	if err != nil {
		t.Fatal(err)
	}
	defer decoder.Close()
	enginetest.RunGoldens(t, loaded.Describe().Model, goldens(t), loaded.EncodeImage, decoder.Decode)
}

// A graph must change nothing but the time.
func TestGPUGraphEqualsCalls(t *testing.T) {
	machine := openGPU(t, t.TempDir())
	s := importTiny(t).source(model.FP16, 2)
	var all [2][]*engine.Result
	for i, graph := range []bool{false, true} {
		loaded := load(t, machine, s, tensorrt.RunOptions{CUDAGraph: graph, Kernels: true, InFlight: 1})
		batch := engine.NewBatch(loaded.Describe().Model)
		for round := range uint64(8) {
			batch.Clear()
			for stream := range 2 {
				// The second stream stands still every other time.
				batch.Add(stream, enginetest.NewFrame(320, 240, preprocess.BGR8, 1+uint64(stream)*100+round/uint64(1+stream)), preprocess.Squash)
			}
			if err := engine.Process(loaded, batch); err != nil {
				t.Fatal(err)
			}
			for k := range batch.Items {
				if err := batch.Items[k].Err; err != nil {
					t.Fatal(err)
				}
				r := batch.Items[k].Result
				r.Retain()
				all[i] = append(all[i], r)
			}
		}
		batch.Clear()
		if err := loaded.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for k := range all[0] {
		a, b := all[0][k], all[1][k]
		if !slices.Equal(a.IDs, b.IDs) || !slices.Equal(a.Changed, b.Changed) || !slices.Equal(a.Embedding, b.Embedding) || a.Reused != b.Reused {
			t.Errorf("result %d differs: reused %t and %t", k, a.Reused, b.Reused)
		}
		a.Release()
		b.Release()
	}
}

// Hours in a minute: as many batches as the GPU takes, moving and still pictures of all formats, each of which must come
// out the same every time, and memory that does not grow.
func TestGPUSoak(t *testing.T) {
	machine := openGPU(t, t.TempDir())
	length := time.Minute
	if text := os.Getenv(soakVariable); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatalf("%s: %v", soakVariable, err)
		}
	}
	s := importTiny(t).source(model.FP16, 4)
	loaded := load(t, machine, s, tensorrt.RunOptions{CUDAGraph: true, Kernels: true, InFlight: 1})
	defer loaded.Close()
	formats := []engine.PixelFormat{preprocess.BGR8, preprocess.BGRx8, preprocess.NV12, preprocess.YUYV}
	var frames [16]*engine.Frame
	for i := range frames {
		frames[i] = enginetest.NewFrame(320+64*(i%3), 240, formats[i%4], uint64(i))
	}
	var first [16]*engine.Result
	batch := engine.NewBatch(loaded.Describe().Model)
	free := memoryFree(t)
	batches, reused, begun := 0, 0, time.Now()
	for ; time.Since(begun) < length; batches++ {
		batch.Clear()
		n := 1 + batches%4
		shown := make([]int, 0, 4)
		for stream := range n {
			// A picture stays for three batches, then the next comes.
			i := (batches/3 + 5*stream) % len(frames)
			shown = append(shown, i)
			frames[i].Reset(nil)
			batch.Add(stream, frames[i], preprocess.Squash)
		}
		if err := engine.Process(loaded, batch); err != nil {
			t.Fatalf("batch %d: %v", batches, err)
		}
		for k := range batch.Items {
			if err := batch.Items[k].Err; err != nil {
				t.Fatalf("batch %d, frame %d: %v", batches, k, err)
			}
			r, i := batch.Items[k].Result, shown[k]
			if r.Reused {
				reused++
			}
			if first[i] == nil {
				r.Retain()
				first[i] = r
			} else if !slices.Equal(first[i].IDs, r.IDs) {
				t.Fatalf("batch %d: picture %d has other ids than at first", batches, i)
			}
		}
		if batches == 100 {
			free = memoryFree(t) // everything was made by now
		}
	}
	for _, r := range first {
		if r != nil {
			r.Release()
		}
	}
	if now := memoryFree(t); free > now && free-now > 64<<20 {
		t.Errorf("%d batches took %d bytes of the GPU's memory", batches, free-now)
	}
	t.Logf("%d batches in %v, %d results reused", batches, time.Since(begun).Round(time.Second), reused)
	if reused == 0 {
		t.Error("no result was reused, though every picture stood still for three batches")
	}
}

// memoryFree is how much memory of the GPU is free: only opening it asks anew.
func memoryFree(t *testing.T) uint64 {
	t.Helper()
	m, err := tensorrt.Open(tensorrt.Options{CacheDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	return m.Device().MemoryFree
}

// The full-size architecture with synthetic weights: builds, agrees with its reference, and is timed by bench-gpu.
func TestGPUFullSize(t *testing.T) {
	machine := openGPU(t, t.TempDir())
	full := importPreset(t, "s256")
	for _, precision := range []string{model.FP16, model.Int8} {
		t.Run(precision, func(t *testing.T) {
			loaded := load(t, machine, full.source(precision, 1), tensorrt.RunOptions{CUDAGraph: true, Kernels: true})
			defer loaded.Close()
			t.Logf("agreement with fp32: %s", loaded.Report)
			if !loaded.Report.Passed {
				t.Errorf("below the floors: %+v", loaded.Report)
			}
		})
	}
}
