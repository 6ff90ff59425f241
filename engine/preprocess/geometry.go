package preprocess

import (
	"fmt"
	"math"
)

// Limits of a Geometry. They are far above any camera and keep every product
// of sizes within 32 bits.
const (
	MaxSourceEdge = 16384
	MaxSize       = 4096
)

// Geometry is everything that a Resizer is built for. The stride of the rows
// is not part of it: it may differ from frame to frame.
type Geometry struct {
	Width, Height int    // of the source, pixels
	Format        Format // of the source
	Size          int    // edge S of the square output, pixels
	Mode          Mode
}

// Validate reports the first thing that makes the geometry unusable.
func (g Geometry) Validate() error {
	_, err := g.layout()
	return err
}

// String reads like "1920x1080 bgr8 -> 256 squash".
func (g Geometry) String() string {
	return fmt.Sprintf("%dx%d %v -> %d %v", g.Width, g.Height, g.Format, g.Size, g.Mode)
}

// layout is where the picture goes: the source is resized to width x height,
// of that the keptW x keptH pixels from (cropX, cropY) on are kept, and they lie
// at (padX, padY) of the output.
type layout struct {
	width, height int
	cropX, cropY  int
	keptW, keptH  int
	padX, padY    int

	// verticalFirst is the order of the two passes, which rounding to 8 bits
	// between them makes visible. Pillow 13 and later take the vertical one first
	// when the height loses more than twice what the width loses, which is so for
	// a 9:16 portrait; before, and for all landscape frames that shrink, it is the
	// horizontal one.
	verticalFirst bool
}

func (g Geometry) layout() (layout, error) {
	switch {
	case !g.Format.known():
		return layout{}, fmt.Errorf("pixel format %d is unknown", uint8(g.Format))
	case g.Width < 1 || g.Width > MaxSourceEdge:
		return layout{}, fmt.Errorf("frame width %d is outside 1..%d", g.Width, MaxSourceEdge)
	case g.Height < 1 || g.Height > MaxSourceEdge:
		return layout{}, fmt.Errorf("frame height %d is outside 1..%d", g.Height, MaxSourceEdge)
	case g.Size < 1 || g.Size > MaxSize:
		return layout{}, fmt.Errorf("output size %d is outside 1..%d", g.Size, MaxSize)
	case g.Format.yuv() && g.Width%2 != 0:
		return layout{}, fmt.Errorf("frame width %d is odd: %v holds pixels in pairs", g.Width, g.Format)
	case g.Format == NV12 && g.Height%2 != 0:
		return layout{}, fmt.Errorf("frame height %d is odd: %v holds rows in pairs", g.Height, g.Format)
	}
	w, h, s := g.Width, g.Height, g.Size
	l := layout{width: s, height: s, keptW: s, keptH: s}
	switch g.Mode {
	case Squash:
	case Shortest:
		// torchvision.transforms.Resize(S): the longer edge is int(S * long / short).
		if w <= h {
			l.height = int(float64(s*h) / float64(w))
		} else {
			l.width = int(float64(s*w) / float64(h))
		}
		l.cropX, l.cropY = halfEven(l.width-s), halfEven(l.height-s)
	case Longest:
		// open_clip's ResizeKeepRatio(longest=1), then CenterCropOrPad.
		ratio := max(float64(w)/float64(s), float64(h)/float64(s))
		l.width = int(math.RoundToEven(float64(w) / ratio))
		l.height = int(math.RoundToEven(float64(h) / ratio))
		if l.width < 1 || l.height < 1 {
			return layout{}, fmt.Errorf("a frame of %dx%d fitted inside %d is %dx%d, nothing to see: use resize mode %q or %q",
				w, h, s, l.width, l.height, Squash, Shortest)
		}
		l.keptW, l.keptH = l.width, l.height
		l.padX, l.padY = (s-l.width)/2, (s-l.height)/2
	default:
		return layout{}, fmt.Errorf("resize mode %d is unknown", uint8(g.Mode))
	}
	l.verticalFirst = h > l.height && h-l.height > 2*(w-l.width)
	return l, nil
}

// halfEven is Python's int(round(n / 2)), as torchvision's center_crop has it.
func halfEven(n int) int { return int(math.RoundToEven(float64(n) / 2)) }

// Check reports why a frame of this geometry cannot be resized: the geometry itself, as
// Validate does, or pixels that do not hold it with this stride. It is what New and
// Resizer.Tensor check, for those who resize elsewhere. Without an error it allocates nothing.
func (g Geometry) Check(pixels []byte, stride int) error {
	if err := g.Validate(); err != nil {
		return err
	}
	return g.check(pixels, stride)
}

// check says whether src with this stride can hold the frame.
func (g Geometry) check(src []byte, stride int) error {
	row := g.Format.RowBytes(g.Width)
	if stride < row {
		return fmt.Errorf("stride %d is shorter than a row: %d pixels of %v take %d bytes", stride, g.Width, g.Format, row)
	}
	// A stride beyond the buffer would overflow the product below.
	if stride > len(src) && g.Height > 1 {
		return fmt.Errorf("buffer of %d bytes is shorter than one stride of %d bytes", len(src), stride)
	}
	if need := g.Format.FrameBytes(g.Width, g.Height, stride); len(src) < need {
		return fmt.Errorf("buffer of %d bytes is too short: %dx%d %v with stride %d needs %d", len(src), g.Width, g.Height, g.Format, stride, need)
	}
	return nil
}
