package enginetest

import (
	"testing"

	"github.com/toklip/toklip/engine"
)

// Goldens are what the reference implementation computed for some pictures with the
// model under test, one picture behind the other.
type Goldens struct {
	Images    []float32 // [n,3,S,S], normalised
	IDs       []int32   // [n,N]
	Margin    []float32 // [n,N]: cosine of the best codebook entry minus that of the second
	Features  []float32 // [n,N,D]; may be nil
	Embedding []float32 // [n,E]
	Decoded   []float32 // [n,3,S,S]; may be nil
}

// Array stands for an array of a file of goldens, however it was read.
type Array interface {
	Float32() ([]float32, error)
	Int32() ([]int32, error)
}

// NewGoldens takes the goldens from the arrays of a file, by name. All must be there.
func NewGoldens[A Array](tb testing.TB, arrays map[string]A) Goldens {
	tb.Helper()
	array := func(name string) A {
		a, ok := arrays[name]
		if !ok {
			tb.Fatalf("golden %q is missing", name)
		}
		return a
	}
	floats := func(name string) []float32 {
		v, err := array(name).Float32()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
	ids, err := array("ids").Int32()
	if err != nil {
		tb.Fatal(err)
	}
	return Goldens{
		Images: floats("images"), IDs: ids, Margin: floats("margin"),
		Features: floats("features"), Embedding: floats("embedding"), Decoded: floats("decoded"),
	}
}

// margin below which the reference's own choice of a token is left to rounding.
const margin = 1e-5

// RunGoldens compares encode with the goldens in fp32 tolerances: ids wherever the
// margin is above 1e-5, features and embedding of pictures whose ids are all equal
// (others it encodes other tokens). It fails if no picture is left to compare. decode
// may be nil.
func RunGoldens(t *testing.T, m *engine.Model, g Goldens,
	encode func(image []float32) (ids []int32, features, embedding []float32, err error),
	decode func(ids []int32) ([]float32, error)) {
	t.Helper()
	tokens, pixels := m.Tokens(), 3*m.ImageSize*m.ImageSize
	n := len(g.IDs) / tokens
	if n == 0 || len(g.Images) != n*pixels || len(g.Margin) != n*tokens || len(g.Embedding) != n*m.EmbeddingDim {
		t.Fatalf("goldens do not fit the model: %d images, %d ids, %d margins, %d embedding values",
			len(g.Images), len(g.IDs), len(g.Margin), len(g.Embedding))
	}
	encoded := 0
	for i := range n {
		want := g.IDs[i*tokens : (i+1)*tokens]
		ids, features, embedding, err := encode(g.Images[i*pixels : (i+1)*pixels])
		if err != nil {
			t.Fatalf("image %d: %v", i, err)
		}
		if len(ids) != tokens {
			t.Fatalf("image %d: %d ids, want %d", i, len(ids), tokens)
		}
		equal := true
		for k, id := range ids {
			if id == want[k] {
				continue
			}
			equal = false
			if by := g.Margin[i*tokens+k]; by > margin {
				t.Errorf("image %d, token %d: id %d, want %d (margin %.3g)", i, k, id, want[k], by)
			}
		}
		if equal {
			encoded++
			if g.Features != nil {
				d := m.FeatureDim
				if err := FP32.Compare(features, g.Features[i*tokens*d:(i+1)*tokens*d], d); err != nil {
					t.Errorf("image %d: features: %v", i, err)
				}
			}
			e := m.EmbeddingDim
			if err := FP32.Compare(embedding, g.Embedding[i*e:(i+1)*e], e); err != nil {
				t.Errorf("image %d: embedding: %v", i, err)
			}
		}
		if decode != nil && g.Decoded != nil {
			picture, err := decode(want)
			if err != nil {
				t.Fatalf("image %d: decode: %v", i, err)
			}
			if err := FP32.Compare(picture, g.Decoded[i*pixels:(i+1)*pixels], pixels); err != nil {
				t.Errorf("image %d: decoded: %v", i, err)
			}
		}
	}
	if encoded == 0 {
		t.Error("in no image all ids agree, so no embedding was compared")
	}
}
