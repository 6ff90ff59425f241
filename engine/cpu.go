package engine

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/toklip/toklip/engine/preprocess"
)

// NewBackend makes a backend of graphs that run on the CPU: frames are resized and
// normalised by package preprocess, ids compared here, and the token encoder runs for
// just those frames of a batch whose ids changed. It owns graphs from now on.
//
// The model's normalisation must be the one preprocess computes, mean and standard
// deviation 0.5.
func NewBackend(graphs Graphs) (Backend, error) {
	d := graphs.Describe()
	if err := d.Model.Validate(); err != nil {
		return nil, fmt.Errorf("backend %q: %w", d.Name, err)
	}
	half := [3]float32{0.5, 0.5, 0.5}
	if d.Model.Mean != half || d.Model.Std != half {
		return nil, fmt.Errorf("backend %q: model %q wants mean %v and standard deviation %v, the CPU's pre-processing computes %v and %v only",
			d.Name, d.Model.Name, d.Model.Mean, d.Model.Std, half, half)
	}
	return &cpu{
		graphs: graphs, about: d, model: d.Model,
		pixels: 3 * d.Model.ImageSize * d.Model.ImageSize,
	}, nil
}

// cpu is the backend over Graphs.
type cpu struct {
	graphs Graphs
	about  Description
	model  *Model
	pixels int // values of one picture of the tokenizer's input

	submitting sync.Mutex // held during Submit
	waiting    sync.Mutex // held during Wait; after submitting where both are
	closed     bool       // written with both held

	table   sync.RWMutex
	streams []*stream // guarded by table: Submit and Wait may both meet a new one
}

// stream is what is kept of one camera.
type stream struct {
	// Owned by Submit.
	resizer *preprocess.Resizer
	ids     []int32 // of its last frame
	known   bool    // whether ids holds any

	// Owned by Wait.
	last *Result // of its last frame; nil before the first and after a failure
}

func (c *cpu) Describe() Description { return c.about }

// streamOf returns the stream of that number, making it when it is new.
func (c *cpu) streamOf(n int) *stream {
	c.table.RLock()
	if n < len(c.streams) {
		s := c.streams[n]
		c.table.RUnlock()
		return s
	}
	c.table.RUnlock()
	c.table.Lock()
	defer c.table.Unlock()
	for len(c.streams) <= n {
		c.streams = append(c.streams, &stream{ids: make([]int32, c.model.Tokens())})
	}
	return c.streams[n]
}

func (c *cpu) Submit(b *Batch) error {
	c.submitting.Lock()
	defer c.submitting.Unlock()
	if c.closed {
		return ErrClosed
	}
	if n := len(b.Items); n < 1 || n > c.about.MaxBatch {
		return &Error{Op: "submit", Err: fmt.Errorf("batch of %d frames, must be 1 to %d", n, c.about.MaxBatch)}
	}
	start := time.Now()
	n := 0
	for i := range b.Items {
		it := &b.Items[i]
		s := c.streamOf(it.Stream)
		it.Err = c.prepare(it, s, c.graphs.Images()[n*c.pixels:(n+1)*c.pixels])
		it.ReleaseFrame()
		if it.Err == nil {
			n++
		}
	}
	prepared := time.Now()
	b.Stages.Preprocess = prepared.Sub(start)
	if n > 0 {
		ids, err := c.graphs.Tokenize(n)
		if err != nil {
			c.forget(b)
			return asError("tokenize", err)
		}
		for i := range b.Items {
			if it := &b.Items[i]; it.Err == nil {
				c.compare(it, ids[:c.model.Tokens()])
				ids = ids[c.model.Tokens():]
			}
		}
	}
	b.Stages.Tokenize = time.Since(prepared)
	return nil
}

// prepare writes one frame's pixels into the tokenizer's input.
func (c *cpu) prepare(it *Item, s *stream, dst []float32) error {
	f := it.Frame
	g := preprocess.Geometry{Width: f.Width, Height: f.Height, Format: f.Format, Size: c.model.ImageSize, Mode: it.Resize}
	var err error
	if s.resizer == nil {
		s.resizer, err = preprocess.New(g)
	} else {
		err = s.resizer.Reset(g)
	}
	if err == nil {
		err = s.resizer.Tensor(dst, f.Pixels, f.Stride)
	}
	if err != nil {
		return fmt.Errorf("%w: camera %q, sequence %d: %w", ErrFrame, f.Camera, f.Sequence, err)
	}
	return nil
}

// compare takes the frame's ids over and says what changed since the stream's last.
func (c *cpu) compare(it *Item, ids []int32) {
	s, r := c.streamOf(it.Stream), it.Result
	copy(r.IDs, ids)
	if s.known {
		r.Changed.Compare(ids, s.ids)
	} else {
		r.Keyframe = true
		r.Changed.Fill(len(ids))
	}
	copy(s.ids, ids)
	s.known = true
}

// forget makes the next frame of each stream of the batch a first one: after a failure
// nobody has seen the ids that it would be compared with.
func (c *cpu) forget(b *Batch) {
	for i := range b.Items {
		c.streamOf(b.Items[i].Stream).known = false
	}
}

func (c *cpu) Wait(b *Batch) error {
	c.waiting.Lock()
	defer c.waiting.Unlock()
	if c.closed {
		return ErrClosed
	}
	tokens := c.model.Tokens()
	n := 0
	for i := range b.Items {
		it := &b.Items[i]
		if it.Err != nil {
			continue
		}
		s := c.streamOf(it.Stream)
		// Whether the last result is that of the frame Submit compared with is not certain
		// after a failure between the two, so its own ids decide.
		if s.last != nil && slices.Equal(s.last.IDs, it.Result.IDs) && it.Result.ShareEncoding(s.last) {
			it.same = true
			continue
		}
		it.same = false
		it.Result.BeginEncoding()
		if c.model.Encoder != "" {
			copy(c.graphs.TokenIDs()[n*tokens:], it.Result.IDs)
			n++
		}
	}
	if n > 0 {
		start := time.Now()
		features, embeddings, err := c.graphs.Encode(n)
		if err != nil {
			c.drop(b)
			return asError("encode", err)
		}
		for i := range b.Items {
			it := &b.Items[i]
			if it.Err != nil || it.same {
				continue
			}
			r := it.Result
			features = features[copy(r.Features, features):]
			embeddings = embeddings[copy(r.Embedding, embeddings):]
		}
		b.Stages.Encode = time.Since(start)
	}
	for i := range b.Items {
		if it := &b.Items[i]; it.Err == nil {
			c.keep(c.streamOf(it.Stream), it.Result)
		}
	}
	return nil
}

// keep makes r the stream's last result.
func (c *cpu) keep(s *stream, r *Result) {
	if s.last != nil {
		s.last.Release()
	}
	if r != nil {
		r.Retain()
	}
	s.last = r
}

// drop takes the last result from each stream of the batch.
func (c *cpu) drop(b *Batch) {
	for i := range b.Items {
		c.keep(c.streamOf(b.Items[i].Stream), nil)
	}
}

func (c *cpu) Close() error {
	c.submitting.Lock()
	defer c.submitting.Unlock()
	c.waiting.Lock()
	defer c.waiting.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	for _, s := range c.streams {
		c.keep(s, nil)
	}
	if err := c.graphs.Close(); err != nil {
		return fmt.Errorf("close backend %q: %w", c.about.Name, err)
	}
	return nil
}

// asError makes err an Error unless it is one.
func asError(op string, err error) error {
	var e *Error
	if errors.As(err, &e) || errors.Is(err, ErrClosed) {
		return err
	}
	return &Error{Op: op, Err: err}
}
