package watch

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/toklip/toklip/api"
	"github.com/toklip/toklip/api/toklipv1"
)

// appendPlain appends one line of text that shows e, cut to width columns (0: not cut).
func appendPlain(dst []byte, e event, width int) []byte {
	line := e.at.Format("15:04:05.000") + "  " + plainText(&e)
	if width > 0 {
		line = ansi.Truncate(line, width, "…")
	}
	dst = append(dst, line...)
	return append(dst, '\n')
}

// Columns of a line: who and what. Names may be longer; the line then shifts.
const whoWidth, kindWidth = 22, 12

func plainText(e *event) string {
	if e.of.Kind == "" {
		return clean(e.topic, 80) + "  " + hexSummary(e.payload, 24)
	}
	who := e.of.Node
	if e.of.Camera != "" {
		who += "/" + e.of.Camera
	}
	what := string(e.of.Kind)
	if e.of.Verb != "" {
		what += "/" + e.of.Verb
	}
	head := fmt.Sprintf("%-*s  %-*s  ", whoWidth, clean(who, 130), kindWidth, clean(what, 40))
	switch {
	case e.cleared:
		return head + "removed"
	case e.err != nil:
		return head + "cannot be decoded: " + clean(e.err.Error(), 160) + "  " + hexSummary(e.payload, 16)
	}
	return head + strings.Join(plainBody(e), "  ")
}

func plainBody(e *event) []string {
	var out []string
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if h := e.header(); h != nil {
		add("#%d", h.Sequence)
		if h.CaptureWallNs > 0 && !e.retained {
			age, _ := sinceNS(h.CaptureWallNs, e.at)
			text := spanText(age)
			if absurd(age) {
				text += " (clocks differ)"
			}
			add("age %s", text)
		}
		if h.Keyframe {
			add("keyframe")
		}
		if h.Reused {
			add("reused")
		}
	}
	switch m := e.body.(type) {
	case string:
		add("%s", m)
	case *api.Info:
		add("%s", clean(infoText(m), 120))
		add("%d cameras", len(m.Cameras))
	case *api.State:
		add("%s", clean(string(m.State), 24))
		if m.Progress != nil {
			add("%s %s", clean(m.Progress.Step, 60), shareText(m.Progress.Done))
		}
		if m.Reason != "" {
			add("%s", clean(m.Reason, 120))
		}
	case *api.Metrics:
		add("cpu %.2f", m.Process.CPU)
		add("memory %s", sizeText(float64(m.Process.RSSBytes)))
		add("%d cameras", len(m.Cameras))
	case *api.CameraStatus:
		add("%s", clean(string(m.Status), 24))
		if m.Reason != "" {
			add("%s", clean(m.Reason, 120))
		}
		add("%d frames, %d published, %d restarts", m.Counters.Frames, m.Counters.Published, m.Counters.Restarts)
		if text := dropsText(m.Counters.Drops); text != "" {
			add("dropped %s", text)
		}
	case *api.Calibration:
		add("%dx%d", m.Width, m.Height)
		add("%s", clean(m.DistortionModel, 40))
	case *api.Command:
		add("id %s", clean(m.ID, 40))
		add("args %s", clean(string(m.Args), 80))
	case *tokens:
		add("%dx%d", m.Rows, m.Cols)
		add("%d changed", m.changed)
		add("ids %s", idsText(m.ids, 8))
	case *embedding:
		add("%d x %s", m.Dim, dtypeText(m.Dtype))
		add("norm %.4g", m.norm)
		add("%s", vectorText(m.vector, 4))
	case *toklipv1.Labels:
		if e.of.Kind == api.KindRegions || e.of.Kind == api.KindRegionsJSON {
			add("%s", regionsText(regionViews(m), 80))
		} else {
			add("%s", labelsText(labelViews(m), 80))
		}
	case *api.LabelEvent:
		add("#%d", m.Sequence)
		out = append(out, eventWords(m)...)
	case *toklipv1.Features:
		add("%d x %d %s", m.Rows, m.Dim, dtypeText(m.Dtype))
	}
	add("%s", sizeText(float64(len(e.payload))))
	return out
}

func idsText(ids []int32, most int) string {
	var b strings.Builder
	for i, id := range ids {
		if i == most {
			b.WriteString(" …")
			break
		}
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprint(&b, id)
	}
	return b.String()
}

func vectorText(v []float32, most int) string {
	var b strings.Builder
	b.WriteByte('[')
	for i, f := range v {
		if i == most {
			b.WriteString(" …")
			break
		}
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%.3f", f)
	}
	b.WriteByte(']')
	return b.String()
}

func dtypeText(d toklipv1.DType) string {
	switch d {
	case toklipv1.DType_DTYPE_FP16:
		return "fp16"
	case toklipv1.DType_DTYPE_FP32:
		return "fp32"
	}
	return "unknown type"
}

// appendJSON appends one line {"topic":…,"message":…}. Frame messages look like their
// JSON twins, documents as they were sent, availability is a string; a topic taken away
// is null. What cannot be decoded has "message":null and, beside it, "error" and "hex",
// its first bytes.
func appendJSON(dst []byte, e event, _ int) []byte {
	start := len(dst)
	dst = append(dst, `{"topic":`...)
	topic, _ := json.Marshal(e.topic) // a string can always be marshalled
	dst = append(dst, topic...)
	dst = append(dst, `,"message":`...)
	before := len(dst)
	var err error
	if dst, err = appendMessageJSON(dst, &e); err != nil {
		dst = append(dst[:before], `null,"error":`...)
		text, _ := json.Marshal(err.Error())
		dst = append(dst, text...)
		dst = append(dst, `,"bytes":`...)
		dst = fmt.Append(dst, len(e.payload))
		dst = append(dst, `,"hex":"`...)
		dst = hex.AppendEncode(dst, e.payload[:min(len(e.payload), 64)])
		dst = append(dst, '"')
	}
	dst = append(dst, '}', '\n')
	return escapeLine(dst, start)
}

func appendMessageJSON(dst []byte, e *event) ([]byte, error) {
	switch {
	case e.of.Kind == "":
		return dst, fmt.Errorf("topic is none of toklip's")
	case e.cleared:
		return append(dst, "null"...), nil
	case e.err != nil:
		return dst, e.err
	}
	switch m := e.body.(type) {
	case string:
		text, err := json.Marshal(m)
		return append(dst, text...), err
	case *tokens:
		return api.AppendTokensJSON(dst, m.Tokens)
	case *embedding:
		return api.AppendEmbeddingJSON(dst, m.Embedding)
	case *toklipv1.Labels:
		return api.AppendLabelsJSON(dst, m)
	case *toklipv1.Features:
		text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
		if err != nil {
			return dst, err
		}
		return appendCompact(dst, text)
	}
	return appendCompact(dst, e.payload) // a document: whole, with what this version does not know
}

func appendCompact(dst, text []byte) ([]byte, error) {
	var raw json.RawMessage = text
	out, err := json.Marshal(raw) // checks and compacts
	return append(dst, out...), err
}

// escapeLine escapes what is not printable in dst[start:], a line of JSON: inside its
// strings bytes of broken UTF-8 and, among others, the C1 control characters, which some
// terminals obey, may stand as they are.
func escapeLine(dst []byte, start int) []byte {
	line := dst[start:]
	fit := true
	for i := 0; i < len(line) && fit; {
		r, n := utf8.DecodeRune(line[i:])
		fit = r < 0x7f || r != utf8.RuneError && unicode.IsPrint(r)
		i += n
	}
	if fit {
		return dst
	}
	old := string(line)
	dst = dst[:start]
	for _, r := range old {
		switch {
		case r < 0x7f || r != utf8.RuneError && unicode.IsPrint(r):
			dst = utf8.AppendRune(dst, r)
		case r > 0xffff:
			hi, lo := (r-0x10000)>>10+0xd800, (r-0x10000)&0x3ff+0xdc00
			dst = fmt.Appendf(dst, `\u%04x\u%04x`, hi, lo)
		default:
			dst = fmt.Appendf(dst, `\u%04x`, r)
		}
	}
	return dst
}
