package preprocess

import (
	"math"
	"strings"
	"testing"
)

func TestNothingAllocated(t *testing.T) {
	for f := range formatNames {
		for _, size := range [][2]int{{320, 180}, {180, 320}} {
			for _, k := range kernels() {
				g := Geometry{size[0], size[1], Format(f), 64, Mode(f % 3)}
				r, err := newResizer(g, k)
				if err != nil {
					t.Fatal(err)
				}
				stride := g.Format.RowBytes(g.Width)
				src := noise(g.Format.FrameBytes(g.Width, g.Height, stride), 1)
				dst, tensor := make([]byte, 3*64*64), make([]float32, 3*64*64)
				n := testing.AllocsPerRun(20, func() {
					if r.Reset(g) != nil || r.RGB(dst, src, stride) != nil || r.Tensor(tensor, src, stride) != nil {
						t.Fatal("failed")
					}
				})
				if n != 0 {
					t.Errorf("%v, %v: %v allocations a frame", g, k, n)
				}
			}
		}
	}
}

func TestReset(t *testing.T) {
	a, b := Geometry{40, 30, BGR8, 16, Squash}, Geometry{30, 64, RGB8, 24, Longest}
	r, err := New(a)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Reset(Geometry{0, 30, BGR8, 16, Squash}); err == nil || r.Geometry() != a {
		t.Errorf("after a refused Reset (%v) the geometry is %v", err, r.Geometry())
	}
	if err := r.Reset(b); err != nil || r.Geometry() != b {
		t.Fatalf("Reset: %v, geometry %v", err, r.Geometry())
	}
	src := noise(30*64*3, 9)
	got := make([]byte, 3*24*24)
	if err := r.RGB(got, src, 90); err != nil {
		t.Fatal(err)
	}
	if want := plain(b, src, 90); string(got) != string(want) {
		t.Error("after Reset the output is not that of the new geometry")
	}
}

func TestErrors(t *testing.T) {
	for _, c := range []struct {
		g    Geometry
		want string
	}{
		{Geometry{0, 10, BGR8, 16, Squash}, "frame width 0 is outside 1..16384"},
		{Geometry{10, -1, BGR8, 16, Squash}, "frame height -1 is outside 1..16384"},
		{Geometry{16385, 10, BGR8, 16, Squash}, "frame width 16385 is outside"},
		{Geometry{10, 16385, BGR8, 16, Squash}, "frame height 16385 is outside"},
		{Geometry{10, 10, BGR8, 0, Squash}, "output size 0 is outside 1..4096"},
		{Geometry{10, 10, BGR8, 4097, Squash}, "output size 4097 is outside"},
		{Geometry{10, 10, Format(9), 16, Squash}, "pixel format 9 is unknown"},
		{Geometry{10, 10, BGR8, 16, Mode(9)}, "resize mode 9 is unknown"},
		{Geometry{11, 10, YUYV, 16, Squash}, "frame width 11 is odd"},
		{Geometry{10, 11, NV12, 16, Squash}, "frame height 11 is odd"},
		{Geometry{16000, 10, BGR8, 64, Longest}, "fitted inside 64 is 64x0"},
	} {
		if _, err := New(c.g); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("New(%v): %v, want %q", c.g, err, c.want)
		}
		if err := c.g.Check(make([]byte, 1<<20), 1<<14); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Check of %v: %v, want %q", c.g, err, c.want)
		}
		if _, err := c.g.Mapping(); err == nil {
			t.Errorf("Mapping of %v: no error", c.g)
		}
	}

	r, err := New(Geometry{10, 4, NV12, 16, Squash})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		dst, src, stride int
		want             string
	}{
		{767, 60, 10, "destination of 767 "},
		{768, 59, 10, "buffer of 59 bytes is too short: 10x4 nv12 with stride 10 needs 60"},
		{768, 60, 9, "stride 9 is shorter than a row: 10 pixels of nv12 take 10 bytes"},
		{768, 60, -1, "stride -1 is shorter"},
		{768, 60, 12, "needs 70"},
		{768, 60, math.MaxInt, "shorter than one stride"},
		{768, 0, 10, "buffer of 0 bytes"},
	} {
		dst := make([]byte, c.dst)
		for i := range dst {
			dst[i] = 7
		}
		err := r.RGB(dst, make([]byte, c.src), c.stride)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("RGB(%d, %d, %d): %v, want %q", c.dst, c.src, c.stride, err, c.want)
		}
		if err := r.Geometry().Check(make([]byte, c.src), c.stride); c.dst == 768 && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("Check(%d, %d): %v, want %q", c.src, c.stride, err, c.want)
		}
		for _, v := range dst {
			if v != 7 {
				t.Fatalf("RGB(%d, %d, %d) failed and wrote", c.dst, c.src, c.stride)
			}
		}
		if err := r.Tensor(make([]float32, c.dst), make([]byte, c.src), c.stride); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Tensor(%d, %d, %d): %v, want %q", c.dst, c.src, c.stride, err, c.want)
		}
	}
}

func TestNames(t *testing.T) {
	for m, name := range modeNames {
		got, err := ParseMode(name)
		if err != nil || got != Mode(m) || got.String() != name {
			t.Errorf("ParseMode(%q) = %v, %v", name, got, err)
		}
		var back Mode
		text, err := Mode(m).MarshalText()
		if err != nil || back.UnmarshalText(text) != nil || back != Mode(m) {
			t.Errorf("mode %q as text: %q, %v, back %v", name, text, err, back)
		}
	}
	for f, name := range formatNames {
		got, err := ParseFormat(name)
		if err != nil || got != Format(f) || got.String() != name {
			t.Errorf("ParseFormat(%q) = %v, %v", name, got, err)
		}
	}
	for _, bad := range []string{"", "Squash", "crop"} {
		if _, err := ParseMode(bad); err == nil || !strings.Contains(err.Error(), `"shortest"`) {
			t.Errorf("ParseMode(%q): %v", bad, err)
		}
		if _, err := ParseFormat(bad); err == nil || !strings.Contains(err.Error(), "nv12") {
			t.Errorf("ParseFormat(%q): %v", bad, err)
		}
	}
	if _, err := Mode(7).MarshalText(); err == nil {
		t.Error("an unknown mode has a text")
	}
}

func TestMapping(t *testing.T) {
	near := func(a, b Rect) bool {
		d := max(math.Abs(a.X0-b.X0), math.Abs(a.X1-b.X1), math.Abs(a.Y0-b.Y0), math.Abs(a.Y1-b.Y1))
		return d < 1e-9
	}
	for _, c := range []struct {
		mode     Mode
		row, col int
		cell     Rect
		seen     Rect
	}{
		{Squash, 0, 0, Rect{0, 0, 120, 67.5}, Rect{0, 0, 1920, 1080}},
		{Squash, 15, 3, Rect{360, 1012.5, 480, 1080}, Rect{0, 0, 1920, 1080}},
		// 1920x1080 -> 455x256, columns 100..355 kept (99.5 rounds to even).
		{Shortest, 0, 0, Rect{100 * 1920 / 455., 0, 116 * 1920 / 455., 67.5}, Rect{100 * 1920 / 455., 0, 356 * 1920 / 455., 1080}},
		{Shortest, 15, 15, Rect{340 * 1920 / 455., 1012.5, 356 * 1920 / 455., 1080}, Rect{100 * 1920 / 455., 0, 356 * 1920 / 455., 1080}},
		// 1920x1080 -> 256x144 at row 56: cells of row 3 are half padding.
		{Longest, 2, 0, Rect{}, Rect{0, 0, 1920, 1080}},
		{Longest, 3, 1, Rect{120, 0, 240, 60}, Rect{0, 0, 1920, 1080}},
		{Longest, 4, 1, Rect{120, 60, 240, 180}, Rect{0, 0, 1920, 1080}},
		{Longest, 12, 0, Rect{0, 1020, 120, 1080}, Rect{0, 0, 1920, 1080}},
		{Longest, 13, 0, Rect{}, Rect{0, 0, 1920, 1080}},
	} {
		m, err := Geometry{1920, 1080, BGR8, 256, c.mode}.Mapping()
		if err != nil {
			t.Fatal(err)
		}
		got, err := m.Cell(16, 16, c.row, c.col)
		if err != nil || !near(got, c.cell) {
			t.Errorf("%v cell (%d, %d): %v, %v, want %v", c.mode, c.row, c.col, got, err, c.cell)
		}
		if !near(m.Seen, c.seen) {
			t.Errorf("%v sees %v, want %v", c.mode, m.Seen, c.seen)
		}
	}
	m, err := Geometry{1920, 1080, BGR8, 256, Squash}.Mapping()
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][4]int{{0, 16, 0, 0}, {16, 16, 16, 0}, {16, 16, 0, -1}} {
		if _, err := m.Cell(bad[0], bad[1], bad[2], bad[3]); err == nil {
			t.Errorf("Cell%v: no error", bad)
		}
	}
}

// TestMappingFindsThePixel lights one source pixel at a time and looks whether
// the cell in which the output is brightest maps back onto it.
func TestMappingFindsThePixel(t *testing.T) {
	for m := range modeNames {
		for _, size := range [][2]int{{120, 80}, {60, 140}, {20, 30}} {
			g := Geometry{size[0], size[1], Gray8, 48, Mode(m)}
			r, err := New(g)
			if err != nil {
				t.Fatal(err)
			}
			mapping := r.Mapping()
			for _, at := range [][2]int{{g.Width / 2, g.Height / 2}, {g.Width/2 + 7, g.Height/2 - 8}, {1, 1}} {
				src := make([]byte, g.Width*g.Height)
				src[at[1]*g.Width+at[0]] = 255
				dst := make([]byte, 3*48*48)
				if err := r.RGB(dst, src, g.Width); err != nil {
					t.Fatal(err)
				}
				best := 0
				for i := 0; i < len(dst); i += 3 {
					if dst[i] > dst[best] {
						best = i
					}
				}
				x, y := float64(at[0])+0.5, float64(at[1])+0.5
				inside := x > mapping.Seen.X0 && x < mapping.Seen.X1 && y > mapping.Seen.Y0 && y < mapping.Seen.Y1
				if !inside {
					continue
				}
				cell, err := mapping.Cell(48, 48, best/3/48, best/3%48)
				if err != nil {
					t.Fatal(err)
				}
				// The brightest output pixel lies within one of the true place.
				if x < cell.X0-mapping.ScaleX || x > cell.X1+mapping.ScaleX || y < cell.Y0-mapping.ScaleY || y > cell.Y1+mapping.ScaleY {
					t.Errorf("%v: pixel %v is brightest in output %d,%d, which maps to %v", g, at, best/3%48, best/3/48, cell)
				}
			}
		}
	}
}
