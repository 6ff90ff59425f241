package watch

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/toklip/toklip/api"
	"github.com/toklip/toklip/api/toklipv1"
)

// snapshot is the state at one time. It shares no memory with the state, so that a
// paused view stays as it was. All texts are clean.
type snapshot struct {
	At       time.Time
	Link     linkStatus
	Messages uint64
	Rate     float64 // messages a second
	ByteRate float64 // payload bytes a second
	Broken   uint64
	Refused  uint64 // messages of nodes and cameras beyond the bounds
	Dropped  uint64 // messages that this program had no time for
	Nodes    []nodeView
	Others   []otherView
}

type nodeView struct {
	Name      string
	Available string // "", api.Online or api.Offline
	Restarts  int
	Info      *infoView
	State     *stateView
	Process   *processView
	Cameras   []cameraView
}

type infoView struct {
	Version, Model, Backend, Precision string
	Rows, Cols                         int
	Cameras                            int
	Started                            int64
}

type stateView struct {
	State, Reason string
	Step          string // of a long work
	Done          float64
	Left          time.Duration
	Since         int64
}

type processView struct {
	CPU          float64
	RSS, Workers uint64
	Uptime       time.Duration
	At           time.Time
}

type statusView struct {
	State    api.CameraState
	Reason   string
	Since    int64
	Restarts uint64
}

type headerView struct {
	Backend, Precision, Resize, Clock string
	Width, Height                     int
	StaleAfter                        time.Duration
	Encode, Total                     time.Duration // inside the daemon
}

type embeddingView struct {
	Dim        int
	Type       string
	Norm       float64
	Normalized bool
}

type otherView struct {
	Topic, Text, Reason string
	Count               int
	At                  time.Time
}

type cameraView struct {
	Node, Name  string
	Status      *statusView
	Frames      uint64
	Sequence    uint64
	Idle        time.Duration // since the last frame
	Rate        float64       // frames a second
	ByteRate    float64
	Capture     spread // capture to arrival
	Publish     spread // publish to arrival
	Keyframes   float64
	Reused      float64
	Changed     float64
	HasChanged  bool
	Gaps, Lost  uint64
	Drops       api.Drops
	TokensBytes int
	Header      headerView
	Embedding   *embeddingView
	Labels      []labelView
	Regions     []regionView
	Event       *eventView // the last one
	History     [historySeconds]uint16
	Grid        gridView
	HasRate     bool
	NodeOffline bool
}

// gridView is a grid to draw. Heat is how fresh a change of the cell is: 2 just now, 1 a
// moment ago, 0 no longer.
type gridView struct {
	Rows, Cols int
	IDs        []int32
	Heat       []uint8
	Changed    int
	TooLarge   bool // IDs are the first ones only
}

// How long a changed cell glows, and fades.
const (
	glowTime = 200 * time.Millisecond
	fadeTime = 600 * time.Millisecond
)

// snapshot says how things stand at now, which must not run backwards.
func (s *state) snapshot(now time.Time) snapshot {
	s.traffic.forget(now)
	out := snapshot{
		At: now, Messages: s.messages, Broken: s.broken, Refused: s.refused,
		Others: slices.Clone(s.others),
	}
	if span := s.traffic.span(now).Seconds(); span > 0 {
		sum := 0
		s.traffic.each(func(n int) { sum += n })
		out.Rate, out.ByteRate = float64(s.traffic.n)/span, float64(sum)/span
	}
	for _, name := range slices.Sorted(maps.Keys(s.nodes)) {
		out.Nodes = append(out.Nodes, s.nodes[name].snapshot(now))
	}
	return out
}

func (n *node) snapshot(now time.Time) nodeView {
	v := nodeView{Name: n.name, Available: n.available, Restarts: n.restarts}
	// The views pointed to are never written again, only replaced.
	v.Info, v.State, v.Process = n.info, n.state, n.process
	for _, name := range slices.Sorted(maps.Keys(n.cameras)) {
		c := n.cameras[name].snapshot(now)
		c.Node, c.NodeOffline = n.name, n.available == api.Offline
		v.Cameras = append(v.Cameras, c)
	}
	return v
}

func (c *camera) snapshot(now time.Time) cameraView {
	c.window.forget(now)
	c.traffic.forget(now)
	c.history.advance(now)
	v := cameraView{
		Name: c.name, Status: c.status, Frames: c.frames, Sequence: c.last,
		Gaps: c.gaps, Lost: c.lost(), Drops: c.drops, TokensBytes: c.tokensB,
		Header: c.header, Embedding: c.embedding, Event: c.event, History: c.history.count,
	}
	v.Labels, v.Regions = c.labels.aged(c.lastFrame)
	if c.frames > 0 {
		v.Idle = now.Sub(c.lastFrame)
	}
	if v.Rate, v.HasRate = c.window.rate(now); !v.HasRate && c.frames > 0 && c.window.n == 0 {
		v.HasRate = true // 0, and we know it
	}
	if span := c.traffic.span(now).Seconds(); span > 0 {
		sum := 0
		c.traffic.each(func(n int) { sum += n })
		v.ByteRate = float64(sum) / span
	}
	var capture, publish []time.Duration
	var keyframes, reused, shares int
	var share float64
	c.window.each(func(s frameSample) {
		if s.capture != noAge {
			capture = append(capture, s.capture)
		}
		if s.publish != noAge {
			publish = append(publish, s.publish)
		}
		if s.keyframe {
			keyframes++
		}
		if s.reused {
			reused++
		}
		if s.hasShare == 1 {
			shares++
			share += float64(s.changedShare)
		}
	})
	v.Capture, v.Publish = newSpread(capture), newSpread(publish)
	if n := float64(c.window.n); n > 0 {
		v.Keyframes, v.Reused = float64(keyframes)/n, float64(reused)/n
	}
	if shares > 0 {
		v.Changed, v.HasChanged = share/float64(shares), true
	}
	v.Grid = c.grid.view(now)
	return v
}

func (g *gridState) view(now time.Time) gridView {
	v := gridView{Rows: g.rows, Cols: g.cols, IDs: slices.Clone(g.ids), Changed: g.count, TooLarge: g.tooLarge}
	if len(g.changed) == len(g.ids) {
		v.Heat = make([]uint8, len(g.ids))
		for i, at := range g.changed {
			if at.IsZero() {
				continue
			}
			switch age := now.Sub(at); {
			case age < glowTime:
				v.Heat[i] = 2
			case age < fadeTime:
				v.Heat[i] = 1
			}
		}
	}
	return v
}

func newInfoView(m *api.Info) *infoView {
	model := m.ModelName
	if model == "" {
		model = m.Model
	}
	return &infoView{
		Version: clean(m.Version, 24), Model: clean(model, 32),
		Backend: clean(m.Backend, 20), Precision: clean(m.Precision, 12),
		Rows: m.Grid[0], Cols: m.Grid[1], Cameras: len(m.Cameras), Started: m.StartedNS,
	}
}

// infoText says in a few words what a node runs.
func infoText(m *api.Info) string { return newInfoView(m).text() }

func (v *infoView) text() string {
	var parts []string
	add := func(s string) {
		if s = strings.TrimSpace(s); s != "" {
			parts = append(parts, s)
		}
	}
	add(v.Backend + " " + v.Precision)
	grid := ""
	if v.Rows > 0 && v.Cols > 0 {
		grid = fmt.Sprintf(" %dx%d", v.Rows, v.Cols)
	}
	add(v.Model + grid)
	if v.Version != "" {
		add("toklip " + v.Version)
	}
	return strings.Join(parts, " · ")
}

func newStateView(m *api.State) *stateView {
	v := &stateView{State: clean(string(m.State), 20), Reason: clean(m.Reason, 200), Since: m.SinceNS}
	if p := m.Progress; p != nil {
		v.Step, v.Left = clean(p.Step, 60), max(0, time.Duration(p.LeftNS))
		v.Done = min(1, max(0, p.Done))
		if math.IsNaN(p.Done) {
			v.Done = 0
		}
	}
	return v
}

func newStatusView(m *api.CameraStatus) *statusView {
	return &statusView{
		State: api.CameraState(clean(string(m.Status), 16)), Reason: clean(m.Reason, 200),
		Since: m.SinceNS, Restarts: m.Counters.Restarts,
	}
}

func newHeaderView(h *toklipv1.Header) headerView {
	v := headerView{
		Backend: clean(h.Backend, 20), Precision: clean(h.Precision, 12), Resize: clean(h.Resize, 12),
		Clock: clean(h.Clock, 12), Width: int(h.Width), Height: int(h.Height),
		StaleAfter: time.Duration(h.StaleAfterMs) * time.Millisecond,
	}
	if s := h.Stages; s != nil {
		v.Encode, v.Total = time.Duration(s.EncodeNs), time.Duration(s.TotalNs)
	}
	return v
}

// dropsText lists the causes that dropped anything, the most frequent first.
func dropsText(d api.Drops) string {
	causes := []struct {
		name string
		n    uint64
	}{
		{"capture", d.Capture}, {"queue", d.Queue}, {"rate", d.Rate}, {"invalid", d.Invalid},
		{"failed", d.Failed}, {"closed", d.Closed}, {"publish", d.Publish}, {"broker", d.Broker},
	}
	slices.SortStableFunc(causes, func(a, b struct {
		name string
		n    uint64
	}) int {
		return cmp.Compare(b.n, a.n)
	})
	var parts []string
	for _, c := range causes {
		if c.n > 0 {
			parts = append(parts, c.name+" "+countText(c.n))
		}
	}
	return strings.Join(parts, ", ")
}
