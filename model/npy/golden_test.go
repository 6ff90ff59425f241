package npy

import (
	"archive/zip"
	"bytes"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// repoRoot is the folder of go.mod.
func repoRoot(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above the working directory")
		}
		dir = filepath.Dir(dir)
	}
}

func golden(t testing.TB, name string) string {
	return filepath.Join(repoRoot(t), "testdata", "reference", "golden", name)
}

func TestGoldensLoad(t *testing.T) {
	paths, err := filepath.Glob(golden(t, "*.npz"))
	if err != nil || len(paths) != 6 {
		t.Fatalf("golden archives: %v, %v; want 6", paths, err)
	}
	for _, path := range paths {
		arrays, err := LoadNPZ(path)
		if err != nil {
			t.Fatal(err)
		}
		for name, a := range arrays {
			if name == "ids" || name == "tokens" {
				if _, err := a.Int32(); err != nil {
					t.Errorf("%s %s: %v", path, name, err)
				}
			} else if _, err := a.Float32(); err != nil {
				t.Errorf("%s %s: %v", path, name, err)
			}
		}
	}
}

// TestGoldenValues checks values against what the reference's text says of them: ids inside the
// codebook of 512, images in [-1,1], probabilities being the logistic function of the logits.
func TestGoldenValues(t *testing.T) {
	tiny, err := LoadNPZ(golden(t, "tiny.npz"))
	if err != nil {
		t.Fatal(err)
	}
	for name, shape := range map[string][]int{
		"images": {3, 3, 64, 64}, "latents": {3, 8, 4, 4}, "ids": {3, 16}, "margin": {3, 16},
		"features": {3, 16, 96}, "embedding": {3, 96}, "decoded": {3, 3, 64, 64},
	} {
		if tiny[name] == nil || !slices.Equal(tiny[name].Shape(), shape) {
			t.Errorf("%s: %+v, want shape %v", name, tiny[name], shape)
		}
	}
	ids, err := tiny["ids"].Int32()
	if err != nil {
		t.Fatal(err)
	}
	if lo, hi := slices.Min(ids), slices.Max(ids); lo < 0 || hi > 511 || lo == hi {
		t.Errorf("ids from %d to %d", lo, hi)
	}
	images, err := tiny["images"].Float32()
	if err != nil {
		t.Fatal(err)
	}
	// Two of the images are divided by their largest absolute value.
	if lo, hi := slices.Min(images), slices.Max(images); lo < -1 || hi > 1 || max(-lo, hi) != 1 {
		t.Errorf("images from %v to %v", lo, hi)
	}
	text, err := LoadNPZ(golden(t, "tiny_text.npz"))
	if err != nil {
		t.Fatal(err)
	}
	logits, err := text["logits"].Float32()
	if err != nil {
		t.Fatal(err)
	}
	probs, err := text["probs"].Float32()
	if err != nil {
		t.Fatal(err)
	}
	for i := range logits {
		if want := 1 / (1 + math.Exp(-float64(logits[i]))); math.Abs(want-float64(probs[i])) > 1e-6 {
			t.Errorf("probability %d of logit %v is %v, want %v", i, logits[i], probs[i], want)
		}
	}
}

// TestBytesAsNumPy writes every array of the goldens again: the bytes are those that NumPy wrote.
func TestBytesAsNumPy(t *testing.T) {
	paths, err := filepath.Glob(golden(t, "*.npz"))
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	for _, path := range paths {
		z, err := zip.OpenReader(path)
		if err != nil {
			t.Fatal(err)
		}
		defer z.Close()
		for _, m := range z.File {
			r, err := m.Open()
			if err != nil {
				t.Fatal(err)
			}
			want, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			a, err := Read(bytes.NewReader(want))
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			if _, err := a.WriteTo(&got); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Bytes(), want) {
				t.Errorf("%s %s: %q, NumPy wrote %q", path, m.Name, got.Bytes()[:min(got.Len(), 128)], want[:128])
			}
			if a.DType() == Float32 {
				values, err := a.Float32()
				if err != nil {
					t.Fatal(err)
				}
				one := filepath.Join(t.TempDir(), "a.npy")
				if err := WriteFloat32(one, a.Shape(), values); err != nil {
					t.Fatal(err)
				}
				if b, err := os.ReadFile(one); err != nil || !bytes.Equal(b, want) {
					t.Errorf("%s %s: WriteFloat32 differs from NumPy, %v", path, m.Name, err)
				}
			}
			compared++
		}
	}
	if compared < 30 {
		t.Errorf("only %d arrays", compared)
	}
}
