package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Config describes a pipeline.
type Config struct {
	Backend Backend // stays the caller's to close, after Run returned
	Sink    Sink

	MaxBatch int // most frames in a batch; 0, or above the backend's own limit: that limit
	// Linger is how long a batch may wait for further cameras, counted from the Offer of its
	// first frame; a newer one in that frame's place does not prolong it. 0: never. A batch
	// with a frame of every camera does not wait.
	Linger time.Duration
	// KeyframeInterval is the longest time, by capture, between two keyframes of a
	// camera; 0: only those that are needed.
	KeyframeInterval time.Duration

	// OnError is told of every batch the backend failed, from a goroutine of the
	// pipeline; it must not block and not call the pipeline's Swap. May be nil.
	OnError func(error)
	Logger  *slog.Logger // nil: silent
}

// Pipeline takes the newest frames of all cameras through a backend. All methods may
// be called by several goroutines.
//
// Queues and what happens when they are full: a camera holds one frame, a newer one
// takes its place; as many batches as the backend's InFlight are under way, none is
// formed before one of them ends. So a frame is never older than one frame period
// when its turn comes, however slow the backend is.
type Pipeline struct {
	sink             Sink
	linger           time.Duration
	keyframeInterval int64
	maxBatch         int
	onError          func(error)
	log              *slog.Logger
	clock            clock

	wake chan struct{} // there may be something to do; holds one

	mu       sync.Mutex
	backend  Backend
	about    Description
	limit    int // frames in a batch
	pool     *resultPool
	batches  []*Batch // for the next use
	inFlight int
	formed   uint64 // batches so far, each numbered by it
	running  bool
	ended    bool
	swap     *swapRequest // waits for inFlight to be 0
	swapping sync.Mutex   // one Swap at a time

	cameras []*Camera // in the order they were added
	next    int       // index of the camera that is asked first for the next batch
	streams []bool    // which stream numbers are taken

	m       Metrics // but for Cameras
	lastErr error
	failing int // batches failed in a row
}

// New makes a pipeline. It does nothing before Run.
func New(cfg Config) (*Pipeline, error) {
	switch {
	case cfg.Backend == nil:
		return nil, errors.New("pipeline: no backend")
	case cfg.Sink == nil:
		return nil, errors.New("pipeline: no sink")
	case cfg.MaxBatch < 0 || cfg.Linger < 0 || cfg.KeyframeInterval < 0:
		return nil, fmt.Errorf("pipeline: max batch %d, linger %v and keyframe interval %v must not be negative",
			cfg.MaxBatch, cfg.Linger, cfg.KeyframeInterval)
	}
	p := &Pipeline{
		sink: cfg.Sink, linger: cfg.Linger, keyframeInterval: int64(cfg.KeyframeInterval),
		maxBatch: cfg.MaxBatch, onError: cfg.OnError, log: cfg.Logger,
		clock: newClock(), wake: make(chan struct{}, 1),
	}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	if err := p.install(cfg.Backend); err != nil {
		return nil, fmt.Errorf("pipeline: %w", err)
	}
	return p, nil
}

// install makes b the backend of the next batches.
func (p *Pipeline) install(b Backend) error {
	d := b.Describe()
	switch {
	case d.Model == nil:
		return fmt.Errorf("backend %q describes no model", d.Name)
	case d.MaxBatch < 1 || d.InFlight < 1:
		return fmt.Errorf("backend %q takes %d frames a batch and %d batches in flight, need at least 1", d.Name, d.MaxBatch, d.InFlight)
	case p.pool != nil && !sameShape(p.pool.model, d.Model):
		was, is := p.pool.model, d.Model
		return fmt.Errorf("backend %q has a model of other shape: grid %dx%d, %d features, %d embedding, codebook %d; running is %dx%d, %d, %d, %d",
			d.Name, is.Rows, is.Cols, is.FeatureDim, is.EmbeddingDim, is.Codebook,
			was.Rows, was.Cols, was.FeatureDim, was.EmbeddingDim, was.Codebook)
	}
	p.backend, p.about = b, d
	p.limit = d.MaxBatch
	if p.maxBatch > 0 {
		p.limit = min(p.limit, p.maxBatch)
	}
	p.pool = newResultPool(d.Model)
	p.batches = p.batches[:0]
	for range d.InFlight {
		p.batches = append(p.batches, &Batch{pool: p.pool, Items: make([]Item, 0, p.limit)})
	}
	for _, c := range p.cameras {
		c.lastShape = shape{}
	}
	return nil
}

// Describe says what the backend in use is.
func (p *Pipeline) Describe() Description {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.about
}

// AddCamera adds a camera, before or during Run.
func (p *Pipeline) AddCamera(cfg CameraConfig) (*Camera, error) {
	if cfg.Name == "" {
		return nil, errors.New("add camera: it has no name")
	}
	interval, err := rateInterval(cfg.MaxFPS)
	if err != nil {
		return nil, fmt.Errorf("add camera %q: %w", cfg.Name, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.cameras {
		if c.name == cfg.Name {
			return nil, fmt.Errorf("add camera %q: there is one of that name", cfg.Name)
		}
	}
	stream := 0
	for stream < len(p.streams) && p.streams[stream] {
		stream++
	}
	if stream == len(p.streams) {
		p.streams = append(p.streams, false)
	}
	p.streams[stream] = true
	c := &Camera{p: p, name: cfg.Name, stream: stream, resize: cfg.Resize, interval: interval}
	p.cameras = append(p.cameras, c)
	return c, nil
}

// RemoveCamera takes a camera out. Its waiting frame is dropped; a result that is
// under way may still be delivered. Later frames are released and counted as Closed.
func (p *Pipeline) RemoveCamera(c *Camera) {
	p.mu.Lock()
	var frame *Frame
	for i, other := range p.cameras {
		if other == c {
			p.cameras = append(p.cameras[:i:i], p.cameras[i+1:]...)
			p.streams[c.stream] = false
			if p.next > i {
				p.next--
			}
			c.removed = true
			frame = c.close()
			break
		}
	}
	p.mu.Unlock()
	if frame != nil {
		frame.Release()
	}
}

// close takes the waiting frame out of the slot. Called with p.mu held.
func (c *Camera) close() *Frame {
	f := c.frame
	if f != nil {
		c.frame = nil
		c.stats.drops.Closed++
	}
	return f
}

// Metrics copies what was counted into dst, whose slice is used again.
func (p *Pipeline) Metrics(dst *Metrics) {
	cameras := dst.Cameras[:0]
	p.mu.Lock()
	defer p.mu.Unlock()
	*dst = p.m
	for _, c := range p.cameras {
		cameras = append(cameras, c.metrics())
	}
	dst.Cameras = cameras
}

// Health is how the backend does: the error of the last batch and how many failed in
// a row; nil and 0 when the last batch went well.
func (p *Pipeline) Health() (last error, failing int) { //nolint:staticcheck // ST1008: the error is what was asked for, not how asking went
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lastErr, p.failing
}

// notify wakes the scheduler. A wake that is pending already covers this one.
func (p *Pipeline) notify() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Run takes frames through the backend until ctx ends, then waits for the batches
// under way (each at most one run of the backend), delivers them, releases waiting
// frames and returns nil. It can be called once.
func (p *Pipeline) Run(ctx context.Context) error {
	p.mu.Lock()
	if p.running || p.ended {
		p.mu.Unlock()
		return errors.New("pipeline: Run was called before")
	}
	p.running = true
	p.mu.Unlock()

	submitted := make(chan *Batch, maxInFlight)
	collected := make(chan struct{})
	go func() {
		defer close(collected)
		for b := range submitted {
			p.collect(b)
		}
	}()
	p.schedule(ctx, submitted)
	close(submitted)
	<-collected
	p.end()
	return nil
}

// maxInFlight bounds the batches between Submit and Wait, whatever a backend says.
const maxInFlight = 8

// end releases what waits and refuses what comes.
func (p *Pipeline) end() {
	p.mu.Lock()
	p.running, p.ended = false, true
	p.applySwap()
	var frames []*Frame
	for _, c := range p.cameras {
		if f := c.close(); f != nil {
			frames = append(frames, f)
		}
	}
	p.mu.Unlock()
	for _, f := range frames {
		f.Release()
	}
}

// schedule forms and submits batches until ctx ends.
func (p *Pipeline) schedule(ctx context.Context, submitted chan<- *Batch) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		b, backend, wait := p.form()
		if b != nil {
			if p.submit(backend, b) {
				submitted <- b
			}
			continue
		}
		var expired <-chan time.Time
		if wait > 0 {
			timer.Reset(wait)
			expired = timer.C
		}
		select {
		case <-ctx.Done():
		case <-p.wake:
		case <-expired:
		}
	}
}

// form takes the newest frames of the cameras whose turn it is into a batch. Without
// one it says how long to wait if nothing else happens, 0 for ever.
func (p *Pipeline) form() (b *Batch, backend Backend, wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.clock.now()
	if p.swap != nil {
		p.applySwap()
		if p.swap != nil {
			return nil, nil, 0 // batches are under way; collect wakes us
		}
	}
	if p.inFlight >= min(p.about.InFlight, maxInFlight) {
		return nil, nil, 0
	}
	ready, oldest := 0, now
	for _, c := range p.cameras {
		if c.frame != nil {
			ready++
			oldest = min(oldest, c.waiting)
		}
	}
	if ready == 0 {
		return nil, nil, 0
	}
	if p.linger > 0 && ready < min(p.limit, len(p.cameras)) {
		if left := p.linger - since(oldest, now); left > 0 {
			return nil, nil, left
		}
	}
	b = p.batches[len(p.batches)-1]
	p.batches = p.batches[:len(p.batches)-1]
	n := len(p.cameras)
	start := p.next % n
	for i := range n {
		at := (start + i) % n
		c := p.cameras[at]
		if c.frame == nil {
			continue
		}
		it := b.Add(c.stream, c.frame, c.resize)
		it.cam, it.at, it.lost = c, c.offered, c.dropped
		c.frame = nil
		p.next = at + 1
		if len(b.Items) == p.limit {
			break
		}
	}
	p.inFlight++
	p.formed++
	b.number = p.formed
	return b, p.backend, 0
}
