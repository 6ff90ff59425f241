package preprocess

import "fmt"

// input is what both implementations share: the coefficients, the part of the
// source that they reach, and the frame of the moment.
type input struct {
	geometry        Geometry
	across, down    taps
	verticalFirst   bool
	colFrom, colTo  int // source columns read: colFrom <= x < colTo
	rowFrom, rowTo  int // source rows read
	bytes           int // a pixel, of the rows that line hands out
	rgb             [3]int
	src             []byte
	stride          int
	converted       []byte // rows of RGB, for formats that are converted first
	convertedStride int
	tables          *yuvTables
	vectors         *yuvVectors // nil: no kernel
}

// newInput gathers them.
func newInput(g Geometry, l layout) *input {
	in := &input{
		geometry:      g,
		across:        newTaps(g.Width, l.width, l.cropX, l.keptW),
		down:          newTaps(g.Height, l.height, l.cropY, l.keptH),
		verticalFirst: l.verticalFirst,
	}
	in.colFrom, in.colTo = in.across.span()
	in.rowFrom, in.rowTo = in.down.span()
	in.bytes, in.rgb = g.Format.packed()
	if g.Format.yuv() {
		// Chroma belongs to pairs of pixels.
		in.colFrom, in.colTo = in.colFrom&^1, roundUp(in.colTo, 2)
		in.convertedStride = 3*(in.colTo-in.colFrom) + rowSlack
		in.converted = make([]byte, linesAtOnce*in.convertedStride)
		in.tables = newYUVTables()
	}
	return in
}

// linesAtOnce is how many rows of a frame a rowMaker looks at together.
const linesAtOnce = 8

func (in *input) begin(src []byte, stride int) { in.src, in.stride = src, stride }

func (in *input) end() { in.src = nil }

// lineBytes is the length of what line returns.
func (in *input) lineBytes() int { return in.bytes * (in.colTo - in.colFrom) }

// lines finds n rows of the frame from source row y on, columns
// colFrom..colTo: row i begins at at[i] of the buffer. Rows below rowTo are the
// last one again.
func (in *input) lines(y, n int, at *[linesAtOnce]int) []byte {
	if n > linesAtOnce {
		panic(fmt.Sprintf("preprocess: %d lines at once", n))
	}
	for i := range n {
		from := min(y+i, in.rowTo-1)
		switch {
		case !in.geometry.Format.yuv():
			at[i] = from*in.stride + in.colFrom*in.bytes
		case y+i > from && i > 0:
			at[i] = at[i-1]
		default:
			at[i] = i * in.convertedStride
			in.convert(from, in.converted[at[i]:at[i]+in.convertedStride])
		}
	}
	if in.geometry.Format.yuv() {
		return in.converted
	}
	return in.src
}
