package mqtt

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"google.golang.org/protobuf/proto"

	"github.com/toklip/toklip/api"
	"github.com/toklip/toklip/api/toklipv1"
)

// Releaser takes back what a Frame borrowed.
type Releaser interface{ Release() }

// Frame is what came of one camera frame and is to be published. A nil slice means that
// this kind of message is not wanted.
type Frame struct {
	// Header is copied. Header.Camera names the topic. PublishNs and the publishing part of
	// Drops are filled in when the messages are encoded.
	Header *toklipv1.Header

	Rows, Cols int      // grid of tokens
	Codebook   int      // ids are in [0, Codebook)
	Tokens     []int32  // [Rows*Cols], row by row
	Changed    []uint64 // set of changed cells: bit i%64 of word i/64 stands for cell i

	Embedding []float32         // as the model gives it
	Features  []float32         // [Rows*Cols*dim]
	Labels    []*toklipv1.Label // best first

	// Owner is released, once, when the slices are no longer read: right away if the frame
	// is dropped, else when its messages are encoded. nil: the slices stay as they are and
	// are the garbage collector's.
	Owner Releaser
}

// PublishFrame hands a frame over to be published and returns at once. It is the
// publisher that encodes, as late as can be. A frame of the same camera that still waits
// is dropped, and this one is if there is no connection; Stats counts both. The messages
// of a frame go out together or not at all, so that a consumer can join them.
//
// The error says what is wrong with the frame, which is then dropped: no header, a name
// or grid that cannot be.
func (c *Client) PublishFrame(f *Frame) error {
	if err := checkFrame(f); err != nil {
		if f.Owner != nil {
			f.Owner.Release()
		}
		return fmt.Errorf("publish frame: %w", err)
	}
	c.frames.put(f)
	return nil
}

func checkFrame(f *Frame) error {
	if f.Header == nil {
		return fmt.Errorf("no header")
	}
	if err := api.ValidName(f.Header.Camera); err != nil {
		return fmt.Errorf("camera: %w", err)
	}
	if f.Tokens != nil && (f.Rows < 1 || f.Cols < 1 || len(f.Tokens) != f.Rows*f.Cols) {
		return fmt.Errorf("camera %s: %d tokens for a grid of %dx%d", f.Header.Camera, len(f.Tokens), f.Rows, f.Cols)
	}
	if f.Tokens != nil && len(f.Changed) != (len(f.Tokens)+63)/64 {
		return fmt.Errorf("camera %s: changed cells have %d words, a grid of %dx%d takes %d", f.Header.Camera, len(f.Changed), f.Rows, f.Cols, (len(f.Tokens)+63)/64)
	}
	if f.Features != nil && (f.Rows < 1 || f.Cols < 1 || len(f.Features)%(f.Rows*f.Cols) != 0) {
		return fmt.Errorf("camera %s: %d elements of features for a grid of %dx%d", f.Header.Camera, len(f.Features), f.Rows, f.Cols)
	}
	return nil
}

// frameQueue has one slot a camera, which holds the newest frame. The pipeline puts, one
// publisher takes.
type frameQueue struct {
	mu        sync.Mutex
	connected bool // frames are taken
	cameras   map[string]*slot
	waiting   []*slot // slots that hold a frame, longest waiting first
	wake      chan struct{}
}

// slot of a camera. Fields of the first block are guarded by the queue's mutex, those of
// the second belong to the publisher.
type slot struct {
	camera string
	full   bool
	frame  Frame
	header *toklipv1.Header // of frame
	missed missed
	counts CameraStats

	taken    Frame
	sending  *toklipv1.Header // of taken
	changed  []uint64         // of taken
	encoders *encoders
}

// missed sums up the frames dropped since the last one that was published. The header and
// the changed cells of a frame speak of the result before it; a consumer only has the
// message before it, and has to be told what it has not seen.
type missed struct {
	fresh    bool     // one of them had features of its own: the next is not a reuse of what was published
	keyframe bool     // one of them was one
	changed  []uint64 // cells that changed in any of them
}

func (m *missed) add(f *Frame) {
	m.fresh = m.fresh || !f.Header.Reused
	m.keyframe = m.keyframe || f.Header.Keyframe
	if len(m.changed) != len(f.Changed) { // another grid: its first frame is a keyframe
		m.changed = append(m.changed[:0], f.Changed...)
		return
	}
	for i, w := range f.Changed {
		m.changed[i] |= w
	}
}

// tell puts what was missed into the next frame, whose changed cells go to dst, and
// forgets it.
func (m *missed) tell(f *Frame, dst []uint64) []uint64 {
	f.Header.Reused = f.Header.Reused && !m.fresh
	f.Header.Keyframe = f.Header.Keyframe || m.keyframe
	dst = append(dst[:0], f.Changed...)
	if len(dst) == len(m.changed) {
		for i, w := range m.changed {
			dst[i] |= w
		}
	}
	m.fresh, m.keyframe = false, false
	clear(m.changed)
	return dst
}

func newFrameQueue() *frameQueue {
	return &frameQueue{cameras: make(map[string]*slot), wake: make(chan struct{}, 1)}
}

func (q *frameQueue) put(f *Frame) {
	q.mu.Lock()
	s := q.cameras[f.Header.Camera]
	if s == nil {
		s = &slot{camera: f.Header.Camera, header: new(toklipv1.Header), sending: new(toklipv1.Header)}
		q.cameras[s.camera] = s
	}
	if !q.connected {
		s.missed.add(f)
		s.counts.DroppedBroker++
		q.mu.Unlock()
		release(f)
		return
	}
	var old Frame
	if s.full {
		old = s.frame
		s.missed.add(&old)
		s.counts.DroppedPublish++
	} else {
		q.waiting = append(q.waiting, s)
	}
	s.full, s.frame = true, *f
	api.CopyHeader(s.header, f.Header)
	s.frame.Header = s.header
	q.mu.Unlock()
	release(&old)
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func release(f *Frame) {
	if f.Owner != nil {
		f.Owner.Release()
		f.Owner = nil
	}
}

// take gives the slot whose frame waited longest, with the frame in taken.
func (q *frameQueue) take() *slot {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		return nil
	}
	s := q.waiting[0]
	q.waiting = slices.Delete(q.waiting, 0, 1)
	s.full = false
	s.header, s.sending = s.sending, s.header
	s.taken, s.frame = s.frame, Frame{}
	s.taken.Header = s.sending
	s.changed = s.missed.tell(&s.taken, s.changed)
	s.taken.Changed = s.changed // a copy: it is still wanted if sending fails, after the frame was given back
	if s.sending.Drops == nil {
		s.sending.Drops = new(toklipv1.Drops)
	}
	s.sending.Drops.Publish += s.counts.DroppedPublish
	s.sending.Drops.Broker += s.counts.DroppedBroker
	return s
}

// open lets frames in.
func (q *frameQueue) open() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.connected = true
}

// close drops what waits and what comes, for want of a connection.
func (q *frameQueue) close() {
	q.mu.Lock()
	q.connected = false
	dropped := make([]Frame, 0, len(q.waiting))
	for _, s := range q.waiting {
		s.missed.add(&s.frame)
		s.counts.DroppedBroker++
		dropped = append(dropped, s.frame)
		s.full, s.frame = false, Frame{}
	}
	q.waiting = q.waiting[:0]
	q.mu.Unlock()
	for i := range dropped {
		release(&dropped[i])
	}
}

func (q *frameQueue) remove(camera string) {
	q.mu.Lock()
	var old Frame
	if s := q.cameras[camera]; s != nil {
		if s.full {
			old = s.frame
			s.full, s.frame = false, Frame{}
			q.waiting = slices.DeleteFunc(q.waiting, func(w *slot) bool { return w == s })
		}
	}
	q.mu.Unlock()
	release(&old)
}

func (q *frameQueue) dropped() (publish, broker uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, s := range q.cameras {
		publish += s.counts.DroppedPublish
		broker += s.counts.DroppedBroker
	}
	return publish, broker
}

func (q *frameQueue) stats(camera string) CameraStats {
	q.mu.Lock()
	defer q.mu.Unlock()
	if s := q.cameras[camera]; s != nil {
		return s.counts
	}
	return CameraStats{}
}

// run publishes on one connection until it is lost or ctx ends. It is the only goroutine
// that publishes frames, since Publish can block.
func (q *frameQueue) run(ctx context.Context, c *Client, on *session) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-on.lost:
			return
		default:
		}
		s := q.take()
		if s == nil {
			select {
			case <-q.wake:
			case <-ctx.Done():
				return
			case <-on.lost:
				return
			}
			continue
		}
		if s.encoders == nil {
			s.encoders = newEncoders(c, s.camera)
		}
		err := s.encoders.publish(c, on, &s.taken)
		release(&s.taken)
		q.mu.Lock()
		if err == nil {
			s.counts.Published++
		} else {
			s.missed.add(&s.taken)
			s.counts.DroppedBroker++
		}
		q.mu.Unlock()
		s.taken = Frame{}
		if err != nil {
			on.fail(err)
			return
		}
	}
}

// encoders make the messages of one camera in memory they use again. Each topic has a
// buffer of its own, because the library keeps what it is given until its token is done.
type encoders struct {
	tokens    toklipv1.Tokens
	embedding toklipv1.Embedding
	features  toklipv1.Features
	labels    toklipv1.Labels

	tokensOut, embeddingOut, featuresOut, labelsOut outlet
	tokensJSON, embeddingJSON, labelsJSON           outlet
	pending                                         []flight
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
		featuresOut: at(api.KindFeatures), labelsOut: at(api.KindLabels),
		tokensJSON: at(api.KindTokensJSON), embeddingJSON: at(api.KindEmbeddingJSON), labelsJSON: at(api.KindLabelsJSON),
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
	if f.Labels != nil {
		e.labels.Header, e.labels.Labels = h, f.Labels
		encode(send, &e.labelsOut, &e.labels, nil)
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
		if f.Labels != nil {
			b, err := api.AppendLabelsJSON(e.labelsJSON.buffer[:0], &e.labels)
			send(&e.labelsJSON, b, err)
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
