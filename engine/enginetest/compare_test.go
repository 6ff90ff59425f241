package enginetest

import (
	"math"
	"strings"
	"testing"
)

func TestCompare(t *testing.T) {
	nan := float32(math.NaN())
	want := []float32{1, 2, 3, 4}
	for _, test := range []struct {
		got []float32
		err string
	}{
		{[]float32{1, 2, 3, 4}, ""},
		{[]float32{1, 2, 3, 4.0003}, ""},
		{[]float32{1, 2, 3, 4.01}, "value 3"},
		{[]float32{1, 2, 3}, "3 values"},
		{[]float32{1, nan, 3, 4}, "value 1"},
		{[]float32{nan, nan, nan, nan}, "value"},
	} {
		err := FP32.Compare(test.got, want, 2)
		if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%v against %v: error %v, want %q", test.got, want, err, test.err)
		}
	}
	// Small vectors beside a large one are told apart by their cosine.
	if err := FP32.Compare([]float32{0.001, 0, 100, 0}, []float32{0, 0.001, 100, 0}, 2); err == nil || !strings.Contains(err.Error(), "cosine of vector 0") {
		t.Errorf("a turned small vector: error %v", err)
	}
	if err := FP32.compareIDs([]int32{1, 2, 3}, []int32{1, 2, 4}); err == nil || !strings.Contains(err.Error(), "token 2 is 3, want 4") {
		t.Errorf("another id: error %v", err)
	}
	if err := (Tolerance{Tokens: 0.6}).compareIDs([]int32{1, 2, 3}, []int32{1, 2, 4}); err != nil {
		t.Errorf("two of three ids agree, 0.6 must: %v", err)
	}
}
