package watch

import (
	"slices"
	"time"

	"github.com/toklip/toklip/api"
	"github.com/toklip/toklip/api/toklipv1"
)

// mostCells is the largest grid that is drawn, mostIDs what is kept of a larger one.
const (
	mostCells = 64 * 64
	mostIDs   = 32
)

// camera is what is known of a camera.
type camera struct {
	name   string
	seen   time.Time // last message of any kind
	status *statusView

	// Frames. Several messages speak of one frame: the first one counts it.
	frames    uint64
	boot      string
	last      uint64    // highest sequence of this boot
	recent    uint64    // bit k: sequence last-k came
	gaps      uint64    // sequences that did not come
	lastFrame time.Time // arrival
	window    window[frameSample]
	traffic   window[int]
	history   history

	header     headerView
	drops      api.Drops
	firstDrops uint64 // sum, when this boot was first seen

	grid      gridState
	embedding *embeddingView
	labels    labelState
	event     *eventView // the last one
	tokensB   int        // bytes of the last tokens message
}

// frameSample is what a window remembers of a frame.
type frameSample struct {
	capture, publish       time.Duration // until arrival; unknown: noAge
	keyframe, reused       bool
	changedShare, hasShare float32 // hasShare: 1 if changedShare is known
}

const noAge = time.Duration(1<<63 - 1)

// gridState is the last grid and when each of its cells changed.
type gridState struct {
	rows, cols int
	sequence   uint64
	codebook   uint32
	ids        []int32
	changed    []time.Time // arrival of the message that changed the cell
	count      int         // changed cells as the message says
	tooLarge   bool
}

func (c *camera) feed(e *event) {
	c.seen = e.at
	if e.of.Kind == api.KindStatus {
		c.status = nil
		if m, ok := e.body.(*api.CameraStatus); ok {
			c.status = newStatusView(m)
			if c.frames == 0 {
				c.drops = m.Counters.Drops
			}
		}
		return
	}
	if m, ok := e.body.(*api.LabelEvent); ok {
		c.traffic.add(e.at, len(e.payload))
		c.event = newEventView(m, e.at)
		return
	}
	h := e.header()
	if h == nil {
		return // calibration, broken
	}
	c.traffic.add(e.at, len(e.payload))
	newest := c.frame(e, h)
	switch m := e.body.(type) {
	case *tokens:
		c.tokensB = len(e.payload)
		if newest || c.grid.sequence < h.Sequence || c.grid.ids == nil {
			c.grid.show(m, e.at)
		}
	case *embedding:
		c.embedding = &embeddingView{Dim: int(m.Dim), Type: dtypeText(m.Dtype), Norm: m.norm, Normalized: m.Normalized}
	case *toklipv1.Labels:
		// Regions come a little later than their frame: another set may have taken over since.
		if m.Header.Sequence >= c.last || m.Header.LabelSet == c.labels.set {
			c.labels.show(m, e.of.Kind, e.at)
		}
	}
}

// frame counts the frame of h unless another of its messages did, and reports whether
// none newer came yet. Messages may overtake each other a little on their way through
// the client library; a frame that comes late closes its gap.
func (c *camera) frame(e *event, h *toklipv1.Header) (newest bool) {
	seq := h.Sequence
	switch {
	case c.frames == 0 || h.BootId != c.boot:
		c.boot, c.last, c.recent, c.gaps = h.BootId, seq, 1, 0
		c.firstDrops = api.DropsSum(h.Drops)
		c.grid.sequence = 0
		c.grid.changed = nil // cells of another run are not compared
	case seq > c.last:
		by := seq - c.last
		c.gaps += by - 1
		if by < 64 {
			c.recent = c.recent<<by | 1
		} else {
			c.recent = 1
		}
		c.last = seq
	default:
		back := c.last - seq
		if back >= 64 || c.recent>>back&1 == 1 {
			c.addShare(e)
			return back == 0 // seen, or too old to tell
		}
		c.recent |= 1 << back
		if c.gaps > 0 {
			c.gaps--
		}
	}
	c.frames++
	c.lastFrame = e.at
	c.history.add(e.at)
	sample := frameSample{capture: noAge, publish: noAge, keyframe: h.Keyframe, reused: h.Reused}
	if !e.retained {
		if age, ok := sinceNS(h.CaptureWallNs, e.at); ok {
			sample.capture = age
		}
		if age, ok := sinceNS(h.PublishNs, e.at); ok {
			sample.publish = age
		}
	}
	c.window.add(e.at, sample)
	c.addShare(e)
	if seq == c.last {
		c.labels.follow(h.LabelSet)
		c.header = newHeaderView(h)
		if d := h.Drops; d != nil {
			c.drops = api.Drops{
				Capture: d.Capture, Queue: d.Queue, Rate: d.Rate, Invalid: d.Invalid,
				Failed: d.Failed, Closed: d.Closed, Publish: d.Publish, Broker: d.Broker,
			}
		}
	}
	return seq == c.last
}

// addShare notes the changed cells with the newest sample; tokens need not be the first
// message of a frame.
func (c *camera) addShare(e *event) {
	m, ok := e.body.(*tokens)
	if !ok || c.window.n == 0 || len(m.ids) == 0 {
		return
	}
	s := &c.window.ring[(c.window.head+c.window.n-1)%len(c.window.ring)].value
	s.changedShare, s.hasShare = float32(m.changed)/float32(len(m.ids)), 1
}

// lost is how many frames were sent but did not arrive, as far as the drops that the
// node admits do not explain the gaps.
func (c *camera) lost() uint64 {
	now := c.drops.Capture + c.drops.Queue + c.drops.Rate + c.drops.Invalid +
		c.drops.Failed + c.drops.Closed + c.drops.Publish + c.drops.Broker
	explained := now - min(now, c.firstDrops)
	return c.gaps - min(c.gaps, explained)
}

// show makes m the grid, noting which cells differ from the last one. The comparison is
// ours: a keyframe calls all cells changed, and messages may have been missed.
func (g *gridState) show(m *tokens, at time.Time) {
	n := len(m.ids)
	g.sequence, g.count = m.Header.Sequence, m.changed
	same := g.rows == int(m.Rows) && g.cols == int(m.Cols) && g.codebook == m.CodebookSize && len(g.ids) == n
	g.rows, g.cols, g.codebook = int(m.Rows), int(m.Cols), m.CodebookSize
	if g.tooLarge = n > mostCells; g.tooLarge {
		g.ids, g.changed = slices.Clone(m.ids[:mostIDs]), nil
		return
	}
	if !same || len(g.changed) != n {
		g.ids, g.changed = slices.Clone(m.ids), make([]time.Time, n)
		return
	}
	for i, id := range m.ids {
		if g.ids[i] != id {
			g.ids[i], g.changed[i] = id, at
		}
	}
}
