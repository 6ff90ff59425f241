package graph

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/toklip/toklip/model/checkpoint"
	"github.com/toklip/toklip/model/half"
	"github.com/toklip/toklip/model/onnx"
)

// weights streams tensors of a checkpoint into a data file, each once, in the layouts the graphs want.
// It keeps one tensor in memory at a time.
type weights struct {
	ctx    context.Context
	reader checkpoint.Reader
	data   *onnx.DataFile
	files  []onnx.FileInfo        // finished data files that done refers to
	done   map[string]onnx.Tensor // by name
	dry    bool                   // only count: nothing is read, computed or written
	bytes  int64                  // appended so far
	wrote  func(bytes int64)      // progress, if set
}

// newWeights begins on a data file. What base has written is used instead of being written again.
func newWeights(ctx context.Context, r checkpoint.Reader, data *onnx.DataFile, base *weights) *weights {
	w := &weights{ctx: ctx, reader: r, data: data, done: map[string]onnx.Tensor{}}
	if base != nil {
		w.files = slices.Clone(base.files)
		maps.Copy(w.done, base.done)
	}
	return w
}

// load reads a whole tensor.
func (w *weights) load(key string) ([]float32, []int64, error) {
	info, ok := w.reader.Lookup(key)
	if !ok {
		return nil, nil, fmt.Errorf("tensor %q is missing", key)
	}
	v := make([]float32, info.Len())
	if err := w.reader.ReadFloat32(key, v, 0); err != nil {
		return nil, nil, err
	}
	return v, info.Shape, nil
}

// recipe is a constant that can be computed when it is wanted: name, shape and values.
type recipe struct {
	name   string
	shape  []int64
	values func() ([]float32, error)
}

// put stores a constant as float32 or float16, unless it is there already; its values are only computed if not.
func (w *weights) put(r recipe, t onnx.DType) (onnx.Tensor, error) {
	return w.append(r.name, t, r.shape, func(dst io.Writer) error {
		v, err := r.values()
		if err != nil {
			return err
		}
		return writeFloats(dst, nil, v, t)
	})
}

// streamed stores a tensor of the checkpoint as it is, as put does, a piece at a time: for one that is too large to be in
// memory whole.
func (w *weights) streamed(key string, t onnx.DType) (onnx.Tensor, error) {
	info, ok := w.reader.Lookup(key)
	if !ok {
		return onnx.Tensor{}, fmt.Errorf("tensor %q is missing", key)
	}
	return w.append(key, t, info.Shape, func(dst io.Writer) error {
		const piece = 1 << 18
		values := make([]float32, min(piece, info.Len()))
		buffer := make([]byte, 0, t.Size()*int64(len(values)))
		for at := int64(0); at < info.Len(); at += piece {
			if err := w.ctx.Err(); err != nil {
				return err
			}
			values = values[:min(piece, info.Len()-at)]
			if err := w.reader.ReadFloat32(key, values, at); err != nil {
				return err
			}
			if err := writeFloats(dst, buffer, values, t); err != nil {
				return err
			}
			if w.wrote != nil && at+piece < info.Len() { // append tells of the last piece
				w.wrote(w.bytes + (at+piece)*t.Size())
			}
		}
		return nil
	})
}

// writeFloats writes values as float32 or float16. What buffer has room for needs no memory of its own.
func writeFloats(dst io.Writer, buffer []byte, v []float32, t onnx.DType) error {
	b := slices.Grow(buffer[:0], len(v)*int(t.Size()))
	if t == onnx.Float16 {
		var err error
		if b, err = half.Append(b, v); err != nil {
			return fmt.Errorf("%w; this model needs fp32", err)
		}
	} else {
		b = onnx.AppendFloats(b, v)
	}
	_, err := dst.Write(b)
	return err
}

// append stores what fill writes under a name, unless that name is there already. What is in float16 has ".fp16" behind its name.
func (w *weights) append(name string, t onnx.DType, shape []int64, fill func(io.Writer) error) (onnx.Tensor, error) {
	if t == onnx.Float16 {
		name += ".fp16"
	}
	if have, ok := w.done[name]; ok {
		return have, nil
	}
	if err := w.ctx.Err(); err != nil {
		return onnx.Tensor{}, err
	}
	if w.dry {
		t := onnx.Tensor{Name: name, Type: t, Shape: shape, File: "dry"}
		n, err := t.Elements()
		t.Length = n * t.Type.Size()
		w.bytes += t.Length
		w.done[name] = t
		return t, err
	}
	out, err := w.data.Append(name, t, shape, fill)
	if err != nil {
		return onnx.Tensor{}, err
	}
	w.done[name] = out
	w.bytes += out.Length
	if w.wrote != nil {
		w.wrote(w.bytes)
	}
	return out, nil
}

// plain is a tensor as it is.
func (w *weights) plain(key string) recipe {
	info, _ := w.reader.Lookup(key)
	return recipe{key, info.Shape, func() ([]float32, error) {
		v, _, err := w.load(key)
		return v, err
	}}
}

// concat is tensors one after another along their first dimension; the first has its values multiplied by scale.
func (w *weights) concat(name string, scale float32, keys ...string) recipe {
	var shape []int64
	for _, key := range keys {
		info, _ := w.reader.Lookup(key)
		if shape == nil {
			shape = append(shape, info.Shape...)
		} else {
			shape[0] += info.Shape[0]
		}
	}
	return recipe{name, shape, func() ([]float32, error) {
		var all []float32
		for i, key := range keys {
			v, _, err := w.load(key)
			if err != nil {
				return nil, err
			}
			if i == 0 {
				multiply(v, scale)
			}
			all = append(all, v...)
		}
		return all, nil
	}}
}

// transposed is a Linear's weight [out, in] as [in, out], the way MatMul wants it, with the first rows outputs multiplied by
// scale.
func (w *weights) transposed(key string, rows int, scale float32) recipe {
	info, _ := w.reader.Lookup(key)
	shape := []int64{info.Shape[1], info.Shape[0]}
	return recipe{key + ".transposed", shape, func() ([]float32, error) {
		v, _, err := w.load(key)
		if err != nil {
			return nil, err
		}
		multiply(v[:rows*int(shape[0])], scale)
		return transpose(v, int(info.Shape[0]), int(info.Shape[1])), nil
	}}
}

// scaled is a vector with its first values multiplied by scale.
func (w *weights) scaled(key string, rows int, scale float32) recipe {
	info, _ := w.reader.Lookup(key)
	name := key
	if rows > 0 {
		name += ".scaled"
	}
	return recipe{name, info.Shape, func() ([]float32, error) {
		v, _, err := w.load(key)
		if err != nil {
			return nil, err
		}
		multiply(v[:rows], scale)
		return v, nil
	}}
}

func multiply(v []float32, by float32) {
	if by == 1 {
		return
	}
	for i := range v {
		v[i] *= by
	}
}

// transpose turns a row-major [rows, cols] matrix, in tiles that fit the cache.
func transpose(v []float32, rows, cols int) []float32 {
	const tile = 32
	out := make([]float32, len(v))
	for r0 := 0; r0 < rows; r0 += tile {
		for c0 := 0; c0 < cols; c0 += tile {
			for r := r0; r < min(r0+tile, rows); r++ {
				for c := c0; c < min(c0+tile, cols); c++ {
					out[c*rows+r] = v[r*cols+c]
				}
			}
		}
	}
	return out
}
