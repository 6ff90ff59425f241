package model

import (
	"bytes"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/toklip/toklip/model/npy"
)

// smallReference is two frames of four tokens, features of three values.
func smallReference() *Reference {
	return &Reference{
		Frames: 2, Size: 2, Tokens: 4, FeatureDim: 3, EmbeddingDim: 2,
		Pictures: make([]byte, 24), IDs: []int32{0, 1, 2, 3, 4, 5, 6, 7},
		Margin:    []float32{1e-5, 0.1, 0.1, 0.1, 2e-5, 0.1, 0.1, 0.1},
		Features:  slices.Repeat([]float32{1, 0, 0}, 8),
		Embedding: []float32{3, 4, 0, 1},
	}
}

// TestJudgeHalfAReference: what does not fit together is an error, no panic and no loop without end.
func TestJudgeHalfAReference(t *testing.T) {
	for name, spoil := range map[string]func(*Reference){
		"nothing":      func(r *Reference) { *r = Reference{} },
		"margin":       func(r *Reference) { r.Margin = nil },
		"feature size": func(r *Reference) { r.FeatureDim = 0 },
		"features":     func(r *Reference) { r.FeatureDim = 5 },
		"embedding":    func(r *Reference) { r.EmbeddingDim = 3 },
		"frames":       func(r *Reference) { r.Frames = 3 },
	} {
		ref := smallReference()
		got := Outputs{IDs: ref.IDs, Features: ref.Features, Embedding: ref.Embedding}
		spoil(ref)
		if _, err := Judge(ref, got, Floors{}); err == nil || !strings.Contains(err.Error(), "judge: the reference's arrays have not the lengths") {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestJudge(t *testing.T) {
	floors := Floors{Tokens: 0.8, Features: 0.9, Embedding: 0.95}
	whole := func() Outputs {
		r := smallReference()
		return Outputs{IDs: r.IDs, Features: r.Features, Embedding: r.Embedding}
	}
	for name, c := range map[string]struct {
		change func(*Outputs)
		want   Report
		err    string
	}{
		"equal": {func(*Outputs) {}, Report{TokenAgreement: 1, ClearTokenAgreement: 1, FeatureCosine: 1, FeatureCosineMean: 1, EmbeddingCosine: 1, Passed: true}, ""},
		"scaled": {func(o *Outputs) { o.Embedding = []float32{30, 40, 0, 5} },
			Report{TokenAgreement: 1, ClearTokenAgreement: 1, FeatureCosine: 1, FeatureCosineMean: 1, EmbeddingCosine: 1, Passed: true}, ""},
		"an unclear token": {func(o *Outputs) { o.IDs = []int32{9, 1, 2, 3, 4, 5, 6, 7} },
			Report{TokenAgreement: 7. / 8, ClearTokenAgreement: 1, FeatureCosine: 1, FeatureCosineMean: 1, EmbeddingCosine: 1, Passed: true}, ""},
		"two clear tokens": {func(o *Outputs) { o.IDs = []int32{0, 9, 2, 3, 4, 5, 6, 9} },
			Report{TokenAgreement: 6. / 8, ClearTokenAgreement: 4. / 6, FeatureCosine: 1, FeatureCosineMean: 1, EmbeddingCosine: 1, Passed: true}, ""},
		"three clear tokens": {func(o *Outputs) { o.IDs = []int32{0, 9, 2, 3, 4, 5, 9, 9} },
			Report{TokenAgreement: 5. / 8, ClearTokenAgreement: 3. / 6, FeatureCosine: 1, FeatureCosineMean: 1, EmbeddingCosine: 1},
			"too far from the fp32 reference: on 2 frames 62.50 % of 8 tokens are equal, the floor is 80.00 % (50.00 % of the 6 clear ones)"},
		"one row": {func(o *Outputs) { o.Features = slices.Clone(o.Features); o.Features[3], o.Features[4] = 0.6, 0.8 },
			Report{TokenAgreement: 1, ClearTokenAgreement: 1, FeatureCosine: 0.6, FeatureCosineMean: 0.95, EmbeddingCosine: 1},
			"on 2 frames the worst cosine of a token's features is 0.60000, the floor is 0.9"},
		"embedding": {func(o *Outputs) { o.Embedding = []float32{4, 3, 0, 1} },
			Report{TokenAgreement: 1, ClearTokenAgreement: 1, FeatureCosine: 1, FeatureCosineMean: 1, EmbeddingCosine: 0.96, Passed: true}, ""},
		"everything": {func(o *Outputs) {
			*o = Outputs{IDs: make([]int32, 8), Features: slices.Repeat([]float32{-1, 0, 0}, 8), Embedding: []float32{-3, -4, 0, 1}}
		}, Report{TokenAgreement: 1. / 8, FeatureCosine: -1, FeatureCosineMean: -1, EmbeddingCosine: -1},
			"12.50 % of 8 tokens are equal, the floor is 80.00 % (0.00 % of the 6 clear ones); the worst cosine of a token's features is -1.00000, the floor is 0.9; the worst cosine of an embedding is -1.00000, the floor is 0.95"},
		"zeros": {func(o *Outputs) { o.Embedding = make([]float32, 4) },
			Report{TokenAgreement: 1, ClearTokenAgreement: 1, FeatureCosine: 1, FeatureCosineMean: 1, EmbeddingCosine: -1}, "the worst cosine of an embedding is -1.00000, the floor is 0.95"},
		"infinite": {func(o *Outputs) { o.Features = slices.Clone(o.Features); o.Features[7] = float32(math.Inf(1)) },
			Report{TokenAgreement: 1, ClearTokenAgreement: 1, FeatureCosine: -1, FeatureCosineMean: 0.75, EmbeddingCosine: 1},
			"the worst cosine of a token's features is -1.00000, the floor is 0.9"},
	} {
		t.Run(name, func(t *testing.T) {
			got := whole()
			c.change(&got)
			r, err := Judge(smallReference(), got, floors)
			if err != nil {
				t.Fatal(err)
			}
			c.want.Frames, c.want.Tokens, c.want.ClearTokens, c.want.Features, c.want.Embeddings, c.want.Floors = 2, 8, 6, 8, 2, floors
			for _, f := range []struct {
				name      string
				got, want float64
			}{
				{"tokens", r.TokenAgreement, c.want.TokenAgreement}, {"clear", r.ClearTokenAgreement, c.want.ClearTokenAgreement},
				{"features", r.FeatureCosine, c.want.FeatureCosine}, {"mean", r.FeatureCosineMean, c.want.FeatureCosineMean}, {"embedding", r.EmbeddingCosine, c.want.EmbeddingCosine},
			} {
				if !(math.Abs(f.got-f.want) < 1e-7) {
					t.Errorf("%s: %v, want %v", f.name, f.got, f.want)
				}
			}
			r.TokenAgreement, r.ClearTokenAgreement, r.FeatureCosine, r.FeatureCosineMean, r.EmbeddingCosine = 0, 0, 0, 0, 0
			c.want.TokenAgreement, c.want.ClearTokenAgreement, c.want.FeatureCosine, c.want.FeatureCosineMean, c.want.EmbeddingCosine = 0, 0, 0, 0, 0
			if r != c.want {
				t.Errorf("%+v, want %+v", r, c.want)
			}
			whole, _ := Judge(smallReference(), got, floors)
			switch err := whole.Err(); {
			case c.err == "" && err != nil:
				t.Error(err)
			case c.err != "" && (!errors.Is(err, ErrTooFar) || !strings.Contains(err.Error(), c.err)):
				t.Errorf("error  %v\nwanted %s", err, c.err)
			}
		})
	}
}

func TestJudgePartly(t *testing.T) {
	ref := smallReference()
	r, err := Judge(ref, Outputs{IDs: ref.IDs}, DefaultFloors(FP16))
	if err != nil || r.Err() != nil || !r.Passed || r.Features != 0 || r.FeatureCosine != 0 || r.String() != "tokens equal 100.00 % (clear ones 100.00 %)" {
		t.Errorf("tokens alone: %+v, %v", r, err)
	}
	r, err = Judge(ref, Outputs{Features: ref.Features, Embedding: ref.Embedding}, DefaultFloors(Int8))
	if err != nil || r.Err() != nil || r.Tokens != 0 || r.String() != "worst feature cosine 1.00000, worst embedding cosine 1.00000" {
		t.Errorf("encoder alone: %+v, %v", r, err)
	}
	for _, c := range []struct {
		got  Outputs
		want string
	}{
		{Outputs{}, "judge: nothing was run"},
		{Outputs{IDs: ref.IDs[1:]}, "judge: 7 values of ids came for 2 frames, the reference has 8"},
		{Outputs{IDs: ref.IDs, Features: ref.Features[:12]}, "judge: 12 values of features came for 2 frames, the reference has 24"},
	} {
		if _, err := Judge(ref, c.got, Floors{}); err == nil || err.Error() != c.want {
			t.Errorf("error %v, want %s", err, c.want)
		}
	}
}

func TestReference(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "m")
	m, err := Import(t.Context(), tiny(t, "", false), dir, Options{Runner: ortRunner{}})
	if err != nil {
		t.Fatal(err)
	}
	ref, err := m.LoadReference(dir)
	if err != nil {
		t.Fatal(err)
	}
	if ref.Frames != grids || ref.Size != 64 || ref.Tokens != 16 || ref.FeatureDim != 96 || ref.EmbeddingDim != 96 || !slices.Equal(ref.Picture(1), testPicture(64, 1)) {
		t.Errorf("%d frames of %d px, %d tokens, %d, %d", ref.Frames, ref.Size, ref.Tokens, ref.FeatureDim, ref.EmbeddingDim)
	}
	// What the fp32 graphs of ONNX Runtime give must pass as equal: ids by the graph's own search, features unrounded.
	var got Outputs
	for i := range ref.Frames {
		image := map[string]Tensor{TensorImage: {Shape: []int64{1, 3, 64, 64}, Float32: ref.Image(i, m.Image)}}
		ids, err := ortRunner{}.Run(t.Context(), filepath.Join(dir, "tokenizer.onnx"), []map[string]Tensor{image}, []string{TensorIDs})
		if err != nil {
			t.Fatal(err)
		}
		out, err := ortRunner{}.Run(t.Context(), filepath.Join(dir, "encoder.onnx"), ids, []string{TensorFeatures, TensorEmbedding})
		if err != nil {
			t.Fatal(err)
		}
		got.IDs = append(got.IDs, ids[0][TensorIDs].Int32...)
		got.Features = append(got.Features, out[0][TensorFeatures].Float32...)
		got.Embedding = append(got.Embedding, out[0][TensorEmbedding].Float32...)
	}
	r, err := Judge(ref, got, DefaultFloors(FP32))
	if err != nil || r.TokenAgreement != 1 || r.FeatureCosine < 0.999999 || r.EmbeddingCosine < 0.9999999 || !r.Passed {
		t.Errorf("fp32 against itself: %+v, %v", r, err)
	}
	book, err := m.LoadCodebook(dir)
	if err != nil || len(book) != 512*8 {
		t.Errorf("codebook of %d values, %v", len(book), err)
	}
	damaged := *m
	damaged.Tokens.Codebook = 511
	if _, err := damaged.LoadCodebook(dir); !errors.Is(err, ErrCorrupt) {
		t.Errorf("codebook of another size: %v", err)
	}
	damaged.Codebook, damaged.Reference = nil, nil
	if _, err := damaged.LoadCodebook(dir); err == nil || !strings.Contains(err.Error(), "import the checkpoint again") {
		t.Errorf("no codebook: %v", err)
	}
	if _, err := damaged.LoadReference(dir); !errors.Is(err, ErrNoReference) {
		t.Errorf("no reference: %v", err)
	}
}

// TestReferenceRefuses changes one array of a good set at a time.
func TestReferenceRefuses(t *testing.T) {
	m, good := referenceArrays(t)
	for name, c := range map[string]struct {
		array *npy.Array
		want  string
	}{
		"pictures":  {nil, "array pictures [F,S,S,3] is missing"},
		"ids":       {array(t, []int{4, 15}, make([]int32, 60)), "array ids is int32 [4 15], the model needs int32 [4 16]"},
		"margin":    {nil, "array margin is missing"},
		"features":  {array(t, []int{4, 16, 96}, make([]int32, 4*16*96)), "array features is int32 [4 16 96], the model needs float16 [4 16 96]"},
		"embedding": {array(t, []int{4, 96}, slices.Repeat([]float32{float32(math.NaN())}, 4*96)), "array embedding: value 0 is NaN"},
	} {
		arrays := map[string]*npy.Array{}
		for n, a := range good {
			if n != name {
				arrays[n] = a
			} else if c.array != nil {
				arrays[n] = c.array
			}
		}
		if r, err := m.reference(arrays); r != nil || !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %s", name, err, c.want)
		}
	}
	good["ids"] = array(t, []int{4, 16}, slices.Repeat([]int32{512}, 64))
	if _, err := m.reference(good); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "token 0 has id 512, outside the codebook of 512") {
		t.Errorf("error %v", err)
	}
}

func array[T npy.Element](t testing.TB, shape []int, v []T) *npy.Array {
	t.Helper()
	a, err := npy.New(shape, v)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// referenceArrays is the manifest of a small model and the arrays of its reference set.
func referenceArrays(t testing.TB) (*Manifest, map[string]*npy.Array) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "m")
	m, err := Import(t.Context(), tiny(t, "", false), dir, Options{Runner: ortRunner{}})
	if err != nil {
		t.Fatal(err)
	}
	arrays, err := npy.LoadNPZ(m.Reference.File.Path(dir))
	if err != nil {
		t.Fatal(err)
	}
	return m, arrays
}

// FuzzReference: nothing makes the reader panic, and what it takes is whole.
func FuzzReference(f *testing.F) {
	// A model small enough for the fuzzer to find its way.
	m := &Manifest{Image: ImageSpec{Size: 2}, Tokens: TokenSpec{Rows: 2, Cols: 2, Codebook: 8, CodebookDim: 2, Bits: 3}, Encoder: Encoder{FeatureDim: 3, EmbeddingDim: 2}}
	dir := f.TempDir()
	if _, err := smallReference().save(f.Context(), dir, "r.npz"); err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile(filepath.Join(dir, "r.npz"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		arrays, err := npy.ReadNPZ(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		r, err := m.reference(arrays)
		if err != nil {
			return
		}
		if r.Frames < 1 || len(r.Pictures) != r.Frames*12 || len(r.IDs) != r.Frames*4 || len(r.Margin) != r.Frames*4 || len(r.Features) != r.Frames*12 || len(r.Embedding) != r.Frames*2 {
			t.Errorf("%+v", r)
		}
		if _, err := Judge(r, Outputs{IDs: r.IDs, Features: r.Features, Embedding: r.Embedding}, Floors{}); err != nil {
			t.Error(err)
		}
		if bytes.Equal(b, good) && !reflect.DeepEqual(r, smallReference()) {
			t.Errorf("a good set reads as %+v", r)
		}
	})
}

func TestSearch(t *testing.T) {
	s := newSearcher([]float32{1, 0, 0, 2, -3, 0, 0, 5, 0, 0}, 2)
	ids, margin := s.find([]float32{7, 0, -1, 0.1, 0, 1, 0, 2}) // columns (7,0) (0,1) (-1,0) (0.1,2)
	if !slices.Equal(ids, []int32{0, 1, 2, 1}) || margin[0] != 1 || margin[1] != 0 || margin[2] != 1 || margin[3] != 0 {
		t.Errorf("ids %v, margins %v", ids, margin)
	}
	if ids, margin := newSearcher([]float32{1, 1}, 2).find([]float32{-1, -1}); ids[0] != 0 || margin[0] != 2 {
		t.Errorf("one entry: %v %v", ids, margin)
	}
}
