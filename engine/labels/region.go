package labels

import (
	"errors"
	"fmt"
)

// Point is a place in the captured frame, as fractions of its width and height: (0, 0) is the upper left corner, (1, 1) the
// lower right.
type Point struct{ X, Y float64 }

func (p Point) String() string { return fmt.Sprintf("(%v, %v)", p.X, p.Y) }

// Grid is the grid of tokens.
type Grid struct{ Rows, Cols int }

// Cells is the number of tokens.
func (g Grid) Cells() int { return g.Rows * g.Cols }

// Size of the captured frame in pixels.
type Size struct{ Width, Height int }

// Window is the area of the captured frame that the network's square input shows, in pixels of the frame; where the input is
// padded it reaches beyond the frame.
type Window struct{ X, Y, Width, Height float64 }

func (w Window) String() string { return fmt.Sprintf("%vx%v at (%v, %v)", w.Width, w.Height, w.X, w.Y) }

// MaxPoints is how many corners a region may have.
const MaxPoints = 64

// Region is a named part of the frame. Its outline may cross itself; a place is inside if a ray from it crosses the outline
// an odd number of times.
type Region struct {
	Name    string
	Polygon []Point
}

// Rect is a rectangular region: its upper left corner, width and height, as fractions of the frame. Validate refuses it if
// one of the latter is not positive.
func Rect(name string, x, y, width, height float64) Region {
	right, bottom := x+max(width, 0), y+max(height, 0)
	return Region{name, []Point{{x, y}, {right, y}, {right, bottom}, {x, bottom}}}
}

// Validate reports every mistake in the region, each with its name and the value at fault.
func (r Region) Validate() error {
	if fault := nameFault(r.Name); fault != "" {
		return fmt.Errorf("region: %s", fault)
	}
	if n := len(r.Polygon); n < 3 || n > MaxPoints {
		return fmt.Errorf("region %s: %d corners: 3 to %d are possible", quote(r.Name), n, MaxPoints)
	}
	var errs []error
	inside := func(v float64) bool { return v >= -rounding && v <= 1+rounding }
	for i, p := range r.Polygon {
		if !inside(p.X) || !inside(p.Y) {
			errs = append(errs, fmt.Errorf("region %s: corner %d is %v: both must be between 0 and 1, as fractions of the frame", quote(r.Name), i+1, p))
		}
	}
	if len(errs) == 0 && !outline(r.Polygon).encloses() {
		errs = append(errs, fmt.Errorf("region %s: its corners %s enclose nothing", quote(r.Name), corners(r.Polygon)))
	}
	return errors.Join(errs...)
}

// corners shows the first few corners of a polygon.
func corners(polygon []Point) string {
	const shown = 4
	if len(polygon) > shown {
		return fmt.Sprintf("%v and so on", polygon[:shown])
	}
	return fmt.Sprint(polygon)
}

// Mask fills dst, which has a number for each cell of the grid in raster order, with 1 for the cells of the region and 0 for
// all others, and returns the number of cells that have 1: at least one. After an error dst is all 0.
//
// A cell belongs to the region if at least half of it lies inside, of the part of it that shows the frame and not padding.
// Where that is no cell, because the region is small or narrow, those belong to it that lie inside at least half as much as
// the one that lies inside most. A region outside the window, which the network does not see, is an error. Rectangles are
// measured exactly, other outlines to about 1/32 of a cell.
//
// Mask allocates: it is for whenever the region or the frame's geometry changes, not for every frame.
func (r Region) Mask(dst []float32, grid Grid, frame Size, window Window) (cells int, err error) {
	clear(dst)
	if err := r.Validate(); err != nil {
		return 0, err
	}
	if grid.Rows < 1 || grid.Cols < 1 || len(dst)/grid.Rows != grid.Cols || len(dst)%grid.Rows != 0 {
		return 0, fmt.Errorf("mask of region %s: %d numbers for a grid of %dx%d", quote(r.Name), len(dst), grid.Rows, grid.Cols)
	}
	if frame.Width < 1 || frame.Height < 1 {
		return 0, fmt.Errorf("mask of region %s: frame of %dx%d pixels", quote(r.Name), frame.Width, frame.Height)
	}
	scene, err := newScene(grid, frame, window)
	if err != nil {
		return 0, fmt.Errorf("mask of region %s: %w", quote(r.Name), err)
	}
	o := make(outline, len(r.Polygon))
	for i, p := range r.Polygon {
		o[i] = scene.place(p)
	}
	shares := make([]float64, len(dst))
	o.cover(shares, grid)
	seen, most := 0.0, 0.0
	for i, area := range shares {
		seen += area
		visible := scene.visible(i/grid.Cols, i%grid.Cols)
		if visible < leastVisible {
			shares[i] = 0
			continue
		}
		shares[i] = area / visible
		most = max(most, shares[i])
	}
	// What a region only touches by rounding is not seen either.
	if most == 0 || seen < 1e-9*o.boxArea() {
		return 0, fmt.Errorf("region %s lies outside the part of the frame that the network sees: its corners are %s, seen is %v of %dx%d pixels; move it or use resize mode squash",
			quote(r.Name), corners(r.Polygon), window, frame.Width, frame.Height)
	}
	least := most / 2
	if most >= half {
		least = half
	}
	for i, share := range shares {
		if share >= least {
			dst[i] = 1
			cells++
		}
	}
	return cells, nil
}

const (
	rounding = 1e-9           // 0.7 + 0.3 and the like may miss 1 by their last digit
	half     = 0.5 - rounding // so that a cell halved exactly is in

	// leastVisible is the part of a cell below which it counts as padding.
	leastVisible = 1e-6
)

// Neighbourhood fills dst, which has rows*cols numbers, with 1 for the cells at most radius rows and radius columns away
// from cell, and 0 for all others. Radius 0 is the cell alone.
func Neighbourhood(dst []float32, rows, cols, cell, radius int) {
	if len(dst) != rows*cols || cell < 0 || cell >= len(dst) {
		panic(fmt.Sprintf("labels: neighbourhood of cell %d in a grid of %dx%d, for a mask of %d", cell, rows, cols, len(dst)))
	}
	clear(dst)
	radius = max(0, min(radius, max(rows, cols)))
	row, col := cell/cols, cell%cols
	for r := max(row-radius, 0); r <= min(row+radius, rows-1); r++ {
		for c := max(col-radius, 0); c <= min(col+radius, cols-1); c++ {
			dst[r*cols+c] = 1
		}
	}
}
