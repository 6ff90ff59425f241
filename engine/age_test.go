package engine_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/toklip/toklip/engine"
	"github.com/toklip/toklip/engine/enginetest"
)

// sleeper is a network that takes its time and no processor, as one on a GPU does.
type sleeper struct {
	model           *engine.Model
	takes           time.Duration
	runs            int32
	images          []float32
	ids, tokens     []int32
	features, embed []float32
}

func newSleeper(takes time.Duration) *sleeper {
	half := [3]float32{0.5, 0.5, 0.5}
	return &sleeper{
		model: &engine.Model{
			Name: "sleeper", Tokenizer: "t", Encoder: "e", Precision: "fp32", ImageSize: 128, Rows: 8, Cols: 8,
			FeatureDim: 8, EmbeddingDim: 8, Codebook: 1 << 30, Mean: half, Std: half,
		},
		takes: takes, images: make([]float32, 3*128*128), ids: make([]int32, 64), tokens: make([]int32, 64),
		features: make([]float32, 64*8), embed: make([]float32, 8),
	}
}

func (g *sleeper) Describe() engine.Description {
	return engine.Description{Name: "sleeper", MaxBatch: 1, InFlight: 1, Model: g.model}
}
func (g *sleeper) Images() []float32 { return g.images }
func (g *sleeper) TokenIDs() []int32 { return g.tokens }
func (g *sleeper) Close() error      { return nil }

func (g *sleeper) Tokenize(int) ([]int32, error) {
	time.Sleep(g.takes / 2)
	g.runs++
	for i := range g.ids {
		g.ids[i] = g.runs
	}
	return g.ids, nil
}

func (g *sleeper) Encode(int) (features, embeddings []float32, err error) {
	time.Sleep(g.takes / 2)
	return g.features, g.embed, nil
}

// BenchmarkAgeUnderOverload: a backend that needs about 31 ms a frame, three times as
// long as it has: one camera of 100 frames a second, or three of 33. The goal is an age of
// one period and 5 ms at p99 (15 and 35 ms).
func BenchmarkAgeUnderOverload(b *testing.B) {
	for _, cameras := range []int{1, 3} {
		b.Run(fmt.Sprintf("cameras=%d", cameras), func(b *testing.B) {
			// Not a multiple of the period, or all ages would be alike.
			backend, err := engine.NewBackend(newSleeper(31 * time.Millisecond))
			if err != nil {
				b.Fatal(err)
			}
			defer backend.Close()
			enginetest.BenchmarkAge(b, backend, cameras, time.Duration(cameras)*10*time.Millisecond)
		})
	}
}
