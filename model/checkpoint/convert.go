package checkpoint

import (
	"encoding/binary"
	"math"
	"unsafe"

	"github.com/toklip/toklip/model/half"
)

// decode converts len(dst) little-endian elements of src to float32. src holds exactly as many elements.
func decode(dst []float32, src []byte, dtype DType) {
	if len(dst) == 0 {
		return
	}
	switch dtype {
	case Float32:
		decodeFloat32(dst, src)
	case Float16:
		decodeFloat16(dst, src)
	case BFloat16:
		decodeBFloat16(dst, src)
	}
}

// hostLittle tells whether this machine stores numbers as the files do.
func hostLittle() bool { return binary.NativeEndian.Uint16([]byte{1, 0}) == 1 }

func decodeFloat32(dst []float32, src []byte) {
	if hostLittle() {
		copy(unsafe.Slice((*byte)(unsafe.Pointer(&dst[0])), 4*len(dst)), src)
		return
	}
	for i := range dst {
		dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
	}
}

// words views src as 16-bit numbers, if this machine can do that.
func words(src []byte, n int) ([]uint16, bool) {
	p := unsafe.Pointer(&src[0])
	if !hostLittle() || uintptr(p)%2 != 0 {
		return nil, false
	}
	return unsafe.Slice((*uint16)(p), n), true
}

func decodeBFloat16(dst []float32, src []byte) {
	if w, ok := words(src, len(dst)); ok {
		w = w[:len(dst)]
		for i := range dst {
			dst[i] = math.Float32frombits(uint32(w[i]) << 16)
		}
		return
	}
	src = src[:2*len(dst)]
	for i := range dst {
		dst[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(src[2*i:])) << 16)
	}
}

func decodeFloat16(dst []float32, src []byte) {
	if w, ok := words(src, len(dst)); ok {
		w = w[:len(dst)]
		for i := range dst {
			dst[i] = half.To(w[i])
		}
		return
	}
	src = src[:2*len(dst)]
	for i := range dst {
		dst[i] = half.To(binary.LittleEndian.Uint16(src[2*i:]))
	}
}
