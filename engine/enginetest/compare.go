package enginetest

import (
	"fmt"
	"math"
)

// Tolerance is how far a backend's numbers may be from the reference's.
type Tolerance struct {
	Tokens   float64 // least share of equal token ids
	MaxError float64 // largest difference of any feature or embedding value, in parts of the largest magnitude of the reference
	Cosine   float64 // least cosine of the features of any token, and of the embedding
}

// FP32 is the tolerance for fp32 on any backend.
var FP32 = Tolerance{Tokens: 1, MaxError: 2e-4, Cosine: 0.99999}

// Compare reports how got misses want by more than the tolerance, nil if it does not.
// Both hold vectors of length dim one behind the other.
func (t Tolerance) Compare(got, want []float32, dim int) error {
	if len(got) != len(want) {
		return fmt.Errorf("%d values, want %d", len(got), len(want))
	}
	var magnitude, worst float64
	at := 0
	for i, w := range want {
		magnitude = max(magnitude, math.Abs(float64(w)))
		d := math.Abs(float64(got[i]) - float64(w))
		if math.IsNaN(d) {
			return fmt.Errorf("value %d is %v, want %v", i, got[i], w)
		}
		if d > worst {
			worst, at = d, i
		}
	}
	if worst > t.MaxError*magnitude {
		return fmt.Errorf("value %d is %v, want %v: off by %.3g of the largest magnitude %v, allowed %.3g",
			at, got[at], want[at], worst/magnitude, magnitude, t.MaxError)
	}
	for i := 0; i < len(want); i += dim {
		if c := Cosine(got[i:i+dim], want[i:i+dim]); !(c >= t.Cosine) {
			return fmt.Errorf("cosine of vector %d is %.6f, need %v", i/dim, c, t.Cosine)
		}
	}
	return nil
}

// Cosine of the angle between a and b, which have the same length.
func Cosine(a, b []float32) float64 {
	var dot, aa, bb float64
	for i := range a {
		x, y := float64(a[i]), float64(b[i])
		dot += x * y
		aa += x * x
		bb += y * y
	}
	return dot / math.Sqrt(aa*bb)
}

// compareIDs reports which ids differ if more do than the tolerance allows.
func (t Tolerance) compareIDs(got, want []int32) error {
	if len(got) != len(want) {
		return fmt.Errorf("%d ids, want %d", len(got), len(want))
	}
	differ, at := 0, 0
	for i := range want {
		if got[i] != want[i] {
			differ++
			at = i
		}
	}
	if share := 1 - float64(differ)/float64(len(want)); share < t.Tokens {
		return fmt.Errorf("%d of %d ids differ (token %d is %d, want %d), %.4f must agree", differ, len(want), at, got[at], want[at], t.Tokens)
	}
	return nil
}
