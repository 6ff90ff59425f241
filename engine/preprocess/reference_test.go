package preprocess

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"testing"
)

// plain is the whole transform written as simply as it can be: every pixel of
// the resized image, 64-bit sums, no layout, no band. The kernels are compared
// with it; it is compared with Pillow and OpenCV below.
func plain(g Geometry, src []byte, stride int) []byte {
	rgb := plainRGB(g, src, stride)
	l, err := g.layout()
	if err != nil {
		panic(err)
	}
	w, h := g.Width, g.Height
	if l.verticalFirst {
		rgb, h = plainDown(rgb, w, h, l.height), l.height
		rgb, w = plainAcross(rgb, w, h, l.width), l.width
	} else {
		rgb, w = plainAcross(rgb, w, h, l.width), l.width
		rgb, h = plainDown(rgb, w, h, l.height), l.height
	}
	out := make([]byte, 3*g.Size*g.Size)
	for y := range g.Size {
		for x := range g.Size {
			fromX, fromY := x-l.padX+l.cropX, y-l.padY+l.cropY
			if fromX >= 0 && fromX < w && fromY >= 0 && fromY < h {
				copy(out[3*(y*g.Size+x):][:3], rgb[3*(fromY*w+fromX):])
			}
		}
	}
	return out
}

func plainRGB(g Geometry, src []byte, stride int) []byte {
	out := make([]byte, 0, 3*g.Width*g.Height)
	for y := range g.Height {
		row := src[y*stride:]
		for x := range g.Width {
			switch g.Format {
			case BGR8:
				out = append(out, row[3*x+2], row[3*x+1], row[3*x])
			case RGB8:
				out = append(out, row[3*x:3*x+3]...)
			case BGRx8:
				out = append(out, row[4*x+2], row[4*x+1], row[4*x])
			case Gray8:
				out = append(out, row[x], row[x], row[x])
			case NV12:
				uv := src[(g.Height+y/2)*stride+x&^1:]
				out = append(out, plainYUV(row[x], uv[0], uv[1])...)
			case YUYV:
				pair := row[2*(x&^1):]
				out = append(out, plainYUV(row[2*x], pair[1], pair[3])...)
			}
		}
	}
	return out
}

func plainYUV(y, u, v byte) []byte {
	l := max(int64(y)-16, 0)*1220542 + 1<<19
	du, dv := int64(u)-128, int64(v)-128
	return []byte{
		byte(min(max((l+1673527*dv)>>20, 0), 255)),
		byte(min(max((l-409993*du-852492*dv)>>20, 0), 255)),
		byte(min(max((l+2116026*du)>>20, 0), 255)),
	}
}

// plainWeights are the integer weights of output pixel i, and where they begin.
func plainWeights(in, out, i int) (from int, weights []int64) {
	scale := float64(in) / float64(out)
	stretch := math.Max(1, scale)
	center := float64((float64(i) + 0.5) * scale) // float64: no fused multiply-add, as in taps.go
	from = max(0, int(center-2*stretch+0.5))
	to := min(in, int(center+2*stretch+0.5))
	var w []float64
	sum := 0.0
	for j := from; j < to; j++ {
		x := math.Abs((float64(j) - center + 0.5) * (1 / stretch))
		v := 0.0
		if x < 1 {
			v = float64(float64((float64((-0.5+2)*x)-(-0.5+3))*x)*x) + 1
		} else if x < 2 {
			v = float64((float64((float64((x-5)*x)+8)*x) - 4) * -0.5)
		}
		w = append(w, v)
		sum += v
	}
	for _, v := range w {
		weights = append(weights, int64(math.Trunc(float64(v/sum*(1<<22))+math.Copysign(0.5, v))))
	}
	return from, weights
}

func plainAcross(rgb []byte, w, h, to int) []byte {
	out := make([]byte, 3*to*h)
	for x := range to {
		from, weights := plainWeights(w, to, x)
		for y := range h {
			for c := range 3 {
				sum := int64(1 << 21)
				for j, k := range weights {
					sum += k * int64(rgb[3*(y*w+from+j)+c])
				}
				out[3*(y*to+x)+c] = byte(min(max(sum>>22, 0), 255))
			}
		}
	}
	return out
}

func plainDown(rgb []byte, w, h, to int) []byte {
	out := make([]byte, 3*to*w)
	for y := range to {
		from, weights := plainWeights(h, to, y)
		for x := range 3 * w {
			sum := int64(1 << 21)
			for j, k := range weights {
				sum += k * int64(rgb[(from+j)*3*w+x])
			}
			out[y*3*w+x] = byte(min(max(sum>>22, 0), 255))
		}
	}
	return out
}

// TestPillowAndOpenCV compares hashes of what those libraries make of noise;
// testdata/make_goldens.py wrote them.
func TestPillowAndOpenCV(t *testing.T) {
	data, err := os.ReadFile("testdata/goldens.json")
	if err != nil {
		t.Fatal(err)
	}
	var golden struct {
		Squash []struct {
			Width, Height, Size int
			Seed                uint64
			SHA256              string
		}
		YUV []struct {
			Format string
			Edge   int
			Seed   uint64
			SHA256 string
		}
	}
	if err := json.Unmarshal(data, &golden); err != nil {
		t.Fatal(err)
	}
	if len(golden.Squash) < 20 || len(golden.YUV) != 2 {
		t.Fatalf("goldens.json holds %d and %d cases", len(golden.Squash), len(golden.YUV))
	}
	check := func(t *testing.T, g Geometry, seed uint64, want string) {
		stride := g.Format.RowBytes(g.Width)
		src := noise(g.Format.FrameBytes(g.Width, g.Height, stride), seed)
		hash := func(b []byte) string {
			sum := sha256.Sum256(b)
			return hex.EncodeToString(sum[:])
		}
		if got := hash(plain(g, src, stride)); got != want {
			t.Errorf("%v, plain: %s, want %s", g, got, want)
		}
		for _, k := range kernels() {
			r, err := newResizer(g, k)
			if err != nil {
				t.Fatal(err)
			}
			dst := make([]byte, 3*g.Size*g.Size)
			if err := r.RGB(dst, src, stride); err != nil {
				t.Fatal(err)
			}
			if got := hash(dst); got != want {
				t.Errorf("%v, %v: %s, want %s", g, k, got, want)
			}
		}
	}
	for _, c := range golden.Squash {
		check(t, Geometry{c.Width, c.Height, RGB8, c.Size, Squash}, c.Seed, c.SHA256)
	}
	for _, c := range golden.YUV {
		f, err := ParseFormat(c.Format)
		if err != nil {
			t.Fatal(err)
		}
		// Equal size: the resampling changes nothing, so this is the conversion alone.
		check(t, Geometry{c.Edge, c.Edge, f, c.Edge, Squash}, c.Seed, c.SHA256)
	}
}

// compare runs every kernel on a frame and compares with plain: RGB bytes, the
// tensor, and the memory around both.
func compare(t *testing.T, g Geometry, padding int, seed uint64) {
	t.Helper()
	stride := g.Format.RowBytes(g.Width) + padding
	n := g.Format.FrameBytes(g.Width, g.Height, stride)
	src := noise(n, seed)
	want := plain(g, src, stride)
	for _, k := range kernels() {
		r, err := newResizer(g, k)
		if err != nil {
			t.Fatalf("%v: %v", g, err)
		}
		const mark = 0xA5
		dst := make([]byte, len(want)+64)
		tensor := make([]float32, len(want)+16)
		// Twice: the second frame meets the first one's scratch.
		for range 2 {
			for i := range dst {
				dst[i] = mark
			}
			for i := range tensor {
				tensor[i] = mark
			}
			if err := r.RGB(dst, src, stride); err != nil {
				t.Fatal(err)
			}
			if err := r.Tensor(tensor, src, stride); err != nil {
				t.Fatal(err)
			}
			for i, v := range want {
				if dst[i] != v {
					t.Fatalf("%v stride %d, %v: byte %d (pixel %d,%d) is %d, want %d",
						g, stride, k, i, i/3%g.Size, i/3/g.Size, dst[i], v)
				}
				f := float32(float32(v)/255-0.5) / 0.5
				if at := i%3*g.Size*g.Size + i/3; tensor[at] != f {
					t.Fatalf("%v stride %d, %v: tensor value %d is %v, want %v", g, stride, k, at, tensor[at], f)
				}
			}
			for _, v := range dst[len(want):] {
				if v != mark {
					t.Fatalf("%v, %v: wrote beyond the destination", g, k)
				}
			}
			for _, v := range tensor[len(want):] {
				if v != mark {
					t.Fatalf("%v, %v: wrote beyond the tensor", g, k)
				}
			}
		}
	}
}

func TestAgainstPlain(t *testing.T) {
	sizes := [][3]int{
		{64, 64, 64}, {2, 2, 7}, {4, 2, 1}, {200, 120, 32}, {120, 200, 32}, {120, 300, 32}, {38, 90, 16},
		{46, 22, 50}, {640, 20, 24}, {20, 640, 24}, {34, 32, 32}, {130, 98, 57}, {2, 500, 9}, {66, 70, 33},
	}
	for i, s := range sizes {
		for f := range formatNames {
			for m := range modeNames {
				g := Geometry{s[0], s[1], Format(f), s[2], Mode(m)}
				if g.Validate() != nil {
					continue // longest of a ribbon; TestErrors has it
				}
				t.Run(fmt.Sprint(g), func(t *testing.T) { compare(t, g, i%3*5, uint64(i+1)) })
			}
		}
	}
	// Odd sizes, where pixels need not come in pairs.
	for w := 1; w < 40; w++ {
		compare(t, Geometry{w, 41 - w, Format(w % 4), 11, Mode(w % 3)}, w%2, uint64(w))
	}
	// So many taps that a coefficient is small and a ring is long.
	compare(t, Geometry{MaxSourceEdge, 3, BGR8, 2, Squash}, 0, 3)
	compare(t, Geometry{3, MaxSourceEdge, BGR8, 2, Squash}, 0, 4)
}

func FuzzGeometry(f *testing.F) {
	f.Add(uint16(101), uint16(80), uint8(0), uint16(64), uint8(0), uint8(0), uint64(1))
	f.Add(uint16(80), uint16(300), uint8(4), uint16(33), uint8(0), uint8(7), uint64(2))
	f.Add(uint16(0), uint16(300), uint8(5), uint16(33), uint8(1), uint8(7), uint64(2))
	f.Add(uint16(2), uint16(700), uint8(5), uint16(8), uint8(2), uint8(1), uint64(2))
	f.Fuzz(func(t *testing.T, w, h uint16, format uint8, size uint16, mode, padding uint8, seed uint64) {
		// As large as a fuzzing worker can do by the thousand.
		g := Geometry{int(w % 700), int(h % 700), Format(format % 7), int(size % 130), Mode(mode % 4)}
		if err := g.Validate(); err != nil {
			if r, newErr := New(g); newErr == nil || r != nil {
				t.Fatalf("%v: Validate says %v, New nothing", g, err)
			}
			return
		}
		compare(t, g, int(padding), seed|1)
	})
}
