package api

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/toklip/toklip/api/toklipv1"
)

// Float16 converts to IEEE 754 binary16, rounding to nearest, ties to even. What is too
// great becomes infinite, NaN stays NaN.
func Float16(f float32) uint16 {
	b := math.Float32bits(f)
	sign := uint16(b >> 16 & 0x8000)
	b &= 0x7fffffff
	switch {
	case b >= 0x7f800000: // infinite or NaN; a NaN keeps its upper bits and stays quiet
		if b > 0x7f800000 {
			return sign | 0x7e00 | uint16(b>>13&0x3ff)
		}
		return sign | 0x7c00
	case b >= 0x477ff000: // rounds to 2^16 or is greater
		return sign | 0x7c00
	case b >= 0x38800000: // normal: exponent bias 127 becomes 15
		b += 0xfff + b>>13&1 // half a unit less one, plus the last bit kept: ties to even
		return sign | uint16((b-0x38000000)>>13)
	case b < 0x33000000: // less than half the least subnormal (a tie at 2^-25 rounds to 0 below)
		return sign
	}
	// Subnormal: value is m * 2^(e-150), the unit is 2^-24.
	e := b >> 23
	m := b&0x7fffff | 0x800000
	shift := 126 - e // 14..24
	half := uint32(1) << (shift - 1)
	return sign | uint16((m+half-1+m>>shift&1)>>shift)
}

// FromFloat16 converts from IEEE 754 binary16. Every value is exact.
func FromFloat16(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	e := uint32(h >> 10 & 0x1f)
	m := uint32(h & 0x3ff)
	switch e {
	case 0:
		f := float32(m) * (1.0 / (1 << 24))
		return math.Float32frombits(math.Float32bits(f) | sign)
	case 0x1f:
		return math.Float32frombits(sign | 0x7f800000 | m<<13)
	}
	return math.Float32frombits(sign | (e+112)<<23 | m<<13)
}

// elementSize is the number of bytes of one element, 0 for an unknown type.
func elementSize(t toklipv1.DType) int {
	switch t {
	case toklipv1.DType_DTYPE_FP16:
		return 2
	case toklipv1.DType_DTYPE_FP32:
		return 4
	}
	return 0
}

// ParseDType reads "fp16" or "fp32".
func ParseDType(s string) (toklipv1.DType, error) {
	switch s {
	case "fp16":
		return toklipv1.DType_DTYPE_FP16, nil
	case "fp32":
		return toklipv1.DType_DTYPE_FP32, nil
	}
	return 0, fmt.Errorf(`element type %q is unknown: use "fp16" or "fp32"`, s)
}

// AppendVector appends the elements of v as dtype (fp16 or fp32), little-endian.
func AppendVector(dst []byte, v []float32, dtype toklipv1.DType) ([]byte, error) {
	switch dtype {
	case toklipv1.DType_DTYPE_FP16:
		start := len(dst)
		dst = slices.Grow(dst, 2*len(v))[:start+2*len(v)]
		out := dst[start:]
		for i, f := range v {
			binary.LittleEndian.PutUint16(out[2*i:], Float16(f))
		}
		return dst, nil
	case toklipv1.DType_DTYPE_FP32:
		start := len(dst)
		dst = slices.Grow(dst, 4*len(v))[:start+4*len(v)]
		out := dst[start:]
		for i, f := range v {
			binary.LittleEndian.PutUint32(out[4*i:], math.Float32bits(f))
		}
		return dst, nil
	}
	return dst, fmt.Errorf("vector: element type %v is unknown: use fp16 or fp32", dtype)
}

// Vector appends the n elements of type dtype that data holds to dst.
func Vector(dst []float32, data []byte, n int, dtype toklipv1.DType) ([]float32, error) {
	size := elementSize(dtype)
	if size == 0 {
		return dst, fmt.Errorf("vector: element type %v is unknown: fp16 and fp32 are understood", dtype)
	}
	if n < 0 || len(data)%size != 0 || len(data)/size != n {
		return dst, fmt.Errorf("vector: %d bytes for %d elements of %d bytes", len(data), n, size)
	}
	for i := 0; i < len(data); i += size {
		if size == 2 {
			dst = append(dst, FromFloat16(binary.LittleEndian.Uint16(data[i:])))
		} else {
			dst = append(dst, math.Float32frombits(binary.LittleEndian.Uint32(data[i:])))
		}
	}
	return dst, nil
}

// EmbeddingVector appends the vector of a message to dst.
func EmbeddingVector(dst []float32, m *toklipv1.Embedding) ([]float32, error) {
	return Vector(dst, m.Data, int(m.Dim), m.Dtype)
}

// FeatureVectors appends the features of a message to dst, [rows*dim], token by token.
func FeatureVectors(dst []float32, m *toklipv1.Features) ([]float32, error) {
	n := uint64(m.Rows) * uint64(m.Dim)
	if n > math.MaxInt32 {
		return dst, fmt.Errorf("features: %d vectors of %d elements are too many", m.Rows, m.Dim)
	}
	return Vector(dst, m.Data, int(n), m.Dtype)
}

// SetEmbedding fills the payload of m with v as dtype; with normalize, scaled to length
// 1. A vector of length 0, or not finite, cannot be normalised and is an error. Data of m
// is used again, v is copied.
func SetEmbedding(m *toklipv1.Embedding, v []float32, dtype toklipv1.DType, normalize bool) error {
	scale := float32(1)
	if normalize {
		var sum float64
		for _, f := range v {
			sum += float64(f) * float64(f)
		}
		if !(sum > 0) || math.IsInf(sum, 0) {
			return fmt.Errorf("embedding: length %v cannot be normalised", math.Sqrt(sum))
		}
		scale = float32(1 / math.Sqrt(sum))
	}
	size := elementSize(dtype)
	if size == 0 {
		return fmt.Errorf("embedding: element type %v is unknown: use fp16 or fp32", dtype)
	}
	m.Data = slices.Grow(m.Data[:0], size*len(v))[:size*len(v)]
	for i, f := range v {
		f *= scale
		if size == 2 {
			binary.LittleEndian.PutUint16(m.Data[2*i:], Float16(f))
		} else {
			binary.LittleEndian.PutUint32(m.Data[4*i:], math.Float32bits(f))
		}
	}
	m.Dim, m.Dtype, m.Normalized = uint32(len(v)), dtype, normalize
	return nil
}

// SetFeatures fills the payload of m with the vectors of rows tokens, v being
// [rows*dim], as dtype. Data of m is used again, v is copied.
func SetFeatures(m *toklipv1.Features, v []float32, rows int, dtype toklipv1.DType) error {
	if rows < 1 || len(v)%rows != 0 {
		return fmt.Errorf("features: %d elements for %d tokens", len(v), rows)
	}
	data, err := AppendVector(m.Data[:0], v, dtype)
	if err != nil {
		return err
	}
	m.Data = data
	m.Rows, m.Dim, m.Dtype = uint32(rows), uint32(len(v)/rows), dtype
	return nil
}
