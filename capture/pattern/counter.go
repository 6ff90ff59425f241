package pattern

import (
	"errors"
	"fmt"

	"github.com/toklip/toklip/capture"
)

// The counter's picture is 32 columns of equal width, black for 0 and white for
// 1, the highest bit on the left: 24 bits of the number, then 8 bits of check sum.
// Every row says the same, so a torn picture gives itself away; columns this wide
// outlive video compression.
const (
	counterBits = 32
	numberMask  = 1<<24 - 1
)

// ErrTorn says that rows of a picture belong to different numbers.
var ErrTorn = errors.New("torn picture")

func counterCode(n uint64) uint32 {
	number := uint32(n & numberMask)
	return number<<8 | uint32(checksum(number))
}

func checksum(number uint32) byte {
	return byte((number*0x9e3779b1)>>24) ^ 0xa5
}

func drawCounter(g capture.Geometry, dst []byte, n uint64) {
	code := counterCode(n)
	for x := range g.Width {
		bit := x * counterBits / g.Width
		v := byte(0)
		if code>>(counterBits-1-bit)&1 == 1 {
			v = 255
		}
		dst[3*x], dst[3*x+1], dst[3*x+2] = v, v, v
	}
	repeat(g, dst)
}

// ReadCounter returns the number (modulo 2^24) that a picture of the counter
// pattern shows. Every row is read; the error wraps ErrTorn if they disagree.
func ReadCounter(g capture.Geometry, pixels []byte) (uint64, error) {
	bpp := g.Format.BytesPerPixel()
	if bpp == 0 || g.Width < counterBits*2 || len(pixels) < g.Bytes() {
		return 0, fmt.Errorf("%d bytes of %dx%d %s are no counter picture", len(pixels), g.Width, g.Height, g.Format)
	}
	var first uint32
	for y := range g.Height {
		row := pixels[y*g.Stride:]
		var code uint32
		for bit := range counterBits {
			x := (2*bit + 1) * g.Width / (2 * counterBits)
			code <<= 1
			if row[x*bpp] >= 128 {
				code |= 1
			}
		}
		if y == 0 {
			first = code
		} else if code != first {
			return 0, fmt.Errorf("row 0 shows %d, row %d shows %d: %w", first>>8, y, code>>8, ErrTorn)
		}
	}
	number := first >> 8
	if byte(first) != checksum(number) {
		return 0, fmt.Errorf("check sum %#02x does not belong to %d: no counter picture", byte(first), number)
	}
	return uint64(number), nil
}

// CounterOf reads the counter of a captured frame.
func CounterOf(f *capture.Frame) (uint64, error) {
	return ReadCounter(capture.Geometry{Width: f.Width, Height: f.Height, Stride: f.Stride, Format: f.Format}, f.Pixels)
}
