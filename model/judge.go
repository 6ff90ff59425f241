package model

import (
	"errors"
	"fmt"
	"math"
	"strings"
)

// ClearMargin is the margin above which a token is called clear: no rounding of fp32 decides it.
const ClearMargin = 1e-4

// fewTokens may always differ: in a small model, or on few pictures, the share would hang on a single one.
const fewTokens = 2

// Floors are the least agreements with fp32 that are good enough. All lie between 0 and 1.
type Floors struct {
	Tokens    float64 `toml:"tokens" json:"tokens"`       // share of equal tokens; two may always differ
	Features  float64 `toml:"features" json:"features"`   // worst cosine of any token's features
	Embedding float64 `toml:"embedding" json:"embedding"` // worst cosine of any embedding
}

// DefaultFloors are the floors of a precision, for engines and for what the importer makes.
func DefaultFloors(precision string) Floors {
	switch precision {
	case FP32:
		return Floors{Tokens: 0.98, Features: 0.999, Embedding: 0.9999} // sums in another order turn tokens near a tie
	case Int8:
		return Floors{Tokens: 0.98, Features: 0.98, Embedding: 0.99}
	}
	return Floors{Tokens: 0.98, Features: 0.99, Embedding: 0.995}
}

// Outputs is what an engine gave for a reference's pictures and ids. A part that was not run is nil and not judged.
type Outputs struct {
	IDs []int32 // [F,N]: the tokenizer's, of Reference.Pictures
	// The encoder's, of Reference.IDs and not of the tokenizer's own ids: features of other tokens cannot be compared.
	Features  []float32 // [F,N,D]
	Embedding []float32 // [F,E]
}

// Report is how far an engine is from the reference. Agreements are 1 and cosines 1 where nothing differs; those of parts
// that were not run are 0.
type Report struct {
	Frames int `json:"frames"`

	Tokens              int     `json:"tokens"`                // compared
	TokenAgreement      float64 `json:"token_agreement"`       // share of equal ones
	ClearTokens         int     `json:"clear_tokens"`          // those whose margin is above ClearMargin
	ClearTokenAgreement float64 `json:"clear_token_agreement"` // share of equal ones among them

	Features          int     `json:"features"`       // rows compared
	FeatureCosine     float64 `json:"feature_cosine"` // worst
	FeatureCosineMean float64 `json:"feature_cosine_mean"`
	Embeddings        int     `json:"embeddings"`       // compared
	EmbeddingCosine   float64 `json:"embedding_cosine"` // worst
	Floors            Floors  `json:"floors"`
	Passed            bool    `json:"passed"`
}

// ErrTooFar is wrapped by [Report.Err].
var ErrTooFar = errors.New("too far from the fp32 reference")

// Judge compares what an engine gave with the reference. It fails if something has not the reference's shape, or if nothing
// was run. Whether the engine is good enough is for [Report.Err] to say.
func Judge(ref *Reference, got Outputs, floors Floors) (Report, error) {
	rows := ref.Frames * ref.Tokens
	if rows < 1 || ref.FeatureDim < 1 || ref.EmbeddingDim < 1 || len(ref.IDs) != rows || len(ref.Margin) != rows ||
		len(ref.Features) != rows*ref.FeatureDim || len(ref.Embedding) != ref.Frames*ref.EmbeddingDim {
		return Report{}, fmt.Errorf("judge: the reference's arrays have not the lengths that %d frames of %d tokens make", ref.Frames, ref.Tokens)
	}
	for _, part := range []struct {
		name       string
		have, want int
	}{
		{"ids", len(got.IDs), len(ref.IDs)},
		{"features", len(got.Features), len(ref.Features)},
		{"embedding", len(got.Embedding), len(ref.Embedding)},
	} {
		if part.have != 0 && part.have != part.want {
			return Report{}, fmt.Errorf("judge: %d values of %s came for %d frames, the reference has %d", part.have, part.name, ref.Frames, part.want)
		}
	}
	if len(got.IDs) == 0 && len(got.Features) == 0 && len(got.Embedding) == 0 {
		return Report{}, fmt.Errorf("judge: nothing was run")
	}
	r := Report{Frames: ref.Frames, Floors: floors}
	r.tokens(ref, got.IDs)
	r.Features, r.FeatureCosine, r.FeatureCosineMean = cosines(ref.Features, got.Features, ref.FeatureDim)
	r.Embeddings, r.EmbeddingCosine, _ = cosines(ref.Embedding, got.Embedding, ref.EmbeddingDim)
	r.Passed = len(r.shortfalls()) == 0
	return r, nil
}

func (r *Report) tokens(ref *Reference, ids []int32) {
	equal, clear := 0, 0
	for i, id := range ids {
		same := id == ref.IDs[i]
		if same {
			equal++
		}
		if ref.Margin[i] > ClearMargin {
			r.ClearTokens++
			if same {
				clear++
			}
		}
	}
	r.Tokens = len(ids)
	if r.Tokens > 0 {
		r.TokenAgreement = float64(equal) / float64(r.Tokens)
	}
	if r.ClearTokens > 0 {
		r.ClearTokenAgreement = float64(clear) / float64(r.ClearTokens)
	}
}

// shortfalls lists what is below its floor.
func (r *Report) shortfalls() []string {
	var out []string
	if r.Tokens > 0 && r.TokenAgreement < r.Floors.Tokens && r.TokenAgreement < 1-(fewTokens+0.5)/float64(r.Tokens) {
		out = append(out, fmt.Sprintf("%.2f %% of %d tokens are equal, the floor is %.2f %% (%.2f %% of the %d clear ones)",
			100*r.TokenAgreement, r.Tokens, 100*r.Floors.Tokens, 100*r.ClearTokenAgreement, r.ClearTokens))
	}
	if r.Features > 0 && r.FeatureCosine < r.Floors.Features {
		out = append(out, fmt.Sprintf("the worst cosine of a token's features is %.5f, the floor is %g", r.FeatureCosine, r.Floors.Features))
	}
	if r.Embeddings > 0 && r.EmbeddingCosine < r.Floors.Embedding {
		out = append(out, fmt.Sprintf("the worst cosine of an embedding is %.5f, the floor is %g", r.EmbeddingCosine, r.Floors.Embedding))
	}
	return out
}

// Err is nil if every floor is reached, else a sentence with the figures that are too low. It wraps [ErrTooFar].
func (r Report) Err() error {
	low := r.shortfalls()
	if len(low) == 0 {
		return nil
	}
	return fmt.Errorf("%w: on %d frames %s", ErrTooFar, r.Frames, strings.Join(low, "; "))
}

// String gives the figures in a line.
func (r Report) String() string {
	var parts []string
	if r.Tokens > 0 {
		parts = append(parts, fmt.Sprintf("tokens equal %.2f %% (clear ones %.2f %%)", 100*r.TokenAgreement, 100*r.ClearTokenAgreement))
	}
	if r.Features > 0 {
		parts = append(parts, fmt.Sprintf("worst feature cosine %.5f", r.FeatureCosine))
	}
	if r.Embeddings > 0 {
		parts = append(parts, fmt.Sprintf("worst embedding cosine %.5f", r.EmbeddingCosine))
	}
	return strings.Join(parts, ", ")
}

// cosines compares rows of width values and gives their number, the worst cosine and the mean.
func cosines(want, got []float32, width int) (rows int, worst, mean float64) {
	if len(got) == 0 {
		return 0, 0, 0
	}
	worst = 1
	for at := 0; at < len(want); at += width {
		c := cosine(want[at:at+width], got[at:at+width])
		rows++
		mean += c
		worst = min(worst, c)
	}
	return rows, worst, mean / float64(rows)
}

// cosine of two vectors. It is -1, the worst, if one has a value that is no number or infinite, or only one is all zeros: NaN would
// have no place in a report's JSON.
func cosine(a, b []float32) float64 {
	var ab, aa, bb float64
	for i, x := range a {
		y := float64(b[i])
		ab += float64(x) * y
		aa += float64(x) * float64(x)
		bb += y * y
	}
	if aa == 0 && bb == 0 {
		return 1
	}
	c := ab / math.Sqrt(aa*bb)
	if math.IsNaN(c) {
		return -1
	}
	return c
}
