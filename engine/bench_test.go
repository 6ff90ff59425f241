package engine

import (
	"context"
	"testing"

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
