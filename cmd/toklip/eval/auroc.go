package eval

import (
	"cmp"
	"math"
	"slices"
)

// AUROC is the area under the receiver operating characteristic: how likely a positive
// taken at random has a higher score than a negative, equal scores counting half. 0.5
// is guessing. Without both a positive and a negative, or with a score that is no number,
// there is none, and ok is false.
func AUROC(scores []float64, positive []bool) (area float64, ok bool) {
	if slices.ContainsFunc(scores, math.IsNaN) {
		return 0, false
	}
	order := make([]int, len(scores))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(scores[a], scores[b]) })
	// The Mann-Whitney statistic: the sum of the positives' ranks, where equal scores share the mean of their ranks.
	positives, sum := 0, 0.0
	for from := 0; from < len(order); {
		to, here := from, 0
		for ; to < len(order) && scores[order[to]] == scores[order[from]]; to++ {
			if positive[order[to]] {
				here++
			}
		}
		positives += here
		sum += float64(here) * float64(from+1+to) / 2
		from = to
	}
	negatives := len(order) - positives
	if positives == 0 || negatives == 0 {
		return 0, false
	}
	p, n := float64(positives), float64(negatives)
	return (sum - p*(p+1)/2) / (p * n), true
}
