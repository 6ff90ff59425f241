package watch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/toklip/toklip/api"
	"github.com/toklip/toklip/api/toklipv1"
)

// event is a decoded message. Exactly one of these holds: body is set; err is set, for
// a topic whose payload is not what it ought to be; both are nil and cleared is true,
// for a retained document that was taken away; all are unset, for a topic of others.
type event struct {
	message
	of      api.Topic // zero for topics of others
	prefix  string    // what came before the node
	body    any       // see decodeBody
	cleared bool
	err     error
}

// tokens is a decoded message of tokens.
type tokens struct {
	*toklipv1.Tokens
	ids     []int32 // row by row
	changed int     // number of changed cells
}

// embedding is a decoded message of an embedding.
type embedding struct {
	*toklipv1.Embedding
	vector []float32
	norm   float64
}

// decode decodes a message. It never fails: what cannot be decoded says so itself.
func decode(prefix string, m message) event {
	e := event{message: m}
	var ok bool
	if e.of, e.prefix, ok = findTopic(prefix, m.topic); !ok {
		return e
	}
	if len(m.payload) == 0 {
		// MQTT's way to delete a retained message. Frame messages are never empty.
		if e.cleared = isDocument(e.of.Kind); !e.cleared {
			e.err = errors.New("empty payload")
		}
		return e
	}
	if e.body, e.err = decodeBody(e.of.Kind, m.payload); e.err != nil {
		e.body = nil // not a typed nil, nor half a message
	}
	return e
}

// findTopic takes a topic apart. A user's filter may reach below another prefix than the
// configured one; as many levels as make sense are tried.
func findTopic(prefix, topic string) (api.Topic, string, bool) {
	if of, ok := api.ParseTopic(prefix, topic); ok {
		return of, prefix, true
	}
	const mostLevels = 8
	at := 0
	for range mostLevels {
		i := strings.IndexByte(topic[at:], '/')
		if i < 0 {
			break
		}
		at += i
		if at > 128 {
			break
		}
		// toklip/camera/x/tokens is no topic of a node "x" below "toklip/camera".
		if of, ok := api.ParseTopic(topic[:at], topic); ok && of.Node != "camera" {
			return of, topic[:at], true
		}
		at++
	}
	return api.Topic{}, "", false
}

func isDocument(k api.Kind) bool {
	switch k {
	case api.KindAvailability, api.KindInfo, api.KindState, api.KindMetrics, api.KindStatus, api.KindCalibration:
		return true
	}
	return false
}

// decodeBody returns a string (availability), *api.Info, *api.State, *api.Metrics,
// *api.CameraStatus, *api.Calibration, *api.LabelEvent, *api.Command, *tokens,
// *embedding, *toklipv1.Labels or *toklipv1.Features.
func decodeBody(kind api.Kind, payload []byte) (any, error) {
	switch kind {
	case api.KindAvailability:
		switch s := string(payload); s {
		case api.Online, api.Offline:
			return s, nil
		}
		return nil, fmt.Errorf("availability is %.40q: online or offline is wanted", payload)
	case api.KindInfo:
		return document(payload, new(api.Info))
	case api.KindState:
		return document(payload, new(api.State))
	case api.KindMetrics:
		return document(payload, new(api.Metrics))
	case api.KindStatus:
		return document(payload, new(api.CameraStatus))
	case api.KindCalibration:
		return document(payload, new(api.Calibration))
	case api.KindEvent:
		return api.ParseLabelEvent(payload)
	case api.KindCommand:
		c, err := api.ParseCommand(payload)
		return &c, err
	case api.KindTokens, api.KindTokensJSON:
		m := new(toklipv1.Tokens)
		var err error
		if kind == api.KindTokens {
			err = proto.Unmarshal(payload, m)
		} else {
			m, err = api.ParseTokensJSON(payload)
		}
		if err != nil {
			return nil, err
		}
		return newTokens(m)
	case api.KindEmbedding, api.KindEmbeddingJSON:
		m := new(toklipv1.Embedding)
		var err error
		if kind == api.KindEmbedding {
			err = proto.Unmarshal(payload, m)
		} else {
			m, err = api.ParseEmbeddingJSON(payload)
		}
		if err != nil {
			return nil, err
		}
		return newEmbedding(m)
	case api.KindLabels, api.KindLabelsJSON, api.KindRegions, api.KindRegionsJSON:
		m := new(toklipv1.Labels)
		var err error
		if kind == api.KindLabels || kind == api.KindRegions {
			err = proto.Unmarshal(payload, m)
		} else {
			m, err = api.ParseLabelsJSON(payload)
		}
		if err != nil {
			return nil, err
		}
		if err := api.CheckHeader(m.Header); err != nil {
			return nil, err
		}
		return m, nil
	case api.KindFeatures:
		m := new(toklipv1.Features)
		if err := proto.Unmarshal(payload, m); err != nil {
			return nil, err
		}
		if err := api.CheckHeader(m.Header); err != nil {
			return nil, err
		}
		return m, nil
	}
	return nil, fmt.Errorf("kind %q is not known to this program", kind)
}

// document reads a JSON object. Members unknown to this version are skipped: a newer
// node may say more.
func document[T any](payload []byte, into *T) (*T, error) {
	if trimmed := bytes.TrimLeft(payload, " \t\r\n"); len(trimmed) == 0 || trimmed[0] != '{' {
		return nil, errors.New("a JSON object is wanted")
	}
	if err := json.Unmarshal(payload, into); err != nil {
		return nil, err
	}
	return into, nil
}

func newTokens(m *toklipv1.Tokens) (*tokens, error) {
	if err := api.CheckHeader(m.Header); err != nil {
		return nil, err
	}
	ids, err := api.TokenIDs(nil, m)
	if err != nil {
		return nil, err
	}
	changed, err := api.ChangedCells(nil, m)
	if err != nil {
		return nil, err
	}
	return &tokens{Tokens: m, ids: ids, changed: len(changed)}, nil
}

func newEmbedding(m *toklipv1.Embedding) (*embedding, error) {
	if err := api.CheckHeader(m.Header); err != nil {
		return nil, err
	}
	v, err := api.EmbeddingVector(nil, m)
	if err != nil {
		return nil, err
	}
	var sum float64
	for _, f := range v {
		sum += float64(f) * float64(f)
	}
	return &embedding{Embedding: m, vector: v, norm: math.Sqrt(sum)}, nil
}

// header is that of a frame message, nil for others.
func (e *event) header() *toklipv1.Header {
	switch m := e.body.(type) {
	case *tokens:
		return m.Header
	case *embedding:
		return m.Header
	case *toklipv1.Labels:
		return m.Header
	case *toklipv1.Features:
		return m.Header
	}
	return nil
}
