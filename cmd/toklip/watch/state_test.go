package watch

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/toklip/toklip/api"
	"github.com/toklip/toklip/api/toklipv1"
)

// start is when made-up messages begin.
var start = time.Date(2025, 3, 9, 12, 4, 0, 0, time.UTC)

// sender makes the messages of a camera as a node would.
type sender struct {
	t            testing.TB
	node, camera string
	boot         string
	grid         int
	ids          []int32
	random       *rand.Rand
	drops        toklipv1.Drops
}

func newSender(t testing.TB, node, camera string, grid int) *sender {
	s := &sender{t: t, node: node, camera: camera, boot: "b1", grid: grid, random: rand.New(rand.NewPCG(7, uint64(grid)))}
	s.ids = make([]int32, grid*grid)
	for i := range s.ids {
		s.ids[i] = s.random.Int32N(16384)
	}
	return s
}

func (s *sender) header(seq uint64, captured, published time.Time) *toklipv1.Header {
	return &toklipv1.Header{
		Schema: 1, Node: s.node, Camera: s.camera, BootId: s.boot, Sequence: seq,
		CaptureWallNs: captured.UnixNano(), PublishNs: published.UnixNano(), Clock: "driver",
		Width: 1920, Height: 1080, Resize: "shortest", Backend: "onnxruntime", Precision: "int8",
		Stages: &toklipv1.Stages{TotalNs: 29_300_000, EncodeNs: 18_000_000},
		Drops: &toklipv1.Drops{
			Capture: s.drops.Capture, Queue: s.drops.Queue, Rate: s.drops.Rate, Invalid: s.drops.Invalid,
			Failed: s.drops.Failed, Closed: s.drops.Closed, Publish: s.drops.Publish, Broker: s.drops.Broker,
		},
	}
}

// change gives so many cells, from the first one, another id.
func (s *sender) change(cells ...int) []uint64 {
	changed := make([]uint64, (len(s.ids)+63)/64)
	for _, i := range cells {
		s.ids[i] = (s.ids[i] + 1) % 16384
		changed[i/64] |= 1 << (i % 64)
	}
	return changed
}

func (s *sender) tokens(h *toklipv1.Header, changed []uint64) []byte {
	s.t.Helper()
	m := &toklipv1.Tokens{Header: h}
	if err := api.SetTokens(m, s.grid, s.grid, 16384, s.ids, changed); err != nil {
		s.t.Fatal(err)
	}
	return s.marshal(m)
}

func (s *sender) embedding(h *toklipv1.Header, normalize bool) []byte {
	s.t.Helper()
	v := make([]float32, 1152)
	for i := range v {
		v[i] = float32(math.Sin(float64(i)))
	}
	m := &toklipv1.Embedding{Header: h}
	if err := api.SetEmbedding(m, v, toklipv1.DType_DTYPE_FP16, normalize); err != nil {
		s.t.Fatal(err)
	}
	return s.marshal(m)
}

func (s *sender) marshal(m proto.Message) []byte {
	s.t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		s.t.Fatal(err)
	}
	return b
}

func (s *sender) topic(kind api.Kind) string {
	return "toklip/" + s.node + "/camera/" + s.camera + "/" + string(kind)
}

func put(st *state, topic string, payload []byte, at time.Time) {
	st.feed(decode("toklip", message{topic: topic, payload: payload, at: at}))
}

func only(t *testing.T, st *state, now time.Time) cameraView {
	t.Helper()
	s := st.snapshot(now)
	if len(s.Nodes) != 1 || len(s.Nodes[0].Cameras) != 1 {
		t.Fatalf("one node with one camera expected, have %+v", s.Nodes)
	}
	return s.Nodes[0].Cameras[0]
}

func TestRatesAndLatency(t *testing.T) {
	st, s := newState("toklip"), newSender(t, "robot-7", "front", 16)
	var bytes int
	// 20 frames a second for 10 s. Capture to arrival takes 30 ms, for one frame in 50
	// 80 ms; publish to arrival 2 ms.
	at := start
	for i := range 200 {
		at = start.Add(time.Duration(i) * 50 * time.Millisecond)
		age := 30 * time.Millisecond
		if i%50 == 49 {
			age = 80 * time.Millisecond
		}
		h := s.header(uint64(i+1), at.Add(-age), at.Add(-2*time.Millisecond))
		h.Keyframe = i%10 == 0
		h.Reused = i%4 == 0
		a, b := s.tokens(h, s.change(1, 2, 3, 4)), s.embedding(h, true)
		put(st, s.topic(api.KindTokens), a, at)
		put(st, s.topic(api.KindEmbedding), b, at)
		bytes = len(a) + len(b)
	}
	c := only(t, st, at.Add(time.Millisecond))
	near := func(name string, have, want, tolerance float64) {
		t.Helper()
		if math.Abs(have-want) > tolerance {
			t.Errorf("%s is %v, want %v", name, have, want)
		}
	}
	near("rate", c.Rate, 20, 0.01)
	near("bytes a second", c.ByteRate, 20*float64(bytes), 20*float64(bytes)*0.001+20)
	near("keyframes", c.Keyframes, 0.1, 1e-9)
	near("reused", c.Reused, 0.25, 1e-9)
	near("changed", c.Changed, 4.0/256, 1e-6)
	if c.Capture.P50 != 30*time.Millisecond || c.Capture.P99 != 80*time.Millisecond || c.Capture.N != 100 || c.Capture.ClocksDiffer {
		t.Errorf("capture to arrival: %+v", c.Capture)
	}
	if c.Publish.P50 != 2*time.Millisecond || c.Publish.P99 != 2*time.Millisecond {
		t.Errorf("publish to arrival: %+v", c.Publish)
	}
	if c.Frames != 200 || c.Gaps != 0 || c.Lost != 0 || c.Sequence != 200 {
		t.Errorf("frames %d, gaps %d, lost %d, sequence %d", c.Frames, c.Gaps, c.Lost, c.Sequence)
	}
	if e := c.Embedding; e == nil || e.Dim != 1152 || math.Abs(e.Norm-1) > 1e-3 || !e.Normalized {
		t.Errorf("embedding: %+v", e)
	}
	if n := c.History[historySeconds-2]; n != 20 {
		t.Errorf("frames of the last full second: %d, want 20", n)
	}
	// Silence.
	c = only(t, st, at.Add(7*time.Second))
	if c.Rate != 0 || !c.HasRate || c.Idle != 7*time.Second || c.ByteRate != 0 || c.Capture.N != 0 {
		t.Errorf("after silence: rate %v, idle %v, bytes %v, ages %d", c.Rate, c.Idle, c.ByteRate, c.Capture.N)
	}
}

func TestRateOfFirstMoments(t *testing.T) {
	st, s := newState("toklip"), newSender(t, "n", "c", 4)
	for i := range 31 {
		at := start.Add(time.Duration(i) * 100 * time.Millisecond)
		put(st, s.topic(api.KindTokens), s.tokens(s.header(uint64(i), at, at), s.change()), at)
		if c := only(t, st, at); i == 2 && c.HasRate {
			t.Errorf("a rate of %v after 0.2 s: nothing can be said yet", c.Rate)
		}
	}
	if c := only(t, st, start.Add(3*time.Second)); math.Abs(c.Rate-10) > 0.5 {
		t.Errorf("rate is %v, want about 10", c.Rate)
	}
}

func TestRateBeyondTheSamples(t *testing.T) {
	st, s := newState("toklip"), newSender(t, "n", "c", 2)
	var at time.Time
	for i := range 5000 { // 1000 a second: 5000 in the window, 1024 are remembered
		at = start.Add(time.Duration(i) * time.Millisecond)
		put(st, s.topic(api.KindTokens), s.tokens(s.header(uint64(i), at, at), s.change()), at)
	}
	if c := only(t, st, at); math.Abs(c.Rate-1000) > 5 {
		t.Errorf("rate is %v, want 1000", c.Rate)
	}
}

func TestGaps(t *testing.T) {
	tests := []struct {
		name        string
		sequences   []uint64
		drops       []uint64 // by the node, at each frame
		gaps, lost  uint64
		frames      uint64
		newBootFrom int
	}{
		{name: "none", sequences: []uint64{5, 6, 7}, drops: []uint64{9, 9, 9}, frames: 3},
		{name: "explained", sequences: []uint64{1, 4, 5}, drops: []uint64{0, 2, 2}, gaps: 2, frames: 3},
		{name: "partly lost", sequences: []uint64{1, 4, 9}, drops: []uint64{0, 1, 2}, gaps: 6, lost: 4, frames: 3},
		{name: "drops before us", sequences: []uint64{100, 102}, drops: []uint64{50, 50}, gaps: 1, lost: 1, frames: 2},
		{name: "overtaken", sequences: []uint64{1, 3, 2, 4}, drops: make([]uint64, 4), frames: 4},
		{name: "twice", sequences: []uint64{1, 2, 2, 1, 3}, drops: make([]uint64, 5), frames: 3},
		{name: "far jump and back", sequences: []uint64{1, 200, 1}, drops: make([]uint64, 3), gaps: 198, lost: 198, frames: 2},
		{name: "restart", sequences: []uint64{50, 51, 1, 2, 4}, drops: make([]uint64, 5), newBootFrom: 2, gaps: 1, lost: 1, frames: 5},
		{name: "wrap", sequences: []uint64{0, math.MaxUint64}, drops: make([]uint64, 2), gaps: math.MaxUint64 - 1, lost: math.MaxUint64 - 1, frames: 2},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			st, s := newState("toklip"), newSender(t, "n", "c", 4)
			at := start
			for i, seq := range test.sequences {
				at = at.Add(33 * time.Millisecond)
				if test.newBootFrom > 0 && i == test.newBootFrom {
					s.boot = "b2"
				}
				s.drops.Capture = test.drops[i]
				put(st, s.topic(api.KindTokens), s.tokens(s.header(seq, at, at), s.change()), at)
			}
			c := only(t, st, at)
			if c.Gaps != test.gaps || c.Lost != test.lost || c.Frames != test.frames {
				t.Errorf("gaps %d lost %d frames %d, want %d %d %d", c.Gaps, c.Lost, c.Frames, test.gaps, test.lost, test.frames)
			}
			if r := st.snapshot(at).Nodes[0].Restarts; r != min(1, test.newBootFrom) {
				t.Errorf("restarts %d", r)
			}
		})
	}
}

// Any order of arrival within reach gives the same counts.
func TestGapsInAnyOrder(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		st, s := newState("toklip"), newSender(t, "n", "c", 2)
		var sequences []uint64
		missing := uint64(0)
		for seq := uint64(1); seq <= 60; seq++ {
			if seq > 1 && seq < 60 && random.IntN(4) == 0 {
				missing++
				continue
			}
			sequences = append(sequences, seq)
		}
		// The first one stays first: what came before it is not known to be missing.
		random.Shuffle(len(sequences)-1, func(i, j int) {
			sequences[i+1], sequences[j+1] = sequences[j+1], sequences[i+1]
		})
		for i, seq := range sequences {
			at := start.Add(time.Duration(i) * time.Millisecond)
			put(st, s.topic(api.KindTokens), s.tokens(s.header(seq, at, at), s.change()), at)
		}
		c := st.nodes["n"].cameras["c"]
		if c.gaps != missing || c.frames != uint64(len(sequences)) {
			t.Fatalf("gaps %d frames %d, want %d %d for %v", c.gaps, c.frames, missing, len(sequences), sequences)
		}
	}
}

func TestClocksDiffer(t *testing.T) {
	for _, test := range []struct {
		age  time.Duration
		want bool
	}{
		{-3 * time.Second, true}, {-2 * time.Millisecond, true}, {-500 * time.Microsecond, false},
		{0, false}, {time.Minute, false}, {time.Hour, true}, {55 * 365 * 24 * time.Hour, true},
	} {
		st, s := newState("toklip"), newSender(t, "n", "c", 4)
		put(st, s.topic(api.KindTokens), s.tokens(s.header(1, start.Add(-test.age), start.Add(-test.age)), s.change()), start)
		if c := only(t, st, start); c.Capture.ClocksDiffer != test.want || c.Publish.ClocksDiffer != test.want {
			t.Errorf("age %v: clocks differ %v, want %v", test.age, c.Capture.ClocksDiffer, test.want)
		}
	}
	// A header without times has no age; it is not 1970.
	st, s := newState("toklip"), newSender(t, "n", "c", 4)
	h := s.header(1, start, start)
	h.CaptureWallNs, h.PublishNs = 0, 0
	put(st, s.topic(api.KindTokens), s.tokens(h, s.change()), start)
	if c := only(t, st, start); c.Capture.N != 0 || c.Publish.N != 0 || c.Frames != 1 {
		t.Errorf("without times: %+v", c)
	}
}

func TestChangedCellsGlow(t *testing.T) {
	st, s := newState("toklip"), newSender(t, "n", "c", 4)
	put(st, s.topic(api.KindTokens), s.tokens(s.header(1, start, start), s.change()), start)
	hot := func(at time.Time) (warm, hot []int) {
		for i, h := range only(t, st, at).Grid.Heat {
			switch h {
			case 1:
				warm = append(warm, i)
			case 2:
				hot = append(hot, i)
			}
		}
		return warm, hot
	}
	if w, h := hot(start); len(w)+len(h) > 0 {
		t.Errorf("the first grid glows: %v %v", w, h)
	}
	// A keyframe calls every cell changed; only those that differ glow.
	changed := s.change(0, 5)
	for i := range 16 {
		changed[0] |= 1 << i
	}
	at := start.Add(time.Second)
	put(st, s.topic(api.KindTokens), s.tokens(s.header(2, at, at), changed), at)
	if w, h := hot(at.Add(100 * time.Millisecond)); len(w) > 0 || !slices.Equal(h, []int{0, 5}) {
		t.Errorf("after 100 ms: warm %v, hot %v", w, h)
	}
	if w, h := hot(at.Add(400 * time.Millisecond)); len(h) > 0 || !slices.Equal(w, []int{0, 5}) {
		t.Errorf("after 400 ms: warm %v, hot %v", w, h)
	}
	if w, h := hot(at.Add(time.Second)); len(w)+len(h) > 0 {
		t.Errorf("after 1 s: warm %v, hot %v", w, h)
	}
	// A frame that comes late does not turn the picture back.
	before := only(t, st, at).Grid.IDs
	s.change(7)
	put(st, s.topic(api.KindTokens), s.tokens(s.header(1, start, start), s.change()), at)
	if after := only(t, st, at).Grid.IDs; !slices.Equal(before, after) {
		t.Error("an old frame replaced the grid")
	}
}

func TestSnapshotsStandAlone(t *testing.T) {
	st, s := newState("toklip"), newSender(t, "n", "c", 4)
	put(st, s.topic(api.KindTokens), s.tokens(s.header(1, start, start), s.change()), start)
	a := only(t, st, start)
	ids := slices.Clone(a.Grid.IDs)
	at := start.Add(time.Second)
	put(st, s.topic(api.KindTokens), s.tokens(s.header(2, at, at), s.change(0, 1, 2)), at)
	if !slices.Equal(a.Grid.IDs, ids) {
		t.Error("a snapshot changed after it was taken")
	}
}

func TestDocuments(t *testing.T) {
	st := newState("toklip")
	put(st, "toklip/r/availability", []byte("online"), start)
	put(st, "toklip/r/info", []byte(`{"version":"1.0","boot_id":"b1","model_name":"tiny","grid":[16,16],"backend":"onnxruntime","precision":"int8","cameras":[{"name":"front"}]}`), start)
	put(st, "toklip/r/state", []byte(`{"state":"building-engine","progress":{"step":"encoder","done":1.7,"left_ns":-5},"new member":1}`), start)
	put(st, "toklip/r/metrics", []byte(`{"boot_id":"b1","uptime_ns":60000000000,"process":{"rss_bytes":1000,"cpu":0.5}}`), start)
	put(st, "toklip/r/camera/front/status", []byte(`{"status":"stalled","reason":"no frame for 5 s","counters":{"frames":7,"drops":{"rate":3}}}`), start)
	s := st.snapshot(start)
	n := s.Nodes[0]
	if n.Available != "online" || n.Info == nil || n.Info.text() != "onnxruntime int8 · tiny 16x16 · toklip 1.0" ||
		n.State == nil || n.State.Done != 1 || n.State.Left != 0 || n.Process == nil || n.Process.Uptime != time.Minute {
		t.Errorf("node: %+v %+v %+v %+v", n, n.Info, n.State, n.Process)
	}
	if c := n.Cameras[0]; c.Status == nil || c.Status.State != api.CameraStalled || c.Drops.Rate != 3 {
		t.Errorf("camera: %+v", c)
	}
	// Documents taken away.
	for _, topic := range []string{"availability", "info", "state", "camera/front/status"} {
		put(st, "toklip/r/"+topic, nil, start)
	}
	n = st.snapshot(start).Nodes[0]
	if n.Available != "" || n.Info != nil || n.State != nil || len(n.Cameras) != 0 || st.cameras != 0 {
		t.Errorf("after removal: %+v", n)
	}
	put(st, "toklip/gone/state", nil, start)
	if len(st.snapshot(start).Nodes) != 1 {
		t.Error("removing the document of an unknown node made it known")
	}
	// Another run of the daemon.
	put(st, "toklip/r/info", []byte(`{"boot_id":"b2"}`), start)
	if n := st.snapshot(start).Nodes[0]; n.Restarts != 1 {
		t.Errorf("restarts: %d", n.Restarts)
	}
}

func TestBounds(t *testing.T) {
	st := newState("toklip")
	for i := range 3 * mostNodes {
		for j := range 3 {
			put(st, fmt.Sprintf("toklip/n%d/camera/c%d/status", i, j), []byte(`{"status":"online"}`), start)
		}
		put(st, fmt.Sprintf("some/topic/%d", i), []byte{1, 2, 3}, start)
	}
	s := st.snapshot(start)
	if len(s.Nodes) != mostNodes || s.cameras() != mostCameras || st.cameras != mostCameras || len(s.Others) != mostOthers {
		t.Errorf("%d nodes, %d cameras (%d), %d others", len(s.Nodes), s.cameras(), st.cameras, len(s.Others))
	}
	if want := uint64(9*mostNodes - mostCameras); s.Refused != want {
		t.Errorf("refused %d, want %d", s.Refused, want)
	}
	// One that has been silent long makes room.
	put(st, "toklip/new/camera/c/status", []byte(`{"status":"online"}`), start.Add(idleAfter))
	s = st.snapshot(start.Add(idleAfter))
	if st.nodes["new"] == nil || len(st.nodes["new"].cameras) != 1 || len(s.Nodes) != mostNodes || st.cameras != s.cameras() {
		t.Errorf("no room was made: %d nodes, %d cameras (%d)", len(s.Nodes), s.cameras(), st.cameras)
	}
	// A grid far beyond what is drawn is not kept.
	big := newSender(t, "new", "c", 100)
	put(st, big.topic(api.KindTokens), big.tokens(big.header(1, start, start), big.change()), start.Add(idleAfter))
	if g := st.nodes["new"].cameras["c"].grid; !g.tooLarge || len(g.ids) != mostIDs || cap(g.ids) > 4*mostIDs {
		t.Errorf("large grid: %d ids (room for %d)", len(g.ids), cap(g.ids))
	}
}

func TestHistory(t *testing.T) {
	var h history
	for i := range 45 {
		for range i {
			h.add(start.Add(time.Duration(i) * time.Second))
		}
	}
	for i, n := range h.count {
		if int(n) != 15+i {
			t.Fatalf("second %d: %d, want %d", i, n, 15+i)
		}
	}
	h.add(start.Add(43 * time.Second)) // late
	if h.count[historySeconds-2] != 44 {
		t.Error("a late one was not counted in its second")
	}
	h.advance(start.Add(time.Hour))
	if h.count != [historySeconds]uint16{} {
		t.Error("old counts stay")
	}
}
