package preprocess

import (
	"fmt"
	"testing"
)

// noise fills a buffer with bytes that repeat from run to run.
func noise(n int, seed uint64) []byte {
	b := make([]byte, n)
	for i := range b {
		seed ^= seed << 13
		seed ^= seed >> 7
		seed ^= seed << 17
		b[i] = byte(seed >> 32)
	}
	return b
}

// BenchmarkResize1080p is the whole way of a camera frame to the network's input,
// on each kernel, from each format.
func BenchmarkResize1080p(b *testing.B) {
	for _, c := range []Geometry{
		{1920, 1080, BGR8, 256, Squash},
		{1920, 1080, BGR8, 384, Squash},
		{1920, 1080, BGR8, 256, Shortest},
		{1920, 1080, BGR8, 256, Longest},
		{1080, 1920, BGR8, 256, Squash}, // vertical pass first
		{1920, 1080, BGRx8, 256, Squash},
		{1920, 1080, Gray8, 256, Squash},
		{1920, 1080, NV12, 256, Squash},
		{1920, 1080, YUYV, 256, Squash},
	} {
		for _, k := range kernels() {
			b.Run(fmt.Sprintf("%dx%d-%v-%d-%v/%v", c.Width, c.Height, c.Format, c.Size, c.Mode, k), func(b *testing.B) {
				r, err := newResizer(c, k)
				if err != nil {
					b.Fatal(err)
				}
				stride := c.Format.RowBytes(c.Width)
				src := noise(c.Format.FrameBytes(c.Width, c.Height, stride), 1)
				dst := make([]float32, 3*c.Size*c.Size)
				b.SetBytes(int64(len(src)))
				b.ReportAllocs()
				for b.Loop() {
					if err := r.Tensor(dst, src, stride); err != nil {
						b.Fatal(err)
					}
				}
				sum := float32(0)
				for _, v := range dst {
					if v < -1 || v > 1 {
						b.Fatalf("value %v is outside -1..1", v)
					}
					sum += v
				}
				if sum == 0 {
					b.Fatal("the output is empty")
				}
			})
		}
	}
}

// BenchmarkNew is the price of a change of geometry.
func BenchmarkNew(b *testing.B) {
	for b.Loop() {
		if _, err := New(Geometry{1920, 1080, BGR8, 256, Squash}); err != nil {
			b.Fatal(err)
		}
	}
}
