package checkpoint

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"
)

// entry is a tensor and where its values lie in the file.
type entry struct {
	info    Info
	offset  int64   // of the first byte in the file
	strides []int64 // in elements, one for each dimension; nil if the elements lie row by row without gaps
}

// store is a checkpoint in a mapped file. Both formats end in one.
type store struct {
	path    string
	mapping *mapping
	infos   []Info
	index   map[string]entry
}

// newStore makes a reader of the entries, in the given order, less what wraps all their names. Two entries
// may not have the same name.
func newStore(path string, m *mapping, entries []entry) (*store, error) {
	s := &store{path: path, mapping: m, infos: make([]Info, 0, len(entries)), index: make(map[string]entry, len(entries))}
	skip := wrapped(entries)
	for _, e := range entries {
		e.info.Name = e.info.Name[skip:]
		if _, twice := s.index[e.info.Name]; twice {
			return nil, fmt.Errorf("tensor %q is there twice", e.info.Name)
		}
		s.index[e.info.Name] = e
		s.infos = append(s.infos, e.info)
	}
	return s, nil
}

// wrapped is the length of what training wrappers put before every name. What only some names carry stays.
func wrapped(entries []entry) int {
	skip := 0
	for {
		found := false
		for _, wrapper := range []string{"module.", "_orig_mod.", "state_dict."} {
			lacks := func(e entry) bool {
				rest, ok := strings.CutPrefix(e.info.Name[skip:], wrapper)
				return !ok || rest == ""
			}
			if len(entries) > 0 && !slices.ContainsFunc(entries, lacks) {
				skip += len(wrapper)
				found = true
			}
		}
		if !found {
			return skip
		}
	}
}

// Path is the file's path as it was given to Open.
func (s *store) Path() string { return s.path }

// Tensors implements [Reader].
func (s *store) Tensors() []Info { return slices.Clone(s.infos) }

// Lookup implements [Reader].
func (s *store) Lookup(name string) (Info, bool) {
	e, ok := s.index[name]
	return e.info, ok
}

// ReadFloat32 implements [Reader].
func (s *store) ReadFloat32(name string, dst []float32, offset int64) error {
	e, ok := s.index[name]
	if !ok {
		return fmt.Errorf("checkpoint %q: no tensor is named %q", s.path, name)
	}
	if !e.info.DType.Readable() {
		return fmt.Errorf("checkpoint %q: tensor %q holds %v; only float32, float16 and bfloat16 can be read", s.path, name, e.info.DType)
	}
	if err := checkRange(e.info, len(dst), offset); err != nil {
		return fmt.Errorf("checkpoint %q: %w", s.path, err)
	}
	err := s.mapping.view(func(data []byte) error {
		if e.strides != nil {
			s.gather(dst, data, e, offset)
			return nil
		}
		size := int(e.info.DType.Size())
		at := e.offset + offset*int64(size)
		for len(dst) > 0 {
			n := min(len(dst), chunkBytes/size)
			decode(dst[:n], data[at:at+int64(n*size)], e.info.DType)
			s.mapping.used(n * size)
			dst, at = dst[n:], at+int64(n*size)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("checkpoint %q: read tensor %q: %w", s.path, name, err)
	}
	return nil
}

// gather reads elements that do not lie row by row, such as those of a transposed weight.
func (s *store) gather(dst []float32, data []byte, e entry, offset int64) {
	size := e.info.DType.Size()
	at := make([]int64, len(e.info.Shape)) // index of the next element in each dimension
	rest := offset
	for d := len(at) - 1; d >= 0; d-- {
		at[d] = rest % e.info.Shape[d]
		rest /= e.info.Shape[d]
	}
	for i := range dst {
		p := e.offset
		for d, k := range at {
			p += k * e.strides[d] * size
		}
		decode(dst[i:i+1], data[p:p+size], e.info.DType)
		for d := len(at) - 1; d >= 0; d-- {
			if at[d]++; at[d] < e.info.Shape[d] {
				break
			}
			at[d] = 0
		}
		if i%(chunkBytes/8) == 0 {
			s.mapping.used(chunkBytes)
		}
	}
}

// Close implements [Reader]. A second call does nothing.
func (s *store) Close() error {
	if err := s.mapping.close(); err != nil {
		return fmt.Errorf("checkpoint %q: %w", s.path, err)
	}
	return nil
}

// checkRange says whether n elements from offset on lie inside of the tensor.
func checkRange(info Info, n int, offset int64) error {
	if have := info.Len(); offset < 0 || offset > have || int64(n) > have-offset {
		return fmt.Errorf("tensor %q has %d elements; elements %d to %d were asked for", info.Name, have, offset, offset+int64(n))
	}
	return nil
}

// elements multiplies a shape. It fails on a negative dimension, on more than maxDims of them, and when the
// product does not fit.
func elements(shape []int64) (int64, error) {
	if len(shape) > maxDims {
		return 0, fmt.Errorf("%d dimensions are more than the %d allowed", len(shape), maxDims)
	}
	n := uint64(1)
	for _, d := range shape {
		if d < 0 {
			return 0, fmt.Errorf("shape %v has a negative dimension", shape)
		}
		hi, lo := bits.Mul64(n, uint64(d))
		if hi != 0 || lo >= maxElements {
			return 0, fmt.Errorf("shape %v has too many elements", shape)
		}
		n = lo
	}
	return int64(n), nil
}

const (
	maxDims     = 64      // PyTorch's own limit
	maxElements = 1 << 56 // so that sixteen bytes for each still fit an int64
)
