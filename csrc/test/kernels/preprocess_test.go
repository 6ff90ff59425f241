package kernels

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/draw"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/toklip/toklip/engine/preprocess"
	"github.com/toklip/toklip/model/half"
)

// picture is a frame and how it is to be resized.
type picture struct {
	width, height, stride int
	pixels, resize        int32 // as the C ABI numbers them
	data                  []byte
}

// Numbers of the C ABI.
var (
	pixelsOf = map[preprocess.Format]int32{preprocess.BGR8: 1, preprocess.RGB8: 2, preprocess.BGRx8: 3, preprocess.Gray8: 4, preprocess.NV12: 5, preprocess.YUYV: 6}
	resizeOf = map[preprocess.Mode]int32{preprocess.Squash: 1, preprocess.Shortest: 2, preprocess.Longest: 3}
)

const imagePixels = 7

var (
	halves = [3]float32{0.5, 0.5, 0.5}
	// CLIP's, as other models have it.
	clipMean = [3]float32{0.48145466, 0.4578275, 0.40821073}
	clipStd  = [3]float32{0.26862954, 0.26130258, 0.27577711}
)

// preprocess asks for the network's input of a batch, as its bytes.
func (c *checker) preprocess(size int, half, graph bool, mean, std [3]float32, batch ...picture) ([]byte, error) {
	flag := func(b bool) int32 {
		if b {
			return 1
		}
		return 0
	}
	parts := []any{int32(1), int32(len(batch)), int32(size), flag(half), flag(graph), mean, std}
	for _, p := range batch {
		parts = append(parts, []int32{int32(p.width), int32(p.height), int32(p.stride), p.pixels, p.resize, int32(len(p.data))}, p.data)
	}
	return c.ask(parts...)
}

// normalise makes of S x S pixels, RGB, what the network gets.
func normalise(rgb []byte, mean, std [3]float32) []float32 {
	plane := len(rgb) / 3
	out := make([]float32, len(rgb))
	for i, v := range rgb {
		c := i % 3
		scaled := float32(v) / 255
		out[c*plane+i/3] = float32(scaled-mean[c]) / std[c]
	}
	return out
}

func sameFloats(got, want []float32) error {
	if len(got) != len(want) {
		return fmt.Errorf("%d values, want %d", len(got), len(want))
	}
	wrong, first := 0, -1
	for i, v := range want {
		if math.Float32bits(got[i]) != math.Float32bits(v) {
			wrong++
			if first < 0 {
				first = i
			}
		}
	}
	if wrong > 0 {
		return fmt.Errorf("%d of %d values differ, the first at %d: %v, want %v", wrong, len(want), first, got[first], want[first])
	}
	return nil
}

// readRGB reads a PNG as 3 bytes a pixel.
func readRGB(t *testing.T, path string) (pixels []byte, width, height int) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	decoded, err := png.Decode(f)
	if err != nil {
		t.Fatalf("decode %s: %v", path, err)
	}
	b := decoded.Bounds()
	rgba := image.NewNRGBA(image.Rect(0, 0, b.Dx(), b.Dy()))
	draw.Draw(rgba, rgba.Bounds(), decoded, b.Min, draw.Src)
	for i := 0; i < len(rgba.Pix); i += 4 {
		pixels = append(pixels, rgba.Pix[i:i+3]...)
	}
	return pixels, b.Dx(), b.Dy()
}

// TestGoldens asserts every byte: what open_clip's transform gives through Pillow.
func TestGoldens(t *testing.T) {
	images, err := filepath.Glob(reference(t, "images", "*.png"))
	if err != nil || len(images) < 5 {
		t.Fatalf("reference images: %v, %v", images, err)
	}
	eachChecker(t, func(t *testing.T, c *checker) {
		for _, path := range images {
			src, w, h := readRGB(t, path)
			name := strings.TrimSuffix(filepath.Base(path), ".png")
			for _, size := range []int{256, 384} {
				for mode, resize := range resizeOf {
					if c.few && (size != 256 || mode != preprocess.Squash) {
						continue
					}
					want, gw, gh := readRGB(t, reference(t, "golden", fmt.Sprintf("pre_%s_%d_%v.png", name, size, mode)))
					if gw != size || gh != size {
						t.Fatalf("golden of %s is %dx%d", name, gw, gh)
					}
					got, err := c.preprocess(size, false, false, halves, halves, picture{w, h, 3 * w, pixelsOf[preprocess.RGB8], resize, src})
					if err != nil {
						t.Fatal(err)
					}
					if err := sameFloats(numbers[float32](t, got), normalise(want, halves, halves)); err != nil {
						t.Errorf("%s, %d, %v: %v", name, size, mode, err)
					}
				}
			}
		}
	})
}

// frame makes a random frame of a geometry, with padded rows, and what package preprocess makes of it.
func frame(t *testing.T, r *random, g preprocess.Geometry) (picture, []byte) {
	t.Helper()
	stride := g.Format.RowBytes(g.Width) + r.below(3)*r.below(70)
	p := picture{g.Width, g.Height, stride, pixelsOf[g.Format], resizeOf[g.Mode], r.bytes(g.Format.FrameBytes(g.Width, g.Height, stride))}
	if r.below(2) == 0 { // Noise averages out where much is reduced; edges do not.
		block := 1 + r.below(97)
		for i := range p.data {
			p.data[i] = -byte(i / block % 2)
		}
	}
	resizer, err := preprocess.New(g)
	if err != nil {
		t.Fatal(err)
	}
	rgb := make([]byte, 3*g.Size*g.Size)
	if err := resizer.RGB(rgb, p.data, stride); err != nil {
		t.Fatal(err)
	}
	return p, rgb
}

// geometry draws one that is valid.
func geometry(r *random, size int) preprocess.Geometry {
	for {
		g := preprocess.Geometry{
			Width: r.between(1, 300), Height: r.between(1, 300), Size: size,
			Format: preprocess.Format(r.below(len(pixelsOf))), Mode: preprocess.Mode(r.below(len(resizeOf))),
		}
		switch r.below(4) {
		case 0: // a tall one, whose passes go the other way round
			g.Width, g.Height = r.between(1, 60), r.between(200, 900)
		case 1: // a wide one
			g.Width, g.Height = r.between(200, 2600), r.between(1, 40)
		}
		if g.Format == preprocess.NV12 || g.Format == preprocess.YUYV {
			g.Width += g.Width % 2
			g.Height += g.Height % 2
		}
		if g.Validate() == nil {
			return g
		}
	}
}

// TestRandomFrames gives batches of frames of every kind, in fp32 and fp16, and through a graph that was captured
// for other frames.
func TestRandomFrames(t *testing.T) {
	rounds := 120
	if testing.Short() {
		rounds = 20
	}
	eachChecker(t, func(t *testing.T, c *checker) {
		r := random(20250214)
		for round := range rounds {
			if c.few && round%3 != 0 {
				continue
			}
			size := []int{64, 33, 128}[round*3/rounds]
			fp16 := round%6 >= 3
			mean, std := halves, halves
			if round%12 >= 6 {
				mean, std = clipMean, clipStd
			}
			n := 1 + r.below(3)
			var batch []picture
			var want []float32
			var names []string
			for range n {
				if r.below(8) == 0 {
					// The network's own input, which is only converted.
					values := make([]float32, 3*size*size)
					var raw bytes.Buffer
					for i := range values {
						values[i] = r.unit() * 2
						u := math.Float32bits(values[i])
						raw.Write([]byte{byte(u), byte(u >> 8), byte(u >> 16), byte(u >> 24)})
					}
					batch = append(batch, picture{pixels: imagePixels, data: raw.Bytes()})
					want = append(want, values...)
					names = append(names, "image")
					continue
				}
				g := geometry(&r, size)
				p, rgb := frame(t, &r, g)
				batch = append(batch, p)
				want = append(want, normalise(rgb, mean, std)...)
				names = append(names, g.String())
			}
			got, err := c.preprocess(size, fp16, round%2 == 1, mean, std, batch...)
			if err != nil {
				t.Fatalf("%v: %v", names, err)
			}
			if fp16 {
				halfs := numbers[uint16](t, got)
				if len(halfs) != len(want) {
					t.Fatalf("%v: %d values, want %d", names, len(halfs), len(want))
				}
				for i, v := range want {
					if halfs[i] != half.From(v) {
						t.Fatalf("%v: value %d is %#x, want %#x of %v", names, i, halfs[i], half.From(v), v)
					}
				}
				continue
			}
			if err := sameFloats(numbers[float32](t, got), want); err != nil {
				t.Errorf("%v: %v", names, err)
			}
		}
	})
}

// TestCameraSizes has the sizes that cameras have, in each format.
func TestCameraSizes(t *testing.T) {
	eachChecker(t, func(t *testing.T, c *checker) {
		r := random(7)
		for format := range preprocess.Format(len(pixelsOf)) {
			for i, size := range [][2]int{{640, 480}, {1920, 1080}, {1080, 1920}} {
				if c.few && int(format)%3 != i {
					continue
				}
				mode := preprocess.Mode((int(format) + i) % len(resizeOf))
				g := preprocess.Geometry{Width: size[0], Height: size[1], Format: format, Size: 256, Mode: mode}
				p, rgb := frame(t, &r, g)
				got, err := c.preprocess(256, false, true, halves, halves, p)
				if err != nil {
					t.Fatalf("%v: %v", g, err)
				}
				if err := sameFloats(numbers[float32](t, got), normalise(rgb, halves, halves)); err != nil {
					t.Errorf("%v: %v", g, err)
				}
			}
		}
		// So wide that no tile of the CUDA kernel holds what it needs.
		g := preprocess.Geometry{Width: 16384, Height: 6, Format: preprocess.NV12, Size: 64, Mode: preprocess.Squash}
		p, rgb := frame(t, &r, g)
		got, err := c.preprocess(64, false, false, halves, halves, p)
		if err != nil {
			t.Fatal(err)
		}
		if err := sameFloats(numbers[float32](t, got), normalise(rgb, halves, halves)); err != nil {
			t.Errorf("%v: %v", g, err)
		}
	})
}

// TestRefusedFrames: what package preprocess refuses is refused here, naming the value.
func TestRefusedFrames(t *testing.T) {
	eachChecker(t, func(t *testing.T, c *checker) {
		for _, bad := range []struct {
			picture
			want string
		}{
			{picture{9, 4, 9, 5, 1, make([]byte, 100)}, "width 9 is odd"},
			{picture{10, 4, 10, 5, 1, make([]byte, 59)}, "needs 60"},
			{picture{10, 4, 9, 5, 1, make([]byte, 100)}, "stride 9"},
			{picture{10, 4, 30, 8, 1, make([]byte, 120)}, "pixel format 8"},
			{picture{10, 4, 30, 2, 0, make([]byte, 120)}, "resize mode 0"},
			{picture{0, 4, 30, 2, 1, make([]byte, 120)}, "width 0"},
			{picture{0, 0, 0, imagePixels, 0, make([]byte, 12)}, "12 bytes"},
		} {
			_, err := c.preprocess(64, false, false, halves, halves, bad.picture)
			var r refusal
			if !errors.As(err, &r) || r.code != invalid || !strings.Contains(r.message, bad.want) {
				t.Errorf("%+v: %v, want %q", bad.pixels, err, bad.want)
			}
		}
	})
}
