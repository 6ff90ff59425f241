package labels

import "math"

// Score is how well a label fits one embedding.
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
	panic("labels: not there yet")
}

// Order fills dst with the indices of scores, best first, equal ones in the set's order. It allocates only when dst's
// capacity is too small.
func Order(dst []int, scores []Score) []int {
	panic("labels: not there yet")
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
