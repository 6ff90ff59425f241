package eval

import (
	"fmt"
	"math"
)

// perfectPSNR stands for the infinite one of a picture that equals the original, dB: more than a single wrong byte can give.
const perfectPSNR = 100

// Reconstruction compares pictures with what a decoder makes of their tokens.
type Reconstruction struct {
	pictures   int
	psnr       float64 // sum over the pictures
	lost, grey float64 // sums over all pixels of |Cb-Cb'| + |Cr-Cr'| and |Cb| + |Cr|
}

// Add compares two pictures of equal size, 3 bytes a pixel, R, G, B.
func (r *Reconstruction) Add(original, decoded []byte) error {
	if len(original) != len(decoded) || len(original) == 0 || len(original)%3 != 0 {
		return fmt.Errorf("compare pictures: %d and %d bytes", len(original), len(decoded))
	}
	square := 0.0
	for i := 0; i < len(original); i += 3 {
		a, b := original[i:i+3], decoded[i:i+3]
		for c := range 3 {
			d := float64(a[c]) - float64(b[c])
			square += d * d
		}
		blue, red := chroma(a)
		blue2, red2 := chroma(b)
		r.lost += math.Abs(blue-blue2) + math.Abs(red-red2)
		r.grey += math.Abs(blue) + math.Abs(red)
	}
	psnr := float64(perfectPSNR)
	if square > 0 {
		psnr = 10 * math.Log10(255*255/(square/float64(len(original))))
	}
	r.psnr += psnr
	r.pictures++
	return nil
}

// chroma gives Cb and Cr of ITU-R BT.601, full range, without offset: what is left of a pixel's colour beside its brightness.
func chroma(p []byte) (blue, red float64) {
	r, g, b := float64(p[0]), float64(p[1]), float64(p[2])
	return -0.168736*r - 0.331264*g + 0.5*b, 0.5*r - 0.418688*g - 0.081312*b
}

// PSNR is the mean over the pictures of their peak signal-to-noise ratios, dB.
func (r *Reconstruction) PSNR() float64 {
	if r.pictures == 0 {
		return 0
	}
	return r.psnr / float64(r.pictures)
}

// ChromaError is the mean error of Cb and Cr by that of grey pictures: 0 where colours are exact, 1 where there are none.
func (r *Reconstruction) ChromaError() float64 {
	if r.grey == 0 {
		return 0
	}
	return r.lost / r.grey
}
