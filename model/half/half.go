// Package half converts between float32 and IEEE 754 binary16, the fp16 of checkpoints, graphs and arrays.
package half

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Largest is the largest finite half-precision number.
const Largest = 65504

// From rounds to the nearest half-precision number, to the even one of two; what is too large becomes an infinity.
func From(v float32) uint16 {
	bits := math.Float32bits(v)
	sign := uint16(bits >> 16 & 0x8000)
	bits &= 0x7fffffff
	switch {
	case bits > 0x7f800000: // not a number: a quiet one, with what fits of its payload
		return sign | 0x7e00 | uint16(bits>>13)&0x1ff
	case bits >= 0x47800000: // 65536 and above
		return sign | 0x7c00
	case bits < 0x38800000: // below 2^-14: a multiple of 2^-24
		// Adding 0.5 lets float32's own rounding do it: its last bit there is 2^-24.
		return sign | uint16(math.Float32bits(math.Float32frombits(bits)+0.5)-0x3f000000)
	}
	// The exponent's bias changes from 127 to 15. Rounding may carry into the exponent, up to infinity.
	bits += 0xfff + bits>>13&1
	return sign | uint16((bits-(127-15)<<23)>>13)
}

// To widens a half-precision number, exactly. Shifting exponent and fraction into a float32 leaves the value too small by 2^112,
// for subnormal numbers as well, and the product is exact.
func To(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	bits := uint32(h&0x7fff) << 13
	if bits >= 0x7c00<<13 { // infinity, or not a number: keep the fraction
		return math.Float32frombits(sign | 0x7f800000 | bits)
	}
	f := math.Float32frombits(bits) * 0x1p112
	return math.Float32frombits(sign | math.Float32bits(f))
}

// Append appends the values as little-endian bytes. A value beyond [Largest], or none at all, is an error naming it.
func Append(b []byte, values []float32) ([]byte, error) {
	for i, v := range values {
		h := From(v)
		if h&0x7c00 == 0x7c00 {
			return nil, fmt.Errorf("value %d is %g, which fp16 cannot hold (%d at most)", i, v, Largest)
		}
		b = binary.LittleEndian.AppendUint16(b, h)
	}
	return b, nil
}
