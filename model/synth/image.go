package synth

import (
	"fmt"
	"math"
)

// Image is an image of uniform noise: u("image<index>") as [3,size,size].
func Image(index, size int) []float32 {
	out := make([]float32, 3*size*size)
	Uniform(fmt.Sprintf("image%d", index), out, 0)
	return out
}

// Smooth is a procedural image [3,size,size] of a few sine waves in each colour, scaled so that its largest
// value is 1 or -1. With u = uniform("smooth<index>") as [3][6][4], x = column/size, y = row/size:
//
//	a[c](x, y) = sum over k of sin(2 pi (4 u[c,k,0] x + 4 u[c,k,1] y) + pi u[c,k,2]) * u[c,k,3]
func Smooth(index, size int) []float32 {
	const waves = 6
	u := make([]float32, 3*waves*4)
	Uniform(fmt.Sprintf("smooth%d", index), u, 0)
	values := make([]float64, 3*size*size)
	largest := 0.0
	for c := range 3 {
		for row := range size {
			y := float64(row) / float64(size)
			for col := range size {
				x := float64(col) / float64(size)
				sum := 0.0
				for k := range waves {
					p := u[(c*waves+k)*4:]
					sum += math.Sin(2*math.Pi*(4*float64(p[0])*x+4*float64(p[1])*y)+math.Pi*float64(p[2])) * float64(p[3])
				}
				values[(c*size+row)*size+col] = sum
				largest = max(largest, math.Abs(sum))
			}
		}
	}
	out := make([]float32, len(values))
	for i, v := range values {
		out[i] = float32(v / largest)
	}
	return out
}
