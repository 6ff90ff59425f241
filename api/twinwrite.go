package api

import (
	"encoding/json"
	"fmt"
	"math"
	"math/bits"
	"strconv"

	"github.com/toklip/toklip/api/toklipv1"
)

// The JSON twins say what the protobuf messages say, for people and scripts:
//
//	{"header":{…},"grid":[16,16],"tokens":[…],"changed":[…],"codebook_size":16384}
//	{"header":{…},"embedding":[…],"dtype":"fp16","normalized":false}
//	{"header":{…},"labels":[{"label":"cat","cosine":0.1,"logit":1.5,"score":0.8,"present":true,"since_ns":1}]}
//
// Names of the header are those of toklip.proto. "changed" lists the numbers of the
// changed cells. Times are whole nanoseconds, which JavaScript's numbers round by up to
// 256 ns; everything else is exact. Strings that are empty are written as well, so that
// the fields are always the same; only "since_ns" of a label that is not present and
// "region" of a label of the whole frame are left out.

// AppendTokensJSON appends the twin of m. It fails where TokenIDs does.
func AppendTokensJSON(dst []byte, m *toklipv1.Tokens) ([]byte, error) {
	start := len(dst)
	n, err := cells(m)
	if err != nil {
		return dst, err
	}
	if len(m.Changed) != (n+7)/8 {
		return dst, fmt.Errorf("tokens: changed cells have %d bytes, a grid of %dx%d takes %d", len(m.Changed), m.Rows, m.Cols, (n+7)/8)
	}
	if len(m.Packed) != PackedSize(n, int(m.Bits)) {
		return dst, fmt.Errorf("tokens: %d bytes for %d ids of %d bits", len(m.Packed), n, m.Bits)
	}
	dst = append(dst, `{"header":`...)
	if dst, err = appendHeaderJSON(dst, m.Header); err != nil {
		return dst[:start], err
	}
	dst = append(dst, `,"grid":[`...)
	dst = strconv.AppendUint(dst, uint64(m.Rows), 10)
	dst = append(dst, ',')
	dst = strconv.AppendUint(dst, uint64(m.Cols), 10)
	dst = append(dst, `],"tokens":[`...)
	var word uint64
	var have, at uint
	for i := range n {
		for have < uint(m.Bits) {
			word |= uint64(m.Packed[at]) << have
			at++
			have += 8
		}
		id := word & (1<<m.Bits - 1)
		word >>= m.Bits
		have -= uint(m.Bits)
		if id >= uint64(m.CodebookSize) {
			return dst[:start], fmt.Errorf("tokens: id %d at position %d is outside the codebook of %d entries", id, i, m.CodebookSize)
		}
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendUint(dst, id, 10)
	}
	dst = append(dst, `],"changed":[`...)
	first := true
	for i, b := range m.Changed {
		for ; b != 0; b &= b - 1 {
			cell := i*8 + bits.TrailingZeros8(b)
			if cell >= n {
				return dst[:start], fmt.Errorf("tokens: changed cell %d is outside the grid of %dx%d", cell, m.Rows, m.Cols)
			}
			if !first {
				dst = append(dst, ',')
			}
			first = false
			dst = strconv.AppendInt(dst, int64(cell), 10)
		}
	}
	dst = append(dst, `],"codebook_size":`...)
	dst = strconv.AppendUint(dst, uint64(m.CodebookSize), 10)
	return append(dst, '}'), nil
}

// AppendEmbeddingJSON appends the twin of m. Its numbers are those of the message, that
// is rounded to fp16 if that is its type. It fails where EmbeddingVector does, and for an
// element that is not finite, which JSON cannot say.
func AppendEmbeddingJSON(dst []byte, m *toklipv1.Embedding) ([]byte, error) {
	start := len(dst)
	size := elementSize(m.Dtype)
	if size == 0 {
		return dst, fmt.Errorf("embedding: element type %v is unknown", m.Dtype)
	}
	if len(m.Data)%size != 0 || uint64(len(m.Data)/size) != uint64(m.Dim) {
		return dst, fmt.Errorf("embedding: %d bytes for %d elements of %d bytes", len(m.Data), m.Dim, size)
	}
	dst = append(dst, `{"header":`...)
	dst, err := appendHeaderJSON(dst, m.Header)
	if err != nil {
		return dst[:start], err
	}
	dst = append(dst, `,"embedding":[`...)
	for i := 0; i < len(m.Data); i += size {
		if i > 0 {
			dst = append(dst, ',')
		}
		var f float32
		if size == 2 {
			f = FromFloat16(uint16(m.Data[i]) | uint16(m.Data[i+1])<<8)
		} else {
			f = math.Float32frombits(uint32(m.Data[i]) | uint32(m.Data[i+1])<<8 | uint32(m.Data[i+2])<<16 | uint32(m.Data[i+3])<<24)
		}
		if dst, err = appendFloat(dst, float64(f), 32); err != nil {
			return dst[:start], fmt.Errorf("embedding: element %d: %w", i/size, err)
		}
	}
	dst = append(dst, `],"dtype":"`...)
	dst = append(dst, dtypeName(m.Dtype)...)
	dst = append(dst, `","normalized":`...)
	dst = strconv.AppendBool(dst, m.Normalized)
	return append(dst, '}'), nil
}

// AppendLabelsJSON appends the twin of m. It fails for numbers that are not finite.
func AppendLabelsJSON(dst []byte, m *toklipv1.Labels) ([]byte, error) {
	start := len(dst)
	dst = append(dst, `{"header":`...)
	dst, err := appendHeaderJSON(dst, m.Header)
	if err != nil {
		return dst[:start], err
	}
	dst = append(dst, `,"labels":[`...)
	for i, l := range m.Labels {
		if l == nil {
			return dst[:start], fmt.Errorf("labels: label %d is missing", i)
		}
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"label":`...)
		dst = appendString(dst, l.Label)
		for _, f := range [...]struct {
			name  string
			value float32
		}{{`,"cosine":`, l.Cosine}, {`,"logit":`, l.Logit}, {`,"score":`, l.Score}} {
			dst = append(dst, f.name...)
			if dst, err = appendFloat(dst, float64(f.value), 32); err != nil {
				return dst[:start], fmt.Errorf("labels: label %d: %w", i, err)
			}
		}
		dst = append(dst, `,"present":`...)
		dst = strconv.AppendBool(dst, l.Present)
		if l.SinceNs != 0 {
			dst = append(dst, `,"since_ns":`...)
			dst = strconv.AppendInt(dst, l.SinceNs, 10)
		}
		if l.Region != "" {
			dst = append(dst, `,"region":`...)
			dst = appendString(dst, l.Region)
		}
		dst = append(dst, '}')
	}
	return append(dst, `]}`...), nil
}

func dtypeName(t toklipv1.DType) string {
	switch t {
	case toklipv1.DType_DTYPE_FP16:
		return "fp16"
	case toklipv1.DType_DTYPE_FP32:
		return "fp32"
	}
	return ""
}

// appendHeaderJSON writes the header by hand: encoding/json takes 4 times as long and
// allocates for every message.
func appendHeaderJSON(dst []byte, h *toklipv1.Header) ([]byte, error) {
	if h == nil {
		return dst, fmt.Errorf("message has no header")
	}
	w := headerWriter{b: dst, sep: '{'}
	w.uint("schema", uint64(h.Schema))
	w.string("node", h.Node)
	w.string("camera", h.Camera)
	w.string("boot_id", h.BootId)
	w.uint("sequence", h.Sequence)
	w.int("capture_wall_ns", h.CaptureWallNs)
	w.string("clock", h.Clock)
	w.int("capture_mono_ns", h.CaptureMonoNs)
	w.uint("capture_error_ns", h.CaptureErrorNs)
	w.int("publish_ns", h.PublishNs)
	if s := h.Stages; s != nil {
		w.open("stages")
		w.int("age_ns", s.AgeNs)
		w.int("wait_ns", s.WaitNs)
		w.int("preprocess_ns", s.PreprocessNs)
		w.int("tokenize_ns", s.TokenizeNs)
		w.int("queue_ns", s.QueueNs)
		w.int("encode_ns", s.EncodeNs)
		w.int("label_ns", s.LabelNs)
		w.int("total_ns", s.TotalNs)
		w.close()
	}
	w.uint("width", uint64(h.Width))
	w.uint("height", uint64(h.Height))
	w.string("resize", h.Resize)
	if r := h.Window; r != nil {
		w.open("window")
		w.float("x", r.X)
		w.float("y", r.Y)
		w.float("width", r.Width)
		w.float("height", r.Height)
		w.close()
	}
	if d := h.Drops; d != nil {
		w.open("drops")
		w.uint("capture", d.Capture)
		w.uint("queue", d.Queue)
		w.uint("rate", d.Rate)
		w.uint("invalid", d.Invalid)
		w.uint("failed", d.Failed)
		w.uint("closed", d.Closed)
		w.uint("publish", d.Publish)
		w.uint("broker", d.Broker)
		w.close()
	}
	w.string("model", h.Model)
	w.string("codebook", h.Codebook)
	w.string("label_set", h.LabelSet)
	w.string("embedding_space", h.EmbeddingSpace)
	w.string("backend", h.Backend)
	w.string("precision", h.Precision)
	w.bool("keyframe", h.Keyframe)
	w.bool("reused", h.Reused)
	w.uint("stale_after_ms", uint64(h.StaleAfterMs))
	w.string("frame_id", h.FrameId)
	w.b = append(w.b, '}')
	return w.b, w.err
}

type headerWriter struct {
	b   []byte
	sep byte // what comes before the next name
	err error
}

func (w *headerWriter) name(name string) {
	w.b = append(w.b, w.sep, '"')
	w.b = append(w.b, name...)
	w.b = append(w.b, '"', ':')
	w.sep = ','
}

func (w *headerWriter) open(name string) {
	w.name(name)
	w.sep = '{'
}

func (w *headerWriter) close() {
	w.b = append(w.b, '}')
	w.sep = ','
}

func (w *headerWriter) string(name, v string) {
	w.name(name)
	w.b = appendString(w.b, v)
}

func (w *headerWriter) int(name string, v int64) {
	w.name(name)
	w.b = strconv.AppendInt(w.b, v, 10)
}

func (w *headerWriter) uint(name string, v uint64) {
	w.name(name)
	w.b = strconv.AppendUint(w.b, v, 10)
}

func (w *headerWriter) bool(name string, v bool) {
	w.name(name)
	w.b = strconv.AppendBool(w.b, v)
}

func (w *headerWriter) float(name string, v float64) {
	w.name(name)
	b, err := appendFloat(w.b, v, 64)
	if err != nil && w.err == nil {
		w.err = fmt.Errorf("header: %s: %w", name, err)
	}
	w.b = b
}

// appendFloat writes the shortest digits that read back as f.
func appendFloat(dst []byte, f float64, bitSize int) ([]byte, error) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return dst, fmt.Errorf("%v cannot be written as JSON", f)
	}
	format := byte('f')
	if a := math.Abs(f); a != 0 && (a < 1e-6 || a >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(dst, f, format, -1, bitSize), nil
}

// appendString writes s quoted. Nearly all strings of a message are plain ASCII names.
func appendString(dst []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			b, err := json.Marshal(s)
			if err != nil { // a string always can be marshalled
				return append(dst, `""`...)
			}
			return append(dst, b...)
		}
	}
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"')
}
