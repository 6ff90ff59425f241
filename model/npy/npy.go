// Package npy reads and writes NumPy's array files: .npy, one array, and .npz, a zip of them.
//
// A big array is streamed: [Open] reads the header alone, [Reader.ReadFloat32] any range of the
// values, so that a file of images [n,3,S,S] passes through the memory of one of them:
//
//	r, err := npy.Open("images.npy")
//	...
//	defer r.Close()
//	row := make([]float32, 3*size*size)
//	for i := range r.Shape()[0] {
//		err := r.ReadFloat32(row, int64(i*len(row)))
//		...
//	}
//
// A small one is held whole: [Load], [LoadNPZ] and [Array].
//
// Supported are the little-endian types of [DType] in C order (the last index runs fastest), in
// versions 1 to 3 of the format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html.
// Everything else, Python objects above all, is refused with the reason. Headers are parsed, never
// evaluated, and no size that a file claims is allocated before that many bytes were seen.
package npy

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Limits of what is read.
const (
	MaxHeaderBytes  = 1 << 16 // of a header's text; NumPy itself stops at 10 000
	MaxDims         = 32      // dimensions of an array
	MaxArchiveBytes = 1 << 30 // of all arrays of an .npz together, once inflated
	MaxArchiveFiles = 4096    // arrays in an .npz
)

// Errors that callers tell apart.
var (
	// ErrFormat is wrapped where a file is not what the format prescribes: damaged, cut short or something else.
	ErrFormat = errors.New("not a valid NumPy file")
	// ErrUnsupported is wrapped where a file is valid but of a kind this package does not read: other
	// element types, big-endian values, Fortran order.
	ErrUnsupported = errors.New("unsupported kind of NumPy file")
	// ErrType is wrapped where values are asked for in a type the array's own does not convert to.
	ErrType = errors.New("wrong element type")
)

// DType is the type of an array's elements.
type DType uint8

// The supported types.
const (
	Float16 DType = iota + 1 // IEEE 754 binary16
	Float32
	Float64
	Int32
	Int64
	Uint8
	Bool // a byte, 0 or 1
)

// dtypes holds size, name and NumPy's own notation of each type.
var dtypes = [...]struct {
	size        int
	name, descr string
}{
	Float16: {2, "float16", "<f2"},
	Float32: {4, "float32", "<f4"},
	Float64: {8, "float64", "<f8"},
	Int32:   {4, "int32", "<i4"},
	Int64:   {8, "int64", "<i8"},
	Uint8:   {1, "uint8", "|u1"},
	Bool:    {1, "bool", "|b1"},
}

func (d DType) valid() bool { return d >= Float16 && d <= Bool }

// Size is the number of bytes of one element, 0 for a value that is none of the constants.
func (d DType) Size() int {
	if !d.valid() {
		return 0
	}
	return dtypes[d].size
}

// String is NumPy's name of the type, such as "float32".
func (d DType) String() string {
	if !d.valid() {
		return fmt.Sprintf("DType(%d)", uint8(d))
	}
	return dtypes[d].name
}

// dtypeOf finds the type by NumPy's notation.
func dtypeOf(descr string) (DType, error) {
	for d := Float16; d <= Bool; d++ {
		if dtypes[d].descr == descr {
			return d, nil
		}
	}
	if strings.HasPrefix(descr, ">") {
		return 0, fmt.Errorf("%w: element type %q is big-endian; save it with array.astype(array.dtype.newbyteorder('<'))", ErrUnsupported, descr)
	}
	if strings.HasPrefix(descr, "|O") {
		return 0, fmt.Errorf("%w: element type %q is Python objects, which are never loaded; save numbers", ErrUnsupported, descr)
	}
	return 0, fmt.Errorf("%w: element type %q; save it as one of float16, float32, float64, int32, int64, uint8, bool", ErrUnsupported, descr)
}

// elements is the number of elements of shape, refusing negative dimensions and more bytes than an int64 or int counts.
func elements(shape []int, size int) (int, error) {
	if len(shape) > MaxDims {
		return 0, fmt.Errorf("%d dimensions, at most %d are read", len(shape), MaxDims)
	}
	for _, d := range shape {
		if d < 0 {
			return 0, fmt.Errorf("shape %v has a negative dimension", shape)
		}
	}
	if slices.Contains(shape, 0) {
		return 0, nil
	}
	n := 1
	for _, d := range shape {
		if d > math.MaxInt/size/n {
			return 0, fmt.Errorf("shape %v of %d-byte elements is larger than any memory", shape, size)
		}
		n *= d
	}
	return n, nil
}
