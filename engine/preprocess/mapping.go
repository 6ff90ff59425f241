package preprocess

import "fmt"

// Rect is an area in pixels: X0 <= x < X1, Y0 <= y < Y1, with (0, 0) the upper
// left corner of the upper left pixel.
type Rect struct{ X0, Y0, X1, Y1 float64 }

// Empty reports a rectangle without area.
func (r Rect) Empty() bool { return r.X0 >= r.X1 || r.Y0 >= r.Y1 }

func (r Rect) intersect(o Rect) Rect {
	out := Rect{max(r.X0, o.X0), max(r.Y0, o.Y0), min(r.X1, o.X1), min(r.Y1, o.Y1)}
	if out.Empty() {
		return Rect{}
	}
	return out
}

// Mapping takes places of the S x S output back to the source frame: x of the
// source is (x of the output + OffsetX) * ScaleX, and y alike. It is a plain
// value, good for any goroutine.
type Mapping struct {
	Size             int     // edge S of the output
	ScaleX, ScaleY   float64 // source pixels an output pixel
	OffsetX, OffsetY float64 // output pixels cropped away (> 0) or padded (< 0) on the left and top
	Source           Rect    // the whole source frame, source pixels
	Seen             Rect    // the part of the source that reaches the output, source pixels
	Picture          Rect    // the part of the output that holds picture, output pixels; the rest is padding
}

// Mapping of the geometry. It fails as Validate does.
func (g Geometry) Mapping() (Mapping, error) {
	l, err := g.layout()
	if err != nil {
		return Mapping{}, err
	}
	m := Mapping{
		Size:    g.Size,
		ScaleX:  float64(g.Width) / float64(l.width),
		ScaleY:  float64(g.Height) / float64(l.height),
		OffsetX: float64(l.cropX - l.padX),
		OffsetY: float64(l.cropY - l.padY),
		Source:  Rect{0, 0, float64(g.Width), float64(g.Height)},
		Picture: Rect{float64(l.padX), float64(l.padY), float64(l.padX + l.keptW), float64(l.padY + l.keptH)},
	}
	m.Seen = m.ToSource(m.Picture)
	return m, nil
}

// ToSource is the area of the source under an area of the output, cut to the
// frame: empty where the output holds padding only.
func (m Mapping) ToSource(r Rect) Rect {
	r = r.intersect(m.Picture)
	if r.Empty() {
		return Rect{}
	}
	return Rect{
		(r.X0 + m.OffsetX) * m.ScaleX, (r.Y0 + m.OffsetY) * m.ScaleY,
		(r.X1 + m.OffsetX) * m.ScaleX, (r.Y1 + m.OffsetY) * m.ScaleY,
	}.intersect(m.Source)
}

// Cell is the area of the source under the cell (row, col) of a grid of rows x
// cols laid over the output, in source pixels; empty where the cell holds
// padding only. A cell partly in the padding gives its picture part.
// The filter reaches a little further than the cell, and the network sees
// much further: this is where a token lies, not all that it has seen.
func (m Mapping) Cell(rows, cols, row, col int) (Rect, error) {
	if rows < 1 || cols < 1 {
		return Rect{}, fmt.Errorf("grid of %dx%d cells has no cells", rows, cols)
	}
	if row < 0 || row >= rows || col < 0 || col >= cols {
		return Rect{}, fmt.Errorf("cell (%d, %d) is outside the grid of %dx%d cells", row, col, rows, cols)
	}
	h, w := float64(m.Size)/float64(rows), float64(m.Size)/float64(cols)
	return m.ToSource(Rect{float64(col) * w, float64(row) * h, float64(col+1) * w, float64(row+1) * h}), nil
}
