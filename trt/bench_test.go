package trt_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/toklip/toklip/trt"
	"github.com/toklip/toklip/trt/trttest"
)

// null is a pipeline on testdata/null_shim.c, which does nothing.
func null(tb testing.TB, batch, inFlight int) *trt.Pipeline {
	tb.Helper()
	shim := filepath.Join(tb.TempDir(), "null_shim.so")
	out, err := exec.Command("gcc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC",
		"-I", filepath.Join(trttest.Root(tb), "csrc", "include"), filepath.Join("testdata", "null_shim.c"), "-o", shim).CombinedOutput()
	if err != nil {
		tb.Fatalf("%v\n%s", err, out)
	}
	lib, err := trt.Open(trt.Options{Shim: shim, Forgotten: trt.ForgottenInTests})
	if err != nil {
		tb.Fatal(err)
	}
	e, err := lib.Load([]byte("plan"), -1)
	if err != nil {
		tb.Fatal(err)
	}
	o := trt.DefaultPipelineOptions()
	o.Tokenizer, o.Encoder, o.BatchMax, o.InFlight = e, e, batch, inFlight
	o.ImageSize, o.Tokens, o.FeatureDim, o.EmbeddingDim = 256, 256, 1152, 1152
	p, err := lib.NewPipeline(o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { trt.CloseAll(tb, p, e, lib) })
	return p
}

// pictures are frames of a 640 x 480 camera each.
func pictures(batch int) []trt.Frame {
	frames := make([]trt.Frame, batch)
	for i := range frames {
		frames[i] = trt.Frame{Data: make([]byte, 640*480*3), Width: 640, Height: 480, Stride: 640 * 3, Pixels: trt.BGR, Resize: trt.Squash, Stream: i}
	}
	return frames
}

// Through cgo, too, a frame is one call with one batch in flight, two with two, and allocates nothing.
func TestOneCallAFrame(t *testing.T) {
	for inFlight, calls := range map[int]int{1: 1, 2: 2} {
		for _, batch := range []int{1, 8} {
			p := null(t, batch, inFlight)
			frames, results := pictures(batch), make([]trt.Result, batch)
			once := func() {
				frames[0].Data[0]++
				if err := process(t, p, inFlight, frames, results); err != nil {
					t.Fatal(err)
				}
				if r := results[batch-1]; r.IDs[0] != int32(frames[0].Data[0]) || len(r.Features) != 256*1152 || len(r.Packed) != 448 {
					t.Fatalf("%d in flight: id %d, %d features", inFlight, r.IDs[0], len(r.Features))
				}
			}
			if n := testing.AllocsPerRun(500, once); n != 0 {
				t.Errorf("%d in flight, batch of %d: %v allocations", inFlight, batch, n)
			}
			c := trt.WatchCalls(p)
			for range 100 {
				once()
			}
			if c.Count != 100*calls {
				t.Errorf("%d in flight: %d calls for 100 batches", inFlight, c.Count)
			}
		}
	}
}

// BenchmarkNull is what Go and cgo cost: the call behind them does nothing.
func BenchmarkNull(b *testing.B) {
	for _, inFlight := range []int{1, 2} {
		for _, batch := range []int{1, 4} {
			b.Run(fmt.Sprintf("in_flight=%d/batch=%d", inFlight, batch), func(b *testing.B) {
				p := null(b, batch, inFlight)
				frames, results := pictures(batch), make([]trt.Result, batch)
				b.ReportAllocs()
				begun := cpuTime(b)
				for b.Loop() {
					if err := process(b, p, inFlight, frames, results); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(cpuTime(b)-begun)/float64(b.N), "cpu-ns/op")
			})
		}
	}
}

// BenchmarkTiny runs the tiny model on the implementation for tests, and splits the time: in C, and in Go and
// cgo around it. With two batches in flight there is nothing to split, for C works on while Go does. A picture that does
// not change runs no encoder.
func BenchmarkTiny(b *testing.B) {
	m, g := newTiny(b), goldens(b)
	p, done := m.pipeline(b, "tokenizer.latents.onnx", nil)
	defer done()
	frames, results := []trt.Frame{m.image(g, 0)}, make([]trt.Result, 1)
	c := trt.WatchCalls(p)
	b.ReportAllocs()
	for b.Loop() {
		if err := process(b, p, 1, frames, results); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	n := float64(b.N)
	b.ReportMetric(float64(c.Time)/n, "c-ns/op")
	b.ReportMetric((float64(b.Elapsed())-float64(c.Time))/n, "go-ns/op")
	if results[0].IDs[0] != g.IDs[0] {
		b.Error("another result")
	}
}

// cpuTime is what this process has used of the processors: unlike the time of day it does not rise with what else runs
// on the machine.
func cpuTime(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
