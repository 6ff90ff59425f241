package preprocess

import "fmt"

// Format is the layout of a frame's pixels in memory. The zero value is BGR8,
// what OpenCV captures by default.
type Format uint8

const (
	// BGR8 is 3 bytes a pixel: blue, green, red.
	BGR8 Format = iota
	// RGB8 is 3 bytes a pixel: red, green, blue.
	RGB8
	// BGRx8 is 4 bytes a pixel: blue, green, red and one that is ignored.
	BGRx8
	// Gray8 is 1 byte a pixel; it becomes equal red, green and blue.
	Gray8
	// NV12 is a plane of luma, then at stride*height a plane of half the
	// height holding pairs U, V for each 2 x 2 pixels, with the same stride.
	// Width and height are even. BT.601, limited range.
	NV12
	// YUYV is 2 bytes a pixel: Y0 U Y1 V for each two pixels of a row. Width is
	// even. BT.601, limited range.
	YUYV
)

var formatNames = [...]string{BGR8: "bgr8", RGB8: "rgb8", BGRx8: "bgrx8", Gray8: "gray8", NV12: "nv12", YUYV: "yuyv"}

// ParseFormat reads a format's name, such as "bgr8" or "nv12".
func ParseFormat(s string) (Format, error) {
	for f, name := range formatNames {
		if s == name {
			return Format(f), nil
		}
	}
	return 0, fmt.Errorf("pixel format %q is unknown: use bgr8, rgb8, bgrx8, gray8, nv12 or yuyv", s)
}

// String is the name that ParseFormat reads.
func (f Format) String() string {
	if f.known() {
		return formatNames[f]
	}
	return fmt.Sprintf("Format(%d)", uint8(f))
}

func (f Format) known() bool { return int(f) < len(formatNames) }

// RowBytes is the number of bytes that the pixels of one row take: the least
// stride of a frame of this width.
func (f Format) RowBytes(width int) int {
	switch f {
	case BGRx8:
		return 4 * width
	case Gray8, NV12:
		return width
	case YUYV:
		return 2 * width
	default:
		return 3 * width
	}
}

// FrameBytes is the least length of a buffer holding a frame: the last row
// needs its pixels only, not its padding.
func (f Format) FrameBytes(width, height, stride int) int {
	rows := height
	if f == NV12 {
		rows += height / 2
	}
	return (rows-1)*stride + f.RowBytes(width)
}

// yuv reports formats that are converted to RGB before they are resized.
func (f Format) yuv() bool { return f == NV12 || f == YUYV }

// packed describes the rows the resampler reads: bytes a pixel and where red,
// green and blue lie in it. Converted YUV rows are RGB.
func (f Format) packed() (bytes int, rgb [3]int) {
	switch f {
	case BGR8:
		return 3, [3]int{2, 1, 0}
	case BGRx8:
		return 4, [3]int{2, 1, 0}
	case Gray8:
		return 1, [3]int{0, 0, 0}
	default:
		return 3, [3]int{0, 1, 2}
	}
}
