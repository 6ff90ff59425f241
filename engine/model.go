package engine

import (
	"errors"
	"fmt"
	"math"

	"github.com/toklip/toklip/engine/preprocess"
)

// Model says what a backend must know of a model: where its graphs are and which
// shapes they have. The command fills it from the model's manifest.
//
// The graphs are ONNX files with these tensors (batch is dynamic, S = ImageSize,
// N = Rows*Cols, D = FeatureDim, E = EmbeddingDim):
//
//	tokenizer: image f32 [batch,3,S,S] -> ids int32 [batch,N]
//	encoder:   ids int32 [batch,N]     -> features f32 [batch,N,D], embedding f32 [batch,E]
//	decoder:   ids int32 [batch,N]     -> image f32 [batch,3,S,S]
type Model struct {
	Name string

	Tokenizer string // file of the tokenizer's graph
	Encoder   string // file of the token encoder's graph, in the precision to run; empty: no encoder, tokens only
	Decoder   string // file of the decoder's graph; may be empty
	Precision string // of the encoder, such as "fp32" or "int8"; told in Description

	ImageSize    int // S: side of the square picture the network sees, pixels
	Rows, Cols   int // grid of tokens
	FeatureDim   int // D: length of one token's features
	EmbeddingDim int // E: length of the frame's embedding
	Codebook     int // ids are in [0, Codebook)

	Resize preprocess.Mode // how a frame becomes S x S unless a camera says otherwise
	Mean   [3]float32      // normalisation by channel (R,G,B) after pixels were scaled to [0,1]: (x-Mean)/Std
	Std    [3]float32
}

// Tokens is the number of tokens of a frame.
func (m *Model) Tokens() int { return m.Rows * m.Cols }

// Validate reports every figure that cannot be, each by its name.
func (m *Model) Validate() error {
	var errs []error
	positive := func(name string, v int) {
		if v <= 0 {
			errs = append(errs, fmt.Errorf("%s is %d, must be positive", name, v))
		}
	}
	positive("image size", m.ImageSize)
	if m.ImageSize > preprocess.MaxSize {
		errs = append(errs, fmt.Errorf("image size is %d, must be at most %d", m.ImageSize, preprocess.MaxSize))
	}
	positive("grid rows", m.Rows)
	positive("grid columns", m.Cols)
	positive("codebook size", m.Codebook)
	if m.Encoder != "" {
		positive("feature length", m.FeatureDim)
		positive("embedding length", m.EmbeddingDim)
	}
	for c, s := range m.Std {
		if !(s > 0) {
			errs = append(errs, fmt.Errorf("standard deviation of channel %d is %v, must be positive", c, s))
		}
	}
	if m.Tokenizer == "" && len(errs) == 0 {
		errs = append(errs, errors.New("no tokenizer graph named"))
	}
	if len(errs) > 0 {
		return fmt.Errorf("model %q: %w", m.Name, errors.Join(errs...))
	}
	return nil
}

// CheckIDs finds ids outside the codebook. The common case is one pass without
// branches that depend on the values.
func (m *Model) CheckIDs(ids []int32) error {
	var most uint32
	for _, id := range ids {
		most = max(most, uint32(id))
	}
	if most < uint32(m.Codebook) {
		return nil
	}
	for i, id := range ids {
		if uint32(id) >= uint32(m.Codebook) {
			return fmt.Errorf("token %d has id %d, outside the codebook of %d", i, id, m.Codebook)
		}
	}
	return nil
}

// Pixels turns a decoder's output, f32 [3,S,S] in RGB planes, into S x S pixels of 3 bytes, R, G, B, row by row.
// Values outside [-1,1], or what Mean and Std make of [0,1], are cut.
func (m *Model) Pixels(planes []float32) []byte {
	area := len(planes) / 3
	pixels := make([]byte, 3*area)
	for c := range 3 {
		mean, std := float64(m.Mean[c]), float64(m.Std[c])
		for i, v := range planes[c*area : (c+1)*area] {
			level := math.RoundToEven((float64(v)*std + mean) * 255)
			pixels[3*i+c] = byte(min(max(level, 0), 255))
		}
	}
	return pixels
}

// sameShape reports whether results of a and b have the same layout and meaning, so
// that one backend may take the other's place while running.
func sameShape(a, b *Model) bool {
	return a.Rows == b.Rows && a.Cols == b.Cols && a.FeatureDim == b.FeatureDim &&
		a.EmbeddingDim == b.EmbeddingDim && a.Codebook == b.Codebook
}
