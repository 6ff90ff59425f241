package preprocess

import "math"

// precisionBits is Pillow's: coefficients are integers of 1/2^22.
const precisionBits = 32 - 8 - 2

// half is added before the shift back to 8 bits, so that it rounds.
const half = 1 << (precisionBits - 1)

// taps are the coefficients of one axis: kept output pixel i is the sum of
// k[i*size+j] * source[start[i]+j] for j < count[i].
type taps struct {
	start, count []int
	k            []int32
	size         int
}

// newTaps computes Pillow's coefficients (Resample.c, precompute_coeffs and
// normalize_coeffs_8bpc) for a source of in pixels resized to out, of which only
// the pixels first..first+kept are wanted.
//
// Every product is converted to float64 before it is added: Go may otherwise
// fuse the two on machines that can, which rounds differently from Pillow.
func newTaps(in, out, first, kept int) taps {
	scale := float64(in) / float64(out)
	stretch := max(scale, 1)
	support := 2 * stretch
	size := int(math.Ceil(support))*2 + 1
	t := taps{start: make([]int, kept), count: make([]int, kept), k: make([]int32, kept*size), size: size}
	w := make([]float64, size)
	inverse := 1 / stretch
	for i := range kept {
		center := float64((float64(first+i) + 0.5) * scale)
		from := max(int(center-support+0.5), 0)
		to := min(int(center+support+0.5), in)
		sum := 0.0
		for j := range to - from {
			w[j] = bicubic(float64((float64(j+from) - center + 0.5) * inverse))
			sum += w[j]
		}
		for j := range to - from {
			v := w[j]
			if sum != 0 {
				v /= sum
			}
			v = float64(v * (1 << precisionBits))
			if v < 0 {
				t.k[i*size+j] = int32(v - 0.5)
			} else {
				t.k[i*size+j] = int32(v + 0.5)
			}
		}
		t.start[i], t.count[i] = from, to-from
	}
	return t
}

// bicubic is Keys' kernel with a = -0.5.
func bicubic(x float64) float64 {
	const a = -0.5
	x = math.Abs(x)
	switch {
	case x < 1:
		return float64(float64(float64(float64((a+2)*x)-(a+3))*x)*x) + 1
	case x < 2:
		return float64((float64((float64((x-5)*x)+8)*x) - 4) * a)
	}
	return 0
}

// of are the coefficients of output pixel i.
func (t taps) of(i int) []int32 { return t.k[i*t.size : i*t.size+t.count[i]] }

// span is the part of the source that any tap reads: from <= x < to.
func (t taps) span() (from, to int) {
	from, to = t.start[0], t.start[0]+t.count[0]
	for i, s := range t.start {
		from, to = min(from, s), max(to, s+t.count[i])
	}
	return from, to
}

// most is the largest number of taps of one output pixel.
func (t taps) most() int {
	n := 0
	for _, c := range t.count {
		n = max(n, c)
	}
	return n
}
