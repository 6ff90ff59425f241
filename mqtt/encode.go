package mqtt

import (
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"google.golang.org/protobuf/proto"

	"github.com/toklip/toklip/api"
	"github.com/toklip/toklip/api/toklipv1"
)

// encoders make the messages of one camera in memory they use again. Each topic has a
// buffer of its own, because the library keeps what it is given until its token is done.
type encoders struct {
	tokens    toklipv1.Tokens
	embedding toklipv1.Embedding
	features  toklipv1.Features
	labels    toklipv1.Labels

	tokensOut, embeddingOut, featuresOut, labelsOut, regionsOut outlet
	tokensJSON, embeddingJSON, labelsJSON, regionsJSON          outlet
	pending                                                     []flight
}

// outlet is one topic and the buffer of its last message.
type outlet struct {
	topic   string
	buffer  []byte
	failing bool // the last message could not be encoded
}

// flight is a message handed to the library.
type flight struct {
	token paho.Token
	out   *outlet
	size  int
}

func newEncoders(c *Client, camera string) *encoders {
	at := func(k api.Kind) outlet { return outlet{topic: c.topics.Camera(camera, k)} }
	return &encoders{
		tokensOut: at(api.KindTokens), embeddingOut: at(api.KindEmbedding),
		featuresOut: at(api.KindFeatures), labelsOut: at(api.KindLabels), regionsOut: at(api.KindRegions),
		tokensJSON: at(api.KindTokensJSON), embeddingJSON: at(api.KindEmbeddingJSON),
		labelsJSON: at(api.KindLabelsJSON), regionsJSON: at(api.KindRegionsJSON),
	}
}

// publish encodes a frame and hands its messages over, then waits for the socket to have
// taken them, so that their buffers are free again. A message that cannot be encoded is
// told to the log and left out; an error is about the connection.
func (e *encoders) publish(c *Client, on *session, f *Frame) (err error) {
	h := f.Header
	h.PublishNs = time.Now().UnixNano()
	e.pending = e.pending[:0]
	send := func(out *outlet, encoded []byte, encodeErr error) {
		if encodeErr != nil {
			if !out.failing { // once, not for every frame
				c.log.Error("message cannot be encoded and is left out", "topic", out.topic, "sequence", h.Sequence, "error", encodeErr)
			}
			out.failing = true
			return
		}
		out.buffer, out.failing = encoded, false
		e.pending = append(e.pending, flight{token: on.paho.Publish(out.topic, 0, false, encoded), out: out, size: len(encoded)})
	}
	// The short binary messages first: they are what planners wait for.
	var tokensErr, embeddingErr error
	if f.Tokens != nil {
		e.tokens.Header = h
		tokensErr = api.SetTokens(&e.tokens, f.Rows, f.Cols, f.Codebook, f.Tokens, f.Changed)
		encode(send, &e.tokensOut, &e.tokens, tokensErr)
	}
	if f.Embedding != nil {
		e.embedding.Header = h
		embeddingErr = api.SetEmbedding(&e.embedding, f.Embedding, c.opt.EmbeddingType, c.opt.Normalize)
		encode(send, &e.embeddingOut, &e.embedding, embeddingErr)
	}
	labels, labelsOut, labelsJSON := f.Labels, &e.labelsOut, &e.labelsJSON
	switch {
	case f.regions != nil:
		labels, labelsOut, labelsJSON = f.regions, &e.regionsOut, &e.regionsJSON
	case f.LabelsUnchanged:
		labels = nil
	}
	if labels != nil {
		e.labels.Header, e.labels.Labels = h, labels
		encode(send, labelsOut, &e.labels, nil)
	}
	if f.Features != nil {
		e.features.Header = h
		err := api.SetFeatures(&e.features, f.Features, f.Rows*f.Cols, c.opt.EmbeddingType)
		encode(send, &e.featuresOut, &e.features, err)
	}
	if c.opt.JSON {
		if f.Tokens != nil && tokensErr == nil {
			b, err := api.AppendTokensJSON(e.tokensJSON.buffer[:0], &e.tokens)
			send(&e.tokensJSON, b, err)
		}
		if f.Embedding != nil && embeddingErr == nil {
			b, err := api.AppendEmbeddingJSON(e.embeddingJSON.buffer[:0], &e.embedding)
			send(&e.embeddingJSON, b, err)
		}
		if labels != nil {
			b, err := api.AppendLabelsJSON(labelsJSON.buffer[:0], &e.labels)
			send(labelsJSON, b, err)
		}
	}
	release(f) // all is copied; the pipeline need not wait for the network
	e.labels.Labels = nil

	deadline := time.Now().Add(c.opt.WriteTimeout)
	for i := range e.pending {
		p := &e.pending[i]
		if err == nil {
			err = c.wait(on, p.token, p.out.topic, time.Until(deadline))
		}
		if err != nil {
			p.out.buffer = nil // the library may still hold it
			continue
		}
		c.published.Add(1)
		c.bytes.Add(uint64(p.size))
	}
	return err
}

func encode(send func(*outlet, []byte, error), out *outlet, m proto.Message, err error) {
	b := out.buffer[:0]
	if err == nil {
		b, err = proto.MarshalOptions{}.MarshalAppend(b, m)
	}
	send(out, b, err)
}
