package mqtt

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

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

	// LabelsUnchanged says that the labels are much as they were last time. They are left out
	// then, unless others have been dropped since the last that were published.
	LabelsUnchanged bool

	regions []*toklipv1.Label // of the frame's regions; alone then, see PublishRegions

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

// PublishRegions hands the labels of a frame's named regions over to be published, which
// were scored beside the pipeline. Like PublishFrame it copies the header and returns at
// once, and owner, which may be nil, is released when labels are no longer read. They wait
// apart from the camera's frames: regions that still wait give way to these, and these are
// dropped if there is no connection; CameraStats counts both as RegionsDropped.
//
// The error says what is wrong, which is then dropped.
func (c *Client) PublishRegions(header *toklipv1.Header, labels []*toklipv1.Label, owner Releaser) error {
	f := Frame{Header: header, regions: labels, Owner: owner}
	err := checkFrame(&f)
	if err == nil && len(labels) == 0 {
		err = errors.New("no labels")
	}
	if err != nil {
		release(&f)
		return fmt.Errorf("publish regions: %w", err)
	}
	c.frames.put(&f)
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

// frameQueue has two slots a camera, which hold its newest frame and its newest regions.
// The pipeline puts, one publisher takes.
type frameQueue struct {
	mu        sync.Mutex
	connected bool // frames are taken
	cameras   map[string]*cameraSlots
	waiting   []*slot // slots that hold a frame, longest waiting first
	wake      chan struct{}
}

// cameraSlots are guarded by the queue's mutex.
type cameraSlots struct {
	frame, regions slot
	counts         CameraStats
}

// slot of a camera. Fields of the first block are guarded by the queue's mutex, those of
// the second belong to the publisher.
type slot struct {
	of     *cameraSlots
	full   bool
	frame  Frame
	header *toklipv1.Header // of frame
	missed missed

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
	labels   bool     // one of them had labels that changed
	changed  []uint64 // cells that changed in any of them
}

func (m *missed) add(f *Frame) {
	m.fresh = m.fresh || !f.Header.Reused
	m.keyframe = m.keyframe || f.Header.Keyframe
	m.labels = m.labels || f.Labels != nil && !f.LabelsUnchanged
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
	f.LabelsUnchanged = f.LabelsUnchanged && !m.labels
	dst = append(dst[:0], f.Changed...)
	if len(dst) == len(m.changed) {
		for i, w := range m.changed {
			dst[i] |= w
		}
	}
	m.fresh, m.keyframe, m.labels = false, false, false
	clear(m.changed)
	return dst
}

func newFrameQueue() *frameQueue {
	return &frameQueue{cameras: make(map[string]*cameraSlots), wake: make(chan struct{}, 1)}
}

// slotFor finds the slot that a frame belongs in.
func (q *frameQueue) slotFor(f *Frame) *slot {
	camera := q.cameras[f.Header.Camera]
	if camera == nil {
		camera = new(cameraSlots)
		for _, s := range []*slot{&camera.frame, &camera.regions} {
			*s = slot{of: camera, header: new(toklipv1.Header), sending: new(toklipv1.Header)}
		}
		q.cameras[f.Header.Camera] = camera
	}
	if f.regions != nil {
		return &camera.regions
	}
	return &camera.frame
}

// drop counts a frame of the slot that will not be published, for want of a connection or
// else of time.
func (s *slot) drop(f *Frame, connected bool) {
	counts := &s.of.counts
	switch {
	case s == &s.of.regions: // at their own rate: nothing relates one message to the one before
		counts.RegionsDropped++
		return
	case connected:
		counts.DroppedPublish++
	default:
		counts.DroppedBroker++
	}
	s.missed.add(f)
}

func (s *slot) published() {
	if s == &s.of.regions {
		s.of.counts.RegionsPublished++
		return
	}
	s.of.counts.Published++
}

func (q *frameQueue) put(f *Frame) {
	q.mu.Lock()
	s := q.slotFor(f)
	if !q.connected {
		s.drop(f, false)
		q.mu.Unlock()
		release(f)
		return
	}
	var old Frame
	if s.full {
		old = s.frame
		s.drop(&old, true)
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
	if s == &s.of.frame {
		s.changed = s.missed.tell(&s.taken, s.changed)
		s.taken.Changed = s.changed // a copy: it is still wanted if sending fails, after the frame was given back
	}
	if s.sending.Drops == nil {
		s.sending.Drops = new(toklipv1.Drops)
	}
	s.sending.Drops.Publish += s.of.counts.DroppedPublish
	s.sending.Drops.Broker += s.of.counts.DroppedBroker
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
		s.drop(&s.frame, false)
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
	var old []Frame
	q.waiting = slices.DeleteFunc(q.waiting, func(s *slot) bool {
		if s.of != q.cameras[camera] {
			return false
		}
		old = append(old, s.frame)
		s.full, s.frame = false, Frame{}
		return true
	})
	q.mu.Unlock()
	for i := range old {
		release(&old[i])
	}
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
			s.encoders = newEncoders(c, s.taken.Header.Camera)
		}
		err := s.encoders.publish(c, on, &s.taken)
		release(&s.taken)
		q.mu.Lock()
		if err == nil {
			s.published()
		} else {
			s.drop(&s.taken, false)
		}
		q.mu.Unlock()
		s.taken = Frame{}
		if err != nil {
			on.fail(err)
			return
		}
	}
}
