package eval

import (
	"math"
	"testing"
)

func TestRank(t *testing.T) {
	scores := []float32{0.2, 0.9, 0.2, 0.5, 0.9}
	for target, want := range []int{4, 1, 5, 3, 2} { // of equal scores the first comes first
		if got := Rank(scores, target); got != want {
			t.Errorf("rank of %d is %d, want %d", target, got, want)
		}
	}
}

// A model that cannot tell anything apart is as good as guessing, not perfect.
func TestRankOfNothing(t *testing.T) {
	equal, ranks := make([]float32, 10), []int{}
	for target := range equal {
		ranks = append(ranks, Rank(equal, target))
	}
	if got := Recall(ranks, 1); got != 0.1 {
		t.Errorf("recall@1 among 10 equal scores is %v", got)
	}
	if got := Recall(ranks, 5); got != 0.5 {
		t.Errorf("recall@5 among 10 equal scores is %v", got)
	}
	if Recall(nil, 1) != 0 {
		t.Error("recall of nothing")
	}
}

func TestInterval(t *testing.T) {
	// Wilson's interval for 8 of 10 is given as 0.490 to 0.943 in textbooks.
	low, high := Interval(8, 10)
	if math.Abs(low-0.4902) > 5e-4 || math.Abs(high-0.9433) > 5e-4 {
		t.Errorf("8 of 10: %v to %v", low, high)
	}
	if low, high := Interval(0, 0); low != 0 || high != 1 {
		t.Errorf("none of none: %v to %v", low, high)
	}
	if low, high := Interval(5, 5); low < 0.5 || high != 1 {
		t.Errorf("5 of 5: %v to %v", low, high)
	}
	if low, high := Interval(38200, 50000); high-low > 0.008 || low > 0.764 || high < 0.764 {
		t.Errorf("ImageNet: %v to %v", low, high)
	}
}
