package npy

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"slices"

	"github.com/toklip/toklip/model/half"
)

// Array is an array held in memory. Reading from several goroutines at once is safe.
type Array struct {
	shape []int
	dtype DType
	count int
	data  []byte // little-endian, C order
}

// Element is a Go type that [New] makes arrays of.
type Element interface {
	float32 | float64 | int32 | int64 | uint8 | bool
}

// New makes an array of the given shape (empty: a scalar) holding a copy of data. It fails if the
// shape's product is not len(data).
func New[T Element](shape []int, data []T) (*Array, error) {
	dtype := dtypeFor[T]()
	if err := checkShape(shape, len(data), dtype); err != nil {
		return nil, err
	}
	a := &Array{shape: slices.Clone(shape), dtype: dtype, count: len(data), data: make([]byte, len(data)*dtype.Size())}
	if _, err := binary.Encode(a.data, binary.LittleEndian, data); err != nil {
		return nil, fmt.Errorf("encode %s values: %w", dtype, err)
	}
	return a, nil
}

// NewHalf makes a float16 array of the given shape; the values are rounded. One that is too large for float16, or none at all, is
// an error.
func NewHalf(shape []int, data []float32) (*Array, error) {
	if err := checkShape(shape, len(data), Float16); err != nil {
		return nil, err
	}
	b, err := half.Append(make([]byte, 0, 2*len(data)), data)
	if err != nil {
		return nil, err
	}
	return &Array{shape: slices.Clone(shape), dtype: Float16, count: len(data), data: b}, nil
}

func dtypeFor[T Element]() DType {
	var zero T
	switch any(zero).(type) {
	case float32:
		return Float32
	case float64:
		return Float64
	case int32:
		return Int32
	case int64:
		return Int64
	case uint8:
		return Uint8
	default:
		return Bool
	}
}

func checkShape(shape []int, values int, dtype DType) error {
	n, err := elements(shape, dtype.Size())
	if err != nil {
		return err
	}
	if n != values {
		return fmt.Errorf("shape %v has %d elements, %d values were given", shape, n, values)
	}
	return nil
}

// Load reads the .npy file at path whole.
func Load(path string) (*Array, error) {
	r, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data := make([]byte, r.head.bytes()) // Open compared this with the size of the file
	if _, err := r.file.ReadAt(data, r.head.offset); err != nil && len(data) > 0 {
		return nil, fmt.Errorf("read array %q: %w", path, shortRead(err, "inside the values"))
	}
	a, err := newArray(r.head, data)
	if err != nil {
		return nil, fmt.Errorf("read array %q: %w", path, err)
	}
	return a, nil
}

// Read reads one array from r up to the end of r; bytes after the array are an error. Memory grows
// with what r really holds, not with what the header claims.
func Read(r io.Reader) (*Array, error) {
	h, err := readHeader(r)
	if err != nil {
		return nil, err
	}
	data, err := readExactly(r, h.bytes())
	if err != nil {
		return nil, err
	}
	return newArray(h, data)
}

func newArray(h header, data []byte) (*Array, error) {
	if h.dtype == Bool {
		for i, b := range data {
			if b > 1 {
				return nil, fmt.Errorf("%w: element %d of a bool array is the byte %d", ErrFormat, i, b)
			}
		}
	}
	return &Array{shape: h.shape, dtype: h.dtype, count: h.count, data: data}, nil
}

// readExactly reads n bytes and then the end of r, beginning with little memory and doubling it.
func readExactly(r io.Reader, n int64) ([]byte, error) {
	data := make([]byte, 0, min(n, 1<<16))
	for int64(len(data)) < n {
		if len(data) == cap(data) {
			data = slices.Grow(data, int(min(n-int64(len(data)), int64(len(data)))))
		}
		room := data[len(data):min(int64(cap(data)), n)]
		got, err := io.ReadFull(r, room)
		data = data[:len(data)+got]
		if err != nil {
			return nil, shortRead(err, fmt.Sprintf("%d bytes into its values, the header says %d", len(data), n))
		}
	}
	var one [1]byte
	switch _, err := io.ReadFull(r, one[:]); err {
	case io.EOF:
		return data, nil
	case nil:
		return nil, fmt.Errorf("%w: it goes on after the %d bytes of values its header announces", ErrFormat, n)
	default:
		return nil, err
	}
}

// Shape is the array's dimensions, outermost first; empty for a scalar. The caller must not change it.
func (a *Array) Shape() []int { return a.shape }

// DType is the type of the elements.
func (a *Array) DType() DType { return a.dtype }

// Len is the number of elements.
func (a *Array) Len() int { return a.count }

// Bytes is the values as stored: little-endian, C order. The caller must not change them.
func (a *Array) Bytes() []byte { return a.data }

// Float32 returns the values of a float16, float32 or float64 array in a new slice. float64 is
// rounded to the nearest, to infinity beyond float32's range. Other types fail with [ErrType].
func (a *Array) Float32() ([]float32, error) {
	if !a.dtype.isFloat() {
		return nil, fmt.Errorf("%w: float32 values asked of an array of %s, shape %v", ErrType, a.dtype, a.shape)
	}
	out := make([]float32, a.count)
	decodeFloat32(out, a.data, a.dtype)
	return out, nil
}

// Int64 returns the values of an int32, int64, uint8 or bool array in a new slice. Other types fail with [ErrType].
func (a *Array) Int64() ([]int64, error) {
	out := make([]int64, a.count)
	switch a.dtype {
	case Int32:
		for i := range out {
			out[i] = int64(int32(binary.LittleEndian.Uint32(a.data[4*i:])))
		}
	case Int64:
		for i := range out {
			out[i] = int64(binary.LittleEndian.Uint64(a.data[8*i:]))
		}
	case Uint8, Bool:
		for i := range out {
			out[i] = int64(a.data[i])
		}
	default:
		return nil, fmt.Errorf("%w: whole numbers asked of an array of %s, shape %v", ErrType, a.dtype, a.shape)
	}
	return out, nil
}

// Int32 is [Array.Int64] for values that fit 32 bits; one that does not is an error.
func (a *Array) Int32() ([]int32, error) {
	wide, err := a.Int64()
	if err != nil {
		return nil, err
	}
	out := make([]int32, len(wide))
	for i, v := range wide {
		if v < math.MinInt32 || v > math.MaxInt32 {
			return nil, fmt.Errorf("%w: element %d is %d, which does not fit int32", ErrType, i, v)
		}
		out[i] = int32(v)
	}
	return out, nil
}

// WriteTo writes the array as a .npy file.
func (a *Array) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(formatHeader(a.dtype, a.shape))
	if err != nil {
		return int64(n), err
	}
	m, err := w.Write(a.data)
	return int64(n) + int64(m), err
}

// Save writes the array to path, replacing a file there in one step, as [WriteFloat32] does.
func (a *Array) Save(path string) error {
	return replaceFile(path, func(f *os.File) error {
		_, err := a.WriteTo(f)
		return err
	})
}

func (d DType) isFloat() bool { return d == Float16 || d == Float32 || d == Float64 }

// decodeFloat32 fills dst from src, which holds as many elements of a floating-point type.
func decodeFloat32(dst []float32, src []byte, dtype DType) {
	switch dtype {
	case Float16:
		for i := range dst {
			dst[i] = half.To(binary.LittleEndian.Uint16(src[2*i:]))
		}
	case Float32:
		for i := range dst {
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
		}
	case Float64:
		for i := range dst {
			dst[i] = float32(math.Float64frombits(binary.LittleEndian.Uint64(src[8*i:])))
		}
	}
}
