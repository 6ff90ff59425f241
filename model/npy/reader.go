package npy

import (
	"fmt"
	"os"
)

// Reader is an open .npy file whose values are read in ranges. One goroutine at a time; [Reader.Close] ends it.
type Reader struct {
	path    string
	file    *os.File
	head    header
	scratch []byte
}

// scratchBytes is how much is read and converted at once.
const scratchBytes = 1 << 16

// Open reads the header of the .npy file at path and compares the file's size with it, so that a
// file cut short fails here and not in the middle of the work.
func Open(path string) (*Reader, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("open array: %w", err)
	}
	if !info.Mode().IsRegular() { // before it is opened: a named pipe without a writer would block for ever
		return nil, fmt.Errorf("open array %q: %w: not a regular file (%s)", path, ErrFormat, info.Mode().Type())
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open array: %w", err)
	}
	r, err := newReader(path, f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open array %q: %w", path, err)
	}
	return r, nil
}

func newReader(path string, f *os.File) (*Reader, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	h, err := readHeader(f)
	if err != nil {
		return nil, err
	}
	if have := info.Size() - h.offset; have != h.bytes() {
		return nil, fmt.Errorf("%w: shape %v of %s needs %d bytes of values, the file has %d", ErrFormat, h.shape, h.dtype, h.bytes(), have)
	}
	return &Reader{path: path, file: f, head: h}, nil
}

// Shape is the array's dimensions, outermost first; empty for a scalar. The caller must not change it.
func (r *Reader) Shape() []int { return r.head.shape }

// DType is the type of the elements.
func (r *Reader) DType() DType { return r.head.dtype }

// Len is the number of elements.
func (r *Reader) Len() int { return r.head.count }

// ReadFloat32 fills dst with the elements from offset (counted in elements, C order) on, converted
// as by [Array.Float32]. A range beyond the array or a type that is not floating-point fails and
// leaves dst as it was; after a failed read dst holds anything. After the first call nothing is allocated.
func (r *Reader) ReadFloat32(dst []float32, offset int64) error {
	if !r.head.dtype.isFloat() {
		return fmt.Errorf("read array %q: %w: float32 values asked of an array of %s, shape %v", r.path, ErrType, r.head.dtype, r.head.shape)
	}
	if offset < 0 || offset > int64(r.head.count) || int64(len(dst)) > int64(r.head.count)-offset {
		return fmt.Errorf("read array %q: elements %d to %d of shape %v, which has %d", r.path, offset, offset+int64(len(dst)), r.head.shape, r.head.count)
	}
	if r.scratch == nil {
		r.scratch = make([]byte, scratchBytes)
	}
	size := r.head.dtype.Size()
	at := r.head.offset + offset*int64(size)
	for len(dst) > 0 {
		n := min(len(dst), len(r.scratch)/size)
		chunk := r.scratch[:n*size]
		if _, err := r.file.ReadAt(chunk, at); err != nil {
			return fmt.Errorf("read array %q: %w", r.path, shortRead(err, "inside the values"))
		}
		decodeFloat32(dst[:n], chunk, r.head.dtype)
		dst, at = dst[n:], at+int64(len(chunk))
	}
	return nil
}

// Close closes the file. Calling it again returns an error and does no harm.
func (r *Reader) Close() error { return r.file.Close() }
