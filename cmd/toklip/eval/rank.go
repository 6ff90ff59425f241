package eval

import "math"

// Rank is the place of scores[target] when scores are sorted, the largest first:
// 1 is the best. Of equal scores the one with the lower index comes first.
func Rank(scores []float32, target int) int {
	own, rank := scores[target], 1
	for i, s := range scores {
		if s > own || s == own && i < target {
			rank++
		}
	}
	return rank
}

// Recall is the share of ranks that are k or better; 0 of none.
func Recall(ranks []int, k int) float64 {
	hits := 0
	for _, r := range ranks {
		if r <= k {
			hits++
		}
	}
	return Share(hits, len(ranks))
}

// Share is part by whole; 0 of nothing.
func Share(part, whole int) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) / float64(whole)
}

// Interval is where the true share lies with 95 % confidence when hits of n trials
// succeeded (Wilson's score interval). Of no trials it is everything.
func Interval(hits, n int) (low, high float64) {
	if n == 0 {
		return 0, 1
	}
	const z = 1.959964 // the normal distribution's 97.5 % point
	share, count := float64(hits)/float64(n), float64(n)
	middle := (share + z*z/(2*count)) / (1 + z*z/count)
	half := z / (1 + z*z/count) * math.Sqrt(share*(1-share)/count+z*z/(4*count*count))
	return max(0, middle-half), min(1, middle+half)
}
