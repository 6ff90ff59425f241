package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/toklip/toklip/api/toklipv1"
)

// headerJSON and what it contains have the names of the JSON twins.
type headerJSON struct {
	Schema         uint32      `json:"schema"`
	Node           string      `json:"node"`
	Camera         string      `json:"camera"`
	BootID         string      `json:"boot_id"`
	Sequence       uint64      `json:"sequence"`
	CaptureWallNS  int64       `json:"capture_wall_ns"`
	Clock          string      `json:"clock"`
	CaptureMonoNS  int64       `json:"capture_mono_ns"`
	CaptureErrorNS uint64      `json:"capture_error_ns"`
	PublishNS      int64       `json:"publish_ns"`
	Stages         *stagesJSON `json:"stages"`
	Width          uint32      `json:"width"`
	Height         uint32      `json:"height"`
	Resize         string      `json:"resize"`
	Window         *windowJSON `json:"window"`
	Drops          *Drops      `json:"drops"`
	Model          string      `json:"model"`
	Codebook       string      `json:"codebook"`
	LabelSet       string      `json:"label_set"`
	EmbeddingSpace string      `json:"embedding_space"`
	Backend        string      `json:"backend"`
	Precision      string      `json:"precision"`
	Keyframe       bool        `json:"keyframe"`
	Reused         bool        `json:"reused"`
	StaleAfterMS   uint32      `json:"stale_after_ms"`
	FrameID        string      `json:"frame_id"`
}

type stagesJSON struct {
	AgeNS        int64 `json:"age_ns"`
	WaitNS       int64 `json:"wait_ns"`
	PreprocessNS int64 `json:"preprocess_ns"`
	TokenizeNS   int64 `json:"tokenize_ns"`
	QueueNS      int64 `json:"queue_ns"`
	EncodeNS     int64 `json:"encode_ns"`
	LabelNS      int64 `json:"label_ns"`
	TotalNS      int64 `json:"total_ns"`
}

type windowJSON struct {
	X      float64 `json:"x"`
	Y      float64 `json:"y"`
	Width  float64 `json:"width"`
	Height float64 `json:"height"`
}

func (h *headerJSON) message() (*toklipv1.Header, error) {
	if h == nil {
		return nil, errors.New("message has no header")
	}
	m := &toklipv1.Header{
		Schema: h.Schema, Node: h.Node, Camera: h.Camera, BootId: h.BootID, Sequence: h.Sequence,
		CaptureWallNs: h.CaptureWallNS, Clock: h.Clock, CaptureMonoNs: h.CaptureMonoNS, CaptureErrorNs: h.CaptureErrorNS,
		PublishNs: h.PublishNS, Width: h.Width, Height: h.Height, Resize: h.Resize,
		Model: h.Model, Codebook: h.Codebook, LabelSet: h.LabelSet, EmbeddingSpace: h.EmbeddingSpace,
		Backend: h.Backend, Precision: h.Precision, Keyframe: h.Keyframe, Reused: h.Reused,
		StaleAfterMs: h.StaleAfterMS, FrameId: h.FrameID,
	}
	if s := h.Stages; s != nil {
		m.Stages = &toklipv1.Stages{AgeNs: s.AgeNS, WaitNs: s.WaitNS, PreprocessNs: s.PreprocessNS, TokenizeNs: s.TokenizeNS,
			QueueNs: s.QueueNS, EncodeNs: s.EncodeNS, LabelNs: s.LabelNS, TotalNs: s.TotalNS}
	}
	if w := h.Window; w != nil {
		m.Window = &toklipv1.Window{X: w.X, Y: w.Y, Width: w.Width, Height: w.Height}
	}
	if d := h.Drops; d != nil {
		m.Drops = &toklipv1.Drops{Capture: d.Capture, Queue: d.Queue, Rate: d.Rate, Invalid: d.Invalid,
			Failed: d.Failed, Closed: d.Closed, Publish: d.Publish, Broker: d.Broker}
	}
	return m, nil
}

// decodeJSON reads one JSON value and refuses anything after it. Members that are not
// known are ignored, as newer nodes may write more.
func decodeJSON(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(v); err != nil {
		return jsonError(err)
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("more text after the JSON value")
	}
	return nil
}

// jsonError says where a JSON text is wrong.
func jsonError(err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("not valid JSON at byte %d: %w", syntax.Offset, err)
	case errors.As(err, &kind) && kind.Field != "":
		return fmt.Errorf("member %q: a JSON %s where %v is wanted", kind.Field, kind.Value, kind.Type)
	case errors.As(err, &kind):
		return fmt.Errorf("a JSON %s where an object is wanted", kind.Value)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the JSON text ends too early")
	}
	return err
}

// ParseTokensJSON reads a twin of Tokens. Grid, ids, changed cells and codebook must
// agree.
func ParseTokensJSON(data []byte) (*toklipv1.Tokens, error) {
	var j struct {
		Header   *headerJSON `json:"header"`
		Grid     []int       `json:"grid"`
		Tokens   []int32     `json:"tokens"`
		Changed  []int       `json:"changed"`
		Codebook int         `json:"codebook_size"`
	}
	if err := decodeJSON(data, &j); err != nil {
		return nil, fmt.Errorf("tokens: %w", err)
	}
	h, err := j.Header.message()
	if err != nil {
		return nil, fmt.Errorf("tokens: %w", err)
	}
	if len(j.Grid) != 2 {
		return nil, fmt.Errorf("tokens: grid has %d numbers, rows and columns are wanted", len(j.Grid))
	}
	changed := make([]uint64, (len(j.Tokens)+63)/64)
	for _, cell := range j.Changed {
		if cell < 0 || cell >= len(j.Tokens) {
			return nil, fmt.Errorf("tokens: changed cell %d is outside the grid of %dx%d", cell, j.Grid[0], j.Grid[1])
		}
		changed[cell/64] |= 1 << (cell % 64)
	}
	m := &toklipv1.Tokens{Header: h}
	if err := SetTokens(m, j.Grid[0], j.Grid[1], j.Codebook, j.Tokens, changed); err != nil {
		return nil, err
	}
	return m, nil
}

// ParseEmbeddingJSON reads a twin of Embedding.
func ParseEmbeddingJSON(data []byte) (*toklipv1.Embedding, error) {
	var j struct {
		Header     *headerJSON `json:"header"`
		Embedding  []float32   `json:"embedding"`
		DType      string      `json:"dtype"`
		Normalized bool        `json:"normalized"`
	}
	if err := decodeJSON(data, &j); err != nil {
		return nil, fmt.Errorf("embedding: %w", err)
	}
	h, err := j.Header.message()
	if err != nil {
		return nil, fmt.Errorf("embedding: %w", err)
	}
	dtype, err := ParseDType(j.DType)
	if err != nil {
		return nil, fmt.Errorf("embedding: %w", err)
	}
	for i, f := range j.Embedding {
		if dtype == toklipv1.DType_DTYPE_FP16 && math.IsInf(float64(FromFloat16(Float16(f))), 0) {
			return nil, fmt.Errorf("embedding: element %d is %v, too great for fp16", i, f)
		}
	}
	m := &toklipv1.Embedding{Header: h}
	if err := SetEmbedding(m, j.Embedding, dtype, false); err != nil {
		return nil, err
	}
	m.Normalized = j.Normalized
	return m, nil
}

// ParseLabelsJSON reads a twin of Labels.
func ParseLabelsJSON(data []byte) (*toklipv1.Labels, error) {
	var j struct {
		Header *headerJSON `json:"header"`
		Labels []struct {
			Label   string  `json:"label"`
			Cosine  float32 `json:"cosine"`
			Logit   float32 `json:"logit"`
			Score   float32 `json:"score"`
			Present bool    `json:"present"`
			SinceNS int64   `json:"since_ns"`
			Region  string  `json:"region"`
		} `json:"labels"`
	}
	if err := decodeJSON(data, &j); err != nil {
		return nil, fmt.Errorf("labels: %w", err)
	}
	h, err := j.Header.message()
	if err != nil {
		return nil, fmt.Errorf("labels: %w", err)
	}
	m := &toklipv1.Labels{Header: h}
	for _, l := range j.Labels {
		m.Labels = append(m.Labels, &toklipv1.Label{Label: l.Label, Cosine: l.Cosine, Logit: l.Logit, Score: l.Score,
			Present: l.Present, SinceNs: l.SinceNS, Region: l.Region})
	}
	return m, nil
}
