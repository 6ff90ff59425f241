package labels

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// Score is how well a label fits one embedding. All its numbers are finite.
type Score struct {
	Cosine float32 // of the label's direction and the embedding
	Logit  float32 // exp(logit_scale) * Cosine + logit_bias
	Score  float32 // sigmoid of Logit: a probability for this label alone

	// Broken: the embedding has no direction, because it has NaN or infinities in it or is as good as zero. Cosine and
	// Score are 0 then, and a [Tracker] passes over it.
	Broken bool
}

// Score scores an embedding, as the model gives it, against every label, in the set's order. It fills dst, which is
// allocated only when its capacity is too small, and returns it. The embedding has [Compiled.Dim] numbers; another length is
// a mistake that panics.
func (c *Compiled) Score(dst []Score, embedding []float32) []Score {
	n := len(c.labels)
	dst = slices.Grow(dst[:0], n)[:n]
	if n == 0 {
		return dst
	}
	if len(embedding) != c.dim {
		panic(fmt.Sprintf("labels: scored an embedding of %d numbers, those of the labels have %d", len(embedding), c.dim))
	}
	length := norm(embedding)
	if !directed(length) {
		for i := range dst {
			dst[i] = Score{Logit: finite(c.bias), Broken: true}
		}
		return dst
	}
	var dots [rowBlock]float32
	for i := 0; i < n; i += rowBlock {
		dots[0], dots[1], dots[2], dots[3] = dot4(c.directions[i*c.dim:], embedding)
		for k := range min(rowBlock, n-i) {
			// Rounding may carry a cosine a little past 1.
			cosine := max(-1, min(1, float64(dots[k])/length))
			logit := c.scale*cosine + c.bias
			dst[i+k] = Score{Cosine: float32(cosine), Logit: finite(logit), Score: float32(sigmoid(logit))}
		}
	}
	return dst
}

// rowBlock is how many labels dot4 does at once.
const rowBlock = 4

// dot4 multiplies the first four rows of m with e. Each number of e is loaded once for all four, and the four sums do not
// wait for each other: it takes about 0.4 times what one row after the other does, and with more rows or a longer step it
// is slower again, because the registers run out.
func dot4(m, e []float32) (s0, s1, s2, s3 float32) {
	n := len(e)
	r0, r1, r2, r3 := m[:n], m[n:][:n], m[2*n:][:n], m[3*n:][:n]
	for i, x := range e {
		s0 += x * r0[i]
		s1 += x * r1[i]
		s2 += x * r2[i]
		s3 += x * r3[i]
	}
	return s0, s1, s2, s3
}

// norm is the Euclidean length of v. Squares of all fp32 numbers fit an fp64.
func norm(v []float32) float64 {
	sum := 0.0
	for _, x := range v {
		sum += float64(x) * float64(x)
	}
	return math.Sqrt(sum)
}

// directed reports whether a vector of this length can be compared by its direction: not NaN, not infinite, and such that
// its product with one of length 1 neither overflows an fp32, in no partial sum, nor loses its digits.
func directed(length float64) bool { return length > 1e-30 && length < math.MaxFloat32/2 }

// finite is v as fp32, the largest number there is where it is larger: JSON has no infinity.
func finite(v float64) float32 {
	return float32(max(-math.MaxFloat32, min(math.MaxFloat32, v)))
}

func sigmoid(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

// Order fills dst with the indices of scores, best first, equal ones in the set's order. It allocates only when dst's
// capacity is too small.
func Order(dst []int, scores []Score) []int {
	dst = slices.Grow(dst[:0], len(scores))[:len(scores)]
	for i := range dst {
		dst[i] = i
	}
	// By logit, which still differs where scores are all 1.
	slices.SortFunc(dst, func(a, b int) int {
		return cmp.Or(cmp.Compare(scores[b].Logit, scores[a].Logit), a-b)
	})
	return dst
}

// Changed reports whether a score of now is at least least away from that of prev, or the sets differ in size. To publish on
// change, prev is what was published last, not the frame before: so a slow drift is told too.
func Changed(prev, now []Score, least float32) bool {
	if len(prev) != len(now) {
		return true
	}
	for i := range now {
		// Turned so that NaN is a change.
		if !(math.Abs(float64(now[i].Score)-float64(prev[i].Score)) < float64(least)) {
			return true
		}
	}
	return false
}
