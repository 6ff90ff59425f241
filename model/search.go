package model

import "math"

// searcher finds latents' nearest codebook entries by cosine, in float64.
type searcher struct {
	unit []float64 // [K,C], each of length 1
	dim  int       // C
}

func newSearcher(codebook []float32, dim int) *searcher {
	s := &searcher{unit: make([]float64, len(codebook)), dim: dim}
	for at := 0; at < len(codebook); at += dim {
		var sum float64
		for _, v := range codebook[at : at+dim] {
			sum += float64(v) * float64(v)
		}
		length := math.Max(math.Sqrt(sum), 1e-12) // an entry of zeros stays one
		for i, v := range codebook[at : at+dim] {
			s.unit[at+i] = float64(v) / length
		}
	}
	return s
}

// find searches the latents [C,N] of one picture: ids [N], the lowest of equals, and by how much each one's cosine is above the
// second best.
func (s *searcher) find(latents []float32) (ids []int32, margin []float32) {
	n := len(latents) / s.dim
	ids, margin = make([]int32, n), make([]float32, n)
	row := make([]float64, s.dim)
	for i := range n {
		var sum float64
		for c := range row {
			row[c] = float64(latents[c*n+i])
			sum += row[c] * row[c]
		}
		length := math.Max(math.Sqrt(sum), 1e-12)
		best, second, id := math.Inf(-1), math.Inf(-1), 0
		for at := 0; at < len(s.unit); at += s.dim {
			var dot float64
			for c, v := range s.unit[at : at+s.dim] {
				dot += v * row[c]
			}
			switch {
			case dot > best:
				best, second, id = dot, best, at/s.dim
			case dot > second:
				second = dot
			}
		}
		ids[i], margin[i] = int32(id), float32((best-second)/length)
		if math.IsInf(second, -1) {
			margin[i] = 2 // there is but one entry
		}
	}
	return ids, margin
}
