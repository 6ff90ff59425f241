package synth

import (
	"math"
	"testing"

	"go.uber.org/goleak"

	"github.com/toklip/toklip/model/npy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The reference's images: the noise is exact, sines may differ in the last place.
func TestImagesAreTheReferences(t *testing.T) {
	arrays, err := npy.LoadNPZ("../../testdata/reference/golden/tiny.npz")
	if err != nil {
		t.Fatal(err)
	}
	want, err := arrays["images"].Float32()
	if err != nil {
		t.Fatal(err)
	}
	const size, n = 64, 3 * 64 * 64
	for i, c := range []struct {
		image     []float32
		tolerance float64
	}{{Image(0, size), 0}, {Smooth(0, size), 1e-6}, {Smooth(1, size), 1e-6}} {
		for j, got := range c.image {
			if w := want[i*n+j]; math.Abs(float64(got-w)) > c.tolerance {
				t.Fatalf("image %d, element %d: %v, want %v", i, j, got, w)
			}
		}
	}
}
