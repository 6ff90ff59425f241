package onnxruntime_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/toklip/toklip/engine"
	"github.com/toklip/toklip/engine/enginetest"
	"github.com/toklip/toklip/engine/onnxruntime"
	"golang.org/x/sys/unix"
)

// runPipeline starts a pipeline over backend with one camera and returns a step that
// offers a frame and waits for its result.
func runPipeline(tb testing.TB, backend engine.Backend) (p *engine.Pipeline, step func(*engine.Frame)) {
	tb.Helper()
	delivered := make(chan struct{}, 1)
	p, err := engine.New(engine.Config{Backend: backend, Sink: engine.SinkFunc(func(*engine.Result) { delivered <- struct{}{} })})
	if err != nil {
		tb.Fatal(err)
	}
	camera, err := p.AddCamera(engine.CameraConfig{Name: "camera"})
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			tb.Error(err)
		}
	})
	return p, func(f *engine.Frame) {
		f.Reset(nil)
		camera.Offer(f)
		<-delivered
	}
}

// TestPipelineAllocatesNothing runs the whole step from Offer to Deliver with the real
// network.
func TestPipelineAllocatesNothing(t *testing.T) {
	m := buildModel(t, "tiny", "fp32")
	b, err := openRuntime(t).NewBackend(m, onnxruntime.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	p, step := runPipeline(t, b)
	frames := [2]*engine.Frame{enginetest.NewFrame(640, 480, 0, 1), enginetest.NewFrame(640, 480, 0, 9)}
	n := 0
	run := func() { step(frames[n/2%2]); n++ } // every frame twice: changed, then reused
	for range 8 {
		run()
	}
	if allocs := testing.AllocsPerRun(40, run); allocs != 0 {
		t.Errorf("%v allocations a frame, want none", allocs)
	}
	var metrics engine.Metrics
	p.Metrics(&metrics)
	if metrics.Results < 40 || metrics.Reused < 20 || metrics.Encode.Count() < 20 {
		t.Errorf("%d results, %d reused, %d encoded: not what the test thinks it measures", metrics.Results, metrics.Reused, metrics.Encode.Count())
	}
}

// BenchmarkBareSessions runs tokenizer and encoder alone; "cpu-ms" is the processor
// time of all threads, which tells more than the clock on a busy machine.
func BenchmarkBareSessions(b *testing.B) {
	for _, preset := range presets() {
		for _, precision := range []string{"fp32", "int8"} {
			for _, spin := range []bool{false, true} {
				b.Run(fmt.Sprintf("%s/%s/spin=%v", preset, precision, spin), func(b *testing.B) {
					g, err := openRuntime(b).Load(buildModel(b, preset, precision), onnxruntime.Options{MaxBatch: 1, Spin: spin})
					if err != nil {
						b.Fatal(err)
					}
					defer g.Close()
					b.ReportAllocs()
					var before time.Duration
					n := 0
					for b.Loop() {
						if n == 1 { // the first run makes the arena
							before = processorTime(b)
						}
						ids, err := g.Tokenize(1)
						if err != nil {
							b.Fatal(err)
						}
						copy(g.TokenIDs(), ids)
						if _, _, err := g.Encode(1); err != nil {
							b.Fatal(err)
						}
						n++
					}
					if n > 1 {
						b.ReportMetric((processorTime(b)-before).Seconds()*1e3/float64(n-1), "cpu-ms")
					}
				})
			}
		}
	}
}

// processorTime is what the process has used so far.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// BenchmarkPipelineSessions runs the same through the pipeline, from a 1080p frame
// offered to the result delivered; "outside-ms" is the median of what is neither
// tokenizer nor encoder.
func BenchmarkPipelineSessions(b *testing.B) {
	for _, preset := range presets() {
		b.Run(preset, func(b *testing.B) {
			backend, err := openRuntime(b).NewBackend(buildModel(b, preset, "fp32"), onnxruntime.Options{MaxBatch: 1})
			if err != nil {
				b.Fatal(err)
			}
			defer backend.Close()
			var outside engine.Histogram
			delivered := make(chan struct{}, 1)
			p, err := engine.New(engine.Config{Backend: backend, Sink: engine.SinkFunc(func(r *engine.Result) {
				outside.Add(r.Stages.Total - r.Stages.Tokenize - r.Stages.Encode)
				delivered <- struct{}{}
			})})
			if err != nil {
				b.Fatal(err)
			}
			camera, err := p.AddCamera(engine.CameraConfig{Name: "camera"})
			if err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan error, 1)
			go func() { ended <- p.Run(ctx) }()
			frames := [2]*engine.Frame{enginetest.NewFrame(1920, 1080, 0, 1), enginetest.NewFrame(1920, 1080, 0, 9)}
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				f := frames[n%2]
				f.Reset(nil)
				camera.Offer(f)
				<-delivered
				n++
			}
			b.ReportMetric(outside.Quantile(0.5).Seconds()*1e3, "outside-ms")
			cancel()
			if err := <-ended; err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkAgeUnderOverload measures the age of frames at the start of inference with the
// real network on all cores, and cameras three times as fast as it is.
func BenchmarkAgeUnderOverload(b *testing.B) {
	m := buildModel(b, "demo", "fp32")
	for _, cameras := range []int{1, 3} {
		b.Run(fmt.Sprintf("demo/cameras=%d", cameras), func(b *testing.B) {
			backend, err := openRuntime(b).NewBackend(m, onnxruntime.Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer backend.Close()
			_, step := runPipeline(b, backend)
			var frames [8]*engine.Frame
			for i := range frames {
				frames[i] = enginetest.NewFrame(640, 480, 0, uint64(i))
			}
			const warm, timed = 5, 20
			var start time.Time
			for i := range warm + timed {
				if i == warm {
					start = time.Now()
				}
				step(frames[i%len(frames)])
			}
			period := time.Since(start) / timed / 3 * time.Duration(cameras)
			enginetest.BenchmarkAge(b, backend, cameras, period)
			b.ReportMetric(period.Seconds()*1e3, "period-ms")
		})
	}
}

// presets are the models to measure: the full-size one only when it is asked for.
func presets() []string {
	if os.Getenv("TOKLIP_FULL") != "" {
		return []string{"tiny", "s256"}
	}
	return []string{"tiny"}
}
