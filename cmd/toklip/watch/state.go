package watch

import (
	"time"

	"github.com/toklip/toklip/api"
)

// Bounds of what is remembered. Who comes beyond them is counted, not shown; one that
// has been silent for idleAfter makes room.
const (
	mostNodes   = 32
	mostCameras = 64 // of all nodes together
	mostOthers  = 4  // last topics that are none of toklip's, or could not be decoded
	idleAfter   = 5 * time.Minute
)

// state is what is known of all nodes. One goroutine owns it; it never looks at a clock,
// times come with the events and with the request for a snapshot.
type state struct {
	prefix   string
	nodes    map[string]*node
	cameras  int
	messages uint64
	bytes    uint64
	broken   uint64 // could not be decoded
	refused  uint64 // of nodes and cameras beyond the bounds
	others   []otherView
	traffic  window[int]
}

// node is what is known of a node.
type node struct {
	name      string // with the prefix in front if it is another one than ours
	seen      time.Time
	available string // "", api.Online or api.Offline
	info      *infoView
	state     *stateView
	process   *processView
	boot      string // of the last frame or document
	restarts  int    // seen by us
	cameras   map[string]*camera
}

func newState(prefix string) *state {
	return &state{prefix: prefix, nodes: make(map[string]*node)}
}

// feed takes a message in.
func (s *state) feed(e event) {
	s.messages++
	s.bytes += uint64(len(e.payload))
	s.traffic.add(e.at, len(e.payload))
	if e.err != nil {
		s.broken++
	}
	if e.of.Kind == "" || e.err != nil {
		s.other(&e)
	}
	if e.of.Kind == "" || e.of.Kind == api.KindCommand {
		return // commands are sent by anybody: they prove no node
	}
	n := s.node(&e)
	if n == nil {
		s.refused++
		return
	}
	n.seen = e.at
	if e.of.Camera == "" {
		n.feed(&e)
		return
	}
	c := s.camera(n, &e)
	if c == nil {
		s.refused++
		return
	}
	if h := e.header(); h != nil {
		n.booted(h.BootId)
	}
	if m, ok := e.body.(*api.LabelEvent); ok {
		n.booted(m.BootID)
	}
	c.feed(&e)
}

func (s *state) other(e *event) {
	o := otherView{Topic: clean(e.topic, 60), At: e.at, Text: hexSummary(e.payload, 12)}
	if e.err != nil {
		o.Reason = clean(e.err.Error(), 120)
	}
	for i := range s.others {
		if s.others[i].Topic == o.Topic {
			o.Count = s.others[i].Count
			s.others = append(s.others[:i], s.others[i+1:]...)
			break
		}
	}
	o.Count++
	s.others = append(s.others, o)
	if len(s.others) > mostOthers {
		s.others = s.others[1:]
	}
}

func (s *state) node(e *event) *node {
	name := e.of.Node
	if e.prefix != s.prefix {
		name = clean(e.prefix, 64) + "/" + name
	}
	if n := s.nodes[name]; n != nil {
		return n
	}
	if e.cleared {
		return nil // nothing to forget
	}
	if len(s.nodes) >= mostNodes && !s.evictNode(e.at) {
		return nil
	}
	n := &node{name: name, cameras: make(map[string]*camera)}
	s.nodes[name] = n
	return n
}

func (s *state) evictNode(now time.Time) bool {
	var oldest *node
	for _, n := range s.nodes {
		if oldest == nil || n.seen.Before(oldest.seen) {
			oldest = n
		}
	}
	if now.Sub(oldest.seen) < idleAfter {
		return false
	}
	s.cameras -= len(oldest.cameras)
	delete(s.nodes, oldest.name)
	return true
}

func (s *state) camera(n *node, e *event) *camera {
	if c := n.cameras[e.of.Camera]; c != nil {
		if e.cleared && e.of.Kind == api.KindStatus && c.frames == 0 {
			// The node forgot a camera that never showed us anything.
			delete(n.cameras, e.of.Camera)
			s.cameras--
		}
		return c
	}
	c := &camera{name: e.of.Camera, seen: e.at}
	if e.cleared {
		return c // not kept
	}
	if s.cameras >= mostCameras && !s.evictCamera(e.at) {
		return nil
	}
	n.cameras[e.of.Camera] = c
	s.cameras++
	return c
}

func (s *state) evictCamera(now time.Time) bool {
	var oldest *camera
	var of *node
	for _, n := range s.nodes {
		for _, c := range n.cameras {
			if oldest == nil || c.seen.Before(oldest.seen) {
				oldest, of = c, n
			}
		}
	}
	if oldest == nil || now.Sub(oldest.seen) < idleAfter {
		return false
	}
	delete(of.cameras, oldest.name)
	s.cameras--
	return true
}

func (n *node) feed(e *event) {
	switch e.of.Kind {
	case api.KindAvailability:
		n.available, _ = e.body.(string)
	case api.KindInfo:
		n.info = nil
		if m, ok := e.body.(*api.Info); ok {
			n.info = newInfoView(m)
			n.booted(m.BootID)
		}
	case api.KindState:
		n.state = nil
		if m, ok := e.body.(*api.State); ok {
			n.state = newStateView(m)
		}
	case api.KindMetrics:
		n.process = nil
		if m, ok := e.body.(*api.Metrics); ok {
			n.process = &processView{
				CPU: m.Process.CPU, RSS: m.Process.RSSBytes, Workers: m.Process.WorkersRSS,
				Uptime: time.Duration(m.UptimeNS), At: e.at,
			}
			n.booted(m.BootID)
		}
	}
}

// booted notices that the daemon was started again.
func (n *node) booted(id string) {
	if len(id) > 64 {
		id = id[:64]
	}
	if id == "" || id == n.boot {
		return
	}
	if n.boot != "" {
		n.restarts++
	}
	n.boot = id
}
