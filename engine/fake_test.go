package engine

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/toklip/toklip/engine/preprocess"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func testModel() *Model {
	half := [3]float32{0.5, 0.5, 0.5}
	return &Model{
		Name: "fake", Tokenizer: "tokenizer", Encoder: "encoder", Precision: "fp32", ImageSize: 8, Rows: 2, Cols: 2,
		FeatureDim: 3, EmbeddingDim: 2, Codebook: 256, Mean: half, Std: half,
	}
}

// fakeGraphs are networks whose numbers are easy to foretell: the id of a token is the
// red level of a corner of the picture, a feature is id + 1000 * encoder runs so far.
type fakeGraphs struct {
	model    *Model
	maxBatch int
	inFlight int
	images   []float32
	ids      []int32
	tokens   []int32
	features []float32
	embed    []float32

	tokenize func(n int) error // called before; may be nil
	encode   func(n int) error
	encoded  atomic.Int64 // frames
	closed   atomic.Int64
}

func newFakeGraphs(maxBatch, inFlight int) *fakeGraphs {
	m := testModel()
	return &fakeGraphs{
		model: m, maxBatch: maxBatch, inFlight: inFlight,
		images: make([]float32, maxBatch*3*m.ImageSize*m.ImageSize), ids: make([]int32, maxBatch*m.Tokens()),
		tokens: make([]int32, maxBatch*m.Tokens()), features: make([]float32, maxBatch*m.Tokens()*m.FeatureDim),
		embed: make([]float32, maxBatch*m.EmbeddingDim),
	}
}

var _ Graphs = (*fakeGraphs)(nil)

func (g *fakeGraphs) Describe() Description {
	return Description{Name: "fake", Version: "1", Precision: g.model.Precision, MaxBatch: g.maxBatch, InFlight: g.inFlight, Model: g.model}
}
func (g *fakeGraphs) Images() []float32 { return g.images }
func (g *fakeGraphs) TokenIDs() []int32 { return g.tokens }
func (g *fakeGraphs) Close() error      { g.closed.Add(1); return nil }

func (g *fakeGraphs) Tokenize(n int) ([]int32, error) {
	if g.tokenize != nil {
		if err := g.tokenize(n); err != nil {
			return nil, err
		}
	}
	s := g.model.ImageSize
	for i := range n {
		red := g.images[i*3*s*s:]
		for k, at := range [...]int{0, s - 1, (s - 1) * s, s*s - 1} {
			g.ids[i*4+k] = int32((red[at]*0.5+0.5)*255 + 0.5)
		}
	}
	return g.ids[:n*4], nil
}

func (g *fakeGraphs) Encode(n int) (features, embeddings []float32, err error) {
	if g.encode != nil {
		if err := g.encode(n); err != nil {
			return nil, nil, err
		}
	}
	run := float32(g.encoded.Add(int64(n)))
	d := g.model.FeatureDim
	for i, id := range g.tokens[:n*4] {
		for k := range d {
			g.features[i*d+k] = float32(id) + 1000*run
		}
	}
	for i := range n {
		g.embed[2*i], g.embed[2*i+1] = float32(g.tokens[4*i]), run
	}
	return g.features[:n*4*d], g.embed[:n*2], nil
}

// fakeBackend is the CPU's backend over fake graphs.
func fakeBackend(tb testing.TB, g *fakeGraphs) Backend {
	tb.Helper()
	b, err := NewBackend(g)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { b.Close() })
	return b
}

// gray makes a frame of one level.
func gray(level byte, sequence uint64) *Frame {
	f := &Frame{Width: 8, Height: 8, Stride: 8, Format: preprocess.Gray8, Pixels: make([]byte, 64), Sequence: sequence, Clock: "test"}
	for i := range f.Pixels {
		f.Pixels[i] = level
	}
	f.Reset(nil)
	return f
}

// ledger counts frames that came back.
type ledger struct{ n atomic.Int64 }

func (l *ledger) ReleaseFrame(*Frame) { l.n.Add(1) }

// collector keeps copies of results.
type collector struct {
	mu   sync.Mutex
	got  []received
	more chan struct{}
}

type received struct {
	camera    string
	sequence  uint64
	level     int32
	changed   int
	key       bool
	reused    bool
	embedding [2]float32
	batch     int
	drops     Drops
	lost      Lost
	age       time.Duration
	stages    Stages
}

func newCollector() *collector { return &collector{more: make(chan struct{}, 10000)} }

func (c *collector) Deliver(r *Result) {
	got := received{
		camera: r.Camera, sequence: r.Sequence, level: r.IDs[0], changed: r.Changed.Count(), key: r.Keyframe, reused: r.Reused,
		batch: r.Batch, drops: r.Drops, lost: r.Lost, age: r.Age, stages: r.Stages,
	}
	copy(got.embedding[:], r.Embedding)
	c.mu.Lock()
	c.got = append(c.got, got)
	c.mu.Unlock()
	c.more <- struct{}{}
}

// wait returns the results once there are n of them.
func (c *collector) wait(tb testing.TB, n int) []received {
	tb.Helper()
	deadline := time.After(20 * time.Second)
	for {
		c.mu.Lock()
		got := c.got
		c.mu.Unlock()
		if len(got) >= n {
			return got
		}
		select {
		case <-c.more:
		case <-deadline:
			tb.Fatalf("%d results came, want %d", len(got), n)
		}
	}
}

// eventually waits for a condition that another goroutine brings about.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatalf("it never came that %s", what)
		}
	}
}

var errFake = fmt.Errorf("fake failure")
