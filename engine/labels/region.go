package labels

// Point is a place in the captured frame, as fractions of its width and height: (0, 0) is the upper left corner, (1, 1) the
// lower right.
type Point struct{ X, Y float64 }

// Grid is the grid of tokens.
type Grid struct{ Rows, Cols int }

// Cells is the number of tokens.
func (g Grid) Cells() int { return g.Rows * g.Cols }

// Size of the captured frame in pixels.
type Size struct{ Width, Height int }

// Window is the area of the captured frame that the network's square input shows, in pixels of the frame; where the input is
// padded it reaches beyond the frame.
type Window struct{ X, Y, Width, Height float64 }

// MaxPoints is how many corners a region may have.
const MaxPoints = 64

// Region is a named part of the frame. Its outline may cross itself; a place is inside if a ray from it crosses the outline
// an odd number of times.
type Region struct {
	Name    string
	Polygon []Point
}

// Rect is a rectangular region: its upper left corner, width and height, as fractions of the frame.
func Rect(name string, x, y, width, height float64) Region {
	return Region{name, []Point{{x, y}, {x + width, y}, {x + width, y + height}, {x, y + height}}}
}

// Validate reports what keeps the region from being one, by its name and the value at fault.
func (r Region) Validate() error { panic("labels: not there yet") }

// Mask fills dst, which has a number for each cell of the grid in raster order, with 1 for the cells of the region and 0 for
// all others, and returns the number of cells that have 1: at least one.
func (r Region) Mask(dst []float32, grid Grid, frame Size, window Window) (cells int, err error) {
	panic("labels: not there yet")
}

// Neighbourhood fills dst, which has rows*cols numbers, with 1 for the cells at most radius rows and radius columns away
// from cell, and 0 for all others.
func Neighbourhood(dst []float32, rows, cols, cell, radius int) { panic("labels: not there yet") }
