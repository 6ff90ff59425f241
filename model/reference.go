package model

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"

	"github.com/toklip/toklip/model/npy"
)

// Reference is what the fp32 model makes of a few pictures, on ONNX Runtime: engines of other backends and precisions
// are judged by it. F pictures of N tokens each. It is plain data; sharing it between goroutines is safe as long as
// nobody changes it.
//
// Its file is an .npz of pictures u8 [F,S,S,3], ids i32 [F,N], margin f32 [F,N], features f16 [F,N,D] and embedding
// f32 [F,E]. Features are rounded to fp16, which halves the file and moves a row's cosine by less than 1e-6: below
// anything that floors are set at.
type Reference struct {
	Frames       int // F
	Size         int // S: edge of the pictures, pixels
	Tokens       int // N
	FeatureDim   int // D
	EmbeddingDim int // E

	Pictures  []byte    // [F,S,S,3] R, G, B; already of the model's size: nothing is to be resized
	IDs       []int32   // [F,N]
	Margin    []float32 // [F,N]: the best cosine with a codebook entry minus the second best
	Features  []float32 // [F,N,D]
	Embedding []float32 // [F,E]
}

// maxReferenceFrames bounds what is read and written.
const maxReferenceFrames = 256

// Picture is picture i, [S,S,3]. The caller must not change it.
func (r *Reference) Picture(i int) []byte {
	n := 3 * r.Size * r.Size
	return r.Pictures[i*n : (i+1)*n]
}

// Image is picture i as the tokenizer's input: [3,S,S], normalised.
func (r *Reference) Image(i int, spec ImageSpec) []float32 { return normalise(r.Picture(i), spec) }

// normalise turns a picture [S,S,3] into planes [3,S,S] of (x/255 - mean) / std.
func normalise(picture []byte, spec ImageSpec) []float32 {
	area := len(picture) / 3
	out := make([]float32, len(picture))
	var levels [3][256]float32
	for c := range levels {
		for v := range 256 {
			levels[c][v] = float32((float64(v)/255 - spec.Mean[c]) / spec.Std[c])
		}
	}
	for i := range area {
		for c := range 3 {
			out[c*area+i] = levels[c][picture[3*i+c]]
		}
	}
	return out
}

// save writes the set into a file of the model folder and describes it.
func (r *Reference) save(ctx context.Context, dir, name string) (*ReferenceSet, error) {
	arrays := map[string]*npy.Array{}
	put := func(name string, a *npy.Array, err error) error {
		if err != nil {
			return fmt.Errorf("write reference: array %s: %w", name, err)
		}
		arrays[name] = a
		return nil
	}
	pictures, err := npy.New([]int{r.Frames, r.Size, r.Size, 3}, r.Pictures)
	if err := put("pictures", pictures, err); err != nil {
		return nil, err
	}
	ids, err := npy.New([]int{r.Frames, r.Tokens}, r.IDs)
	if err := put("ids", ids, err); err != nil {
		return nil, err
	}
	margin, err := npy.New([]int{r.Frames, r.Tokens}, r.Margin)
	if err := put("margin", margin, err); err != nil {
		return nil, err
	}
	features, err := npy.NewHalf([]int{r.Frames, r.Tokens, r.FeatureDim}, r.Features)
	if err := put("features", features, err); err != nil {
		return nil, err
	}
	embedding, err := npy.New([]int{r.Frames, r.EmbeddingDim}, r.Embedding)
	if err := put("embedding", embedding, err); err != nil {
		return nil, err
	}
	if err := npy.SaveNPZ(filepath.Join(dir, name), arrays); err != nil {
		return nil, fmt.Errorf("write reference: %w", err)
	}
	file, err := describeFile(ctx, dir, name)
	if err != nil {
		return nil, fmt.Errorf("write reference: %w", err)
	}
	return &ReferenceSet{Frames: r.Frames, File: *file}, nil
}

// LoadReference reads the reference set of the model folder dir. A folder without one gives an error that wraps
// [ErrNoReference] and says how to get it.
func (m *Manifest) LoadReference(dir string) (*Reference, error) {
	if m.Reference == nil {
		return nil, fmt.Errorf("model %q: %w: import the checkpoint again on a machine with ONNX Runtime", m.Name, ErrNoReference)
	}
	path := m.Reference.File.Path(dir)
	arrays, err := npy.LoadNPZ(path)
	if err != nil {
		return nil, fmt.Errorf("load reference: %w", err)
	}
	r, err := m.reference(arrays)
	if err != nil {
		return nil, fmt.Errorf("load reference %q: %w", path, err)
	}
	return r, nil
}

// ErrNoReference is wrapped where a model folder has no reference set.
var ErrNoReference = errors.New("no reference set in the model")

// reference checks the arrays of a reference set against the model.
func (m *Manifest) reference(arrays map[string]*npy.Array) (*Reference, error) {
	r := &Reference{Size: m.Image.Size, Tokens: m.Tokens.Count(), FeatureDim: m.Encoder.FeatureDim, EmbeddingDim: m.Encoder.EmbeddingDim}
	pictures, ok := arrays["pictures"]
	if !ok || len(pictures.Shape()) != 4 {
		return nil, fmt.Errorf("%w: array pictures [F,S,S,3] is missing", ErrCorrupt)
	}
	r.Frames = pictures.Shape()[0]
	if r.Frames < 1 || r.Frames > maxReferenceFrames {
		return nil, fmt.Errorf("%w: %d pictures; 1 to %d are read", ErrCorrupt, r.Frames, maxReferenceFrames)
	}
	get := func(name string, types []npy.DType, shape ...int) (*npy.Array, error) {
		a, ok := arrays[name]
		if !ok {
			return nil, fmt.Errorf("%w: array %s is missing", ErrCorrupt, name)
		}
		if fmt.Sprint(a.Shape()) != fmt.Sprint(shape) || a.DType() != types[0] && a.DType() != types[len(types)-1] {
			return nil, fmt.Errorf("%w: array %s is %s %v, the model needs %s %v", ErrCorrupt, name, a.DType(), a.Shape(), types[0], shape)
		}
		return a, nil
	}
	floats := func(into *[]float32, name string, types []npy.DType, shape ...int) error {
		a, err := get(name, types, shape...)
		if err != nil {
			return err
		}
		if *into, err = a.Float32(); err != nil {
			return err
		}
		for i, v := range *into {
			if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
				return fmt.Errorf("%w: array %s: value %d is %v", ErrCorrupt, name, i, v)
			}
		}
		return nil
	}
	a, err := get("pictures", []npy.DType{npy.Uint8}, r.Frames, r.Size, r.Size, 3)
	if err != nil {
		return nil, err
	}
	r.Pictures = a.Bytes()
	if a, err = get("ids", []npy.DType{npy.Int32}, r.Frames, r.Tokens); err != nil {
		return nil, err
	}
	if r.IDs, err = a.Int32(); err != nil {
		return nil, err
	}
	for i, id := range r.IDs {
		if id < 0 || int(id) >= m.Tokens.Codebook {
			return nil, fmt.Errorf("%w: token %d has id %d, outside the codebook of %d", ErrCorrupt, i, id, m.Tokens.Codebook)
		}
	}
	if err := floats(&r.Margin, "margin", []npy.DType{npy.Float32}, r.Frames, r.Tokens); err != nil {
		return nil, err
	}
	if err := floats(&r.Features, "features", []npy.DType{npy.Float16, npy.Float32}, r.Frames, r.Tokens, r.FeatureDim); err != nil {
		return nil, err
	}
	if err := floats(&r.Embedding, "embedding", []npy.DType{npy.Float32}, r.Frames, r.EmbeddingDim); err != nil {
		return nil, err
	}
	return r, nil
}

// LoadCodebook reads the codebook [K,C] of the model folder dir, as the checkpoint has it: its vectors are of any
// length and are compared by their direction.
func (m *Manifest) LoadCodebook(dir string) ([]float32, error) {
	if m.Codebook == nil {
		return nil, fmt.Errorf("model %q has no codebook file: it was made by an older toklip; import the checkpoint again", m.Name)
	}
	path := filepath.Join(dir, m.Codebook.Name)
	r, err := npy.Open(path)
	if err != nil {
		return nil, fmt.Errorf("load codebook: %w", err)
	}
	defer r.Close()
	if s := r.Shape(); len(s) != 2 || s[0] != m.Tokens.Codebook || s[1] != m.Tokens.CodebookDim || r.DType() != npy.Float32 {
		return nil, fmt.Errorf("load codebook %q: %w: it is %s %v, %s says float32 [%d,%d]", path, ErrCorrupt, r.DType(), r.Shape(), ManifestFile,
			m.Tokens.Codebook, m.Tokens.CodebookDim)
	}
	out := make([]float32, r.Len())
	if err := r.ReadFloat32(out, 0); err != nil {
		return nil, fmt.Errorf("load codebook: %w", err)
	}
	return out, nil
}
