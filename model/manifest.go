// Package model makes and reads model folders: what a checkpoint becomes on the device.
//
// A model folder holds a manifest (model.toml), the networks as ONNX files and their weights:
//
//	model.toml              what is inside, shapes, hashes, where it came from
//	tokenizer.onnx          image float32[batch,3,S,S] -> ids int32[batch,N]
//	encoder.onnx            ids int32[batch,N] -> features float32[batch,N,D], embedding float32[batch,E]
//	encoder.ort.onnx        the same in the form that ONNX Runtime runs faster, if there is one
//	encoder.int8.onnx       the same with int8 weights, if asked for; ONNX Runtime only
//	decoder.onnx            ids int32[batch,N] -> image float32[batch,3,S,S]
//	*.onnx.data             the weights, which graphs may share
//
// [Import] writes such a folder from a checkpoint, [Load] reads its manifest, [Manifest.Verify]
// compares every file with its hash.
package model

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// FormatVersion is the version of the manifest this package writes, and the newest it reads.
const FormatVersion = 1

// ManifestFile is the manifest's name inside a model folder.
const ManifestFile = "model.toml"

// Roles of a graph.
const (
	RoleTokenizer = "tokenizer"
	RoleEncoder   = "encoder"
	RoleDecoder   = "decoder"
)

// Precisions of a graph.
const (
	FP32 = "fp32"
	Int8 = "int8"
)

// Backends a graph is meant for.
const (
	BackendONNXRuntime = "onnxruntime"
	BackendTensorRT    = "tensorrt"
)

// Names of the graphs' inputs and outputs.
const (
	TensorImage     = "image"     // float32 [batch, 3, S, S], RGB, normalised with the manifest's mean and std
	TensorIDs       = "ids"       // int32 [batch, N], row by row
	TensorFeatures  = "features"  // float32 [batch, N, D], after the final norm
	TensorEmbedding = "embedding" // float32 [batch, E], not normalised
)

// ErrNoGraph is wrapped by [Manifest.Graph] when the folder lacks what was asked for.
var ErrNoGraph = errors.New("no such graph in the model")

// Manifest describes a model folder. It is plain data; sharing it between goroutines is safe as long as nobody changes it.
type Manifest struct {
	FormatVersion int       `toml:"format_version" json:"format_version"`
	Name          string    `toml:"name" json:"name"`
	Created       time.Time `toml:"created" json:"created"`
	Source        string    `toml:"source" json:"source"`   // where the weights came from, for people
	Licence       string    `toml:"licence" json:"licence"` // the terms of the weights, for people

	// ModelHash is the SHA-256 over names, shapes and float32 values of the image tower's tensors: the
	// same for a .pt and a .safetensors file of equal values, different if any weight differs.
	ModelHash string `toml:"model_hash" json:"model_hash"`
	// CodebookHash is the same over the codebook: tokens of models with equal codebook hash and
	// tokenizer mean the same.
	CodebookHash string `toml:"codebook_hash" json:"codebook_hash"`
	// EmbeddingSpace names what embeddings may be compared with each other: equal for every precision
	// of one model, different for any other weights.
	EmbeddingSpace string `toml:"embedding_space" json:"embedding_space"`
	Parameters     int64  `toml:"parameters" json:"parameters"` // of the image tower, tokenizer and decoder included

	Image   ImageSpec `toml:"image" json:"image"`
	Tokens  TokenSpec `toml:"tokens" json:"tokens"`
	Encoder Encoder   `toml:"encoder" json:"encoder"`
	Text    Text      `toml:"text" json:"text"`
	Int8    *Quality  `toml:"int8,omitempty" json:"int8,omitempty"` // nil without an int8 encoder
	Graphs  []Graph   `toml:"graph" json:"graphs"`
}

// ImageSpec says how a picture becomes the tokenizer's input.
type ImageSpec struct {
	Size          int        `toml:"size" json:"size"`                   // S: edge in pixels
	Mean          [3]float64 `toml:"mean" json:"mean"`                   // of R, G, B in [0, 1], subtracted first
	Std           [3]float64 `toml:"std" json:"std"`                     // of R, G, B, divided by
	Resize        string     `toml:"resize" json:"resize"`               // "squash", "shortest" or "longest"
	Interpolation string     `toml:"interpolation" json:"interpolation"` // "bicubic": Pillow's, antialiased
}

// TokenSpec describes the tokens of one picture.
type TokenSpec struct {
	Rows        int `toml:"rows" json:"rows"`
	Cols        int `toml:"cols" json:"cols"`
	Codebook    int `toml:"codebook" json:"codebook"`         // number of entries; ids are below it
	CodebookDim int `toml:"codebook_dim" json:"codebook_dim"` // length of an entry
	Bits        int `toml:"bits" json:"bits"`                 // ceil(log2(Codebook)): bits of a packed token
}

// Count is the number of tokens of one picture: N.
func (t TokenSpec) Count() int { return t.Rows * t.Cols }

// Encoder describes the token encoder.
type Encoder struct {
	FeatureDim   int `toml:"feature_dim" json:"feature_dim"`     // D
	EmbeddingDim int `toml:"embedding_dim" json:"embedding_dim"` // E
	Depth        int `toml:"depth" json:"depth"`                 // transformer blocks
	Heads        int `toml:"heads" json:"heads"`
}

// Text says what the checkpoint brought for scoring texts. The text tower itself is not exported in
// this version of the format.
type Text struct {
	Present    bool     `toml:"present" json:"present"` // the checkpoint has a text tower
	Tensors    int      `toml:"tensors" json:"tensors"` // how many tensors it has
	LogitScale *float64 `toml:"logit_scale,omitempty" json:"logit_scale,omitempty"`
	LogitBias  *float64 `toml:"logit_bias,omitempty" json:"logit_bias,omitempty"`
}

// Quality compares a reduced precision with fp32 on the same token grids.
type Quality struct {
	Grids           int     `toml:"grids" json:"grids"`                       // token grids measured
	FeatureCosine   float64 `toml:"feature_cosine" json:"feature_cosine"`     // worst cosine of any token's features
	EmbeddingCosine float64 `toml:"embedding_cosine" json:"embedding_cosine"` // worst cosine of any embedding
	Floor           float64 `toml:"floor" json:"floor"`                       // both had to reach this
}

// Graph is one ONNX file of the folder.
type Graph struct {
	Role      string   `toml:"role" json:"role"`           // tokenizer, encoder or decoder
	Precision string   `toml:"precision" json:"precision"` // fp32 or int8
	Backends  []string `toml:"backends" json:"backends"`   // which backends it is for
	File      File     `toml:"file" json:"file"`
	Data      []File   `toml:"data" json:"data"` // the weights it refers to, maybe shared with other graphs
}

// File is a file of the folder.
type File struct {
	Name   string `toml:"name" json:"name"`
	Size   int64  `toml:"size" json:"size"` // bytes
	SHA256 string `toml:"sha256" json:"sha256"`
}

// Graph finds the graph for a role, precision and backend. The error wraps [ErrNoGraph] and says
// which precisions there are.
func (m *Manifest) Graph(role, precision, backend string) (Graph, error) {
	var have []string
	for _, g := range m.Graphs {
		if g.Role != role || !slices.Contains(g.Backends, backend) {
			continue
		}
		if g.Precision == precision {
			return g, nil
		}
		have = append(have, g.Precision)
	}
	if len(have) == 0 {
		return Graph{}, fmt.Errorf("model %q: %s for backend %s: %w", m.Name, role, backend, ErrNoGraph)
	}
	return Graph{}, fmt.Errorf("model %q: %s in precision %s for backend %s: %w (there is %s; import the checkpoint again with --precision %s,%s)",
		m.Name, role, precision, backend, ErrNoGraph, strings.Join(have, ", "), FP32, precision)
}

// Path is where a file of the manifest lies, given the model folder.
func (f File) Path(dir string) string { return filepath.Join(dir, f.Name) }
