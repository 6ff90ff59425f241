package engine

import (
	"context"
	"testing"
	"time"

	"github.com/toklip/toklip/engine/preprocess"
)

// nullGraphs are s256's networks in shape alone: they take no time, and every frame's
// ids differ from the last ones, so that all else is done in full.
func nullGraphs() *fakeGraphs {
	g := newFakeGraphs(1, 1)
	m := g.model
	m.ImageSize, m.Rows, m.Cols, m.FeatureDim, m.EmbeddingDim, m.Codebook = 256, 16, 16, 1152, 1152, 16384
	g.images = make([]float32, 3*256*256)
	return g
}

type nullNetwork struct {
	*fakeGraphs
	ids, tokens     []int32
	features, embed []float32
	n               int32
}

func newNullNetwork() *nullNetwork {
	return &nullNetwork{
		fakeGraphs: nullGraphs(), ids: make([]int32, 256), tokens: make([]int32, 256),
		features: make([]float32, 256*1152), embed: make([]float32, 1152),
	}
}

func (g *nullNetwork) TokenIDs() []int32 { return g.tokens }
func (g *nullNetwork) Tokenize(int) ([]int32, error) {
	g.n++
	for i := range g.ids {
		g.ids[i] = (g.n + int32(i)) % 16384
	}
	return g.ids, nil
}
func (g *nullNetwork) Encode(int) (features, embeddings []float32, err error) {
	return g.features, g.embed, nil
}

// BenchmarkOverhead is everything but the networks, from a 1080p frame offered to its
// result delivered, at the shapes of s256.
func BenchmarkOverhead(b *testing.B) {
	backend, err := NewBackend(newNullNetwork())
	if err != nil {
		b.Fatal(err)
	}
	defer backend.Close()
	delivered := make(chan struct{}, 1)
	p, err := New(Config{Backend: backend, Sink: SinkFunc(func(r *Result) {
		if r.Reused || len(r.Features) != 256*1152 {
			b.Error("the frame did not take the whole way")
		}
		delivered <- struct{}{}
	})})
	if err != nil {
		b.Fatal(err)
	}
	c, err := p.AddCamera(CameraConfig{Name: "camera"})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	f := &Frame{Width: 1920, Height: 1080, Stride: 5760, Format: preprocess.BGR8, Pixels: make([]byte, 5760*1080)}
	for i := range f.Pixels {
		f.Pixels[i] = byte(i * i >> 7)
	}
	b.ReportAllocs()
	for b.Loop() {
		f.Reset(nil)
		f.CaptureMono = 0
		c.Offer(f)
		<-delivered
	}
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
	var m Metrics
	p.Metrics(&m)
	b.ReportMetric(m.Total.Quantile(0.5).Seconds()*1e3, "p50-ms")
	b.ReportMetric(m.Total.Quantile(0.99).Seconds()*1e3, "p99-ms")
	b.ReportMetric(m.Prepare.Quantile(0.5).Seconds()*1e3, "preprocess-p50-ms")
}

// BenchmarkAgeUnderOverload measures how old frames are when their inference begins,
// with a source of 100 frames a second and a backend that needs 30 ms for each: three
// times as long as it has. The goal is one frame period (10 ms) and 5 ms at p99.
func BenchmarkAgeUnderOverload(b *testing.B) {
	const period, work = 10 * time.Millisecond, 30 * time.Millisecond
	g := newFakeGraphs(1, 1)
	g.encode = func(int) error { time.Sleep(work / 2); return nil }
	g.tokenize = g.encode
	backend, err := NewBackend(g)
	if err != nil {
		b.Fatal(err)
	}
	defer backend.Close()
	delivered := make(chan struct{}, 1)
	p, err := New(Config{Backend: backend, Sink: SinkFunc(func(*Result) { delivered <- struct{}{} })})
	if err != nil {
		b.Fatal(err)
	}
	c, err := p.AddCamera(CameraConfig{Name: "camera"})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended, fed := make(chan error, 1), make(chan struct{})
	go func() { ended <- p.Run(ctx) }()
	go func() {
		defer close(fed)
		ticks := time.NewTicker(period)
		defer ticks.Stop()
		for i := uint64(0); ; i++ {
			select {
			case <-ctx.Done():
				return
			case <-ticks.C:
				c.Offer(gray(byte(i), i))
			}
		}
	}()
	for b.Loop() {
		<-delivered
	}
	cancel()
	<-fed
	go func() {
		for range delivered {
		}
	}()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
	close(delivered)
	var m Metrics
	p.Metrics(&m)
	b.ReportMetric(m.Age.Quantile(0.5).Seconds()*1e3, "age-p50-ms")
	b.ReportMetric(m.Age.Quantile(0.99).Seconds()*1e3, "age-p99-ms")
	b.ReportMetric(float64(m.Cameras[0].Drops.Replaced)/float64(m.Cameras[0].Offered), "dropped")
}
