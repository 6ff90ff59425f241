package labelling

import (
	"log/slog"
	"sync"
	"time"

	"github.com/toklip/toklip/api"
	"github.com/toklip/toklip/api/toklipv1"
	"github.com/toklip/toklip/engine"
	"github.com/toklip/toklip/engine/labels"
	"github.com/toklip/toklip/mqtt"
)

// Publisher takes what is published beside a frame's own messages. None of its methods blocks. *mqtt.Client is one.
type Publisher interface {
	PublishEvent(api.LabelEvent) error
	PublishRegions(*toklipv1.Header, []*toklipv1.Label, mqtt.Releaser) error
}

// policy says when labels are published. A reload changes it.
type policy struct {
	every     bool          // with every frame, else when something changed
	minChange float64       // of a score, to be something
	regions   time.Duration // shortest time between two frames whose regions are scored
}

// Camera scores the frames of one camera. Score belongs to the pipeline's goroutine; everything else may be called by any.
type Camera struct {
	name   string
	bootID string
	out    Publisher
	log    *slog.Logger
	wake   func() // tells the regions worker that there is something to do

	mu      sync.Mutex
	policy  policy
	scorer  *scorer // in force; nil until the first set is
	offAt   int64   // ns of CLOCK_MONOTONIC: frames captured before are no news of what is present
	closed  bool
	newest  snapshot // the last frame
	regions pendingRegions
}

// snapshot is a frame kept for later.
type snapshot struct {
	result *engine.Result // retained; nil: none
	header toklipv1.Header
}

// keep puts a result in place of the one kept so far.
func (s *snapshot) keep(r *engine.Result, h *toklipv1.Header) {
	r.Retain()
	s.drop()
	s.result = r
	api.CopyHeader(&s.header, h)
}

func (s *snapshot) drop() {
	if s.result != nil {
		s.result.Release()
		s.result = nil
	}
}

// Score scores a result against the set in force, whose hash it writes into the header together with the time that it took;
// the header must be complete otherwise. It lends the labels and holds the result until [Frame.Release]; nil, and nothing is
// held, if there are none.
func (c *Camera) Score(r *engine.Result, h *toklipv1.Header) *Frame {
	begun := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	h.LabelSet, h.Stages.LabelNs = "", 0
	if c.closed {
		return nil
	}
	var f *Frame
	if s := c.scorer; s.fits(r) {
		events := s.score(r, r.CaptureMono > c.offAt)
		c.tell(s, "", events)
		f = s.message(c.policy.every || r.Keyframe || len(events) > 0, c.policy.minChange)
		r.Retain()
		f.result = r
		h.LabelSet, h.Stages.LabelNs = s.set.Hash(), time.Since(begun).Nanoseconds()
		c.offerRegions(r, h, begun)
	}
	c.newest.keep(r, h)
	return f
}

// tell publishes what appeared and went. Called with c.mu held, so that events keep their order.
func (c *Camera) tell(s *scorer, region string, events []labels.Event) {
	for i := range events {
		e := &events[i]
		kind := api.LabelGone
		if e.Appeared {
			kind = api.LabelAppeared
		}
		err := c.out.PublishEvent(api.LabelEvent{
			BootID: c.bootID, Camera: c.name, Sequence: e.At.Sequence, Label: s.set.Name(e.Label), Region: region,
			Event: kind, Reason: api.EventReason(e.Reason), LabelSet: s.set.Hash(),
			AtNS: e.At.Wall, SinceNS: e.Since.Wall, DurationNS: e.Duration.Nanoseconds(), Score: e.Score, Peak: e.Peak,
		})
		if err != nil {
			c.log.Error("publishing an event failed", "camera", c.name, "label", s.set.Name(e.Label), "error", err)
		}
	}
}

// Off tells that the camera gives no frames since a moment of CLOCK_MONOTONIC, in ns: nothing is present any more, until a
// frame captured later shows it.
func (c *Camera) Off(since int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offAt = max(c.offAt, since)
	c.finish(labels.ReasonCamera)
}

// finish makes everything go that is present, in the frame and in its regions. Called with c.mu held.
func (c *Camera) finish(reason labels.Reason) {
	s := c.scorer
	if s == nil {
		return
	}
	c.tell(s, "", s.tracker.Finish(labels.Moment{}, reason))
	for i, tracker := range s.regions {
		c.tell(s, s.areas[i].Name, tracker.Finish(labels.Moment{}, reason))
	}
}

// use puts another assignment into force, from the next frame on. What both ask for, the one before and this, goes on: a label
// of which nothing has changed stays present, and in a region of which nothing has changed too.
func (c *Camera) use(is *assignment, set *labels.Compiled) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.scorer.serves(is, set) { // as with a command that arrives twice
		c.scorer.is = is
		return
	}
	before, next := c.scorer, newScorer(is, set)
	if before != nil {
		var gone []labels.Event
		next.tracker, gone = before.tracker.Replace(set, labels.ReasonLabels)
		c.tell(before, "", gone)
		for i, tracker := range before.regions {
			area := before.areas[i]
			if at := next.region(area); at >= 0 {
				next.regions[at], gone = tracker.Replace(set, labels.ReasonLabels)
			} else {
				gone = tracker.Finish(labels.Moment{}, labels.ReasonLabels)
			}
			c.tell(before, area.Name, gone)
		}
	}
	c.scorer = next
	c.regions.forget()
}

// setPolicy says when labels are published from now on.
func (c *Camera) setPolicy(p policy) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.policy = p
}

// inForce is the assignment that frames are scored for; nil before the first, and then there is no hash either.
func (c *Camera) inForce() (is *assignment, hash string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.scorer == nil {
		return nil, ""
	}
	return c.scorer.is, c.scorer.set.Hash()
}

// last gives the camera's last frame, on loan until the result's Release; nil if there was none.
func (c *Camera) last(header *toklipv1.Header) *engine.Result {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.newest.result
	if r != nil {
		r.Retain()
		api.CopyHeader(header, &c.newest.header)
	}
	return r
}

// close ends everything that is present and gives back what is held. Frames that come later are not scored.
func (c *Camera) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.finish(labels.ReasonStopping)
	c.closed = true
	c.newest.drop()
	c.regions.forget()
}
