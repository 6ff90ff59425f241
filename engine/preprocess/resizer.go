package preprocess

import (
	"fmt"
)

// Resizer turns frames of one Geometry into the network's input. It holds the
// filter's coefficients and its scratch memory, so that a call allocates
// nothing; New takes less time than a frame.
//
// A Resizer serves one goroutine at a time. It keeps no reference to a frame
// or a destination after a call.
type Resizer struct {
	geometry Geometry
	layout   layout
	kernel   kernel
	rows     rowMaker
	row      []byte // one output row, RGB, with room for kernels to write whole vectors
	values   *[256]float32
}

// rowMaker computes the kept rows of one frame, top to bottom.
type rowMaker interface {
	// begin takes the frame of the following calls.
	begin(src []byte, stride int)
	// next writes the next kept row as RGB to out, which has rowSlack bytes more.
	next(out []byte)
	// end drops the frame.
	end()
}

// rowSlack is how far beyond its pixels a kernel may read or write a row.
const rowSlack = 64

// New builds a Resizer, with the fastest code that this machine runs.
func New(g Geometry) (*Resizer, error) {
	return newResizer(g, bestKernel())
}

func newResizer(g Geometry, k kernel) (*Resizer, error) {
	l, err := g.layout()
	if err != nil {
		return nil, fmt.Errorf("resize %v: %w", g, err)
	}
	r := &Resizer{geometry: g, layout: l, kernel: k}
	r.row = make([]byte, roundUp(3*l.keptW, 32)+rowSlack)
	r.values = newValues()
	r.rows = newRowMaker(k, newInput(g, l))
	return r, nil
}

// Reset makes the Resizer one for g, as New does. It is free when g is the
// geometry it has already, so it may be called for every frame.
// After an error the Resizer is what it was.
func (r *Resizer) Reset(g Geometry) error {
	if g == r.geometry {
		return nil
	}
	fresh, err := newResizer(g, r.kernel)
	if err != nil {
		return err
	}
	*r = *fresh
	return nil
}

// Geometry that the Resizer was built for.
func (r *Resizer) Geometry() Geometry { return r.geometry }

// Mapping from the output back to source pixels.
func (r *Resizer) Mapping() Mapping {
	m, err := r.geometry.Mapping()
	if err != nil {
		panic("preprocess: geometry was valid in New: " + err.Error())
	}
	return m
}

// Kernel names the code in use: "vnni", "avx2" or "generic". All give the same
// bytes.
func (r *Resizer) Kernel() string { return r.kernel.String() }

// RGB writes what the network sees, before normalisation: S x S pixels of 3
// bytes, row by row, to the first S*S*3 bytes of dst. stride is the distance in
// bytes from one row of src to the next.
// An error names what does not fit; dst is then untouched.
func (r *Resizer) RGB(dst, src []byte, stride int) error {
	s := r.geometry.Size
	if len(dst) < 3*s*s {
		return fmt.Errorf("resize %v: destination of %d bytes is too short: needs %d", r.geometry, len(dst), 3*s*s)
	}
	if err := r.geometry.check(src, stride); err != nil {
		return fmt.Errorf("resize %v: %w", r.geometry, err)
	}
	l := r.layout
	r.rows.begin(src, stride)
	clear(dst[:l.padY*3*s])
	for y := l.padY; y < l.padY+l.keptH; y++ {
		line := dst[y*3*s : (y+1)*3*s]
		clear(line[:3*l.padX])
		r.rows.next(r.row)
		copy(line[3*l.padX:], r.row[:3*l.keptW])
		clear(line[3*(l.padX+l.keptW):])
	}
	clear(dst[(l.padY+l.keptH)*3*s : 3*s*s])
	r.rows.end()
	return nil
}

// Tensor writes the network's input, [3, S, S] float32 in [-1, 1], to the first
// 3*S*S values of dst: planes red, green, blue of (x/255 - 0.5)/0.5, computed as
// torchvision's ToTensor and Normalize do in float32. For a batch give the
// n-th part of its memory. Else as RGB.
func (r *Resizer) Tensor(dst []float32, src []byte, stride int) error {
	s := r.geometry.Size
	if len(dst) < 3*s*s {
		return fmt.Errorf("resize %v: destination of %d values is too short: needs %d", r.geometry, len(dst), 3*s*s)
	}
	if err := r.geometry.check(src, stride); err != nil {
		return fmt.Errorf("resize %v: %w", r.geometry, err)
	}
	l := r.layout
	planes := [3][]float32{dst[:s*s], dst[s*s : 2*s*s], dst[2*s*s : 3*s*s]}
	r.rows.begin(src, stride)
	for y := l.padY; y < l.padY+l.keptH; y++ {
		r.rows.next(r.row)
		from := y*s + l.padX
		to := from + l.keptW
		normalize(r.kernel, r.values, planes[0][from:to], planes[1][from:to], planes[2][from:to], r.row)
		for _, plane := range planes {
			fill(plane[y*s:from], r.values[0])
			fill(plane[to:(y+1)*s], r.values[0])
		}
	}
	for _, plane := range planes {
		fill(plane[:l.padY*s], r.values[0])
		fill(plane[(l.padY+l.keptH)*s:], r.values[0])
	}
	r.rows.end()
	return nil
}

func fill(dst []float32, v float32) {
	for i := range dst {
		dst[i] = v
	}
}

func roundUp(n, to int) int { return (n + to - 1) / to * to }
