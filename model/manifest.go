// Package model makes and reads model folders: what a checkpoint becomes on the device.
//
// A model folder holds a manifest (model.toml), the networks as ONNX files and their weights:
//
//	model.toml              what is inside, shapes, hashes, where it came from
//	tokenizer.onnx          image float32[batch,3,S,S] -> ids int32[batch,N]
//	tokenizer.latents.onnx  image -> latents float32[batch,C,rows,cols]: without the search, for TensorRT
//	tokenizer.fp16.onnx     the same with fp16 convolutions, if asked for; TensorRT only
//	encoder.onnx            ids int32[batch,N] -> features float32[batch,N,D], embedding float32[batch,E]
//	encoder.ort.onnx        the same in the form that ONNX Runtime runs faster, if there is one
//	encoder.int8.onnx       the same with int8 weights, if asked for; ONNX Runtime only
//	encoder.fp16.onnx       the same in fp16, if asked for; TensorRT only
//	encoder.qdq.onnx        the same with int8 matrix products and fp16 around them, if asked for; TensorRT only
//	decoder.onnx            ids int32[batch,N] -> image float32[batch,3,S,S]
//	pool.onnx               features float32[N,D], mask float32[regions,N] -> embedding float32[regions,E]: the encoder's attention pool alone
//	text.onnx               ids int32[batch,L] -> embedding float32[batch,E]: the text tower, if the checkpoint has one
//	tokenizer.model         what cuts texts into the text tower's ids, if it was given; or tokenizer.json
//	*.onnx.data             the weights, which graphs may share
//	codebook.npy            float32[K,C]: what latents are searched in
//	reference.npz           pictures and what the fp32 model makes of them: other precisions are judged by it
//
// [Import] writes such a folder from a checkpoint, [Load] reads its manifest, [Manifest.Verify]
// compares every file with its hash, [Calibrate] fits int8 to the user's own frames, and [Judge] says how
// far an engine is from the reference.
package model

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// FormatVersion is the version of the manifest this package writes, and the newest it reads. Version 1 lacks
// what TensorRT needs beside the fp32 graphs: codebook, reference, fp16, qdq. Version 2 lacks the text tower and the
// attention pool on its own.
const FormatVersion = 3

// ManifestFile is the manifest's name inside a model folder.
const ManifestFile = "model.toml"

// Roles of a graph.
const (
	RoleTokenizer = "tokenizer"
	RoleEncoder   = "encoder"
	RoleDecoder   = "decoder"
	RoleText      = "text" // the text tower
	RolePool      = "pool" // the encoder's attention pool on its own, for regions of a frame
)

// Precisions of a graph.
const (
	FP32 = "fp32"
	FP16 = "fp16"
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
	TensorLatents   = "latents"   // float32 [batch, C, rows, cols], not normalised
	TensorFeatures  = "features"  // float32 [batch, N, D], after the final norm
	TensorEmbedding = "embedding" // float32 [batch, E], not normalised
	TensorMask      = "mask"      // float32 [regions, N]: 1 where a region's embedding sees a token, 0 elsewhere
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
	// Quality of reduced precisions against fp32, measured by ONNX Runtime; nil without them.
	Int8 *Quality `toml:"int8,omitempty" json:"int8,omitempty"` // of encoder.int8.onnx
	FP16 *Quality `toml:"fp16,omitempty" json:"fp16,omitempty"` // of the fp16 tokenizer and encoder, emulated
	QDQ  *Quality `toml:"qdq,omitempty" json:"qdq,omitempty"`   // of TensorRT's int8 encoder, emulated
	// Calibration says where the activation ranges of TensorRT's int8 encoder come from; nil without it.
	Calibration *Calibration `toml:"calibration,omitempty" json:"calibration,omitempty"`
	// Codebook is the file that latents are searched in; nil in folders of version 1. See [Manifest.LoadCodebook].
	Codebook *File `toml:"codebook,omitempty" json:"codebook,omitempty"`
	// Reference says what engines are judged by; nil where it could not be made. See [Manifest.LoadReference].
	Reference *ReferenceSet `toml:"reference,omitempty" json:"reference,omitempty"`
	Graphs    []Graph       `toml:"graph" json:"graphs"`
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

// Quality compares a reduced precision with fp32 on the same pictures. Token agreements are 0 where the tokenizer
// is the fp32 one.
type Quality struct {
	Grids           int     `toml:"grids" json:"grids"`                       // pictures, and so token grids, measured
	FeatureCosine   float64 `toml:"feature_cosine" json:"feature_cosine"`     // worst cosine of any token's features
	EmbeddingCosine float64 `toml:"embedding_cosine" json:"embedding_cosine"` // worst cosine of any embedding
	// Floor had to be reached by both, or, where EmbeddingFloor is set, by features alone.
	Floor          float64 `toml:"floor" json:"floor"`
	EmbeddingFloor float64 `toml:"embedding_floor,omitempty" json:"embedding_floor,omitempty"`
	// TokenAgreement is the share of tokens equal to fp32's, ClearTokenAgreement the share among those whose margin
	// is above [ClearMargin].
	TokenAgreement      float64 `toml:"token_agreement,omitempty" json:"token_agreement,omitempty"`
	ClearTokenAgreement float64 `toml:"clear_token_agreement,omitempty" json:"clear_token_agreement,omitempty"`
	TokenFloor          float64 `toml:"token_floor,omitempty" json:"token_floor,omitempty"`
}

// Calibration is how activation ranges were found.
type Calibration struct {
	By      string    `toml:"by" json:"by"`         // the command: "toklip model import", on pictures it drew, or "toklip model calibrate"
	Source  string    `toml:"source" json:"source"` // the frames, for people
	Frames  int       `toml:"frames" json:"frames"` // how many
	Method  string    `toml:"method" json:"method"` // "max" or "percentile"
	Created time.Time `toml:"created" json:"created"`
}

// ReferenceSet is the file that engines are judged by, and where it comes from.
type ReferenceSet struct {
	By      string    `toml:"by" json:"by"`         // the command, as in Calibration
	Source  string    `toml:"source" json:"source"` // the pictures, for people
	Frames  int       `toml:"frames" json:"frames"` // how many
	Created time.Time `toml:"created" json:"created"`
	File    File      `toml:"file" json:"file"`
}

// Graph is one ONNX file of the folder.
type Graph struct {
	Role      string   `toml:"role" json:"role"`           // tokenizer, encoder, decoder, text or pool
	Precision string   `toml:"precision" json:"precision"` // fp32, fp16 or int8
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
