package labels

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// BenchmarkScore is what labels cost a frame: scores, their order, presence.
func BenchmarkScore(b *testing.B) {
	for _, n := range []int{5, 100, 1000} {
		c := compiled(b, n, 1152)
		image := drawn(rand.New(rand.NewPCG(1, 1)), 1152)
		scores := c.Score(nil, image)
		b.Run(fmt.Sprintf("score/%dx1152", n), func(b *testing.B) {
			b.SetBytes(int64(4 * n * 1152))
			b.ReportAllocs()
			for b.Loop() {
				scores = c.Score(scores, image)
			}
			if len(scores) != n || scores[n-1].Broken {
				b.Fatalf("%d scores, the last %+v", len(scores), scores[n-1])
			}
		})
		b.Run(fmt.Sprintf("order/%d", n), func(b *testing.B) {
			var order []int
			b.ReportAllocs()
			for b.Loop() {
				order = Order(order, scores)
			}
			if scores[order[0]].Logit < scores[order[n-1]].Logit {
				b.Fatal("the last is better than the first")
			}
		})
		b.Run(fmt.Sprintf("track/%d", n), func(b *testing.B) {
			t, at := NewTracker(c), Moment{Mono: 1}
			b.ReportAllocs()
			for b.Loop() {
				at.Mono += 33e6
				t.Update(scores, at)
			}
			if t.last.Mono == 0 {
				b.Fatal("no time passed")
			}
		})
	}
}

func BenchmarkMask(b *testing.B) {
	door := Region{"door", []Point{{0.2, 0.1}, {0.6, 0.2}, {0.5, 0.9}, {0.1, 0.8}}}
	dst := make([]float32, 24*24)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := door.Mask(dst, Grid{24, 24}, Size{1920, 1080}, Window{420, 0, 1080, 1080}); err != nil {
			b.Fatal(err)
		}
	}
}
