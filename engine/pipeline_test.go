package engine

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// rig is a running pipeline over fake graphs.
type rig struct {
	*Pipeline
	graphs *fakeGraphs
	sink   *collector
	stop   func() error // ends Run and returns what it did
}

func start(t *testing.T, g *fakeGraphs, cfg Config) *rig {
	t.Helper()
	r := &rig{graphs: g, sink: newCollector()}
	if cfg.Sink == nil {
		cfg.Sink = r.sink
	}
	if cfg.Backend == nil {
		cfg.Backend = fakeBackend(t, g)
	}
	var err error
	if r.Pipeline, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	r.stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *rig) camera(t *testing.T, cfg CameraConfig) *Camera {
	t.Helper()
	c, err := r.AddCamera(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// held is a graph function that blocks: each call announces itself and waits to be let go.
type held struct{ entered, release chan struct{} }

func hold() held { return held{make(chan struct{}, 100), make(chan struct{}, 100)} }

func (h held) run(int) error {
	h.entered <- struct{}{}
	<-h.release
	return nil
}

func TestNewestFrameWins(t *testing.T) {
	g, h := newFakeGraphs(4, 1), hold()
	g.tokenize = h.run
	p := start(t, g, Config{})
	c := p.camera(t, CameraConfig{Name: "a"})
	var back ledger
	offer := func(level byte) {
		f := gray(level, uint64(level))
		f.Reset(&back)
		c.Offer(f)
	}
	offer(1)
	<-h.entered
	for level := byte(2); level <= 5; level++ {
		offer(level) // while the backend is busy
	}
	if n := back.n.Load(); n != 4 {
		t.Errorf("%d frames came back while the backend was busy, want 4: one read, three replaced", n)
	}
	h.release <- struct{}{}
	<-h.entered
	h.release <- struct{}{}
	got := p.sink.wait(t, 2)
	if got[0].sequence != 1 || got[1].sequence != 5 {
		t.Errorf("results of frames %d and %d came, want 1 and 5", got[0].sequence, got[1].sequence)
	}
	if d := got[1].drops; d.Replaced != 3 || d.Sum() != 3 {
		t.Errorf("drops are %+v, want 3 replaced", d)
	}
	if err := p.stop(); err != nil {
		t.Fatal(err)
	}
	offer(6)
	var m Metrics
	p.Metrics(&m)
	if cam := m.Cameras[0]; cam.Offered != 6 || cam.Results != 2 || cam.Drops != (Drops{Replaced: 3, Closed: 1}) {
		t.Errorf("metrics are %+v", cam)
	}
	if n := back.n.Load(); n != 6 {
		t.Errorf("%d of 6 frames came back", n)
	}
}

func TestBatchesAreFair(t *testing.T) {
	g, h := newFakeGraphs(2, 1), hold()
	g.tokenize = h.run
	p := start(t, g, Config{})
	var cams []*Camera
	for i := range 5 {
		cams = append(cams, p.camera(t, CameraConfig{Name: fmt.Sprint(i)}))
	}
	cams[0].Offer(gray(0, 0))
	<-h.entered
	for i, c := range cams {
		c.Offer(gray(byte(i), 1))
	}
	served := map[string]int{}
	results := 1
	for range 5 { // five batches of two: every camera twice
		h.release <- struct{}{}
		<-h.entered
		for _, r := range p.sink.wait(t, results)[results-1:] {
			served[r.camera]++
		}
		results += 2
		for i, c := range cams {
			c.Offer(gray(byte(i), 2))
		}
	}
	close(h.release)
	got := p.sink.wait(t, 11)
	for _, r := range got[1:11] {
		if r.batch != 2 {
			t.Errorf("a frame of camera %s was in a batch of %d, want 2", r.camera, r.batch)
		}
	}
	count := map[string]int{}
	for _, r := range got[1:11] {
		count[r.camera]++
	}
	for i := range 5 {
		if n := count[fmt.Sprint(i)]; n != 2 {
			t.Errorf("camera %d had %d of ten places, want 2", i, n)
		}
	}
}

func TestRateLimit(t *testing.T) {
	p := start(t, newFakeGraphs(1, 1), Config{})
	for _, test := range []struct {
		fps, source float64
		jitter      int64
		least, most int // of 300 frames
	}{
		{10, 30, 0, 100, 101},
		{30, 30, 3e6, 290, 300},
		{15, 30, 3e6, 145, 151},
		{20, 30, 0, 195, 201},
		{0.5, 30, 0, 5, 6},
		{100, 30, 0, 300, 300},
		{0, 30, 0, 300, 300},
	} {
		interval, err := rateInterval(test.fps)
		if err != nil {
			t.Fatal(err)
		}
		c := &Camera{p: p.Pipeline, interval: interval}
		passed := 0
		for i := range int64(300) {
			jitter := (i*7919%11 - 5) * test.jitter / 5
			if c.pass(1e12 + i*int64(1e9/test.source) + jitter) {
				passed++
			}
		}
		if passed < test.least || passed > test.most {
			t.Errorf("limit %v of a source of %v: %d of 300 frames pass, want %d to %d", test.fps, test.source, passed, test.least, test.most)
		}
	}
	c := p.camera(t, CameraConfig{Name: "a", MaxFPS: 10})
	for i := range int64(4) {
		f := gray(byte(i), uint64(i))
		f.CaptureMono = 1e12 + i*25e6
		c.Offer(f)
	}
	var m Metrics
	p.Metrics(&m)
	if d := m.Cameras[0].Drops; d.Rate != 3 {
		t.Errorf("drops are %+v, want 3 by the rate", d)
	}
	for _, fps := range []float64{-1, 1e-9, 1e9} {
		if err := c.SetMaxFPS(fps); err == nil || !strings.Contains(err.Error(), `"a"`) {
			t.Errorf("limit %v: error %v, want one naming the camera", fps, err)
		}
	}
}

func TestBadFrameIsCounted(t *testing.T) {
	p := start(t, newFakeGraphs(2, 1), Config{})
	c := p.camera(t, CameraConfig{Name: "a"})
	f := gray(1, 1)
	f.Pixels = f.Pixels[:10]
	c.Offer(f)
	var m Metrics
	eventually(t, "the frame is refused", func() bool { p.Metrics(&m); return m.Cameras[0].Drops.Invalid == 1 })
	c.Offer(gray(1, 2))
	if r := p.sink.wait(t, 1)[0]; r.sequence != 2 || r.drops.Invalid != 1 {
		t.Errorf("after a bad frame: sequence %d, drops %+v", r.sequence, r.drops)
	}
	if err, _ := p.Health(); err != nil {
		t.Errorf("a bad frame made the backend unhealthy: %v", err)
	}
	if p.Metrics(&m); m.Batches != 2 || m.Tokenize.Count() != 1 {
		t.Errorf("%d batches, times of %d; want 2, and those of the one that the networks saw", m.Batches, m.Tokenize.Count())
	}
}

// TestAgesOfSeveralCameras: with one batch in flight, a frame's age ends where its own
// inference begins: after the batch before was delivered, and before its networks run.
func TestAgesOfSeveralCameras(t *testing.T) {
	g := newFakeGraphs(1, 1)
	var tokenizing, delivered []int64 // by batch
	ages := newCollector()
	var p *rig
	g.tokenize = func(int) error { tokenizing = append(tokenizing, p.clock.now()); return nil }
	type span struct{ captured, begun int64 }
	var spans []span
	ready := make(chan struct{})
	p = start(t, g, Config{Sink: SinkFunc(func(r *Result) {
		<-ready
		spans = append(spans, span{r.CaptureMono, r.CaptureMono + int64(r.Age)})
		delivered = append(delivered, p.clock.now())
		ages.Deliver(r)
	})})
	var cams []*Camera
	for i := range 3 {
		cams = append(cams, p.camera(t, CameraConfig{Name: fmt.Sprint(i)}))
	}
	close(ready)
	const rounds = 20
	for round := range rounds {
		for i, c := range cams {
			c.Offer(gray(byte(i+round), uint64(round)))
		}
		ages.wait(t, 3*(round+1))
	}
	if err := p.stop(); err != nil {
		t.Fatal(err)
	}
	for i, s := range spans {
		if s.begun < s.captured || s.begun > tokenizing[i] {
			t.Errorf("batch %d: age ends %v after its capture, its networks run %v after it",
				i, time.Duration(s.begun-s.captured), time.Duration(tokenizing[i]-s.captured))
		}
		if i > 0 && s.begun < delivered[i-1] {
			t.Errorf("batch %d: age ends %v before the batch ahead was delivered", i, time.Duration(delivered[i-1]-s.begun))
		}
	}
	if len(spans) != 3*rounds || len(tokenizing) != 3*rounds {
		t.Errorf("%d results of %d batches, want %d", len(spans), len(tokenizing), 3*rounds)
	}
}

func TestCamerasComeAndGo(t *testing.T) {
	g, h := newFakeGraphs(2, 1), hold()
	g.tokenize = h.run
	p := start(t, g, Config{})
	a := p.camera(t, CameraConfig{Name: "a"})
	if _, err := p.AddCamera(CameraConfig{Name: "a"}); err == nil || !strings.Contains(err.Error(), `"a"`) {
		t.Errorf("two cameras of one name: error %v", err)
	}
	if _, err := p.AddCamera(CameraConfig{}); err == nil {
		t.Error("a camera without name was added")
	}
	a.Offer(gray(1, 1))
	<-h.entered
	var back ledger
	waiting := gray(1, 2)
	waiting.Reset(&back)
	a.Offer(waiting)
	p.RemoveCamera(a)
	p.RemoveCamera(a) // does nothing
	late := gray(1, 3)
	late.Reset(&back)
	a.Offer(late)
	if n := back.n.Load(); n != 2 {
		t.Errorf("%d of the 2 frames of a removed camera came back", n)
	}
	// The next camera takes the number of the stream and must not inherit its frames.
	b := p.camera(t, CameraConfig{Name: "b"})
	if b.stream != a.stream {
		t.Fatalf("the new camera has stream %d, want %d again", b.stream, a.stream)
	}
	h.release <- struct{}{}
	b.Offer(gray(1, 1))
	<-h.entered
	close(h.release)
	got := p.sink.wait(t, 2)
	if r := got[1]; r.camera != "b" || !r.key || r.reused || r.changed != 4 || r.drops.Sum() != 0 {
		t.Errorf("first result of the new camera: %+v", r)
	}
	var m Metrics
	p.Metrics(&m)
	if len(m.Cameras) != 1 || m.Cameras[0].Name != "b" {
		t.Errorf("cameras are %+v, want b alone", m.Cameras)
	}
}

func TestTwoBatchesInFlightOverlap(t *testing.T) {
	g, h := newFakeGraphs(1, 2), hold()
	g.encode = h.run
	p := start(t, g, Config{})
	c := p.camera(t, CameraConfig{Name: "a"})
	c.Offer(gray(1, 1))
	<-h.entered // the encoder has frame 1
	var back ledger
	f := gray(2, 2)
	f.Reset(&back)
	c.Offer(f)
	eventually(t, "frame 2 is tokenized beside the encoder", func() bool { return back.n.Load() == 1 })
	third := gray(3, 3)
	third.Reset(&back)
	c.Offer(third)
	time.Sleep(10 * time.Millisecond)
	if back.n.Load() != 1 {
		t.Error("a third batch was begun with two in flight")
	}
	close(h.release)
	got := p.sink.wait(t, 3)
	for i, r := range got {
		if r.sequence != uint64(i+1) {
			t.Errorf("result %d is of frame %d", i, r.sequence)
		}
	}
	if got[1].stages.Queue <= 0 {
		t.Errorf("frame 2 waited %v for the encoder, want more than 0", got[1].stages.Queue)
	}
}

func TestLingerWaitsForOtherCameras(t *testing.T) {
	p := start(t, newFakeGraphs(4, 1), Config{Linger: time.Minute})
	a, b := p.camera(t, CameraConfig{Name: "a"}), p.camera(t, CameraConfig{Name: "b"})
	a.Offer(gray(1, 1))
	time.Sleep(10 * time.Millisecond)
	if p.graphs.encoded.Load() != 0 {
		t.Error("the batch did not wait for the other camera")
	}
	b.Offer(gray(1, 1))
	for _, r := range p.sink.wait(t, 2) {
		if r.batch != 2 {
			t.Errorf("camera %s was in a batch of %d, want 2", r.camera, r.batch)
		}
	}
	q := start(t, newFakeGraphs(4, 1), Config{Linger: 5 * time.Millisecond})
	c := q.camera(t, CameraConfig{Name: "a"})
	q.camera(t, CameraConfig{Name: "silent"})
	c.Offer(gray(1, 1))
	if r := q.sink.wait(t, 1)[0]; r.stages.Wait < 5*time.Millisecond {
		t.Errorf("the frame waited %v, want the linger", r.stages.Wait)
	}
}

// TestLingerEnds: a camera whose frames replace each other before the linger is over
// still has its turn, though another is silent.
func TestLingerEnds(t *testing.T) {
	p := start(t, newFakeGraphs(4, 1), Config{Linger: 50 * time.Millisecond})
	c := p.camera(t, CameraConfig{Name: "a"})
	p.camera(t, CameraConfig{Name: "silent"})
	for i := uint64(0); ; i++ {
		c.Offer(gray(byte(i), i))
		select {
		case <-p.sink.more:
			return
		case <-time.After(time.Millisecond):
		}
		if i == 5000 {
			t.Fatal("no result of thousands of frames")
		}
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	g, h := newFakeGraphs(1, 2), hold()
	g.encode = h.run
	p := start(t, g, Config{})
	c := p.camera(t, CameraConfig{Name: "a"})
	c.Offer(gray(1, 1))
	<-h.entered
	ended := make(chan error, 1)
	go func() { ended <- p.stop() }()
	select {
	case err := <-ended:
		t.Fatalf("Run returned while a batch was under way: %v", err)
	case <-time.After(10 * time.Millisecond):
	}
	close(h.release)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if got := p.sink.wait(t, 1); got[0].sequence != 1 {
		t.Errorf("the batch under way was not delivered: %+v", got)
	}
}

// TestAgeUnderOverload: a source three times as fast as the backend. Whenever inference
// begins, it begins with the newest frame there is, and drops are counted. The
// distribution of ages is BenchmarkAgeUnderOverload's to measure.
func TestAgeUnderOverload(t *testing.T) {
	g := newFakeGraphs(1, 1)
	var newest, stale, begun atomic.Int64
	p := start(t, g, Config{})
	c := p.camera(t, CameraConfig{Name: "a"})
	entered, release := make(chan struct{}), make(chan struct{})
	g.tokenize = func(int) error {
		entered <- struct{}{}
		<-release
		if seen := int64((g.images[0]*0.5+0.5)*255 + 0.5); seen != newest.Load() {
			stale.Add(1)
		}
		begun.Add(1)
		return nil
	}
	c.Offer(gray(0, 0))
	<-entered
	for i := 1; i <= 60; i++ { // three frames for each run of the backend
		if i%3 == 0 {
			release <- struct{}{}
			// The batch that ran had been formed of the newest frame then.
			<-entered
			newest.Store(int64(i - 1))
		}
		c.Offer(gray(byte(i), uint64(i)))
	}
	newest.Store(59)
	release <- struct{}{}
	<-entered
	newest.Store(60)
	release <- struct{}{}
	p.sink.wait(t, int(begun.Load()))
	if n := stale.Load(); n != 0 {
		t.Errorf("%d of %d runs did not have the newest frame", n, begun.Load())
	}
	if err := p.stop(); err != nil {
		t.Error(err)
	}
	var m Metrics
	p.Metrics(&m)
	if cam := m.Cameras[0]; cam.Drops.Replaced != 61-cam.Results || cam.Results != 22 {
		t.Errorf("%d results and drops %+v of 61 frames, want 22 results and the rest replaced", cam.Results, cam.Drops)
	}
}
