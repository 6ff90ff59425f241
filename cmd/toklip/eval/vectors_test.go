package eval

import (
	"math"
	"strings"
	"testing"
)

func TestVectorsAverageDirections(t *testing.T) {
	v := NewVectors(2, 2)
	// However long an embedding is, it counts as much as another.
	if err := v.Set(1, []float32{100, 0}, []float32{0, 2}); err != nil {
		t.Fatal(err)
	}
	for _, x := range v.Row(1) {
		if math.Abs(float64(x)-math.Sqrt2/2) > 1e-7 {
			t.Errorf("mean of two directions: %v", v.Row(1))
		}
	}
	if v.Len() != 2 || v.Row(0)[0] != 0 {
		t.Errorf("row 0 was touched: %v", v.Row(0))
	}
}

func TestVectorsRefuse(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for want, embeddings := range map[string][][]float32{
		"embedding of 3 values, want 2":         {{1, 2, 3}},
		"embedding has length 0":                {{0, 0}},
		"embedding has length NaN":              {{1, nan}},
		"embedding has length +Inf":             {{1, inf}},
		"the mean of 2 embeddings is zero":      {{1, 0}, {-3, 0}},
		"the mean of 0 embeddings is zero: it ": {},
	} {
		if err := NewVectors(1, 2).Set(0, embeddings...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", embeddings, err, want)
		}
	}
}

func TestDot(t *testing.T) {
	for n := range 11 {
		a, b, want := make([]float32, n), make([]float32, n), float32(0)
		for i := range n {
			a[i], b[i] = float32(i+1), float32(2*i-3)
			want += a[i] * b[i]
		}
		if got := dot(a, b); got != want {
			t.Errorf("dot of %d values is %v, want %v", n, got, want)
		}
	}
}
