package eval

import (
	"fmt"
	"math"
)

// Vectors are rows of equal length, each of length 1 once set, so that the product
// of two is their cosine.
type Vectors struct {
	dim  int
	data []float32
}

// NewVectors makes n rows of dim zeros.
func NewVectors(n, dim int) *Vectors {
	return &Vectors{dim: dim, data: make([]float32, n*dim)}
}

// Len is the number of rows.
func (v *Vectors) Len() int { return len(v.data) / v.dim }

// Head are the first n rows, in the same memory.
func (v *Vectors) Head(n int) *Vectors { return &Vectors{dim: v.dim, data: v.data[:n*v.dim]} }

// Row is row i. It is the memory of v, not a copy.
func (v *Vectors) Row(i int) []float32 { return v.data[i*v.dim : (i+1)*v.dim] }

// Set makes row i the mean of embeddings, each normalised before, normalised again:
// one embedding, or those of several prompts for the same thing. An embedding of
// another length, of length zero or with a value that is no number is an error.
func (v *Vectors) Set(i int, embeddings ...[]float32) error {
	sum := make([]float64, v.dim)
	for _, e := range embeddings {
		if len(e) != v.dim {
			return fmt.Errorf("embedding of %d values, want %d", len(e), v.dim)
		}
		norm, err := length(e)
		if err != nil {
			return err
		}
		for k, x := range e {
			sum[k] += float64(x) / norm
		}
	}
	square := 0.0
	for _, x := range sum {
		square += x * x
	}
	norm := math.Sqrt(square)
	if norm < 1e-12 {
		return fmt.Errorf("the mean of %d embeddings is zero: it has no direction", len(embeddings))
	}
	row := v.Row(i)
	for k, x := range sum {
		row[k] = float32(x / norm)
	}
	return nil
}

// length is the Euclidean length of an embedding, which must be a positive number.
func length(e []float32) (float64, error) {
	square := 0.0
	for _, x := range e {
		square += float64(x) * float64(x)
	}
	if !(square > 0) || math.IsInf(square, 0) {
		return 0, fmt.Errorf("embedding has length %v: the model gives no usable numbers", math.Sqrt(square))
	}
	return math.Sqrt(square), nil
}

// dot is the product of two rows of equal length. Four sums run side by side, since
// one would wait for itself.
func dot(a, b []float32) float32 {
	b = b[:len(a)]
	var s0, s1, s2, s3 float32
	k := 0
	for ; k+4 <= len(a); k += 4 {
		s0 += a[k] * b[k]
		s1 += a[k+1] * b[k+1]
		s2 += a[k+2] * b[k+2]
		s3 += a[k+3] * b[k+3]
	}
	for ; k < len(a); k++ {
		s0 += a[k] * b[k]
	}
	return (s0 + s1) + (s2 + s3)
}
