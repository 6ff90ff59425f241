package preprocess

import (
	"fmt"
	"image"
	"image/draw"
	"image/png"
	"os"
	"path/filepath"
	"testing"
)

// referenceDir is testdata/reference of the repository, found from go.mod.
func referenceDir(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(dir, "testdata", "reference")
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above the test's folder")
		}
		dir = filepath.Dir(dir)
	}
}

// readRGB reads a PNG as 3 bytes a pixel.
func readRGB(t testing.TB, path string) (pixels []byte, width, height int) {
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
	pixels = make([]byte, 0, 3*b.Dx()*b.Dy())
	for i := 0; i < len(rgba.Pix); i += 4 {
		pixels = append(pixels, rgba.Pix[i:i+3]...)
	}
	return pixels, b.Dx(), b.Dy()
}

// TestGolden asserts every byte: what open_clip's transform gives (through
// Pillow) is given by each kernel.
func TestGolden(t *testing.T) {
	dir := referenceDir(t)
	images, err := filepath.Glob(filepath.Join(dir, "images", "*.png"))
	if err != nil || len(images) == 0 {
		t.Fatalf("no reference images in %s (%v)", dir, err)
	}
	seen := 0
	for _, path := range images {
		src, w, h := readRGB(t, path)
		name := filepath.Base(path)
		name = name[:len(name)-len(".png")]
		for _, size := range []int{256, 384} {
			for _, mode := range []Mode{Squash, Shortest, Longest} {
				want, gw, gh := readRGB(t, filepath.Join(dir, "golden", fmt.Sprintf("pre_%s_%d_%v.png", name, size, mode)))
				if gw != size || gh != size {
					t.Fatalf("golden of %s is %dx%d", name, gw, gh)
				}
				seen++
				for _, k := range kernels() {
					t.Run(fmt.Sprintf("%s/%d/%v/%v", name, size, mode, k), func(t *testing.T) {
						r, err := newResizer(Geometry{w, h, RGB8, size, mode}, k)
						if err != nil {
							t.Fatal(err)
						}
						got := make([]byte, 3*size*size)
						if err := r.RGB(got, src, 3*w); err != nil {
							t.Fatal(err)
						}
						differing, worst := 0, 0
						for i := range got {
							if d := int(got[i]) - int(want[i]); d != 0 {
								differing++
								worst = max(worst, d, -d)
							}
						}
						if differing > 0 {
							t.Errorf("%d of %d bytes differ, by up to %d levels", differing, len(got), worst)
						}
					})
				}
			}
		}
	}
	if seen != len(images)*6 {
		t.Errorf("saw %d goldens, want %d", seen, len(images)*6)
	}
}
