package labels

import (
	"fmt"
	"math"
	"slices"
)

// scene maps the frame to the grid: places in units of cells, (0, 0) being the upper left corner of cell 0.
type scene struct {
	x0, y0, x1, y1 float64 // the frame's corners on the grid
}

func newScene(grid Grid, frame Size, w Window) (scene, error) {
	if !(w.Width > 0) || !(w.Height > 0) {
		return scene{}, fmt.Errorf("window of %v pixels: it must have an area", w)
	}
	cols, rows := float64(grid.Cols)/w.Width, float64(grid.Rows)/w.Height
	s := scene{
		x0: -w.X * cols, x1: (float64(frame.Width) - w.X) * cols,
		y0: -w.Y * rows, y1: (float64(frame.Height) - w.Y) * rows,
	}
	// Beyond that a place could not be told from its neighbour.
	for _, v := range []float64{s.x0, s.y0, s.x1, s.y1} {
		if !(math.Abs(v) < 1e9) {
			return scene{}, fmt.Errorf("window of %v pixels does not fit a frame of %dx%d pixels", w, frame.Width, frame.Height)
		}
	}
	return s, nil
}

// place of a point of the frame on the grid.
func (s scene) place(p Point) Point {
	return Point{s.x0 + p.X*(s.x1-s.x0), s.y0 + p.Y*(s.y1-s.y0)}
}

// visible is the part of a cell that shows the frame, 0 to 1.
func (s scene) visible(row, col int) float64 {
	return overlap(s.x0, s.x1, float64(col), float64(col+1)) * overlap(s.y0, s.y1, float64(row), float64(row+1))
}

// overlap is the length that two intervals have in common.
func overlap(a0, a1, b0, b1 float64) float64 { return max(0, min(a1, b1)-max(a0, b0)) }

// outline is a closed polygon that may cross itself.
type outline []Point

// box is the smallest rectangle around the outline.
func (o outline) box() (low, high Point) {
	low, high = o[0], o[0]
	for _, p := range o {
		low = Point{min(low.X, p.X), min(low.Y, p.Y)}
		high = Point{max(high.X, p.X), max(high.Y, p.Y)}
	}
	return low, high
}

func (o outline) boxArea() float64 {
	low, high := o.box()
	return (high.X - low.X) * (high.Y - low.Y)
}

// encloses reports whether there is something inside: at least a millionth of the frame's width and height, and not as
// little as rounding leaves of an outline that comes back on itself.
func (o outline) encloses() bool {
	low, high := o.box()
	width, height := high.X-low.X, high.Y-low.Y
	if !(width > 1e-6) || !(height > 1e-6) {
		return false
	}
	scaled := make(outline, len(o))
	for i, p := range o {
		scaled[i] = Point{(p.X - low.X) / width, (p.Y - low.Y) / height}
	}
	area := make([]float64, 1)
	scaled.cover(area, Grid{1, 1})
	return area[0] > 1e-9
}

// strips is into how many horizontal strips a row of cells is cut.
const strips = 32

// cover adds to dst how much of each cell of the grid lies inside. A row of cells is cut into strips, of which each counts
// as its middle line does; lines are measured exactly. Strips begin and end with the outline, so a rectangle comes out
// exact and nothing is too flat to be hit.
func (o outline) cover(dst []float64, grid Grid) {
	low, high := o.box()
	crossings := make([]float64, 0, len(o))
	first := max(0, int(math.Floor(min(low.Y, float64(grid.Rows)))))
	for row := first; row < grid.Rows && float64(row) < high.Y; row++ {
		top, bottom := max(float64(row), low.Y), min(float64(row+1), high.Y)
		height := (bottom - top) / strips
		cells := dst[row*grid.Cols:][:grid.Cols]
		for k := range strips {
			crossings = o.crossings(crossings[:0], top+(float64(k)+0.5)*height)
			for i := 0; i+1 < len(crossings); i += 2 {
				addSpan(cells, crossings[i], crossings[i+1], height)
			}
		}
	}
}

// crossings appends where the horizontal line at y crosses the outline, in order. Their number is even, since an edge owns
// one of its ends.
func (o outline) crossings(dst []float64, y float64) []float64 {
	a := o[len(o)-1]
	for _, b := range o {
		if (a.Y <= y) != (b.Y <= y) {
			dst = append(dst, a.X+(y-a.Y)/(b.Y-a.Y)*(b.X-a.X))
		}
		a = b
	}
	slices.Sort(dst)
	return dst
}

// addSpan adds a strip from left to right, of some height, to a row of cells.
func addSpan(cells []float64, left, right, height float64) {
	left, right = max(left, 0), min(right, float64(len(cells)))
	for c := int(left); c < len(cells) && float64(c) < right; c++ {
		cells[c] += overlap(left, right, float64(c), float64(c+1)) * height
	}
}
